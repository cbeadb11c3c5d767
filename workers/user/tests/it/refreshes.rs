//! Refresh tokens: rotation, the grace of parallel requests, and the end of a session after a
//! replay.

use std::collections::HashSet;
use std::time::Duration;

use contract::identity;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::platform::{PASSWORD, Worker, claims, problem};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn a_refresh_gives_a_new_pair_for_the_same_session_and_notes_its_use() {
    let worker = Worker::start().await;
    let first = worker.join("ada@example.org").await;
    worker.clock.advance(DAY);
    let elsewhere = worker.from("198.51.100.4");
    let reply = elsewhere
        .post("/api/users/refresh")
        .header("user-agent", "curl/9")
        .json(&json!({"refresh_token": first["refresh_token"]}));
    let reply = reply.send().await.expect(200);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let second = reply.json();
    assert_eq!(second["user"], first["user"]);
    assert_eq!(second["expires_in"], 600);
    assert_eq!(second["token_type"], "Bearer");
    for member in ["access_token", "refresh_token"] {
        assert_ne!(first[member], second[member]);
    }
    let (before, after) = (
        claims(&first["access_token"]),
        claims(&second["access_token"]),
    );
    assert_eq!(
        (&before["sid"], &before["sub"]),
        (&after["sid"], &after["sub"])
    );

    let sessions = worker.documents("sessions").await;
    let [session] = &sessions[..] else {
        panic!("{sessions:?}")
    };
    assert_eq!(session.get_str("device").unwrap(), "curl/9");
    assert_eq!(session.get_str("address").unwrap(), "198.51.100.4");
    let time = |name| session.get_datetime(name).unwrap().timestamp_millis();
    let day = DAY.as_millis() as i64;
    assert!(time("last_used_at") - time("created_at") >= day);
    assert_eq!(time("expires_at") - time("last_used_at"), 30 * day);
    // A thief of the database finds no token.
    let kept = format!("{session:?}");
    for token in [&first, &second] {
        assert!(!kept.contains(token["refresh_token"].as_str().unwrap()));
    }
    worker.stop().await;
}

#[tokio::test]
async fn an_old_token_shown_after_its_grace_ends_the_session() {
    let worker = Worker::start().await;
    let other = worker.join("ada@example.org").await;
    let stolen = worker
        .login("ada@example.org", PASSWORD)
        .await
        .expect(200)
        .json();
    let mut latest = stolen.clone();
    for _ in 0..3 {
        latest = worker.refresh(&latest).await.expect(200).json();
    }
    worker.clock.advance(Duration::from_millis(10_001));
    assert_eq!(worker.me(&latest).await, 200);
    worker.refresh(&stolen).await.expect(401);
    // Nobody knows which client is the thief, so neither keeps the session.
    worker.refresh(&latest).await.expect(401);
    for tokens in [&stolen, &latest] {
        assert_eq!(worker.me(tokens).await, 401);
    }
    assert_eq!(worker.me(&other).await, 200);
    worker.refresh(&other).await.expect(200);
}

#[tokio::test]
async fn within_the_grace_each_old_token_leads_to_one_that_works() {
    let worker = Worker::start().await;
    let mut all = vec![worker.join("ada@example.org").await];
    for _ in 0..4 {
        let next = worker.refresh(all.last().unwrap()).await.expect(200).json();
        all.push(next);
    }
    let current = &all.last().unwrap()["refresh_token"];
    for old in &all[..4] {
        let again = worker.refresh(old).await.expect(200).json();
        assert_eq!(&again["refresh_token"], current);
        assert_eq!(worker.me(&again).await, 200);
    }
    worker.refresh(all.last().unwrap()).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_refreshes_at_two_workers_all_succeed_and_all_their_tokens_work() {
    let one = Worker::start().await;
    let two = one.replica().await;
    let mut tokens = one.join("ada@example.org").await;
    for _ in 0..5 {
        let replies = join_all((0..20).flat_map(|_| [one.refresh(&tokens), two.refresh(&tokens)]));
        let pairs: Vec<Value> = replies
            .await
            .into_iter()
            .map(|reply| reply.expect(200).json())
            .collect();
        let refresh: HashSet<_> = pairs.iter().map(|pair| &pair["refresh_token"]).collect();
        assert_eq!(refresh.len(), 1);
        let access: HashSet<_> = pairs.iter().map(|pair| &pair["access_token"]).collect();
        assert_eq!(access.len(), 40);
        assert_eq!(two.me(&pairs[39]).await, 200);
        tokens = pairs[17].clone();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_share_a_session_and_refresh_as_they_like_are_never_refused() {
    let one = Worker::start().await;
    let two = one.replica().await;
    let tokens = one.join("ada@example.org").await;
    // Each client continues with the token that it received last, however far the others are.
    let client = async |n: usize| {
        let mut mine = tokens.clone();
        for round in 0..15 {
            let worker = [&one, &two][(n + round) % 2];
            mine = worker.refresh(&mine).await.expect(200).json();
        }
        mine
    };
    let last = join_all((0..8).map(client)).await;
    for tokens in &last {
        assert_eq!(two.me(tokens).await, 200);
        one.refresh(tokens).await.expect(200);
    }
}

#[tokio::test]
async fn whatever_is_wrong_with_a_refresh_token_the_answer_is_the_same() {
    let worker = Worker::start().await;
    let ended = worker.join("ada@example.org").await;
    let logout = worker.caller(&ended);
    logout.post("/api/users/logout").send().await.expect(204);
    let expired = worker
        .login("ada@example.org", PASSWORD)
        .await
        .expect(200)
        .json();
    worker.clock.advance(30 * DAY);
    let good = worker
        .login("ada@example.org", PASSWORD)
        .await
        .expect(200)
        .json();
    let good = good["refresh_token"].as_str().unwrap();
    let mut forged = good.to_owned();
    forged.replace_range(
        0..4,
        if good.starts_with("AAAA") {
            "BBBB"
        } else {
            "AAAA"
        },
    );

    let mut answers = Vec::new();
    for wrong in [
        ended["refresh_token"].as_str().unwrap(),
        expired["refresh_token"].as_str().unwrap(),
        &forged,
        &good[1..],
        "",
        "no token at all",
        &"A".repeat(5000),
    ] {
        let reply = worker.refresh(&json!({"refresh_token": wrong})).await;
        answers.push(problem(&reply.expect(401)));
    }
    assert_eq!(answers[0]["type"], "/problems/unauthenticated");
    let challenge = answers[0]["headers"][0].as_str().unwrap();
    assert!(challenge.starts_with(r#"Bearer error="invalid_token""#));
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:#?}"
    );
    // None of these attempts affected the session whose token they imitate.
    worker
        .refresh(&json!({"refresh_token": good}))
        .await
        .expect(200);
    for body in [json!({}), json!({"refresh_token": 1})] {
        let request = worker.gateway.post("/api/users/refresh");
        request.json(&body).send().await.expect(422);
    }
}

#[tokio::test]
async fn a_session_that_is_used_lives_on_for_a_year_and_no_longer() {
    let worker = Worker::start().await;
    let mut tokens = worker.join("ada@example.org").await;
    for _ in 0..12 {
        worker.clock.advance(29 * DAY);
        tokens = worker.refresh(&tokens).await.expect(200).json();
    }
    worker.clock.advance(17 * DAY);
    worker.refresh(&tokens).await.expect(401);
    assert_eq!(worker.me(&tokens).await, 401);
}

#[tokio::test]
async fn only_what_the_gateway_signed_is_refreshed() {
    let worker = Worker::start().await;
    let tokens = worker.join("ada@example.org").await;
    let body = json!({"refresh_token": tokens["refresh_token"]});
    let stranger = worker.gateway.unsigned();
    for request in [
        stranger.post("/api/users/refresh"),
        stranger
            .post("/api/users/refresh")
            .header(identity::USER_ID.as_str(), "ada"),
    ] {
        request.json(&body).send().await.expect(401);
    }
    worker.refresh(&tokens).await.expect(200);
}
