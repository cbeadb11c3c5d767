//! The listener and its connections, which close one after the other.
//!
//! Pingora closes both at the same instant. That loses requests which are just being written to an
//! idle connection, or wait in the listener's backlog, and which no client may repeat by itself. Here
//! the backlog is served when the listener closes, and connections stay open until [`Drain`] closes
//! them. Meanwhile a balancer with several gateways moves to another one, because new connections are
//! refused and every response says `Connection: close`.
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

/// Closes the listener and the connections. Both stay closed.
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

    /// Closes idle connections now, and every other connection after its request.
    pub(crate) fn close_connections(&self) {
        self.connections.send_replace(true);
    }
}

/// Serves `app` on a socket that is already bound. `endpoint` has the socket's address and options.
/// There is no TLS: connections from the backlog would get no handshake.
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

/// Pingora's listening service, which stops when the listener is closed, not when the server stops.
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
        // Pingora uses a socket that it finds in this table and does not bind another.
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

/// Passes connections to the app and keeps them open when the listener closes.
struct ConnectionApp<A> {
    app: Arc<A>,
    /// A second handle to the listening socket. The backlog exists until both handles are closed.
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

    /// Called after the service has stopped listening.
    async fn cleanup(&self) {
        for connection in self.accept_backlog() {
            let (app, closed) = (self.app.clone(), self.closed.clone());
            tokio::spawn(async move { app.process_new(connection, &closed).await });
        }
        let mut closed = self.closed.clone();
        // Fails only when the close handle is gone, which means that the process ends.
        closed.wait_for(|closed| *closed).await.ok();
        self.app.cleanup().await;
    }
}

impl<A> ConnectionApp<A> {
    /// Accepts every connection in the backlog, then closes the socket.
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
                // The client gave up.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                // The socket is non-blocking, so the backlog is empty.
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::error!(%error, "connections in the backlog could not be accepted and are reset");
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
