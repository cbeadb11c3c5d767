use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use contract::problem::Kind;

use super::*;

/// A hasher whose `hash` blocks until the test releases it.
struct Gate {
    entered: Sender<()>,
    leave: Mutex<Receiver<()>>,
}

impl Hasher for Gate {
    fn hash(&self, password: &Password) -> Result<PasswordHash, BoxError> {
        self.entered.send(())?;
        self.leave.lock().unwrap().recv()?;
        Ok(PasswordHash::new(password.expose()))
    }

    fn verify(&self, password: &Password, hash: &PasswordHash) -> Result<bool, BoxError> {
        Ok(password.expose() == hash.as_str().trim_start_matches("old:"))
    }

    fn needs_rehash(&self, hash: &PasswordHash) -> bool {
        hash.as_str().starts_with("old:")
    }

    fn nobodys_hash(&self) -> PasswordHash {
        PasswordHash::new("nobody")
    }
}

struct Bench {
    passwords: Arc<Passwords>,
    entered: Receiver<()>,
    leave: Sender<()>,
}

fn bench(permits: usize, queue: usize, deadline: Duration) -> Bench {
    let (enter, entered) = channel();
    let (leave, left) = channel();
    let gate = Gate {
        entered: enter,
        leave: Mutex::new(left),
    };
    let hashing = Hashing {
        permits,
        queue,
        deadline,
        ..Hashing::cheap()
    };
    Bench {
        passwords: Arc::new(Passwords::new(gate, &hashing)),
        entered,
        leave,
    }
}

const LONG: Duration = Duration::from_secs(3600);

impl Bench {
    fn start(&self) -> tokio::task::JoinHandle<Result<PasswordHash, HashingError>> {
        let passwords = self.passwords.clone();
        tokio::spawn(async move { passwords.hash(Password::attempt("x")).await })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_refused_at_once_with_503_and_retry_after() {
    let bench = bench(1, 1, LONG);
    let running = bench.start();
    bench.entered.recv().unwrap();
    let waiting = bench.start();
    while bench.passwords.admitted.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    let refused = bench
        .passwords
        .hash(Password::attempt("x"))
        .await
        .unwrap_err();
    let problem = Problem::from(refused);
    assert_eq!(problem.kind(), Kind::ServiceUnavailable);
    assert!(
        problem
            .headers()
            .any(|(name, value)| name == "retry-after" && value == "1")
    );

    bench.leave.send(()).unwrap();
    bench.leave.send(()).unwrap();
    assert!(running.await.unwrap().is_ok());
    assert!(waiting.await.unwrap().is_ok());
}

#[tokio::test]
async fn nobody_waits_longer_than_the_deadline() {
    let bench = bench(1, 5, Duration::from_millis(1));
    let running = bench.start();
    while bench.entered.try_recv().is_err() {
        tokio::task::yield_now().await;
    }
    let late = bench.passwords.hash(Password::attempt("x")).await;
    assert!(matches!(late, Err(HashingError::Busy)));
    bench.leave.send(()).unwrap();
    assert!(running.await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_request_keeps_its_permit_until_its_hash_ends() {
    let bench = bench(1, 0, LONG);
    let request = bench.start();
    bench.entered.recv().unwrap();
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    let refused = bench.passwords.hash(Password::attempt("x")).await;
    assert!(matches!(refused, Err(HashingError::Busy)));
    bench.leave.send(()).unwrap();
    let _permit = bench.passwords.admitted.acquire().await.unwrap();
}

#[tokio::test]
async fn unknown_users_are_always_wrong_even_with_nobodys_password() {
    let bench = bench(1, 0, LONG);
    let verify = |attempt, hash: Option<&str>| {
        bench
            .passwords
            .verify(Password::attempt(attempt), hash.map(PasswordHash::new))
    };
    assert_eq!(verify("nobody", None).await.unwrap(), Verification::Wrong);
    assert_eq!(verify("b", Some("a")).await.unwrap(), Verification::Wrong);
    assert_eq!(
        verify("a", Some("a")).await.unwrap(),
        Verification::Correct { rehashed: None }
    );
}

#[tokio::test]
async fn a_right_password_with_an_old_hash_is_hashed_again() {
    let bench = bench(1, 0, LONG);
    bench.leave.send(()).unwrap();
    let verification = bench
        .passwords
        .verify(Password::attempt("a"), Some(PasswordHash::new("old:a")))
        .await
        .unwrap();
    assert_eq!(
        verification,
        Verification::Correct {
            rehashed: Some(PasswordHash::new("a"))
        }
    );
}

/// A hasher that counts its calls.
#[derive(Default)]
struct Counting {
    hashed: AtomicUsize,
    verified: AtomicUsize,
}

impl Hasher for Arc<Counting> {
    fn hash(&self, password: &Password) -> Result<PasswordHash, BoxError> {
        self.hashed.fetch_add(1, Ordering::SeqCst);
        Ok(PasswordHash::new(password.expose()))
    }

    fn verify(&self, password: &Password, hash: &PasswordHash) -> Result<bool, BoxError> {
        self.verified.fetch_add(1, Ordering::SeqCst);
        Ok(password.expose() == hash.as_str())
    }

    fn needs_rehash(&self, _: &PasswordHash) -> bool {
        false
    }

    fn nobodys_hash(&self) -> PasswordHash {
        PasswordHash::new("nobody")
    }
}

#[tokio::test]
async fn an_unknown_user_costs_the_same_hashes_as_a_wrong_password() {
    let counting = Arc::new(Counting::default());
    let passwords = Passwords::new(counting.clone(), &Hashing::cheap());
    let mut work = Vec::new();
    for hash in [Some(PasswordHash::new("a")), None] {
        let verification = passwords.verify(Password::attempt("b"), hash).await;
        assert_eq!(verification.unwrap(), Verification::Wrong);
        let count = |counter: &AtomicUsize| counter.swap(0, Ordering::SeqCst);
        work.push((count(&counting.hashed), count(&counting.verified)));
    }
    assert_eq!(work, [(0, 1), (0, 1)]);
}
