//! The start of a worker's listener: requests that come before its store is reachable wait for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use contract::identity::SigningKeys;
use runtime::readiness::{Dependency, Readiness};
use runtime::serve::{Limits, serve};
use runtime::supervise::CancellationToken;
use testkit::Client;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use web::{Routes, Service};

/// A store whose state the test chooses.
struct Store {
    reachable: Arc<AtomicBool>,
    /// Notified when the store has been checked.
    checked: Arc<Notify>,
}

#[async_trait]
impl Readiness for Store {
    async fn dependencies(&self) -> Vec<Dependency> {
        let dependency = |name, ok, required| Dependency {
            name,
            ok,
            required,
            detail: None,
        };
        let store = dependency("store", self.reachable.load(Ordering::SeqCst), true);
        self.checked.notify_one();
        vec![store, dependency("broker", false, false)]
    }
}

/// Starts a worker whose store is reachable while the flag is true.
async fn start(store: &Arc<AtomicBool>, checked: &Arc<Notify>) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(format!("http://{}", listener.local_addr().unwrap()));
    let keys = SigningKeys::parse(&format!("g1:{}", "07".repeat(32))).unwrap();
    let service = Service::new(
        "test",
        Routes::new(),
        Arc::new(()),
        keys,
        Store {
            reachable: store.clone(),
            checked: checked.clone(),
        },
        prometheus::Registry::new(),
    );
    let never = CancellationToken::new;
    tokio::spawn(serve(
        listener,
        service,
        Limits::default(),
        never(),
        never(),
    ));
    client
}

#[tokio::test]
async fn the_first_request_waits_for_the_store() {
    let (store, checked) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let client = start(&store, &checked).await;
    let comes = async {
        // Not reachable at the first check.
        checked.notified().await;
        store.store(true, Ordering::SeqCst);
    };
    let (first, ()) = tokio::join!(client.get("/readyz").send(), comes);
    first.expect(200);
}

#[tokio::test]
async fn a_store_that_does_not_come_is_not_waited_for() {
    let client = start(&Arc::default(), &Arc::default()).await;
    let began = Instant::now();
    client.get("/readyz").send().await.expect(503);
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(4), "{waited:?}");
    client.get("/livez").send().await.expect(200);
}
