//! Files in a folder with two subfolders.
//!
//! A file in doubt is in `doubt`: its name holds the task and the file, and its modification time says
//! since when it is in doubt. A file that a task lists is in `kept`. A file moves between them only by a
//! rename; its bytes are never copied. Standalone builds [`DiskFiles`]; [`tasks::attachments`] calls it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use contract::id::{AttachmentId, TaskId};
use jiff::Timestamp;
use stores::StoreError;
use tasks::store::files::{CHUNK, FileRef, FileStore};

/// The files in one folder. No other process may use the folder.
#[derive(Clone)]
pub struct DiskFiles(Arc<Folders>);

struct Folders {
    doubt: PathBuf,
    kept: PathBuf,
}

impl DiskFiles {
    /// Opens the folder, and creates it if it does not exist. Only its owner may read it.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let folders = Folders {
            doubt: folder.join("doubt"),
            kept: folder.join("kept"),
        };
        for path in [&folders.doubt, &folders.kept] {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        }
        Ok(Self(Arc::new(folders)))
    }

    async fn run<T, F>(&self, operation: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Folders) -> io::Result<T> + Send + 'static,
    {
        let folders = self.0.clone();
        match tokio::task::spawn_blocking(move || work(&folders)).await {
            Ok(result) => result.map_err(|why| StoreError::unavailable(operation, why)),
            Err(panic) => Err(StoreError::corrupt(operation, panic)),
        }
    }

    /// Runs `work` on each file in turn, and stops at the first error.
    async fn each(
        &self,
        operation: &'static str,
        files: &[FileRef],
        work: impl Fn(&Folders, &FileRef) -> io::Result<()> + Send + 'static,
    ) -> Result<(), StoreError> {
        let files = files.to_vec();
        self.run(operation, move |folders| {
            files.iter().try_for_each(|file| work(folders, file))
        })
        .await
    }
}

impl Folders {
    fn in_doubt(&self, file: &FileRef) -> io::Result<PathBuf> {
        let (task, id) = (
            checked_id(file.task.as_str())?,
            checked_id(file.id.as_str())?,
        );
        Ok(self.doubt.join(format!("{task}.{id}")))
    }

    fn kept(&self, file: &FileRef) -> io::Result<PathBuf> {
        Ok(self.kept.join(checked_id(file.id.as_str())?))
    }

    /// Opens a file in whichever folder it is. It may be moved meanwhile, but at most once.
    fn open(&self, file: &FileRef) -> io::Result<File> {
        let (kept, in_doubt) = (self.kept(file)?, self.in_doubt(file)?);
        if_missing(File::open(&kept), || {
            if_missing(File::open(&in_doubt), || File::open(&kept))
        })
    }
}

/// Checks that an id may be a part of a file name. Our ids are UUIDs.
fn checked_id(id: &str) -> io::Result<&str> {
    match id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        true => Ok(id),
        false => Err(io::Error::new(
            ErrorKind::InvalidInput,
            "this is no id of a task or a file",
        )),
    }
}

fn if_missing<T>(result: io::Result<T>, or_else: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    match result {
        Err(why) if why.kind() == ErrorKind::NotFound => or_else(),
        result => result,
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    if_missing(result, || Ok(()))
}

/// Sets since when a file is in doubt.
fn set_in_doubt_since(path: &Path, now: Timestamp) -> io::Result<()> {
    File::options()
        .write(true)
        .open(path)?
        .set_modified(now.into())
}

/// Where a chunk begins, in bytes.
fn chunk_offset(index: u64) -> io::Result<u64> {
    let too_large = || io::Error::new(ErrorKind::InvalidInput, "there is no such chunk");
    index.checked_mul(CHUNK as u64).ok_or_else(too_large)
}

#[async_trait]
impl FileStore for DiskFiles {
    /// Does nothing: [`Self::open`] has created the folders.
    async fn prepare(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn begin(&self, file: &FileRef, now: Timestamp) -> Result<(), StoreError> {
        let file = file.clone();
        self.run("begin file", move |folders| {
            let path = folders.in_doubt(&file)?;
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            options.open(path)?.set_modified(now.into())
        })
        .await
    }

    async fn append(&self, file: &FileRef, index: u64, chunk: Bytes) -> Result<(), StoreError> {
        let file = file.clone();
        self.run("write file", move |folders| {
            let to = OpenOptions::new()
                .write(true)
                .open(folders.in_doubt(&file)?)?;
            // Writing changes the modification time, which says since when the file is in doubt.
            let since = to.metadata()?.modified()?;
            to.write_all_at(&chunk, chunk_offset(index)?)?;
            to.set_modified(since)
        })
        .await
    }

    async fn finish(&self, file: &FileRef, size: u64) -> Result<(), StoreError> {
        let file = file.clone();
        self.run("finish file", move |folders| {
            let whole = File::open(folders.in_doubt(&file)?)?;
            if whole.metadata()?.len() != size {
                return Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    "the file is incomplete",
                ));
            }
            whole.sync_all()?;
            File::open(&folders.doubt)?.sync_all()
        })
        .await
    }

    async fn read(&self, file: &FileRef, index: u64) -> Result<Option<Bytes>, StoreError> {
        let file = file.clone();
        self.run("read file", move |folders| {
            let from = match folders.open(&file) {
                Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
                from => from?,
            };
            let offset = chunk_offset(index)?;
            let left = from.metadata()?.len().saturating_sub(offset);
            if left == 0 {
                return Ok(None);
            }
            let mut chunk = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
            from.read_exact_at(&mut chunk, offset)?;
            Ok(Some(chunk.into()))
        })
        .await
    }

    async fn mark_in_doubt(&self, files: &[FileRef], now: Timestamp) -> Result<usize, StoreError> {
        let files = files.to_vec();
        self.run("mark files in doubt", move |folders| {
            let mut found = 0;
            for file in &files {
                let (kept, in_doubt) = (folders.kept(file)?, folders.in_doubt(file)?);
                // The time first: a sweep must not mistake this doubt for an old one.
                let marked = if_missing(
                    set_in_doubt_since(&kept, now).and_then(|()| std::fs::rename(&kept, &in_doubt)),
                    || set_in_doubt_since(&in_doubt, now),
                );
                match marked {
                    Err(why) if why.kind() == ErrorKind::NotFound => {}
                    marked => marked.map(|()| found += 1)?,
                }
            }
            Ok(found)
        })
        .await
    }

    async fn settle(&self, files: &[FileRef], before: Timestamp) -> Result<(), StoreError> {
        self.each("settle file", files, move |folders, file| {
            let in_doubt = folders.in_doubt(file)?;
            match std::fs::metadata(&in_doubt) {
                Ok(found) if found.modified()? < SystemTime::from(before) => {
                    ignore_missing(std::fs::rename(&in_doubt, folders.kept(file)?))
                }
                found => ignore_missing(found.map(drop)),
            }
        })
        .await
    }

    async fn remove(&self, files: &[FileRef]) -> Result<(), StoreError> {
        self.each("remove file", files, move |folders, file| {
            ignore_missing(std::fs::remove_file(folders.in_doubt(file)?))?;
            ignore_missing(std::fs::remove_file(folders.kept(file)?))
        })
        .await
    }

    async fn in_doubt(&self, before: Timestamp, limit: usize) -> Result<Vec<FileRef>, StoreError> {
        self.run("find files in doubt", move |folders| {
            let before = SystemTime::from(before);
            let mut found = Vec::new();
            for entry in std::fs::read_dir(&folders.doubt)? {
                let entry = entry?;
                let name = entry.file_name();
                let Some((task, id)) = name.to_str().and_then(|name| name.split_once('.')) else {
                    continue;
                };
                let (Some(task), Some(id)) = (TaskId::parse(task), AttachmentId::parse(id)) else {
                    continue;
                };
                let modified = match entry.metadata().and_then(|found| found.modified()) {
                    Err(why) if why.kind() == ErrorKind::NotFound => continue,
                    modified => modified?,
                };
                if modified < before {
                    found.push(FileRef { task, id });
                }
                if found.len() == limit {
                    break;
                }
            }
            Ok(found)
        })
        .await
    }
}
