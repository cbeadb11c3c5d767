//! The demo's story holds behind the edge, too.

use testkit::Nginx;

use crate::story::tell;
use crate::world::World;

const EDGE: &str = include_str!("../../../../infra/nginx/edge.conf");

/// The edge's own configuration, in front of these gateways.
async fn edge(world: &World) -> Nginx {
    let servers: String = world
        .platform
        .gateways
        .iter()
        .map(|gateway| format!("server {};\n", gateway.http))
        .collect();
    Nginx::start(|port| {
        let http = EDGE
            .replace("include upstream.conf;", &servers)
            .replace("include listen.conf;", &format!("listen 127.0.0.1:{port};"))
            .replace(" tmp/", " tmp-");
        format!("pid nginx.pid; error_log stderr; events {{}} http {{ {http} }}")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_holds_behind_nginx() {
    let world = World::start().await;
    let nginx = edge(&world).await;
    tell(&nginx.url()).await;
    drop(nginx);
    world.finish().await;
}
