//! The limits on password attempts.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::{Reply, Signed, eventually};

use crate::platform::{PASSWORD, Worker, fresh_config, problem};

const WRONG: &str = "not the right password";

/// A worker whose clock stands still, so that no counter empties on a slow machine.
async fn start() -> Worker {
    let worker = Worker::start().await;
    worker.clock.hold();
    worker
}

async fn try_at(gateway: &Signed, email: &str, password: &str) -> Reply {
    let body = json!({"email": email, "password": password});
    gateway.post("/api/users/login").json(&body).send().await
}

fn statuses(replies: &[Reply]) -> (usize, usize) {
    let count = |wanted| replies.iter().filter(|r| r.status == wanted).count();
    let counts = (count(401), count(429));
    assert_eq!(counts.0 + counts.1, replies.len());
    counts
}

#[tokio::test]
async fn known_and_unknown_accounts_are_limited_alike() {
    let worker = start().await;
    worker.register("ada@example.org").await.expect(201);
    let answers = async |email: &str| {
        let mut answers = Vec::new();
        for _ in 0..12 {
            let mut reply = problem(&worker.login(email, WRONG).await);
            reply["detail"] = Value::Null;
            answers.push(reply);
        }
        let statuses: Vec<_> = answers.iter().map(|a| a["status"].clone()).collect();
        assert_eq!(statuses[..10], vec![json!(401); 10]);
        assert_eq!(statuses[10..], [json!(429), json!(429)]);
        answers
    };
    let known = answers("ada@example.org").await;
    assert_eq!(known[11]["type"], "/problems/rate-limited");
    for unknown in ["eve@example.org", "no address at all"] {
        assert_eq!(answers(unknown).await, known);
    }
    // The store keeps as many counters for unknown accounts as for known ones, and a counter of
    // registrations. None names anybody. Writes of counters do not wait for a majority, but this
    // read sees only what a majority has.
    eventually(Duration::from_secs(10), || async {
        worker.documents("attempts").await.len() == 7
    })
    .await;
    let kept = worker.documents("attempts").await;
    assert!(!format!("{kept:?}").contains("example"));
}

#[tokio::test]
async fn who_waits_as_long_as_told_may_try_again() {
    let worker = start().await;
    worker.register("ada@example.org").await.expect(201);
    for _ in 0..10 {
        worker.login("ada@example.org", WRONG).await.expect(401);
    }
    // From this address not even the right password is checked; from another one it is.
    let refused = worker.login("ada@example.org", PASSWORD).await.expect(429);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(wait, 60);
    let elsewhere = worker.from("198.51.100.1");
    try_at(&elsewhere, "ada@example.org", PASSWORD)
        .await
        .expect(200);
    worker.login("eve@example.org", WRONG).await.expect(401);

    worker.clock.advance(Duration::from_secs(wait));
    worker.login("ada@example.org", WRONG).await.expect(401);
    worker.login("ada@example.org", WRONG).await.expect(429);
    worker.clock.advance(Duration::from_secs(60));
    worker.login("ada@example.org", PASSWORD).await.expect(200);
}

#[tokio::test]
async fn the_right_password_is_never_counted() {
    let worker = start().await;
    worker.register("ada@example.org").await.expect(201);
    for _ in 0..25 {
        worker.login("ada@example.org", PASSWORD).await.expect(200);
    }
    for _ in 0..9 {
        worker.login("ada@example.org", WRONG).await.expect(401);
    }
    worker.login("ada@example.org", PASSWORD).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_parallel_attempts_at_two_workers_no_more_are_looked_at() {
    let one = start().await;
    let two = one.replica().await;
    one.register("ada@example.org").await.expect(201);
    for email in ["ada@example.org", "eve@example.org"] {
        let attempts = (0..30).flat_map(|_| [one.login(email, WRONG), two.login(email, WRONG)]);
        assert_eq!(statuses(&join_all(attempts).await), (10, 50));
    }
}

#[tokio::test]
async fn an_attacker_with_many_addresses_is_stopped_and_locks_nobody_out() {
    let worker = start().await;
    worker.join("ada@example.org").await;
    for account in ["ada@example.org", "eve@example.org"] {
        let mut replies = Vec::new();
        for n in 0..12 {
            let zombie = worker.from(&format!("198.51.100.{n}"));
            for _ in 0..10 {
                replies.push(try_at(&zombie, account, WRONG).await);
            }
        }
        assert_eq!(statuses(&replies), (100, 20), "{account}");
        let fresh = try_at(&worker.from("198.51.100.99"), account, WRONG).await;
        let wait: u64 = fresh
            .expect(429)
            .header("retry-after")
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(wait, 36);
    }
    // At an address where Ada has logged in before she still can, and has all attempts of her own.
    for _ in 0..9 {
        worker.login("ada@example.org", WRONG).await.expect(401);
    }
    worker.login("ada@example.org", PASSWORD).await.expect(200);
    // At another address she waits no longer than reported, once the attack has ended.
    let cafe = worker.from("198.51.100.200");
    let refused = try_at(&cafe, "ada@example.org", PASSWORD).await.expect(429);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    worker.clock.advance(Duration::from_secs(wait));
    try_at(&cafe, "ada@example.org", PASSWORD).await.expect(200);
    // From then on the address is known.
    let zombie = worker.from("198.51.100.201");
    try_at(&zombie, "ada@example.org", WRONG).await.expect(401);
    try_at(&zombie, "ada@example.org", WRONG).await.expect(429);
    try_at(&cafe, "ada@example.org", PASSWORD).await.expect(200);
}

#[tokio::test]
async fn an_ipv6_network_is_one_address() {
    let worker = start().await;
    let mut replies = Vec::new();
    for n in 0..15 {
        let host = worker.from(&format!("2001:db8:0:1::{n:x}"));
        replies.push(try_at(&host, "ada@example.org", WRONG).await);
    }
    assert_eq!(statuses(&replies), (10, 5));
    let neighbour = worker.from("2001:db8:0:2::1");
    try_at(&neighbour, "ada@example.org", WRONG)
        .await
        .expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_not_looked_at_is_not_counted() {
    let mut config = fresh_config().await;
    config.credentials.hashing.permits = 1;
    config.credentials.hashing.queue = 0;
    let worker = Worker::with(config).await;
    eventually(Duration::from_secs(10), || worker.is_ready()).await;
    worker.clock.hold();
    worker.register("ada@example.org").await.expect(201);
    let mut refused = 0;
    while refused < 30 {
        let attempts = (0..10).map(|_| worker.login("ada@example.org", PASSWORD));
        for reply in join_all(attempts).await {
            match reply.status.as_u16() {
                200 => {}
                503 => refused += 1,
                other => panic!("{other}"),
            }
        }
    }
    for _ in 0..10 {
        worker.login("ada@example.org", WRONG).await.expect(401);
    }
    worker.login("ada@example.org", WRONG).await.expect(429);
}

#[tokio::test]
async fn guesses_at_the_own_password_are_counted_by_account_and_apart_from_logins() {
    let worker = start().await;
    let tokens = worker.join("ada@example.org").await;
    let caller = worker.caller(&tokens);
    let guess = async |password: &str| {
        let body = json!({"current_password": password, "new_password": "a river runs"});
        let request = caller.put("/api/users/me/password").json(&body);
        request.send().await.status.as_u16()
    };
    // An attack on the login does not affect somebody who is logged in.
    for n in 0..12 {
        let zombie = worker.from(&format!("198.51.100.{n}"));
        for _ in 0..10 {
            try_at(&zombie, "ada@example.org", WRONG).await;
        }
    }
    for _ in 0..10 {
        assert_eq!(guess(WRONG).await, 422);
    }
    assert_eq!(guess(WRONG).await, 429);
    // A new e-mail address gives no new attempts.
    let other = json!({"email": "eve@example.org"});
    caller
        .patch("/api/users/me")
        .json(&other)
        .send()
        .await
        .expect(200);
    assert_eq!(guess(WRONG).await, 429);
    worker.login("eve@example.org", PASSWORD).await.expect(200);
}

#[tokio::test]
async fn an_address_registers_no_more_accounts_than_its_share() {
    let worker = start().await;
    let register = async |gateway: &Signed, n: usize| {
        let email = format!("n{n}@example.org");
        let body = json!({"email": email, "password": PASSWORD, "name": "N"});
        gateway.post("/api/users/register").json(&body).send().await
    };
    let here = worker.from("198.51.100.1");
    let made = join_all((0..200).map(|n| register(&here, n))).await;
    for reply in made {
        reply.expect(201);
    }
    let refused = register(&here, 200).await.expect(429);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(problem(&refused)["type"], "/problems/rate-limited");
    register(&worker.from("198.51.100.2"), 201)
        .await
        .expect(201);
    worker.clock.advance(Duration::from_secs(1));
    register(&here, 202).await.expect(201);
}
