use tokio::time::sleep;

use super::*;
use crate::request::ctx::RequestCtx;

const GRACE: Duration = Duration::from_secs(10);

/// Starts a drain. Returns its lifecycle, and a future of when it closed the connections and when it
/// ended.
fn draining() -> (Arc<Lifecycle>, impl Future<Output = (Duration, Duration)>) {
    let lifecycle = Arc::new(Lifecycle::default());
    let stop = CancellationToken::new();
    stop.cancel();
    let drain = Drain {
        stop: Stop::Token(stop),
        lifecycle: lifecycle.clone(),
        close_handle: CloseHandle::default(),
        lame_duck: Duration::ZERO,
        grace: GRACE,
    };
    let times = async move {
        let started = Instant::now();
        let mut connections = drain.close_handle.connections();
        let closed = async {
            connections.wait_for(|closed| *closed).await.unwrap();
            started.elapsed()
        };
        let ended = async {
            drain.recv().await;
            started.elapsed()
        };
        tokio::join!(closed, ended)
    };
    (lifecycle, times)
}

/// Allows for the interval at which the drain polls.
fn assert_soon_after(closed: Duration, ended: Duration) {
    assert!(
        (ended..ended + 2 * POLL_EVERY).contains(&closed),
        "{closed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_shortly_after_the_listener() {
    let (_, times) = draining();
    assert_eq!(times.await.0, IDLE_CLOSE_DELAY);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_came_in_is_given_time_for_its_first_request() {
    let (lifecycle, times) = draining();
    let pending = lifecycle.connection_accepted();
    let begin = async {
        sleep(FIRST_REQUEST_TIMEOUT / 2).await;
        let running = RequestCtx::new(&lifecycle);
        drop(pending);
        sleep(GRACE / 2).await;
        drop(running);
    };
    let ((closed, _), ()) = tokio::join!(times, begin);
    assert_soon_after(closed, FIRST_REQUEST_TIMEOUT / 2 + GRACE / 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_begins_delays_the_end_by_no_more_than_its_bound() {
    let (lifecycle, times) = draining();
    let _silent = lifecycle.connection_accepted();
    assert_soon_after(times.await.0, FIRST_REQUEST_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_runs_is_waited_for_as_long_as_the_grace() {
    let (lifecycle, times) = draining();
    let _running = RequestCtx::new(&lifecycle);
    assert_soon_after(times.await.0, GRACE);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_the_last_look_finds_is_waited_for() {
    let (lifecycle, times) = draining();
    let begin = async {
        sleep(IDLE_CLOSE_DELAY + IDLE_READ_GRACE).await;
        let running = RequestCtx::new(&lifecycle);
        sleep(GRACE / 2).await;
        drop(running);
    };
    let ((_, ended), ()) = tokio::join!(times, begin);
    assert_soon_after(ended, IDLE_CLOSE_DELAY + IDLE_READ_GRACE + GRACE / 2);
}
