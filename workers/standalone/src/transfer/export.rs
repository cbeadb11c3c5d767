//! Writes everything, after it has come to rest.

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

use super::format::{AT_ONCE, Chunk, FORMAT, Line, Totals};
use crate::home::Home;
use crate::platform::{Backend, Embedded, Platform, Settings};

/// How long what is under way may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Writes the data of a folder, which no other process may be using. The lines hold the hashes of
/// passwords: whoever may read them is the caller's business.
pub async fn export(folder: &Path, to: &mut impl Write) -> anyhow::Result<Totals> {
    anyhow::ensure!(
        folder.join("users.db").exists(),
        "{} holds no data; name the folder with --data",
        folder.display()
    );
    let home = Home::take(folder)?;
    let embedded = Arc::new(Embedded::open(home.folder())?);
    come_to_rest(&home, &embedded).await?;
    let mut lines = Lines {
        to,
        totals: Totals::default(),
    };
    lines.write(&Line::Sluice { format: FORMAT })?;
    lines
        .pages(
            async |after| embedded.users.accounts(after, AT_ONCE).await,
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
            async |after| notifications.told(after, AT_ONCE).await,
            |told| told.id.clone(),
            Line::Notification,
        )
        .await?;
    lines
        .pages(
            async |after| notifications.counts(after, AT_ONCE).await,
            |count| count.user_id.clone(),
            Line::Counter,
        )
        .await?;
    lines
        .pages(
            async |after| notifications.applied(after, AT_ONCE).await,
            |applied| applied.event_id.clone(),
            Line::Applied,
        )
        .await?;
    let totals = lines.totals;
    lines.write(&Line::End(totals))?;
    lines.to.flush().context("the export cannot be written")?;
    Ok(totals)
}

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

    /// Each task behind its files.
    async fn tasks(&mut self, embedded: &Embedded) -> anyhow::Result<()> {
        let mut after = None;
        loop {
            let page = embedded.tasks.with_history(after.take(), AT_ONCE).await?;
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

    /// Writes all pages of a list, each behind the key of the one before.
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

/// Runs the workers until all that was changed is told, so that nothing is on its way between the
/// files.
async fn come_to_rest(home: &Home, embedded: &Arc<Embedded>) -> anyhow::Result<()> {
    let settings = Settings {
        backend: Backend::Embedded(embedded.clone()),
        variables: HashMap::from([
            ("DRAIN_LAME_DUCK".to_owned(), "0ms".to_owned()),
            home.signing_keys()?,
            home.token_keys()?,
        ]),
        replicas: 1,
        gateway_config: String::new(),
        gateways: Vec::new(),
        hashing: users::Hashing::default(),
    };
    let platform = Platform::start(settings, PATIENCE).await?;
    let end = Instant::now() + PATIENCE;
    let rest = loop {
        match embedded.under_way().await? {
            None => break None,
            Some(left) if Instant::now() > end => break Some(left),
            Some(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    };
    platform.stop().await?;
    if let Some(left) = rest.or(embedded.under_way().await?) {
        bail!("the data does not come to rest: {left}; try again");
    }
    Ok(())
}
