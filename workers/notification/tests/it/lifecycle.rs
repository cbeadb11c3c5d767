//! The worker's process while MongoDB and RabbitMQ are unreachable.

use testkit::lifecycle::{self, Worker};

const WORKER: Worker<'static> = Worker {
    program: env!("CARGO_BIN_EXE_notification-worker"),
    variables: &[],
    path: "/api/notifications",
    answer: 200,
};

#[tokio::test]
async fn the_worker_lives_without_its_servers_and_is_ready_when_they_return() {
    lifecycle::a_worker_lives_without_its_servers_and_is_ready_when_they_return(WORKER).await;
}

#[tokio::test]
async fn the_worker_ends_without_its_servers_when_it_is_told_to() {
    lifecycle::a_worker_without_its_servers_ends_when_it_is_told_to(WORKER).await;
}
