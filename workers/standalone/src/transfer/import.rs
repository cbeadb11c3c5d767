//! Reads an export and writes it into MongoDB. It never changes what is already there.

use std::io::BufRead;
use std::slice;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use mongo::MongoSettings;
use notifications::store::NotificationStore;
use notifications_mongo::MongoNotifications;
use tasks::store::files::{FileRef, FileStore};
use tasks::store::transfer::TaskWithHistory;
use tasks::store::{Erasures, TaskStore};
use tasks_mongo::MongoTaskStore;
use tasks_mongo::files::GridFsFiles;
use users::store::{SaveUserError, UserStore};
use users_mongo::MongoUserStore;

use super::format::{BATCH_SIZE, Chunk, FORMAT, Line, Totals};

/// Reads an export into a database without tasks; with `resume`, into a database that holds part of the
/// same export. Existing documents are not changed, so repeating an import is safe.
pub async fn import(
    mongo: &MongoSettings,
    from: &mut impl BufRead,
    resume: bool,
) -> anyhow::Result<Totals> {
    let stores = Stores::prepare(mongo).await?;
    anyhow::ensure!(
        resume || stores.tasks.is_empty().await?,
        "the database `{}` holds tasks already; import into an empty one, or finish an import that broke off with --resume",
        mongo.database
    );
    let mut totals = Totals::default();
    let mut batch = Vec::with_capacity(BATCH_SIZE);
    let mut text = String::new();
    for number in 1_u64.. {
        text.clear();
        if from
            .read_line(&mut text)
            .context("the export cannot be read")?
            == 0
        {
            bail!(
                "the export ends after line {}, before its end; export again",
                number - 1
            );
        }
        let line: Line = serde_json::from_str(&text)
            .with_context(|| format!("line {number} is not a line of an export"))?;
        match line {
            Line::Sluice { format: FORMAT } if number == 1 => continue,
            Line::Sluice { format } => bail!("line {number}: format {format} is not known here"),
            _ if number == 1 => bail!("line 1 is not the beginning of an export"),
            Line::End(announced) => {
                stores.write(&mut batch).await?;
                anyhow::ensure!(
                    announced == totals,
                    "the export says {announced}, and {totals} were in it; export again"
                );
                return Ok(totals);
            }
            Line::File(chunk) => {
                let what = || format!("line {number} is not a chunk of a file");
                stores.write_chunk(&chunk).await.with_context(what)?;
            }
            line => {
                totals.count(&line);
                // A task with files is written immediately after them, so that the files do not stay in
                // doubt until the batch is full.
                let with_files =
                    matches!(&line, Line::Task(moved) if !moved.task.attachments.is_empty());
                batch.push(line);
                if with_files {
                    stores.write(&mut batch).await?;
                }
            }
        }
        if batch.len() == BATCH_SIZE {
            stores.write(&mut batch).await?;
        }
    }
    Ok(totals)
}

struct Stores {
    users: MongoUserStore,
    tasks: MongoTaskStore,
    files: GridFsFiles,
    notifications: MongoNotifications,
}

impl Stores {
    async fn prepare(mongo: &MongoSettings) -> anyhow::Result<Self> {
        let stores = Self {
            users: MongoUserStore::connect(mongo).await?,
            tasks: MongoTaskStore::connect(mongo).await?,
            files: GridFsFiles::connect(mongo).await?,
            notifications: MongoNotifications::new(mongo::connect(mongo).await?),
        };
        stores.users.prepare().await?;
        stores.tasks.prepare().await?;
        stores.files.prepare().await?;
        stores.notifications.prepare().await?;
        Ok(stores)
    }

    /// Writes a chunk of a file. Files come before their task and are in doubt until the task is there.
    /// The first chunk starts the file again, because an interrupted import may have left part of it.
    async fn write_chunk(&self, chunk: &Chunk) -> anyhow::Result<()> {
        let file = chunk.file();
        if self.tasks.get(&file.task).await?.is_some() {
            // If the task is there, so is the whole file.
            return Ok(());
        }
        if chunk.index == 0 {
            self.files.remove(slice::from_ref(&file)).await?;
            self.files.begin(&file, Timestamp::now()).await?;
        }
        let data = BASE64.decode(&chunk.data)?;
        Ok(self.files.append(&file, chunk.index, data.into()).await?)
    }

    /// Finishes the files of tasks before the tasks are written, because a task lists its files.
    async fn finish_files(&self, tasks: &[TaskWithHistory]) -> anyhow::Result<Vec<FileRef>> {
        let mut files = Vec::new();
        for TaskWithHistory { task, .. } in tasks {
            let exists = match task.attachments.is_empty() {
                true => continue,
                false => self.tasks.get(&task.id).await?.is_some(),
            };
            for attachment in &task.attachments {
                let file = FileRef {
                    task: task.id.clone(),
                    id: attachment.id.clone(),
                };
                if !exists && attachment.size == 0 {
                    self.files.remove(slice::from_ref(&file)).await?;
                    self.files.begin(&file, Timestamp::now()).await?;
                }
                if !exists {
                    let whole = self.files.finish(&file, attachment.size).await;
                    whole.with_context(|| {
                        format!("the file {:?} of task {}", attachment.name, task.id)
                    })?;
                }
                files.push(file);
            }
        }
        Ok(files)
    }

    /// Writes the lines of a batch, in any order, and empties the batch.
    async fn write(&self, batch: &mut Vec<Line>) -> anyhow::Result<()> {
        let (mut tasks, mut erasures) = (Vec::new(), Vec::new());
        let (mut notifications, mut counters, mut applied) = (Vec::new(), Vec::new(), Vec::new());
        for line in batch.drain(..) {
            match line {
                Line::User(account) => self.write_user(account.into()).await?,
                Line::Task(moved) => tasks.push(moved),
                Line::Erasure(erasure) => erasures.push(erasure),
                Line::Notification(record) => notifications.push(record),
                Line::Counter(record) => counters.push(record),
                Line::Applied(event) => applied.push(event),
                Line::Sluice { .. } | Line::File(_) | Line::End(_) => {}
            }
        }
        let files = self.finish_files(&tasks).await?;
        self.tasks.import(&tasks).await?;
        if !files.is_empty() {
            self.files.settle(&files, Timestamp::MAX).await?;
        }
        if !erasures.is_empty() {
            self.tasks.note(&erasures).await?;
        }
        self.notifications
            .import_notifications(notifications)
            .await?;
        self.notifications.import_counters(counters).await?;
        self.notifications.import_applied_events(applied).await?;
        Ok(())
    }

    async fn write_user(&self, user: users::domain::User) -> anyhow::Result<()> {
        match self.users.create_user(&user).await {
            Ok(()) => Ok(()),
            Err(SaveUserError::EmailTaken) => {
                let there = self.users.find_by_email(&user.email.key()).await?;
                anyhow::ensure!(
                    there.is_some_and(|there| there.id == user.id),
                    "the address of user {} belongs to another account here; import into an empty database",
                    user.id
                );
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}
