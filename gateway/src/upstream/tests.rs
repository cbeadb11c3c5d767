use std::num::NonZeroU32;
use std::path::Path;

use super::*;
use crate::config::Config;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn cluster(replicas: u16, settings: &str) -> Arc<Cluster> {
    let upstreams: Vec<_> = (1..=replicas)
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let config = format!(
        r#"
listen: {{http: 127.0.0.1:60001, admin: 127.0.0.1:60002}}
signing_keys: "k1:{key}"
auth:
  issuers:
    - {{issuer: sluice, audience: sluice-api, hs256_secret: "{key}", algorithms: [HS256]}}
services:
  things: {{prefix: /api/things, upstreams: [{}], {settings}}}
"#,
        upstreams.join(", "),
        key = "11".repeat(32)
    );
    let config = Config::parse(Path::new("test.yaml"), &config, &|_| None).unwrap();
    assert_eq!(config.limits.gateways, NonZeroU32::MIN);
    Cluster::new(config.services[0].clone())
}

fn picks(cluster: &Cluster, n: usize, tried: &[SocketAddr]) -> Vec<u16> {
    let pick = |_| {
        cluster
            .pick(Some("alice"), CLIENT, tried)
            .map(|replica| replica.address().port())
    };
    (0..n).map(|i| pick(i).unwrap()).collect()
}

#[test]
fn round_robin_takes_turns() {
    assert_eq!(
        picks(&cluster(3, "balance: round_robin"), 6, &[]),
        [1, 2, 3, 1, 2, 3]
    );
}

#[test]
fn least_in_flight_avoids_the_busy_replica() {
    let cluster = cluster(2, "balance: least_in_flight");
    let held = cluster.pick(None, CLIENT, &[]).ok().unwrap();
    let other = if held.address().port() == 1 { 2 } else { 1 };
    assert_eq!(picks(&cluster, 4, &[]), [other; 4]);
}

#[test]
fn hashing_keeps_a_user_on_its_replica_while_others_come_and_go() {
    let cluster = cluster(4, "balance: {hash: user}");
    let home = picks(&cluster, 1, &[])[0];
    assert_eq!(picks(&cluster, 5, &[]), [home; 5]);
    let stay: Vec<SocketAddr> = cluster
        .replicas()
        .iter()
        .map(|replica| replica.address)
        .filter(|address| address.port() == home || address.port() % 2 == 0)
        .collect();
    cluster.set_addresses(&stay);
    assert_eq!(picks(&cluster, 5, &[]), [home; 5]);
}

#[test]
fn a_failed_replica_is_passed_over_and_used_again_when_nothing_else_is_left() {
    let cluster = cluster(2, "balance: round_robin");
    let first = "127.0.0.1:1".parse().unwrap();
    cluster.eject(first);
    assert_eq!(picks(&cluster, 3, &[]), [2, 2, 2]);
    assert!(cluster.ejected_for(&cluster.replicas()[0]).is_some());
    let second = "127.0.0.1:2".parse().unwrap();
    assert_eq!(picks(&cluster, 2, &[second]), [1, 1]);
}

#[test]
fn an_unhealthy_replica_is_never_picked() {
    let cluster = cluster(1, "balance: round_robin");
    cluster.replicas()[0]
        .healthy
        .store(false, Ordering::Relaxed);
    assert_eq!(
        cluster.pick(None, CLIENT, &[]).err(),
        Some(Unavailable::NoneHealthy)
    );
}

#[test]
fn places_are_counted_and_given_back() {
    let cluster = cluster(1, "max_in_flight: 1");
    let permit = cluster.acquire().ok().unwrap();
    assert_eq!(cluster.acquire().err(), Some(Unavailable::TooManyInFlight));
    drop(permit);
    assert!(cluster.acquire().is_ok());
}
