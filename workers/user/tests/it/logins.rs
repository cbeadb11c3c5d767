//! Logging in.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::platform::{PASSWORD, Worker, claims};

#[tokio::test]
async fn a_login_gives_tokens_for_the_user_and_keeps_only_hashes() {
    let worker = Worker::start().await;
    let user = worker.register("Ada@example.org").await.expect(201).json();
    let login = json!({"email": " ADA@EXAMPLE.ORG", "password": PASSWORD});
    let reply = worker
        .gateway
        .post("/api/users/login")
        .header("user-agent", "curl/8")
        .json(&login);
    let reply = reply.send().await.expect(200);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let tokens = reply.json();
    assert_eq!(tokens["token_type"], "Bearer");
    assert_eq!(tokens["expires_in"], 600);
    assert_eq!(tokens["user"], user);

    let session = worker.documents("sessions").await.remove(0);
    let claims = claims(&tokens["access_token"]);
    assert_eq!(claims["iss"], "sluice");
    assert_eq!(claims["aud"], "sluice-api");
    assert_eq!(claims["sub"], user["id"]);
    assert_eq!(claims["sid"], session.get_str("_id").unwrap());
    assert_eq!(session.get_str("user_id").unwrap(), user["id"]);
    assert_eq!(session.get_str("device").unwrap(), "curl/8");
    assert_eq!(session.get_str("address").unwrap(), "203.0.113.7");

    let refresh = tokens["refresh_token"].as_str().unwrap();
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(refresh).unwrap();
    let kept = format!("{session:?}");
    assert!(!kept.contains(refresh) && !kept.contains(&format!("{:?}", &bytes[16..])));
    let stored = format!("{:?}", worker.documents("users").await);
    assert!(stored.contains("$argon2id$") && !stored.contains(PASSWORD));
}

#[tokio::test]
async fn two_logins_are_two_sessions_with_different_tokens() {
    let worker = Worker::start().await;
    worker.register("ada@example.org").await.expect(201);
    let first = worker
        .login("ada@example.org", PASSWORD)
        .await
        .expect(200)
        .json();
    let second = worker
        .login("ada@example.org", PASSWORD)
        .await
        .expect(200)
        .json();
    for member in ["access_token", "refresh_token"] {
        assert_ne!(first[member], second[member]);
    }
    assert_eq!(worker.documents("sessions").await.len(), 2);
}

#[tokio::test]
async fn unknown_and_wrong_get_the_same_401_whatever_was_tried() {
    let worker = Worker::start().await;
    worker.register("ada@example.org").await.expect(201);
    let mut answers = Vec::new();
    for (email, password) in [
        ("ada@example.org", "not the right password"),
        ("ada@example.org", ""),
        ("eve@example.org", PASSWORD),
        ("no address at all", PASSWORD),
        ("", "short"),
        (&"a".repeat(5000), &"b".repeat(5000)),
    ] {
        let reply = worker.login(email, password).await.expect(401);
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        let mut problem = reply.json();
        problem["request_id"] = Value::Null;
        answers.push(problem);
    }
    assert_eq!(answers[0]["type"], "/problems/unauthenticated");
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    assert!(worker.documents("sessions").await.is_empty());
}

#[tokio::test]
async fn a_login_hashes_the_password_again_when_the_parameters_have_risen() {
    let worker = Worker::start().await;
    worker.register("ada@example.org").await.expect(201);
    let mut config = worker.stop().await;
    config.credentials.hashing.iterations += 1;
    let worker = Worker::with(config).await;
    let hash = async || {
        worker.documents("users").await[0]
            .get_str("password")
            .unwrap()
            .to_owned()
    };
    assert!(hash().await.contains("t=1,"));
    worker
        .login("ada@example.org", "not the right password")
        .await
        .expect(401);
    assert!(hash().await.contains("t=1,"));
    for _ in 0..2 {
        worker.login("ada@example.org", PASSWORD).await.expect(200);
        assert!(hash().await.contains("t=2,"));
    }
}
