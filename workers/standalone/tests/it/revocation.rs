//! When a session ends, every gateway refuses its token within a second.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Client, Reply};

use crate::test_platform::{PASSWORD, TestPlatform, User};

/// The promised time.
const SOON: Duration = Duration::from_secs(1);

/// Sends requests until the token is refused, and returns how long that took.
async fn refused(gateway: &Client, token: &str) -> (Duration, Reply) {
    let began = Instant::now();
    loop {
        let reply = gateway.get("/api/tasks").bearer(token).send().await;
        if reply.status == 401 {
            return (began.elapsed(), reply);
        }
        assert_eq!(reply.status, 200);
        assert!(began.elapsed() < 10 * SOON, "the token is still accepted");
    }
}

async fn log_in(test: &TestPlatform, user: &User) -> Value {
    let credentials = json!({"email": user.email, "password": PASSWORD});
    let login = test.http().post("/api/users/login").json(&credentials);
    login.send().await.expect(200).json()
}

fn token(pair: &Value) -> &str {
    pair["access_token"].as_str().expect("a token")
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_a_session_ends_its_token_at_every_gateway_within_a_second() {
    let test = TestPlatform::start().await;
    let [one, other] = [&test.gateways[0], &test.gateways[1]];
    let user = test.user().await;
    let (second, third) = (log_in(&test, &user).await, log_in(&test, &user).await);
    let fourth = log_in(&test, &user).await;
    for token in [&user.token, token(&second), token(&third), token(&fourth)] {
        for gateway in [one, other] {
            let tasks = gateway.get("/api/tasks").bearer(token);
            tasks.send().await.expect(200);
        }
    }
    let mut took = Vec::new();
    let mut gone = async |token: &str| {
        for gateway in [other, one] {
            let (after, reply) = refused(gateway, token).await;
            let challenge = reply.header("www-authenticate").expect("a challenge");
            assert!(challenge.contains("invalid_token"), "{challenge}");
            took.push(after);
        }
    };

    one.post("/api/users/logout")
        .bearer(token(&second))
        .send()
        .await
        .expect(204);
    // A new login works immediately.
    let back = log_in(&test, &user).await;
    other
        .get("/api/tasks")
        .bearer(token(&back))
        .send()
        .await
        .expect(200);
    gone(token(&second)).await;

    let sessions = one
        .get("/api/users/me/sessions")
        .bearer(&user.token)
        .send()
        .await;
    let sessions = sessions.expect(200).json();
    let newest = sessions["items"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let end = one.delete(&format!("/api/users/me/sessions/{newest}"));
    end.bearer(&user.token).send().await.expect(204);
    gone(token(&back)).await;

    let change = json!({"current_password": PASSWORD, "new_password": "another river runs here"});
    let changed = other.put("/api/users/me/password").bearer(token(&third));
    changed.json(&change).send().await.expect(204);
    gone(&user.token).await;
    gone(token(&fourth)).await;
    other
        .get("/api/tasks")
        .bearer(token(&third))
        .send()
        .await
        .expect(200);

    let delete = one.delete("/api/users/me").bearer(token(&third));
    let password = json!({"password": "another river runs here"});
    delete.json(&password).send().await.expect(204);
    gone(token(&third)).await;

    assert!(took.iter().all(|after| *after < SOON), "{took:?}");
    test.finish().await;
}
