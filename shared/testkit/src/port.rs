//! Free ports, for servers that cannot say which one they chose.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

const FIRST: u16 = 18_000;
const LAST: u16 = 30_000;

/// Finds a port of 127.0.0.1 that nothing listens on, never the same one twice: tests of one
/// process must not meet on a port that neither has bound yet.
///
/// It comes from below the range of outgoing connections, so that none of those can sit on it
/// while a server is down between `kill` and `restart`. Another process may still be faster: who
/// starts a server tries again with another port when the server says that the address is in use.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    (0..1_000)
        .map(|_| FIRST + random() % (LAST - FIRST))
        .filter(|port| given.insert(*port))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .unwrap_or_else(|| panic!("no free port between {FIRST} and {LAST} on 127.0.0.1"))
}

/// The last bytes of a version 7 id are random, and the crate is here already.
fn random() -> u16 {
    let bytes = uuid::Uuid::now_v7().into_bytes();
    u16::from_be_bytes([bytes[14], bytes[15]])
}
