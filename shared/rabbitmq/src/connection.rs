//! One connection. The first error ends it, at once and for all its users.
//!
//! The driver closes a connection politely, on a thread of its own that waits for the broker's answer. If
//! the broker hangs, each attempt would leave a thread behind. So a [`BrokerConnection`] keeps a second
//! handle of the socket and shuts that down. A call that was made while the connection broke may never be
//! answered, so each call also watches for the end of the connection.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use events::bus::{BusError, Queue, Topology};
use futures_util::{Stream, StreamExt};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::tcp::{AMQPUriTcpExt, AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ConnectionStatus, ErrorKind, Event};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::error::{bus_error, late};

/// How long the broker may take to answer anything but a connection attempt.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// How long a connection may take, authentication included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);

/// One connection to the broker.
pub(super) struct BrokerConnection {
    connection: Connection,
    topology: Topology,
    socket: Socket,
    dead: CancellationToken,
}

impl BrokerConnection {
    /// Connects, and declares nothing.
    pub(super) async fn connect(uri: &AMQPUri, topology: &Topology) -> Result<Self, BusError> {
        // If this fails or is dropped, the socket is shut down, and the connection with it.
        let socket = Socket::default();
        let connection = timeout(CONNECT_DEADLINE, connect(uri.clone(), socket.0.clone()))
            .await
            .map_err(|_| late("the connection attempt", CONNECT_DEADLINE))?
            .map_err(bus_error)?;
        let dead = CancellationToken::new();
        tokio::spawn(watch(
            connection.status().clone(),
            connection.events_listener(),
            dead.clone(),
        ));
        Ok(Self {
            connection,
            topology: topology.clone(),
            socket,
            dead,
        })
    }

    /// The queues that belong on the broker.
    pub(super) fn queues(&self) -> &[Queue] {
        self.topology.queues()
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.dead.is_cancelled() && self.connection.status().connected()
    }

    /// Whether the broker is short of memory or disk and accepts no messages.
    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    pub(super) async fn channel(&self) -> Result<Channel, BusError> {
        self.call(self.connection.create_channel()).await
    }

    /// One call, within [`ANSWER_DEADLINE`]. Any error ends the connection.
    pub(super) async fn call<T>(
        &self,
        call: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, BusError> {
        let answer = async {
            let answer = timeout(ANSWER_DEADLINE, call).await;
            answer
                .map_err(|_| late("a request", ANSWER_DEADLINE))?
                .map_err(bus_error)
        };
        let answer = self.while_alive(answer).await;
        if answer.is_err() {
            self.kill();
        }
        answer
    }

    /// Whether the queue or exchange of a passive declaration exists. If not, the broker closes the channel.
    pub(super) async fn exists<T>(
        &self,
        declaration: impl Future<Output = lapin::Result<T>>,
    ) -> Result<bool, BusError> {
        let answer = async {
            match declaration.await {
                Err(error) if is_not_found(&error) => Ok(false),
                answer => answer.map(|_| true),
            }
        };
        self.call(answer).await
    }

    /// The answer, or an error as soon as the connection breaks.
    pub(super) async fn while_alive<T>(
        &self,
        answer: impl Future<Output = Result<T, BusError>>,
    ) -> Result<T, BusError> {
        tokio::select! {
            biased;
            answer = answer => answer,
            () = self.dead.cancelled() => {
                Err(BusError::Unavailable("the connection broke".into()))
            }
        }
    }

    /// Ends the connection for all its users.
    pub(super) fn kill(&self) {
        self.dead.cancel();
        self.socket.shut_down();
    }
}

impl Drop for BrokerConnection {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_not_found(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(refusal) = error.kind() else {
        return false;
    };
    matches!(refusal.kind(), AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
}

/// Cancels `dead` when the connection breaks. Errors of channels arrive here too, and are ignored: the
/// users of a channel see them.
async fn watch(
    status: ConnectionStatus,
    events: impl Stream<Item = Event>,
    dead: CancellationToken,
) {
    let mut events = std::pin::pin!(events);
    loop {
        tokio::select! {
            () = dead.cancelled() => return,
            event = events.next() => if event.is_none() || !status.connected() {
                return dead.cancel();
            }
        }
    }
}

/// A second handle of the connection's socket; shut down when dropped.
#[derive(Default)]
struct Socket(Arc<OnceLock<TcpStream>>);

impl Socket {
    fn shut_down(&self) {
        if let Some(Err(error)) = self.0.get().map(|socket| socket.shutdown(Shutdown::Both)) {
            tracing::debug!(%error, "the broker's socket was closed already");
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.shut_down();
    }
}

async fn connect(uri: AMQPUri, socket: Arc<OnceLock<TcpStream>>) -> lapin::Result<Connection> {
    let runtime = lapin::runtime::default_runtime()?;
    // Connect before the driver does: each failed attempt of its own leaks a task of about ten kilobytes
    // (lapin 4.12: `IoLoop::start` returns without `internal_rpc.stop()`).
    let tls = OwnedTLSConfig::default();
    let stream = uri
        .connect_with_config_async(tls.as_ref(), &runtime)
        .await?;
    let plain = match &stream {
        AsyncTcpStream::Plain(plain) => Some(plain),
        AsyncTcpStream::Rustls(tls) => Some(tls.get_ref().0),
        // Other TLS libraries are not compiled in.
        _ => None,
    };
    if let Some(plain) = plain {
        let handle = plain.get_ref().as_fd().try_clone_to_owned()?;
        socket.get_or_init(|| handle.into());
    }
    // Without recovery the driver opens one socket only.
    let stream = Mutex::new(Some(stream));
    let open_once = async move |_, _| {
        let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream
            .take()
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected).into())
    };
    let named = ConnectionProperties::default().with_connection_name("sluice".into());
    Connection::connector(uri, runtime, open_once, named).await
}
