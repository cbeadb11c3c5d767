//! Logging out, and listing and ending one's own sessions.

use std::time::Duration;

use contract::id::{SessionId, UserId};
use contract::revocation;
use jiff::Timestamp;
use serde_json::{Value, json};
use testkit::eventually;
use users::domain::PasswordHash;
use users::store::UserStore;
use users_mongo::MongoUserStore;

use crate::platform::{PASSWORD, Worker, claims, problem};

async fn login(worker: &Worker, email: &str) -> Value {
    worker.login(email, PASSWORD).await.expect(200).json()
}

async fn list(worker: &Worker, tokens: &Value, query: &str) -> Value {
    let path = format!("/api/users/me/sessions{query}");
    let list = worker.caller(tokens).get(&path).send().await;
    list.expect(200).json()
}

fn id(tokens: &Value) -> Value {
    claims(&tokens["access_token"])["sid"].clone()
}

#[tokio::test]
async fn gateways_and_nobody_else_are_told_which_sessions_have_ended() {
    let worker = Worker::start().await;
    let (here, _) = (
        worker.join("ada@example.org").await,
        login(&worker, "ada@example.org").await,
    );
    let path = revocation::PATH;
    let ask = async |query: &str| {
        let answer = worker.gateway.get(&format!("{path}{query}")).send().await;
        answer.expect(200).json()
    };
    assert_eq!(ask("").await["ended"], json!([]));
    let caller = worker.caller(&here);
    caller.post("/api/users/logout").send().await.expect(204);
    let reported = ask("").await;
    assert_eq!(reported["ended"][0]["sid"], id(&here));
    assert_eq!(reported["tokens_live_ms"], 600_000);
    let now: Timestamp = reported["now"].as_str().unwrap().parse().unwrap();
    let later = format!("?since={}", now.as_millisecond() + 1);
    assert_eq!(ask(&later).await["ended"], json!([]));
    let stranger = worker.gateway.unsigned();
    stranger.get(path).send().await.expect(401);
    let odd = worker.gateway.get(&format!("{path}?since=x")).send().await;
    odd.expect(422);
}

#[tokio::test]
async fn a_logout_ends_this_session_everywhere_and_no_other() {
    let worker = Worker::start().await;
    let replica = worker.replica().await;
    let (here, there) = (
        worker.join("ada@example.org").await,
        login(&worker, "ada@example.org").await,
    );
    let caller = worker.caller(&here);
    let logout = caller
        .post("/api/users/logout")
        .header("idempotency-key", "k");
    let reply = logout.send().await.expect(204);
    assert!(reply.body.is_empty());

    assert_eq!(replica.me(&here).await, 401);
    replica.refresh(&here).await.expect(401);
    let again = caller.post("/api/users/logout").send().await.expect(401);
    let challenge = again.header("www-authenticate").unwrap();
    assert!(challenge.starts_with(r#"Bearer error="invalid_token""#));
    assert_eq!(replica.me(&there).await, 200);
    // A login right after a logout succeeds.
    let back = login(&worker, "ada@example.org").await;
    assert_eq!(replica.me(&back).await, 200);

    // The ended session is kept with the time of its end, so that gateways learn of it.
    let ended = worker.documents("sessions").await;
    let ended = ended
        .iter()
        .find(|s| id(&here) == s.get_str("_id").unwrap());
    let time = |name| {
        ended
            .unwrap()
            .get_datetime(name)
            .unwrap()
            .timestamp_millis()
    };
    assert_eq!(time("expires_at") - time("ended_at"), 3_600_000);
}

#[tokio::test]
async fn every_path_for_callers_refuses_an_ended_session() {
    let worker = Worker::start().await;
    let tokens = worker.join("ada@example.org").await;
    let caller = worker.caller(&tokens);
    caller.post("/api/users/logout").send().await.expect(204);
    let body = json!({});
    let mut answers = Vec::new();
    for request in [
        caller.post("/api/users/logout"),
        caller.get("/api/users/me"),
        caller.patch("/api/users/me"),
        caller.delete("/api/users/me"),
        caller.put("/api/users/me/password"),
        caller.get("/api/users/me/sessions"),
        caller.delete("/api/users/me/sessions/x"),
        caller.get("/api/users/x"),
        // A user whose token names no session of ours.
        worker.gateway.as_user("somebody").get("/api/users/me"),
    ] {
        let mut problem = problem(&request.json(&body).send().await.expect(401));
        problem["instance"] = Value::Null;
        answers.push(problem);
    }
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:#?}"
    );
}

#[tokio::test]
async fn the_list_tells_where_somebody_is_logged_in_and_which_of_it_asks() {
    let worker = Worker::start().await;
    worker.register("ada@example.org").await.expect(201);
    let body = json!({"email": "ada@example.org", "password": PASSWORD});
    let phone = worker
        .from("2001:db8::7")
        .post("/api/users/login")
        .header("user-agent", "phone")
        .json(&body)
        .send()
        .await
        .expect(200)
        .json();
    let laptop = login(&worker, "ada@example.org").await;
    worker.join("eve@example.org").await;
    worker.clock.advance(Duration::from_secs(60));
    let phone = worker.refresh(&phone).await.expect(200).json();

    let sessions = list(&worker, &laptop, "").await;
    assert_eq!(sessions["next_cursor"], Value::Null);
    let [first, second] = &sessions["items"].as_array().unwrap()[..] else {
        panic!("{sessions}")
    };
    assert_eq!((&first["id"], &second["id"]), (&id(&laptop), &id(&phone)));
    assert_eq!(
        (&first["current"], &second["current"]),
        (&true.into(), &false.into())
    );
    assert_eq!(second["address"], "203.0.113.7");
    assert!(second["last_used_at"].as_str() > second["created_at"].as_str());
    assert_eq!(first["last_used_at"], first["created_at"]);
    let mut members: Vec<_> = first.as_object().unwrap().keys().collect();
    members.sort();
    let expected = [
        "address",
        "created_at",
        "current",
        "device",
        "id",
        "last_used_at",
    ];
    assert_eq!(members, expected);

    let page = list(&worker, &phone, "?limit=1").await;
    assert_eq!(page["items"][0]["id"], id(&laptop));
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = list(&worker, &phone, &format!("?limit=1&cursor={cursor}")).await;
    assert_eq!(page["items"][0]["id"], id(&phone));
    assert_eq!(page["next_cursor"], Value::Null);
    let caller = worker.caller(&phone);
    for wrong in ["?limit=0", "?cursor=x", "?user=eve"] {
        let path = format!("/api/users/me/sessions{wrong}");
        caller.get(&path).send().await.expect(422);
    }
}

#[tokio::test]
async fn a_session_is_ended_by_its_owner_and_by_nobody_else() {
    let worker = Worker::start().await;
    let ada = worker.join("ada@example.org").await;
    let lost = login(&worker, "ada@example.org").await;
    let eve = worker.join("eve@example.org").await;
    let end = async |who: &Value, which: &Value| {
        let path = format!("/api/users/me/sessions/{}", which.as_str().unwrap());
        let reply = worker.caller(who).delete(&path).send().await;
        reply.status.as_u16()
    };
    assert_eq!(end(&eve, &id(&lost)).await, 404);
    assert_eq!(end(&ada, &"nothing".into()).await, 404);
    assert_eq!(worker.me(&lost).await, 200);
    assert_eq!(end(&ada, &id(&lost)).await, 204);
    assert_eq!(end(&ada, &id(&lost)).await, 404);
    assert_eq!(worker.me(&lost).await, 401);
    worker.refresh(&lost).await.expect(401);
    assert_eq!(
        list(&worker, &ada, "").await["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    // The caller's own session can be ended, too.
    assert_eq!(end(&ada, &id(&ada)).await, 204);
    assert_eq!(worker.me(&ada).await, 401);
}

#[tokio::test]
async fn a_crash_right_after_a_password_change_leaves_no_other_session_alive() {
    let worker = Worker::start().await;
    let kept = worker.join("ada@example.org").await;
    let other = login(&worker, "ada@example.org").await;
    // Only the write of `PUT /me/password`, as if the worker crashed before what follows.
    let store = MongoUserStore::connect(&worker.config.worker.mongo)
        .await
        .unwrap();
    let user = UserId::parse(kept["user"]["id"].as_str().unwrap()).unwrap();
    let user = store.find_by_id(&user).await.unwrap().unwrap();
    let kept_id = SessionId::parse(id(&kept).as_str().unwrap()).unwrap();
    let other_hash = PasswordHash::new("$other");
    let changed = store.change_password(&user, &other_hash, &kept_id).await;
    assert!(changed.unwrap());

    assert_eq!(worker.me(&other).await, 401);
    worker.refresh(&other).await.expect(401);
    assert_eq!(worker.me(&kept).await, 200);
    let items = list(&worker, &kept, "").await["items"].clone();
    assert_eq!(items.as_array().unwrap().len(), 1, "{items}");
    let path = format!("/api/users/me/sessions/{}", id(&other).as_str().unwrap());
    let caller = worker.caller(&kept);
    caller.delete(&path).send().await.expect(404);

    // The next worker marks the dead session.
    let next = worker.replica().await;
    eventually(Duration::from_secs(10), || async {
        store.with_dead_sessions(1).await.unwrap().is_empty()
    })
    .await;
    let sessions = next.documents("sessions").await;
    let ended = sessions.iter().filter(|s| s.contains_key("ended_at"));
    assert_eq!(ended.count(), 1);
}
