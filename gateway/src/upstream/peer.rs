//! How a replica is reached: every time-out set.

use std::net::SocketAddr;
use std::time::Duration;

use pingora::protocols::TcpKeepalive;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};

use crate::config::Timeouts;

/// How long an idle connection to a worker is kept: less than the workers keep theirs (30 s), so
/// that no request is written into a connection that is being closed.
const POOL_IDLE: Duration = Duration::from_secs(20);

/// A replica with every time-out set; Pingora's own are all infinite.
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

/// Has the kernel break a connection whose other end has taken nothing for this long: Pingora waits
/// without a deadline of its own while it flushes a head or the end of a body.
pub fn keepalive_with_timeout(patience: Duration) -> TcpKeepalive {
    TcpKeepalive {
        idle: Duration::from_secs(60),
        interval: Duration::from_secs(10),
        count: 3,
        #[cfg(target_os = "linux")]
        user_timeout: patience,
    }
}

/// Pingora has one time-out for all reads. `first_byte` is it; a route whose `idle` is a multiple
/// of its `first_byte` streams (server-sent events), and pauses in its body are normal.
fn read_timeout(timeouts: &Timeouts) -> Duration {
    if timeouts.idle >= timeouts.first_byte * 4 {
        timeouts.idle
    } else {
        timeouts.first_byte
    }
}
