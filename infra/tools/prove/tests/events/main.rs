//! The proof that every change that was answered leads to exactly one notification for its recipient,
//! whatever fails meanwhile.
//!
//! The real binaries run on real servers, and each process is restarted when it ends, as a supervisor
//! would. Clients record every answer, and a driver injects faults, see [`faults::Fault`]. In the end,
//! the history of answers is compared with what every user can read.
//!
//! `make test` runs a short proof, `make prove-events` a long one:
//! `PROVE_OPERATIONS`, `PROVE_FAULTS`, `PROVE_CLIENTS`, `PROVE_SEED` and `PROVE_OUT` (a file for the
//! result, as JSON).

#[path = "../../../../../workers/standalone/tests/servers/backlog.rs"]
#[expect(dead_code, reason = "this proof does not use all of it")]
mod backlog;
mod clients;
mod faults;
mod stack;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clients::History;
use faults::{Driver, Fault};
use stack::Stack;
use testkit::setting;

#[tokio::test(flavor = "multi_thread")]
async fn every_answered_change_is_told_exactly_once_through_every_kind_of_fault() {
    let operations = setting("PROVE_OPERATIONS", 300);
    let wanted_faults = setting("PROVE_FAULTS", Fault::ALL.len());
    let clients = setting("PROVE_CLIENTS", 8);
    let seed = setting("PROVE_SEED", 1_u64);
    let started = Instant::now();

    let stack = Stack::start().await;
    let history = Arc::new(History::default());
    let stop = Arc::new(AtomicBool::new(false));
    let gateways = stack.gateways();
    let working: Vec<_> = (0..clients)
        .map(|n| {
            tokio::spawn(clients::run(
                n,
                gateways.clone(),
                history.clone(),
                stop.clone(),
            ))
        })
        .collect();
    let mut driver = Driver::new(stack, seed);
    while driver.injected().len() < wanted_faults || history.operations() < operations {
        driver.next().await;
        eprintln!(
            "{:>5} s  {:>7} operations  {:>4} faults, the last: {}",
            started.elapsed().as_secs(),
            history.operations(),
            driver.injected().len(),
            driver
                .injected()
                .last()
                .map_or("none", |last| last.fault.name()),
        );
    }
    stop.store(true, Ordering::Release);
    for client in working {
        client.await.expect("a client panicked");
    }

    let pending = driver.stack.drained(Duration::from_secs(300)).await;
    let verdict = verdict::reconcile(
        &driver.stack,
        &history,
        driver.injected(),
        started.elapsed(),
        seed,
    )
    .await;
    eprintln!("{verdict}");
    if let Ok(file) = std::env::var("PROVE_OUT") {
        std::fs::write(&file, verdict.json()).unwrap_or_else(|why| panic!("{file}: {why}"));
    }
    driver.stack.stop().await;
    assert_eq!(pending, None, "events are still pending");
    assert!(verdict.holds(), "{verdict}");
}
