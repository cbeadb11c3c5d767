use futures_util::FutureExt;
use tokio::time::sleep;

use super::*;
use crate::ctx::RequestCtx;

const GRACE: Duration = Duration::from_secs(10);

/// A drain that has begun, and what it drains.
fn draining() -> (Arc<Lifecycle>, impl Future<Output = Duration>) {
    let lifecycle = Arc::new(Lifecycle::default());
    let stop = CancellationToken::new();
    stop.cancel();
    let drain = Drain {
        stop: Stop::Token(stop),
        lifecycle: lifecycle.clone(),
        doors: Doors::default(),
        lame_duck: Duration::ZERO,
        grace: GRACE,
    };
    let closed = async move {
        let begun = Instant::now();
        let mut connections = drain.doors.connections();
        let closed = async {
            connections.wait_for(|closed| *closed).await.unwrap();
            begun.elapsed()
        };
        tokio::join!(closed, drain.recv()).0
    };
    (lifecycle, closed)
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_shortly_after_the_listener() {
    let (_, closed) = draining();
    assert_eq!(closed.await, LINGER);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_came_in_is_given_time_for_its_first_request() {
    let (lifecycle, closed) = draining();
    let arriving = lifecycle.arrive();
    let begin = async {
        sleep(ARRIVAL / 2).await;
        let running = RequestCtx::new(&lifecycle);
        drop(arriving);
        sleep(GRACE / 2).await;
        drop(running);
    };
    let (closed, ()) = tokio::join!(closed, begin);
    let ended = ARRIVAL / 2 + GRACE / 2;
    assert!(
        (ended..ended + 2 * LOOK_EVERY).contains(&closed),
        "{closed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_begins_delays_the_end_by_no_more_than_its_bound() {
    let (lifecycle, closed) = draining();
    let _silent = lifecycle.arrive();
    let closed = closed.await;
    assert!(
        (ARRIVAL..ARRIVAL + 2 * LOOK_EVERY).contains(&closed),
        "{closed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_runs_is_waited_for_as_long_as_the_grace() {
    let (lifecycle, closed) = draining();
    let _running = RequestCtx::new(&lifecycle);
    let mut closed = Box::pin(closed);
    assert!(closed.as_mut().now_or_never().is_none());
    let closed = closed.await;
    assert!(
        (GRACE..GRACE + 2 * LOOK_EVERY).contains(&closed),
        "{closed:?}"
    );
}
