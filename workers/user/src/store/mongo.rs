//! Accounts and sessions in MongoDB: collections `users` and `sessions`.

use std::time::Duration;

use async_trait::async_trait;
use bson::doc;
use bson::spec::BinarySubtype;
use mongodb::options::IndexOptions;
use mongodb::{Collection, Database, IndexModel};
use serde::{Deserialize, Serialize};
use shared::id::{SessionId, UserId};
use shared::mongo::{self, MongoSettings, from_bson, to_bson};
use shared::store::StoreError;
use tokio::sync::OnceCell;

use super::{CreateUserError, UserStore};
use crate::domain::{Email, EmailKey, Name, PasswordHash, Session, TokenHash, User};

/// The version of the documents' layout.
const SCHEMA: i32 = 1;

pub struct MongoUserStore {
    database: Database,
    users: Collection<UserDocument>,
    sessions: Collection<SessionDocument>,
    prepared: OnceCell<()>,
}

impl MongoUserStore {
    /// Makes a store; nothing is reached before the first call.
    pub async fn connect(settings: &MongoSettings) -> anyhow::Result<Self> {
        let database = mongo::connect(settings).await?;
        Ok(Self {
            users: database.collection("users"),
            sessions: database.collection("sessions"),
            prepared: OnceCell::new(),
            database,
        })
    }

    async fn find(
        &self,
        operation: &'static str,
        filter: bson::Document,
    ) -> Result<Option<User>, StoreError> {
        let users = self.users.clone();
        let found = mongo::run(operation, async move { users.find_one(filter).await }).await?;
        Ok(found.map(User::from))
    }
}

#[async_trait]
impl UserStore for MongoUserStore {
    async fn prepare(&self) -> Result<(), StoreError> {
        let (users, sessions) = (self.users.clone(), self.sessions.clone());
        let indexes = || {
            mongo::run("create indexes", async move {
                users.create_index(unique("email_key")).await?;
                sessions.create_index(expiry("expires_at")).await?;
                Ok(())
            })
        };
        self.prepared.get_or_try_init(indexes).await.copied()
    }

    async fn ready(&self) -> Result<(), StoreError> {
        if !self.prepared.initialized() {
            return Err(StoreError::unavailable(
                "ready",
                "the indexes are not there yet",
            ));
        }
        mongo::ping(&self.database).await
    }

    async fn create_user(&self, user: &User) -> Result<(), CreateUserError> {
        // Invariant: no account before the unique index that decides between two.
        self.prepare().await?;
        let (users, document) = (self.users.clone(), UserDocument::from(user));
        let created = mongo::run("create user", async move {
            match users.insert_one(document).await {
                Ok(_) => Ok(true),
                // Its text would hold the address: it goes no further.
                Err(error) if mongo::is_duplicate_key(&error) => Ok(false),
                Err(error) => Err(error),
            }
        });
        match created.await? {
            true => Ok(()),
            false => Err(CreateUserError::EmailTaken),
        }
    }

    async fn find_by_email(&self, key: &EmailKey) -> Result<Option<User>, StoreError> {
        self.find("find user by e-mail", doc! {"email_key": key.as_str()})
            .await
    }

    async fn find_by_id(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        self.find("find user", doc! {"_id": id.as_str()}).await
    }

    async fn replace_password(
        &self,
        id: &UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<(), StoreError> {
        let users = self.users.clone();
        let filter = doc! {"_id": id.as_str(), "password": old.as_str()};
        let update = doc! {"$set": {"password": new.as_str()}};
        mongo::run("replace password", async move {
            users.update_one(filter, update).await
        })
        .await?;
        Ok(())
    }

    async fn create_session(&self, session: &Session) -> Result<(), StoreError> {
        let (sessions, document) = (self.sessions.clone(), SessionDocument::from(session));
        mongo::run("create session", async move {
            sessions.insert_one(document).await
        })
        .await?;
        Ok(())
    }
}

fn unique(field: &str) -> IndexModel {
    let options = IndexOptions::builder().unique(true).build();
    IndexModel::builder()
        .keys(doc! {field: 1})
        .options(options)
        .build()
}

/// MongoDB deletes each document once the time in this field has passed.
fn expiry(field: &str) -> IndexModel {
    let options = IndexOptions::builder().expire_after(Duration::ZERO).build();
    IndexModel::builder()
        .keys(doc! {field: 1})
        .options(options)
        .build()
}

#[derive(Serialize, Deserialize)]
struct UserDocument {
    #[serde(rename = "_id")]
    id: UserId,
    email_key: String,
    email: String,
    name: String,
    password: String,
    version: i64,
    created_at: bson::DateTime,
    updated_at: bson::DateTime,
    schema: i32,
}

impl From<&User> for UserDocument {
    fn from(user: &User) -> Self {
        Self {
            id: user.id.clone(),
            email_key: user.email.key().as_str().to_owned(),
            email: user.email.as_str().to_owned(),
            name: user.name.as_str().to_owned(),
            password: user.password.as_str().to_owned(),
            version: user.version.cast_signed(),
            created_at: to_bson(user.created_at),
            updated_at: to_bson(user.updated_at),
            schema: SCHEMA,
        }
    }
}

impl From<UserDocument> for User {
    fn from(document: UserDocument) -> Self {
        Self {
            id: document.id,
            email: Email::stored(document.email),
            name: Name::stored(document.name),
            password: PasswordHash::new(document.password),
            version: document.version.cast_unsigned(),
            created_at: from_bson(document.created_at),
            updated_at: from_bson(document.updated_at),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct SessionDocument {
    #[serde(rename = "_id")]
    id: SessionId,
    user_id: UserId,
    family_hash: bson::Binary,
    refresh_hash: bson::Binary,
    device: String,
    address: String,
    created_at: bson::DateTime,
    last_used_at: bson::DateTime,
    expires_at: bson::DateTime,
    schema: i32,
}

impl From<&Session> for SessionDocument {
    fn from(session: &Session) -> Self {
        Self {
            id: session.id.clone(),
            user_id: session.user_id.clone(),
            family_hash: binary(&session.family),
            refresh_hash: binary(&session.refresh),
            device: session.device.clone(),
            address: session.address.clone(),
            created_at: to_bson(session.created_at),
            last_used_at: to_bson(session.last_used_at),
            expires_at: to_bson(session.expires_at),
            schema: SCHEMA,
        }
    }
}

fn binary(hash: &TokenHash) -> bson::Binary {
    bson::Binary {
        subtype: BinarySubtype::Generic,
        bytes: hash.as_bytes().to_vec(),
    }
}
