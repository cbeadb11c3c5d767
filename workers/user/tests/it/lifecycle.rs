//! The worker's process while MongoDB and RabbitMQ are unavailable.

use testkit::lifecycle::{self, Worker};

/// A seed of 32 bytes.
const TOKEN_KEYS: &str = "t1:0707070707070707070707070707070707070707070707070707070707070707";

const WORKER: Worker<'static> = Worker {
    program: env!("CARGO_BIN_EXE_user-worker"),
    variables: &[("TOKEN_SIGNING_KEYS", TOKEN_KEYS)],
    path: "/api/users/019c0000-0000-7000-8000-000000000000",
    // The worker asks the store, which has no such session.
    answer: 401,
};

#[tokio::test]
async fn the_worker_lives_without_its_servers_and_is_ready_when_they_return() {
    lifecycle::a_worker_lives_without_its_servers_and_is_ready_when_they_return(WORKER).await;
}

#[tokio::test]
async fn the_worker_ends_without_its_servers_when_it_is_told_to() {
    lifecycle::a_worker_without_its_servers_ends_when_it_is_told_to(WORKER).await;
}
