//! The Redis limiter with a Cluster, and with Sentinels.

use std::sync::Arc;
use std::time::Duration;

use testkit::{Redis, eventually};

use super::{MINUTE, allowed, limited, quota};
use crate::limits::server::Server;
use crate::limits::{Mode, RateLimiter, RedisLimiter, RedisSettings, Take};

const SOON: Duration = Duration::from_secs(30);

fn limiter(url: String) -> RedisLimiter {
    RedisLimiter::new(&RedisSettings {
        url,
        deadline: Duration::from_secs(2),
        namespace: "sluice".into(),
    })
    .unwrap()
}

#[tokio::test]
async fn a_cluster_keeps_each_bucket_on_the_node_of_its_slot() {
    let nodes = [cluster_node().await, cluster_node().await];
    let [one, two] = &nodes;
    one.command("CLUSTER ADDSLOTSRANGE 0 8191").await;
    two.command("CLUSTER ADDSLOTSRANGE 8192 16383").await;
    let port = two.address().port();
    one.command(&format!("CLUSTER MEET 127.0.0.1 {port}")).await;
    for node in &nodes {
        eventually(SOON, async || {
            let info = node.command("CLUSTER INFO").await;
            info.contains("cluster_state:ok") && info.contains("cluster_size:2")
        })
        .await;
    }

    let limiter = limiter(format!(
        "redis-cluster://{},{}",
        one.address(),
        two.address()
    ));
    let user = quota("user", 1, MINUTE, 2);
    for key in 0..40 {
        let key = format!("user-{key}");
        let take = [Take::new(&user, key.as_bytes())];
        allowed(limiter.take(&take).await);
        allowed(limiter.take(&take).await);
        limited(limiter.take(&take).await);
    }
    let status = limiter.status();
    assert_eq!((status.mode, status.redis_calls.failed), (Mode::Redis, 0));
    for node in &nodes {
        let keys = node.command("DBSIZE").await;
        assert_ne!(keys, ":0", "all buckets are on the other node");
    }
}

async fn cluster_node() -> Redis {
    Redis::start_with(&[
        "--cluster-enabled",
        "yes",
        "--appendonly",
        "no",
        "--save",
        "",
    ])
    .await
}

#[tokio::test]
async fn after_a_failover_the_sentinels_new_master_has_the_buckets() {
    let mut master = Redis::start_with(&["--appendonly", "no", "--save", ""]).await;
    let (host, port) = ("127.0.0.1", master.address().port().to_string());
    let replica = Redis::start_with(&["--replicaof", host, &port, "--save", ""]).await;
    let sentinel = Redis::start_with(&["--sentinel"]).await;
    for command in [
        format!("SENTINEL MONITOR things {host} {port} 1"),
        "SENTINEL SET things down-after-milliseconds 300".into(),
        "SENTINEL SET things failover-timeout 2000".into(),
    ] {
        assert_eq!(sentinel.command(&command).await, "+OK");
    }
    let replica_port = replica.address().port().to_string();
    eventually(SOON, async || {
        let known = sentinel.command("SENTINEL REPLICAS things").await;
        known.contains(&replica_port)
    })
    .await;

    let limiter = limiter(format!("redis-sentinel://{}/things", sentinel.address()));
    let user = quota("user", 1, MINUTE, 5);
    let alice = [Take::new(&user, b"alice")];
    assert_eq!(allowed(limiter.take(&alice).await)[0].remaining, 4);
    eventually(SOON, async || replica.command("DBSIZE").await == ":1").await;
    master.kill();

    let spare: Arc<_> = quota("spare", 1000, MINUTE, 1000);
    let answered = limiter.status().redis_calls.answered;
    eventually(SOON, async || {
        limiter.take(&[Take::new(&spare, b"")]).await;
        let status = limiter.status();
        status.mode == Mode::Redis && status.redis_calls.answered > answered + 2
    })
    .await;
    assert_eq!(allowed(limiter.take(&alice).await)[0].remaining, 3);
}

#[test]
fn urls_of_several_servers_are_read_or_refused_with_the_reason() {
    for good in [
        "redis-sentinel://a,b:26380,[::1]:26379/main",
        "rediss-sentinel://user:p%40ss@a/main/3",
        "redis-cluster://:secret@a:7000,b:7001",
        "rediss-cluster://a",
        "redis+unix:///run/redis.sock",
    ] {
        let read = Server::parse(good);
        assert!(read.is_ok(), "{good}: {}", read.err().unwrap());
    }
    for (bad, why) in [
        ("redis-sentinel://a,b", "name the master"),
        ("redis-sentinel://a/main/0/1", "name the master"),
        ("redis-sentinel://a,,b/main", "a comma too many"),
        ("redis-cluster://a/3", "no databases"),
    ] {
        let refused = Server::parse(bad).err().unwrap().to_string();
        assert!(refused.contains(why), "{bad}: {refused}");
    }
}
