//! How workers reach MongoDB: bounded pools and waits, majority writes, and calls that run to their end even
//! if the client aborts.

pub mod outbox;

use std::future::Future;
use std::time::Duration;

use anyhow::Context;
use bson::doc;
use jiff::Timestamp;
use mongodb::options::{
    Acknowledgment, ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Database};
use runtime::env::Vars;
use runtime::secret::Secret;
use stores::StoreError;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// Which server and database hold the data.
#[derive(Debug, Clone)]
pub struct MongoSettings {
    pub uri: Secret,
    pub database: String,
}

impl MongoSettings {
    /// Reads `MONGODB_URI` and `MONGODB_DATABASE`. `None` means that an error was recorded.
    pub fn read(vars: &mut Vars<'_>) -> Option<Self> {
        let database = vars.or("MONGODB_DATABASE", "sluice".to_owned());
        let uri = vars.secret("MONGODB_URI")?;
        Some(Self { uri, database })
    }
}

/// The name of our connections in the server's logs.
pub const APP_NAME: &str = "sluice";
/// The deadline of every call, server selection included.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// Makes a client that connects when it is first used, so a worker starts while the server is away.
/// Writes are acknowledged by a majority and journaled (they survive any one failure); reads see
/// what a majority has.
pub async fn connect(settings: &MongoSettings) -> anyhow::Result<Database> {
    let mut options = ClientOptions::parse(settings.uri.expose())
        .await
        .context("MONGODB_URI is not usable; it looks like mongodb://HOST:27017/?replicaSet=rs0")?;
    options.app_name.get_or_insert_with(|| APP_NAME.to_owned());
    options.max_pool_size.get_or_insert(64);
    options.max_connecting.get_or_insert(8);
    options.server_selection_timeout = Some(Duration::from_secs(2));
    options.connect_timeout = Some(Duration::from_secs(2));
    options.write_concern = Some(
        WriteConcern::builder()
            .w(Acknowledgment::Majority)
            .journal(true)
            .build(),
    );
    options.read_concern = Some(ReadConcern::majority());
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    let client = Client::with_options(options).context("MONGODB_URI is not usable")?;
    Ok(client.database(&settings.database))
}

/// The calls that may run at once in this process. A call that gets no permit in time was never sent, so
/// a write that is refused for that reason will not happen later.
static CALLS: Semaphore = Semaphore::const_new(64);

/// Runs one call to its end within [`DEADLINE`], in a spawned task: driver futures must not be dropped
/// half-way (RUST-937), and a client that goes away drops its handler.
pub async fn run<T, F>(operation: &'static str, call: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: Future<Output = mongodb::error::Result<T>> + Send + 'static,
{
    let end = Instant::now() + DEADLINE;
    let permit = match timeout_at(end, CALLS.acquire()).await {
        Ok(Ok(permit)) => permit,
        Ok(Err(closed)) => return Err(StoreError::unavailable(operation, closed)),
        Err(late) => return Err(StoreError::unavailable(operation, late)),
    };
    // The call holds the permit: it is returned when the call ends, not when we stop waiting.
    let call = tokio::spawn(async move {
        let result = call.await;
        drop(permit);
        result
    });
    match timeout_at(end, call).await {
        Ok(Ok(Ok(value))) => Ok(value),
        Ok(Ok(Err(error))) => Err(failed(operation, error)),
        Ok(Err(panic)) => Err(StoreError::corrupt(operation, panic)),
        Err(late) => Err(StoreError::unavailable(operation, late)),
    }
}

/// Converts a driver's error: `Corrupt` if it is final, else `Unavailable`.
pub fn failed(operation: &'static str, error: mongodb::error::Error) -> StoreError {
    if is_final(&error) {
        StoreError::corrupt(operation, error)
    } else {
        StoreError::unavailable(operation, error)
    }
}

/// The server's error code for a key that a unique index already holds.
pub const DUPLICATE_KEY: i32 = 11_000;

/// Whether a retry cannot help: the stored data cannot be read, or the server refuses this very write
/// (duplicate key, failed validation, document or key too large).
pub fn is_final(error: &mongodb::error::Error) -> bool {
    use mongodb::error::{ErrorKind, TRANSIENT_TRANSACTION_ERROR, WriteFailure};
    const REFUSED: [i32; 4] = [DUPLICATE_KEY, 121, 10334, 17280];
    if error.contains_label(TRANSIENT_TRANSACTION_ERROR) {
        return false;
    }
    match &*error.kind {
        ErrorKind::Bson(_) => true,
        ErrorKind::Write(WriteFailure::WriteError(write)) => REFUSED.contains(&write.code),
        ErrorKind::Command(command) => REFUSED.contains(&command.code),
        ErrorKind::InsertMany(failed) => failed
            .write_errors
            .iter()
            .flatten()
            .any(|write| REFUSED.contains(&write.code)),
        _ => false,
    }
}

/// Inserts the documents that do not exist yet, and leaves the others as they are.
pub async fn insert_missing<T: serde::Serialize + Send + Sync>(
    collection: &mongodb::Collection<T>,
    documents: Vec<T>,
) -> mongodb::error::Result<()> {
    if documents.is_empty() {
        return Ok(());
    }
    match collection.insert_many(documents).ordered(false).await {
        Err(error) if !only_duplicates(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Whether every insert that failed did so because its document exists.
fn only_duplicates(error: &mongodb::error::Error) -> bool {
    let mongodb::error::ErrorKind::InsertMany(failed) = &*error.kind else {
        return false;
    };
    let duplicate = |write: &mongodb::error::IndexedWriteError| write.code == DUPLICATE_KEY;
    failed.write_concern_error.is_none()
        && failed
            .write_errors
            .as_deref()
            .is_some_and(|errors| errors.iter().all(duplicate))
}

/// Whether a write failed because a unique index already holds its key.
pub fn is_duplicate_key(error: &mongodb::error::Error) -> bool {
    use mongodb::error::{ErrorKind, WriteFailure};
    match &*error.kind {
        ErrorKind::Write(WriteFailure::WriteError(write)) => write.code == DUPLICATE_KEY,
        ErrorKind::Command(command) => command.code == DUPLICATE_KEY,
        _ => false,
    }
}

/// Whether the primary answers.
pub async fn ping(database: &Database) -> Result<(), StoreError> {
    let database = database.clone();
    run("ping", async move {
        database.run_command(doc! {"ping": 1}).await
    })
    .await?;
    Ok(())
}

pub fn to_bson(time: Timestamp) -> bson::DateTime {
    bson::DateTime::from_millis(time.as_millisecond())
}

pub fn from_bson(time: bson::DateTime) -> Timestamp {
    // Every BSON date that we wrote came from a Timestamp.
    Timestamp::from_millisecond(time.timestamp_millis()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The replica set that [`initiate_replica_set`] makes.
pub const REPLICA_SET: &str = "rs0";

/// Makes the `mongod` at `uri` the only member of [`REPLICA_SET`], reachable for clients as
/// `member` (`HOST:PORT`), and waits until it accepts writes. Changes nothing if it already does.
/// `progress` is called with a sentence for each new state.
pub async fn initiate_replica_set(
    uri: &Secret,
    member: &str,
    deadline: Duration,
    mut progress: impl FnMut(&str),
) -> anyhow::Result<()> {
    let mut options = ClientOptions::parse(uri.expose())
        .await
        .context("the URI is not usable; it looks like mongodb://HOST:27017/")?;
    // The set may not exist yet, so connect to this one server only, whatever set the URI names.
    options.hosts.truncate(1);
    options.direct_connection = Some(true);
    options.repl_set_name = None;
    options.server_selection_timeout = Some(Duration::from_secs(1));
    options.connect_timeout = Some(Duration::from_secs(2));
    let server = options
        .hosts
        .first()
        .map(ToString::to_string)
        .unwrap_or_default();
    let client = Client::with_options(options).context("the URI is not usable")?;
    let admin = client.database("admin");

    let mut last_state = String::new();
    let mut reason = None;
    let attempts = async {
        loop {
            let (state, why) = match initiate_once(&admin, member).await? {
                Initiation::Primary => return anyhow::Ok(()),
                Initiation::Unreachable(error) => ("does not answer".to_owned(), Some(error)),
                Initiation::Refused(why) => (format!("refuses to be initiated: {why}"), None),
                Initiation::Initiated => ("is initiated".to_owned(), None),
                Initiation::Electing => ("waits for its election".to_owned(), None),
            };
            if state != last_state {
                progress(&format!("{server} {state}"));
                last_state = state;
            }
            reason = why;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let ended = tokio::time::timeout(deadline, attempts).await;
    // A client that is dropped ends its sessions in a task, which panics if the runtime ends first
    // (mongodb 3.9).
    client.shutdown().await;
    if let Ok(result) = ended {
        return result
            .with_context(|| format!("{server} cannot become the replica set {REPLICA_SET}"));
    }
    let late = format!(
        "{server} is not the primary of {REPLICA_SET} after {deadline:?}; at last, it {last_state}"
    );
    match reason {
        Some(error) => Err(error).context(late),
        None => anyhow::bail!(late),
    }
}

/// The stages of a server on its way to being the primary.
enum Initiation {
    Unreachable(mongodb::error::Error),
    Initiated,
    Refused(String),
    Electing,
    Primary,
}

/// Checks the server's state and takes the next step. An error means that waiting cannot help.
async fn initiate_once(admin: &Database, member: &str) -> anyhow::Result<Initiation> {
    use mongodb::error::ErrorKind;
    let hello = match admin.run_command(doc! {"hello": 1}).await {
        Ok(hello) => hello,
        Err(error) if matches!(*error.kind, ErrorKind::Authentication { .. }) => {
            return Err(error).context("the URI's user or password is refused");
        }
        Err(error) => return Ok(Initiation::Unreachable(error)),
    };
    if let Ok(set) = hello.get_str("setName") {
        anyhow::ensure!(
            set == REPLICA_SET,
            "it belongs to the replica set `{set}` already"
        );
        if !hello.get_bool("isWritablePrimary").unwrap_or(false) {
            return Ok(Initiation::Electing);
        }
        let hosts = hello.get_array("hosts").into_iter().flatten();
        let hosts: Vec<_> = hosts.filter_map(|host| host.as_str()).collect();
        anyhow::ensure!(
            hosts.contains(&member),
            "its members are {hosts:?}, and clients would look for it there; use that address instead of {member}"
        );
        return Ok(Initiation::Primary);
    }
    anyhow::ensure!(
        hello.get_bool("isreplicaset").unwrap_or(false),
        "it runs alone; start mongod with --replSet {REPLICA_SET}"
    );
    let config = doc! {"_id": REPLICA_SET, "members": [{"_id": 0, "host": member}]};
    match admin.run_command(doc! {"replSetInitiate": config}).await {
        Ok(_) => Ok(Initiation::Initiated),
        Err(error) => match &*error.kind {
            ErrorKind::Command(refusal) if refusal.code == UNAUTHORIZED => {
                Err(error).context("the URI's user may not initiate a replica set")
            }
            // Another process is initiating it right now, or its old address is no longer its own.
            ErrorKind::Command(refusal) => Ok(Initiation::Refused(refusal.message.clone())),
            _ => Ok(Initiation::Unreachable(error)),
        },
    }
}

/// The server's error code for a command that needs more rights.
const UNAUTHORIZED: i32 = 13;
