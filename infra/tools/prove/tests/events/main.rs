//! The proof that a change that was answered gives exactly one notification to each who is to hear of
//! it, whatever dies meanwhile.
//!
//! The real binaries run on real servers, each process restarted as a supervisor would. Clients
//! write down every answer; a driver draws faults from [`faults::Fault`]; in the end the ledger is held
//! against what every user can read. `make test` runs a short proof, `make prove-events` a long one:
//! `PROVE_OPERATIONS`, `PROVE_FAULTS`, `PROVE_CLIENTS`, `PROVE_SEED` and `PROVE_OUT` (a file for the
//! result, as JSON).

#[path = "../../../../../workers/standalone/tests/servers/backlog.rs"]
#[expect(dead_code, reason = "the other tests wait otherwise")]
mod backlog;
mod clients;
mod faults;
mod stack;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clients::Ledger;
use faults::{Driver, Fault};
use stack::Stack;
use testkit::setting;

#[tokio::test(flavor = "multi_thread")]
async fn every_answered_change_is_told_exactly_once_through_every_kind_of_fault() {
    let operations = setting("PROVE_OPERATIONS", 300);
    let wanted_faults = setting("PROVE_FAULTS", Fault::ALL.len());
    let clients = setting("PROVE_CLIENTS", 8);
    let seed = setting("PROVE_SEED", 1_u64);
    let begun = Instant::now();

    let stack = Stack::start().await;
    let ledger = Arc::new(Ledger::default());
    let stop = Arc::new(AtomicBool::new(false));
    let gateways = stack.gateways();
    let working: Vec<_> = (0..clients)
        .map(|n| {
            tokio::spawn(clients::work(
                n,
                gateways.clone(),
                ledger.clone(),
                stop.clone(),
            ))
        })
        .collect();
    let mut driver = Driver::new(stack, seed);
    while driver.inflicted().len() < wanted_faults || ledger.operations() < operations {
        driver.next().await;
        eprintln!(
            "{:>5} s  {:>7} operations  {:>4} faults, the last: {}",
            begun.elapsed().as_secs(),
            ledger.operations(),
            driver.inflicted().len(),
            driver
                .inflicted()
                .last()
                .map_or("none", |one| one.fault.name()),
        );
    }
    stop.store(true, Ordering::Release);
    for client in working {
        client.await.expect("a client ends by itself");
    }

    let left = driver.stack.drained(Duration::from_secs(300)).await;
    let verdict = verdict::reconcile(
        &driver.stack,
        &ledger,
        driver.inflicted(),
        begun.elapsed(),
        seed,
    )
    .await;
    eprintln!("{verdict}");
    if let Ok(file) = std::env::var("PROVE_OUT") {
        std::fs::write(&file, verdict.json()).unwrap_or_else(|why| panic!("{file}: {why}"));
    }
    driver.stack.stop().await;
    assert_eq!(left, None, "something is still under way");
    assert!(verdict.holds(), "{verdict}");
}
