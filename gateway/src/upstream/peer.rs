//! How Pingora connects to a replica: with all timeouts set.

use std::net::SocketAddr;
use std::time::Duration;

use pingora::protocols::TcpKeepalive;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};

use crate::config::Timeouts;

/// How long an idle connection to a worker is kept. Shorter than the 30 s of the workers, so that no
/// request is written to a connection that the worker is closing.
const POOL_IDLE: Duration = Duration::from_secs(20);

/// A replica with all timeouts set. Pingora's own are infinite.
pub fn peer(address: SocketAddr, timeouts: &Timeouts) -> HttpPeer {
    let mut peer = HttpPeer::new(address, false, String::new());
    let options = &mut peer.options;
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.connect);
    options.read_timeout = Some(read_timeout(timeouts));
    options.write_timeout = Some(timeouts.idle);
    options.idle_timeout = Some(POOL_IDLE);
    options.tcp_keepalive = Some(keepalive_with_timeout(timeouts.idle));
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::standard();
    peer
}

/// Makes the kernel drop a connection whose other end has acknowledged nothing for `timeout`. Pingora
/// itself has no deadline while it flushes a head or the end of a body.
pub fn keepalive_with_timeout(timeout: Duration) -> TcpKeepalive {
    TcpKeepalive {
        idle: Duration::from_secs(60),
        interval: Duration::from_secs(10),
        count: 3,
        #[cfg(target_os = "linux")]
        user_timeout: timeout,
    }
}

/// Pingora has one timeout for all reads. It is `first_byte`, except for routes whose `idle` is at least
/// four times as long: these stream (server-sent events), and pauses in their bodies are normal.
fn read_timeout(timeouts: &Timeouts) -> Duration {
    if timeouts.idle >= timeouts.first_byte * 4 {
        timeouts.idle
    } else {
        timeouts.first_byte
    }
}
