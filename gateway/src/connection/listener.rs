//! Two close_handle that close one after the other: the listener, then the connections that came through it.
//!
//! Pingora closes both at one instant, and with them what is just being written into an idle
//! connection, or waits in the listener's backlog: requests that no client may send again by itself.
//! Here the queue is served when the listener closes, and connections stay until [`Drain`] says so.
//! Whoever balances over several gateways goes elsewhere meanwhile, because new connections are
//! refused and every answer says `Connection: close`.
//!
//! [`Drain`]: crate::connection::drain::Drain

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::l4::stream::Stream as TcpConnection;
use pingora::protocols::{GetSocketDigest, SocketDigest, Stream};
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::{Service, listening};
use tokio::sync::watch;

/// Closes the close_handle. Each stays closed.
#[derive(Default)]
pub(crate) struct CloseHandle {
    listener: watch::Sender<bool>,
    connections: watch::Sender<bool>,
}

impl CloseHandle {
    /// Turns true with [`CloseHandle::close_connections`].
    pub(crate) fn connections(&self) -> ShutdownWatch {
        self.connections.subscribe()
    }

    pub(crate) fn close_listener(&self) {
        self.listener.send_replace(true);
    }

    /// Ends the connections that are idle, and every other one after its request.
    pub(crate) fn close_connections(&self) {
        self.connections.send_replace(true);
    }
}

/// Serves `app` on a socket that is bound already; `endpoint` says how, for the same address. Without
/// TLS: what is served from the queue gets no handshake.
pub(crate) fn listen<A: ServerApp + Send + Sync + 'static>(
    app: A,
    listener: TcpListener,
    endpoint: pingora::listeners::ListenerConfig,
) -> std::io::Result<(CloseHandle, impl Service)> {
    let close_handle = CloseHandle::default();
    let app = ConnectionApp {
        app: Arc::new(app),
        backlog: Mutex::new(Some(listener.try_clone()?)),
        closed: close_handle.connections(),
    };
    let address = listener.local_addr()?.to_string();
    let mut service = listening::Service::new("gateway".to_owned(), app);
    service.add_listener(endpoint);
    let service = ListenerService {
        service,
        socket: Some((address, listener)),
        closed: close_handle.listener.subscribe(),
    };
    Ok((close_handle, service))
}

/// The listening service, with a signal of its own in place of the server's.
struct ListenerService<A> {
    service: listening::Service<A>,
    socket: Option<(String, TcpListener)>,
    closed: ShutdownWatch,
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> Service for ListenerService<A> {
    async fn start_service(
        &mut self,
        sockets: Option<ListenFds>,
        _: ShutdownWatch,
        listeners_per_socket: usize,
    ) {
        // Pingora takes a socket that it finds in this table instead of binding one.
        if let (Some(sockets), Some((address, listener))) = (&sockets, self.socket.take()) {
            sockets.lock().add(address, listener.into_raw_fd());
        }
        let closed = self.closed.clone();
        self.service
            .start_service(sockets, closed, listeners_per_socket)
            .await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }
}

/// The app, whose connections outlive the listener.
struct ConnectionApp<A> {
    app: Arc<A>,
    /// The listening socket a second time: its queue lives until both are closed.
    backlog: Mutex<Option<TcpListener>>,
    closed: ShutdownWatch,
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for ConnectionApp<A> {
    async fn process_new(
        self: &Arc<Self>,
        connection: Stream,
        _: &ShutdownWatch,
    ) -> Option<Stream> {
        self.app.process_new(connection, &self.closed).await
    }

    /// Called once the service has stopped listening.
    async fn cleanup(&self) {
        for connection in self.accept_backlog() {
            let (app, closed) = (self.app.clone(), self.closed.clone());
            tokio::spawn(async move { app.process_new(connection, &closed).await });
        }
        let mut closed = self.closed.clone();
        // Fails only when the close_handle are gone, and then the process ends.
        closed.wait_for(|closed| *closed).await.ok();
        self.app.cleanup().await;
    }
}

impl<A> ConnectionApp<A> {
    /// Closes the socket, once nothing is in its queue.
    fn accept_backlog(&self) -> Vec<Stream> {
        let listener = self
            .backlog
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(listener) = listener else {
            return Vec::new();
        };
        let mut waiting = Vec::new();
        loop {
            match listener.accept() {
                Ok(connection) => waiting.push(connection),
                // The client has given up.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                // The socket does not block: nothing waits any more.
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::error!(%error, "connections that waited to be accepted are reset");
                    break;
                }
            }
        }
        drop(listener);
        waiting
            .into_iter()
            .filter_map(|(connection, peer)| {
                connection.set_nonblocking(true).ok()?;
                connection.set_nodelay(true).ok()?;
                let digest = SocketDigest::from_raw_fd(connection.as_raw_fd());
                digest.peer_addr.set(Some(peer.into())).ok()?;
                let connection = tokio::net::TcpStream::from_std(connection).ok()?;
                let mut connection = TcpConnection::from(connection);
                connection.set_socket_digest(digest);
                Some(Box::new(connection) as Stream)
            })
            .collect()
    }
}
