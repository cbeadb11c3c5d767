//! Writes an export, once all changes have been published and applied.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use contract::id::TaskId;
use stores::StoreError;
use tasks::domain::Attachment;
use tasks::store::files::{FileRef, FileStore};

use super::format::{BATCH_SIZE, Chunk, FORMAT, Line, Totals};
use crate::home::DataFolder;
use crate::platform::{Backend, Embedded, Platform, Settings};

/// How long pending events may take to be published and applied.
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);
const CHECK_EVERY: Duration = Duration::from_millis(50);

/// Writes the data of a folder, which no other process may be using. The lines contain password hashes:
/// the caller must restrict who can read them.
pub async fn export(folder: &Path, to: &mut impl Write) -> anyhow::Result<Totals> {
    anyhow::ensure!(
        folder.join("users.db").exists(),
        "{} holds no data; name the folder with --data",
        folder.display()
    );
    let data_folder = DataFolder::lock(folder)?;
    let embedded = Arc::new(Embedded::open(data_folder.folder())?);
    drain(&data_folder, &embedded).await?;
    let mut lines = Lines {
        to,
        totals: Totals::default(),
    };
    lines.write(&Line::Sluice { format: FORMAT })?;
    lines
        .pages(
            async |after| embedded.users.accounts(after, BATCH_SIZE).await,
            |account| account.id.clone(),
            Line::User,
        )
        .await?;
    lines.tasks(&embedded).await?;
    for erasure in embedded.tasks.erasures().await? {
        lines.write(&Line::Erasure(erasure))?;
    }
    let notifications = &embedded.notifications;
    lines
        .pages(
            async |after| notifications.notifications(after, BATCH_SIZE).await,
            |record| record.id.clone(),
            Line::Notification,
        )
        .await?;
    lines
        .pages(
            async |after| notifications.counters(after, BATCH_SIZE).await,
            |record| record.user_id.clone(),
            Line::Counter,
        )
        .await?;
    lines
        .pages(
            async |after| notifications.applied_events(after, BATCH_SIZE).await,
            |event| event.event_id.clone(),
            Line::Applied,
        )
        .await?;
    let totals = lines.totals;
    lines.write(&Line::End(totals))?;
    lines.to.flush().context("the export cannot be written")?;
    Ok(totals)
}

/// Writes lines and counts them.
struct Lines<'a, W> {
    to: &'a mut W,
    totals: Totals,
}

impl<W: Write> Lines<'_, W> {
    fn write(&mut self, line: &Line) -> anyhow::Result<()> {
        self.totals.count(line);
        serde_json::to_writer(&mut *self.to, line).context("the export cannot be written")?;
        self.to
            .write_all(b"\n")
            .context("the export cannot be written")
    }

    /// Writes each task after its files.
    async fn tasks(&mut self, embedded: &Embedded) -> anyhow::Result<()> {
        let mut after = None;
        loop {
            let page = embedded
                .tasks
                .with_history(after.take(), BATCH_SIZE)
                .await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.task.id.clone());
            for moved in page {
                for attachment in &moved.task.attachments {
                    self.file(embedded, &moved.task.id, attachment).await?;
                }
                self.write(&Line::Task(moved))?;
            }
        }
    }

    async fn file(
        &mut self,
        embedded: &Embedded,
        task: &TaskId,
        Attachment { id, name, size, .. }: &Attachment,
    ) -> anyhow::Result<()> {
        let file = FileRef {
            task: task.clone(),
            id: id.clone(),
        };
        let mut length = 0;
        for index in 0.. {
            let Some(bytes) = embedded.files.read(&file, index).await? else {
                break;
            };
            length += bytes.len() as u64;
            self.write(&Line::File(Chunk {
                task: task.clone(),
                id: id.clone(),
                index,
                data: BASE64.encode(&bytes),
            }))?;
        }
        anyhow::ensure!(
            length == *size,
            "the file {name:?} of task {task} has {length} bytes of {size}; the folder of attachments is damaged"
        );
        Ok(())
    }

    /// Writes all pages of a list. Each page begins after the key of the last item before it.
    async fn pages<T, K>(
        &mut self,
        page: impl AsyncFn(Option<K>) -> Result<Vec<T>, StoreError>,
        key: impl Fn(&T) -> K,
        line: impl Fn(T) -> Line,
    ) -> anyhow::Result<()> {
        let mut after = None;
        loop {
            let items = page(after.take()).await?;
            let Some(last) = items.last() else {
                return Ok(());
            };
            after = Some(key(last));
            for item in items {
                self.write(&line(item))?;
            }
        }
    }
}

/// Runs the workers until every change is published and applied, so that the files agree with each
/// other.
async fn drain(data_folder: &DataFolder, embedded: &Arc<Embedded>) -> anyhow::Result<()> {
    let settings = Settings {
        backend: Backend::Embedded(embedded.clone()),
        variables: HashMap::from([
            ("DRAIN_LAME_DUCK".to_owned(), "0ms".to_owned()),
            data_folder.signing_keys()?,
            data_folder.token_keys()?,
        ]),
        replicas: 1,
        gateway_config: String::new(),
        gateways: Vec::new(),
        hashing: users::Hashing::default(),
    };
    let platform = Platform::start(settings, DRAIN_DEADLINE).await?;
    let end = Instant::now() + DRAIN_DEADLINE;
    let unfinished = loop {
        match embedded.unfinished_work().await? {
            None => break None,
            Some(left) if Instant::now() > end => break Some(left),
            Some(_) => tokio::time::sleep(CHECK_EVERY).await,
        }
    };
    platform.stop().await?;
    if let Some(left) = unfinished.or(embedded.unfinished_work().await?) {
        bail!("the data does not come to rest: {left}; try again");
    }
    Ok(())
}
