//! Free ports, for servers that cannot report which port they chose.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

const FIRST: u16 = 18_000;
const LAST: u16 = 30_000;

/// Finds a port of 127.0.0.1 that is free, and never the same one twice, so that two tests of one process do not
/// choose the same port before either has bound it.
///
/// The port is below the range of outgoing connections, so none of those can use it while a server is down between
/// `kill` and `restart`. Another process may still bind it first: callers that start a server try again with
/// another port if the server reports that the address is in use.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    (0..1_000)
        .map(|_| FIRST + random() % (LAST - FIRST))
        .filter(|port| given.insert(*port))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .unwrap_or_else(|| panic!("no free port between {FIRST} and {LAST} on 127.0.0.1"))
}

/// The last bytes of a version 7 UUID are random; this avoids another dependency.
fn random() -> u16 {
    let bytes = uuid::Uuid::now_v7().into_bytes();
    u16::from_be_bytes([bytes[14], bytes[15]])
}
