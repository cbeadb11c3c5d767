//! Files in a folder: what is in doubt in one subfolder, by task and since its time of modification;
//! what is kept in the other. A file moves between them by its name alone.

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

/// The folder must be this process's alone.
#[derive(Clone)]
pub struct DiskFiles(Arc<Folders>);

struct Folders {
    doubt: PathBuf,
    kept: PathBuf,
}

impl DiskFiles {
    /// Makes the folder where it is missing. It is nobody else's to read.
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

    /// The same for each of several files.
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
        let (task, id) = (plain(file.task.as_str())?, plain(file.id.as_str())?);
        Ok(self.doubt.join(format!("{task}.{id}")))
    }

    fn kept(&self, file: &FileRef) -> io::Result<PathBuf> {
        Ok(self.kept.join(plain(file.id.as_str())?))
    }

    /// Opens a file wherever it is. It may move while we look, but only once at a time.
    fn open(&self, file: &FileRef) -> io::Result<File> {
        let (kept, in_doubt) = (self.kept(file)?, self.in_doubt(file)?);
        or_else_missing(File::open(&kept), || {
            or_else_missing(File::open(&in_doubt), || File::open(&kept))
        })
    }
}

/// An id as a part of a file's name; ours are UUIDs.
fn plain(id: &str) -> io::Result<&str> {
    match id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        true => Ok(id),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "not an id of ours")),
    }
}

fn or_else_missing<T>(
    result: io::Result<T>,
    or_else: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    match result {
        Err(why) if why.kind() == ErrorKind::NotFound => or_else(),
        result => result,
    }
}

fn unless_missing(result: io::Result<()>) -> io::Result<()> {
    or_else_missing(result, || Ok(()))
}

/// Marks when the doubt began.
fn touch(path: &Path, now: Timestamp) -> io::Result<()> {
    File::options()
        .write(true)
        .open(path)?
        .set_modified(now.into())
}

fn place(index: u64) -> io::Result<u64> {
    let too_large = || io::Error::new(ErrorKind::InvalidInput, "there is no such chunk");
    index.checked_mul(CHUNK as u64).ok_or_else(too_large)
}

#[async_trait]
impl FileStore for DiskFiles {
    /// [`Self::open`] has.
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
            // The time of modification is ours to set.
            let since = to.metadata()?.modified()?;
            to.write_all_at(&chunk, place(index)?)?;
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
                    "not all of the file is there",
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
            let place = place(index)?;
            let left = from.metadata()?.len().saturating_sub(place);
            if left == 0 {
                return Ok(None);
            }
            let mut chunk = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
            from.read_exact_at(&mut chunk, place)?;
            Ok(Some(chunk.into()))
        })
        .await
    }

    async fn doubt(&self, files: &[FileRef], now: Timestamp) -> Result<usize, StoreError> {
        let files = files.to_vec();
        self.run("doubt files", move |folders| {
            let mut there = 0;
            for file in &files {
                let (kept, in_doubt) = (folders.kept(file)?, folders.in_doubt(file)?);
                // The time first: whoever looks for old doubts must not take this for one.
                let doubted = or_else_missing(
                    touch(&kept, now).and_then(|()| std::fs::rename(&kept, &in_doubt)),
                    || touch(&in_doubt, now),
                );
                match doubted {
                    Err(why) if why.kind() == ErrorKind::NotFound => {}
                    doubted => doubted.map(|()| there += 1)?,
                }
            }
            Ok(there)
        })
        .await
    }

    async fn settle(&self, files: &[FileRef], before: Timestamp) -> Result<(), StoreError> {
        self.each("settle file", files, move |folders, file| {
            let in_doubt = folders.in_doubt(file)?;
            match std::fs::metadata(&in_doubt) {
                Ok(found) if found.modified()? < SystemTime::from(before) => {
                    unless_missing(std::fs::rename(&in_doubt, folders.kept(file)?))
                }
                found => unless_missing(found.map(drop)),
            }
        })
        .await
    }

    async fn remove(&self, files: &[FileRef]) -> Result<(), StoreError> {
        self.each("remove file", files, move |folders, file| {
            unless_missing(std::fs::remove_file(folders.in_doubt(file)?))?;
            unless_missing(std::fs::remove_file(folders.kept(file)?))
        })
        .await
    }

    async fn in_doubt(&self, before: Timestamp, limit: usize) -> Result<Vec<FileRef>, StoreError> {
        self.run("look for files in doubt", move |folders| {
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
