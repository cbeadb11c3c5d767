//! Changing a password.

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::Reply;

use crate::platform::{PASSWORD, Worker, pointers};

const NEW: &str = "a river runs through it";

async fn change(worker: &Worker, tokens: &Value, current: &str, new: &str) -> Reply {
    let body = json!({"current_password": current, "new_password": new});
    let caller = worker.caller(tokens);
    let request = caller.put("/api/users/me/password").json(&body);
    request.send().await
}

#[tokio::test]
async fn a_new_password_ends_every_other_session_and_keeps_this_one() {
    let worker = Worker::start().await;
    let replica = worker.replica().await;
    let this = worker.join("ada@example.org").await;
    let login = async |password| worker.login("ada@example.org", password).await;
    let others = [
        login(PASSWORD).await.expect(200).json(),
        login(PASSWORD).await.expect(200).json(),
    ];
    let reply = change(&worker, &this, PASSWORD, NEW).await.expect(204);
    assert!(reply.body.is_empty());

    for other in &others {
        assert_eq!(replica.me(other).await, 401);
        replica.refresh(other).await.expect(401);
    }
    assert_eq!(replica.me(&this).await, 200);
    let this = replica.refresh(&this).await.expect(200).json();
    login(PASSWORD).await.expect(401);
    let back = login(NEW).await.expect(200).json();

    // Exactly the dead sessions are marked.
    let ended = worker.documents("sessions").await;
    let ended = ended.iter().filter(|s| s.contains_key("ended_at"));
    assert_eq!(ended.count(), 2);

    // A change from another session ends the first one.
    change(&replica, &back, NEW, PASSWORD).await.expect(204);
    assert_eq!(worker.me(&this).await, 401);
    assert_eq!(worker.me(&back).await, 200);
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_it_to_one_that_might_be_registered() {
    let worker = Worker::start().await;
    let tokens = worker.join("ada@example.org").await;
    let refused = change(&worker, &tokens, "not the right password", NEW).await;
    let refused = refused.expect(422);
    assert_eq!(pointers(&refused), ["/current_password"]);
    assert_eq!(refused.json()["type"], "/problems/validation-failed");
    for weak in ["ninechars", "password123", &"x1".repeat(65)] {
        let refused = change(&worker, &tokens, PASSWORD, weak).await.expect(422);
        assert_eq!(pointers(&refused), ["/new_password"]);
    }
    let caller = worker.caller(&tokens);
    let empty = caller.put("/api/users/me/password").json(&json!({}));
    assert_eq!(
        pointers(&empty.send().await.expect(422)),
        ["/current_password", "/new_password"]
    );
    worker.login("ada@example.org", PASSWORD).await.expect(200);
    // What the owner sees has not changed, so neither has its tag.
    change(&worker, &tokens, PASSWORD, NEW).await.expect(204);
    let me = caller.get("/api/users/me").send().await.expect(200);
    assert_eq!(me.header("etag"), Some("\"1\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_parallel_password_changes_one_wins() {
    let worker = Worker::start().await;
    let replica = worker.replica().await;
    let mut sessions = vec![worker.join("ada@example.org").await];
    for _ in 0..5 {
        let login = worker.login("ada@example.org", PASSWORD).await;
        sessions.push(login.expect(200).json());
    }
    let new: Vec<_> = (0..6).map(|n| format!("the password of {n}")).collect();
    let changes = sessions.iter().zip(&new).enumerate();
    let changes =
        changes.map(|(n, (tokens, new))| change([&worker, &replica][n % 2], tokens, PASSWORD, new));
    let replies = join_all(changes).await;
    let mut winner = None;
    for (n, reply) in replies.iter().enumerate() {
        match reply.status.as_u16() {
            204 => assert_eq!(winner.replace(n), None),
            // Another change came first, or had killed the session already.
            409 | 401 => {}
            other => panic!("{other}"),
        }
    }
    let winner = winner.expect("one wins");
    for (n, tokens) in sessions.iter().enumerate() {
        let (session, login) = (
            worker.me(tokens).await,
            worker.login("ada@example.org", &new[n]).await,
        );
        let expected = if n == winner { 200 } else { 401 };
        assert_eq!((session, login.status.as_u16()), (expected, expected));
    }
}

#[tokio::test]
async fn a_stolen_session_does_not_let_anybody_try_passwords() {
    let worker = Worker::start().await;
    let tokens = worker.join("ada@example.org").await;
    let wrong = async || change(&worker, &tokens, "not the right password", NEW).await;
    for _ in 0..10 {
        wrong().await.expect(422);
    }
    let refused = wrong().await.expect(429);
    assert_eq!(refused.json()["type"], "/problems/rate-limited");
    assert!(refused.header("retry-after").is_some());
}
