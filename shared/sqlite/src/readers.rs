//! A small pool of connections that read. Each query has one to itself.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags};
use stores::StoreError;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::connection::{DEADLINE, connect, store_error};

const CONNECTIONS: usize = 4;
/// SQLite's virtual-machine steps between two checks of a query's deadline.
const STEPS: i32 = 10_000;

pub(super) struct Readers {
    /// As many permits as there are connections in `idle`.
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let mut idle = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let connection = connect(path, OpenFlags::empty())?;
            connection.pragma_update(None, "query_only", "ON")?;
            idle.push(connection);
        }
        Ok(Self {
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            idle: Arc::new(Mutex::new(idle)),
        })
    }

    pub(super) async fn run<T, F>(&self, operation: &'static str, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let end = Instant::now() + DEADLINE;
        let permit = timeout_at(end, self.permits.clone().acquire_owned())
            .await
            .map_err(|late| StoreError::unavailable(operation, late))?
            .map_err(|closed| StoreError::unavailable(operation, closed))?;
        let idle = self.idle.clone();
        // The query holds the permit, because its caller may be gone before the deadline ends it.
        let query = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut borrowed = Borrowed::take(&idle);
            let connection = borrowed.connection()?;
            let late = move || std::time::Instant::now() > end.into_std();
            connection.progress_handler(STEPS, Some(late))?;
            // One transaction, so that everything the query reads belongs to one moment.
            let snapshot = connection.transaction()?;
            let result = query(&snapshot)?;
            snapshot.finish()?;
            Ok(result)
        });
        match query.await {
            Ok(result) => result.map_err(|error| store_error(operation, error)),
            Err(panic) => Err(StoreError::corrupt(operation, panic)),
        }
    }
}

/// A connection that returns to the pool when dropped, even if the query panics.
struct Borrowed<'a> {
    idle: &'a Mutex<Vec<Connection>>,
    connection: Option<Connection>,
}

impl<'a> Borrowed<'a> {
    fn take(idle: &'a Mutex<Vec<Connection>>) -> Self {
        let connection = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self { idle, connection }
    }

    fn connection(&mut self) -> rusqlite::Result<&mut Connection> {
        // Never missing, because there is a connection for every permit.
        self.connection
            .as_mut()
            .ok_or(rusqlite::Error::InvalidQuery)
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.connection.take());
    }
}
