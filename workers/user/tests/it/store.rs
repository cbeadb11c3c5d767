//! The MongoDB adapter passes the suite of all adapters.

use std::sync::Arc;

use user_worker::store::mongo::MongoUserStore;
use user_worker::store::{UserStore, conformance};

use crate::platform::fresh_config;

#[tokio::test]
async fn the_mongodb_store_does_what_every_user_store_does() {
    conformance::every_fact(async || {
        let mongo = fresh_config().await.mongo;
        let store = MongoUserStore::connect(&mongo).await.unwrap();
        Arc::new(store) as Arc<dyn UserStore>
    })
    .await;
}

#[tokio::test]
async fn expired_sessions_and_second_accounts_are_left_to_the_indexes() {
    let mongo = fresh_config().await.mongo;
    MongoUserStore::connect(&mongo)
        .await
        .unwrap()
        .prepare()
        .await
        .unwrap();
    let database = shared::mongo::connect(&mongo).await.unwrap();
    let index = async |collection: &str| {
        use futures_util::TryStreamExt;
        let collection = database.collection::<bson::Document>(collection);
        let indexes: Vec<_> = collection
            .list_indexes()
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        indexes
            .into_iter()
            .find_map(|index| index.options.filter(|o| o.name.as_deref() != Some("_id_")))
    };
    assert_eq!(index("users").await.unwrap().unique, Some(true));
    assert!(
        index("sessions")
            .await
            .unwrap()
            .expire_after
            .is_some_and(|after| after.is_zero())
    );
}
