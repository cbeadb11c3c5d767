//! The data folder of the platform in one process: its data, its keys, and a lock, so that no second
//! process uses them. Everything that opens the folder's files must lock it first.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use runtime::secret::Secret;

/// A data folder that this process holds locked.
pub struct DataFolder {
    folder: PathBuf,
    /// The kernel releases the lock, no matter how the process ends.
    _lock: File,
}

impl DataFolder {
    /// Locks a folder, and creates it if it is missing. Only its owner may read it.
    pub fn lock(folder: &Path) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make the data folder {}", folder.display()))?;
        let path = folder.join("lock");
        let mut lock = private()
            .open(&path)
            .with_context(|| format!("cannot write to the data folder {}", folder.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                lock.read_to_string(&mut owner).ok();
                bail!(
                    "{} is in use by the process {}; stop it, or choose another folder with --data",
                    folder.display(),
                    owner.trim()
                );
            }
            Err(TryLockError::Error(why)) => {
                return Err(why).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        lock.set_len(0)?;
        writeln!(lock, "{}", std::process::id())
            .with_context(|| format!("cannot write to the data folder {}", folder.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
            _lock: lock,
        })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The environment variable that holds the signing keys of gateways, and its value.
    pub fn signing_keys(&self) -> anyhow::Result<(String, String)> {
        let key = self.key("gateway-signing-keys", "g1")?;
        Ok(("GATEWAY_SIGNING_KEYS".to_owned(), key.expose().to_owned()))
    }

    /// The environment variable that holds the keys that sign access tokens, and its value.
    pub fn token_keys(&self) -> anyhow::Result<(String, String)> {
        let key = self.key("token-signing-keys", "t1")?;
        Ok(("TOKEN_SIGNING_KEYS".to_owned(), key.expose().to_owned()))
    }

    /// A key, as `kid:hex`. It is created at the first start and kept, because tokens and signatures
    /// must stay valid after a restart.
    fn key(&self, name: &str, kid: &str) -> anyhow::Result<Secret> {
        let path = self.folder.join(name);
        match std::fs::read_to_string(&path) {
            Ok(key) => return Ok(Secret::new(key.trim())),
            Err(why) if why.kind() == ErrorKind::NotFound => {}
            Err(why) => return Err(why).with_context(|| format!("cannot read {}", path.display())),
        }
        let key = format!("{kid}:{}", random_hex()?);
        let unusable = || format!("cannot write {}", path.display());
        // Renamed once it is complete, so that a crash never leaves half a key.
        let new = self.folder.join(format!("{name}.new"));
        let mut file = private().truncate(true).open(&new).with_context(unusable)?;
        file.write_all(key.as_bytes()).with_context(unusable)?;
        file.sync_all().with_context(unusable)?;
        std::fs::rename(&new, &path).with_context(unusable)?;
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .with_context(unusable)?;
        Ok(Secret::new(key))
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

/// 32 random bytes from the system, as hex.
fn random_hex() -> anyhow::Result<String> {
    let mut seed = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut seed))
        .context("the system gives no random numbers")?;
    Ok(hex::encode(seed))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_that_is_in_use_is_refused_and_says_by_whom() {
        let folder = tempfile::tempdir().unwrap();
        let data_folder = DataFolder::lock(folder.path()).unwrap();
        let refused = DataFolder::lock(folder.path()).err().unwrap().to_string();
        let pid = std::process::id().to_string();
        assert!(
            refused.contains(&pid) && refused.contains("--data"),
            "{refused}"
        );
        drop(data_folder);
        DataFolder::lock(folder.path()).unwrap();
    }

    #[test]
    fn a_key_is_made_once_and_nobody_else_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let data_folder = DataFolder::lock(&folder.path().join("new").join("deep")).unwrap();
        let key = data_folder.key("token-keys", "t1").unwrap();
        assert_eq!(data_folder.key("token-keys", "t1").unwrap(), key);
        assert_ne!(data_folder.key("other-keys", "t1").unwrap(), key);
        let parsed = contract::identity::parse_keys(key.expose()).unwrap();
        assert_eq!((parsed[0].0.as_str(), parsed[0].1.len()), ("t1", 32));
        for path in ["", "token-keys", "lock"] {
            let mode = std::fs::metadata(data_folder.folder().join(path))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o077, 0, "{path}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = DataFolder::lock(&file.path().join("data")).err().unwrap();
        assert!(format!("{refused:#}").contains("data"), "{refused:#}");
    }
}
