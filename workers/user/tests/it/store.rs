//! Runs the conformance suite on each adapter, and checks what only one adapter has.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bson::spec::BinarySubtype;
use bson::{Binary, Document, doc};
use contract::id::{SessionId, UserId};
use contract::page::PageRequest;
use events::outbox::Outbox;
use futures_util::TryStreamExt;
use runtime::time::{Clock, SystemClock};
use tempfile::TempDir;
use users::domain::{Email, Name, PasswordHash, Session, User};
use users::store::UserStore;
use users_mongo::MongoUserStore;
use users_sqlite::SqliteUserStore;

use crate::conformance;
use crate::platform::fresh_config;

#[tokio::test]
async fn the_mongodb_store_does_what_every_user_store_does() {
    conformance::every_fact(async || {
        let mongo = fresh_config().await.worker.mongo;
        let store = MongoUserStore::connect(&mongo).await.unwrap();
        Arc::new(store) as Arc<dyn UserStore>
    })
    .await;
}

#[tokio::test]
async fn the_sqlite_store_does_what_every_user_store_does() {
    let folder = TempDir::new().unwrap();
    let path = || folder.path().join(testkit::unique("users"));
    conformance::every_fact(async || {
        let store = SqliteUserStore::open(&path()).unwrap();
        Arc::new(store) as Arc<dyn UserStore>
    })
    .await;
}

#[tokio::test]
async fn what_sqlite_has_answered_is_there_when_it_is_opened_again() {
    let folder = TempDir::new().unwrap();
    let open = || SqliteUserStore::open(&folder.path().join("users.db")).unwrap();
    let email = Email::parse("ada@example.org").unwrap();
    let now = SystemClock.now();
    let user = User::new(
        email.clone(),
        Name::parse("Ada").unwrap(),
        PasswordHash::new("$first"),
        None,
        now,
    );
    let session = Session::start(&user, "curl/8", "203.0.113.7", now)
        .unwrap()
        .0;
    let store = open();
    store.create_user(&user).await.unwrap();
    assert!(store.create_session(&session).await.unwrap());
    drop(store);

    let store = open();
    let found = store.find_by_email(&email.key()).await.unwrap();
    assert_eq!(found, Some(user.clone()));
    let found = store.find_session(&session.id).await.unwrap();
    assert_eq!(found, Some(session));
    let deleted = store.delete_user(&user, &user.deleted(now)).await.unwrap();
    drop(store);
    let waiting = open().pending(now, 10).await.unwrap();
    assert_eq!(Some(waiting), deleted);
}

#[tokio::test]
async fn expiry_uniqueness_and_what_is_looked_for_are_left_to_indexes() {
    let mongo = fresh_config().await.worker.mongo;
    MongoUserStore::connect(&mongo)
        .await
        .unwrap()
        .prepare()
        .await
        .unwrap();
    let database = mongo::connect(&mongo).await.unwrap();
    let indexes = async |collection: &str| {
        let collection = database.collection::<Document>(collection);
        let indexes = collection.list_indexes().await.unwrap();
        let indexes: Vec<_> = indexes.try_collect().await.unwrap();
        let described = indexes.into_iter().map(|index| {
            let options = index.options.unwrap();
            let kind = match (options.unique, options.expire_after) {
                (Some(true), _) => "unique ",
                (_, Some(after)) if after.is_zero() => "expiring ",
                _ => "",
            };
            let first = index.keys.keys().next().unwrap().clone();
            format!("{kind}{first}")
        });
        BTreeSet::from_iter(described)
    };
    let expected = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let users = [
        "_id",
        "unique email_key",
        "dead_sessions",
        "deleted_at",
        "pending.0.at",
    ];
    assert_eq!(indexes("users").await, expected(&users));
    let sessions = [
        "_id",
        "unique family_hash",
        "expiring expires_at",
        "user_id",
        "ended_at",
    ];
    assert_eq!(indexes("sessions").await, expected(&sessions));
    assert_eq!(
        indexes("attempts").await,
        expected(&["_id", "expiring expires_at"])
    );
}

#[tokio::test]
async fn documents_of_version_one_are_read() {
    let mongo = fresh_config().await.worker.mongo;
    let store = MongoUserStore::connect(&mongo).await.unwrap();
    store.prepare().await.unwrap();
    let database = mongo::connect(&mongo).await.unwrap();
    let now = SystemClock.now();
    let time = mongo::to_bson(now);
    let users = database.collection::<Document>("users");
    let user = doc! {
        "_id": "u", "email_key": "ada@example.org", "email": "ada@example.org", "name": "Ada",
        "password": "$first", "version": 1_i64, "created_at": time, "updated_at": time, "schema": 1,
    };
    users.insert_one(user).await.unwrap();
    let hash = Binary {
        subtype: BinarySubtype::Generic,
        bytes: vec![7; 32],
    };
    let session = doc! {
        "_id": "s", "user_id": "u", "family_hash": &hash, "refresh_hash": &hash, "device": "",
        "address": "", "created_at": time, "last_used_at": time,
        "expires_at": mongo::to_bson(now + Duration::from_secs(60)), "schema": 1,
    };
    let sessions = database.collection::<Document>("sessions");
    sessions.insert_one(session).await.unwrap();

    let find = async || {
        let user = store
            .find_by_id(&UserId::parse("u").unwrap())
            .await
            .unwrap();
        let session = store.find_session(&SessionId::parse("s").unwrap()).await;
        (user.unwrap(), session.unwrap())
    };
    let (user, session) = find().await;
    let session = session.unwrap();
    assert!(session.is_alive(&user, now));
    let page = PageRequest {
        limit: 10,
        after: None,
    };
    let listed = store.list_sessions(&user, &page, now).await.unwrap();
    assert_eq!(listed.items, [session]);
    let new = Session::start(&user, "", "", now).unwrap().0;
    assert!(store.create_session(&new).await.unwrap());
    let password = PasswordHash::new("$second");
    let changed = store.change_password(&user, &password, &new.id).await;
    assert!(changed.unwrap());
    store.end_dead_sessions(&user.id, now).await.unwrap();
    assert_eq!(find().await.1, None);
    assert!(store.find_session(&new.id).await.unwrap().is_some());
}
