//! The accounts of the load's users. Logins are rate-limited, so accounts and their refresh tokens are
//! saved between runs, in a file that only its owner can read.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::api::{Answer, Api, Call};

#[derive(Clone, Serialize, Deserialize)]
struct Account {
    email: String,
    password: String,
    refresh_token: String,
}

struct Session {
    token: String,
    until: Instant,
}

/// Accounts by the platform's address, then by name.
type Saved = BTreeMap<String, BTreeMap<String, Account>>;

pub(super) struct Accounts<'a> {
    api: &'a Api,
    file: PathBuf,
    saved: Saved,
    sessions: BTreeMap<String, Session>,
}

#[derive(Deserialize)]
struct Tokens {
    access_token: String,
    refresh_token: String,
    expires_in: u64,
}

impl<'a> Accounts<'a> {
    pub(super) fn open(api: &'a Api, folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join("users.json");
        let saved = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("{} is damaged; delete it", file.display()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => Saved::new(),
            Err(error) => return Err(error).context(format!("{}", file.display())),
        };
        Ok(Self {
            api,
            file,
            saved,
            sessions: BTreeMap::new(),
        })
    }

    /// An access token of `name` that is valid for `needed` at least. Tries, in this order: a token
    /// that this run already has, a refresh, a login, a new account.
    pub(super) async fn token(
        &mut self,
        name: &str,
        needed: Duration,
        progress: &mut (dyn FnMut(&str) + Send),
    ) -> anyhow::Result<String> {
        let enough = |session: &Session| session.until > Instant::now() + needed;
        if !self.sessions.get(name).is_some_and(enough) && !self.resume(name, progress).await? {
            self.register(name, progress).await?;
        }
        match self.sessions.get(name) {
            Some(session) if enough(session) => Ok(session.token.clone()),
            Some(_) | None => bail!("an access token is not valid for {needed:?}"),
        }
    }

    /// Deletes the account and everything that it created. An account that the platform does not know
    /// is only removed from the file.
    pub(super) async fn delete(&mut self, name: &str) -> anyhow::Result<()> {
        let Some(account) = self.accounts_here().get(name).cloned() else {
            return Ok(());
        };
        if self.resume(name, &mut |_| ()).await? {
            let token = self.sessions.get(name).map(|s| s.token.as_str());
            let password = json!({"password": account.password});
            let call = Call::json(Method::DELETE, "/api/users/me", &password);
            self.api.expect_status(&call, token, 204).await?;
        }
        self.sessions.remove(name);
        self.accounts_here().remove(name);
        self.save()
    }

    /// Opens a session for an account of an earlier run; `false` when there is none that still works.
    async fn resume(
        &mut self,
        name: &str,
        progress: &mut (dyn FnMut(&str) + Send),
    ) -> anyhow::Result<bool> {
        let Some(account) = self.accounts_here().get(name).cloned() else {
            return Ok(false);
        };
        let refresh = json!({"refresh_token": account.refresh_token});
        let refresh = Call::json(Method::POST, "/api/users/refresh", &refresh);
        for call in [refresh, login(&account)] {
            let answer = self.api.call_with_retry(&call, None, progress).await?;
            match answer.status {
                200 => return self.store_tokens(name, account, &answer).map(|()| true),
                401 => {}
                _ => bail!("{call} answered {}", answer.summary()),
            }
        }
        Ok(false)
    }

    async fn register(
        &mut self,
        name: &str,
        progress: &mut (dyn FnMut(&str) + Send),
    ) -> anyhow::Result<()> {
        let account = Account {
            email: format!("load-{}@example.com", contract::id::UserId::new()),
            password: format!("load {}", contract::id::SessionId::new()),
            refresh_token: String::new(),
        };
        let body = json!({"email": account.email, "password": account.password,
            "name": display_name(name)});
        let register = Call::json(Method::POST, "/api/users/register", &body);
        let answer = self.api.call_with_retry(&register, None, progress).await?;
        if answer.status != 201 {
            bail!("{register} answered {}", answer.summary());
        }
        let login = login(&account);
        let answer = self.api.call_with_retry(&login, None, progress).await?;
        if answer.status != 200 {
            bail!("{login} answered {}", answer.summary());
        }
        self.store_tokens(name, account, &answer)
    }

    /// Takes the tokens of an answer. The refresh token is saved before anything else happens.
    fn store_tokens(
        &mut self,
        name: &str,
        account: Account,
        answer: &Answer,
    ) -> anyhow::Result<()> {
        let tokens: Tokens = serde_json::from_slice(&answer.body)
            .with_context(|| format!("the login of `{name}` gave no tokens"))?;
        let account = Account {
            refresh_token: tokens.refresh_token,
            ..account
        };
        self.accounts_here().insert(name.to_owned(), account);
        self.save()?;
        let session = Session {
            token: tokens.access_token,
            until: Instant::now() + Duration::from_secs(tokens.expires_in),
        };
        self.sessions.insert(name.to_owned(), session);
        Ok(())
    }

    fn accounts_here(&mut self) -> &mut BTreeMap<String, Account> {
        let base = self.api.base().to_owned();
        self.saved.entry(base).or_default()
    }

    /// Replaces the file atomically: a lost refresh token is a lost session.
    fn save(&self) -> anyhow::Result<()> {
        let new = self.file.with_extension("new");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(&self.saved)?)?;
        std::fs::rename(&new, &self.file)?;
        Ok(())
    }
}

fn login(account: &Account) -> Call {
    let body = json!({"email": account.email, "password": account.password});
    Call::json(Method::POST, "/api/users/login", &body)
}

/// `user-3` → "Load xxx": the answers of each user have a different length, so an answer that went to
/// the wrong user shows in the sum of the lengths.
fn display_name(name: &str) -> String {
    let number = name.rsplit('-').next().and_then(|n| n.parse().ok());
    format!("Load {}", "x".repeat(number.unwrap_or(0_usize).min(64) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_has_a_name_of_its_own_length() {
        let lengths: Vec<_> = ["hot", "user-1", "user-2", "user-64"]
            .map(|name| display_name(name).len())
            .into();
        assert_eq!(lengths, [6, 7, 8, 70]);
    }

    #[test]
    fn what_is_kept_is_read_again_and_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let api = Api::new("http://127.0.0.1:1").unwrap();
        let mut accounts = Accounts::open(&api, folder.path()).unwrap();
        let account = Account {
            email: "e".to_owned(),
            password: "p".to_owned(),
            refresh_token: "r".to_owned(),
        };
        accounts.accounts_here().insert("hot".to_owned(), account);
        accounts.save().unwrap();
        let mode = std::fs::metadata(folder.path().join("users.json"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut again = Accounts::open(&api, folder.path()).unwrap();
        assert_eq!(again.accounts_here()["hot"].refresh_token, "r");
    }
}
