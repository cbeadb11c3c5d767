//! The demo also succeeds behind nginx.

use testkit::Nginx;

use crate::story::tell;
use crate::test_platform::TestPlatform;

const EDGE: &str = include_str!("../../../../infra/nginx/edge.conf");

/// nginx with the shipped edge configuration, in front of these gateways.
async fn edge(test: &TestPlatform) -> Nginx {
    let servers: String = test
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
    let test = TestPlatform::start().await;
    let nginx = edge(&test).await;
    tell(&nginx.url()).await;
    drop(nginx);
    test.finish().await;
}
