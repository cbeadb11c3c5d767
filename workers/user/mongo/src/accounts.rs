//! Accounts: one document each. A deleted account stays as a tombstone, without personal data, at
//! least until its event is published and its sessions are marked as ended.

use bson::{Bson, Document, doc};
use contract::event::Envelope;
use contract::id::{SessionId, UserId};
use events::outbox::Pending;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use mongo::outbox::pending_bson;
use mongo::{from_bson, is_duplicate_key, run, to_bson};
use mongodb::{Collection, Database};
use serde::{Deserialize, Serialize};
use stores::StoreError;
use users::domain::{Email, Name, PasswordHash, Registration, User};
use users::store::SaveUserError;

use super::schema::{SCHEMA, in_generation, partial, unique};

pub(super) const COLLECTION: &str = "users";
/// The collection of published events.
pub(super) const HISTORY: &str = "user_events";
/// The most tombstones that one purge removes.
const PURGE_BATCH: i64 = 500;

pub(super) struct Users {
    users: Collection<UserDocument>,
    history: Collection<Document>,
}

/// The members of an account that decide which of its sessions are dead.
#[derive(Deserialize)]
pub(super) struct AccountState {
    #[serde(default)]
    pub(super) generation: i64,
    pub(super) kept_session: Option<SessionId>,
    pub(super) deleted_at: Option<bson::DateTime>,
}

impl Users {
    pub(super) fn of(database: &Database) -> Self {
        Self {
            users: database.collection(COLLECTION),
            history: database.collection(HISTORY),
        }
    }

    pub(super) async fn prepare(&self) -> Result<(), StoreError> {
        let users = self.users.clone();
        let indexes = [
            unique("email_key"),
            partial(doc! {"dead_sessions": 1}, doc! {"dead_sessions": true}),
            partial(
                doc! {"deleted_at": 1},
                doc! {"deleted_at": {"$type": "date"}},
            ),
        ];
        run("prepare users", async move {
            users.create_indexes(indexes).await
        })
        .await?;
        Ok(())
    }

    pub(super) async fn create(&self, user: &User) -> Result<(), SaveUserError> {
        let (users, document) = (self.users.clone(), UserDocument::from(user));
        let created = run("create user", async move {
            unless_taken(users.insert_one(document).await)
        });
        created.await?.map(drop).ok_or(SaveUserError::EmailTaken)
    }

    /// Finds an account that is not deleted.
    pub(super) async fn find(
        &self,
        operation: &'static str,
        mut filter: Document,
    ) -> Result<Option<User>, StoreError> {
        filter.insert("deleted_at", Bson::Null);
        let users = self.users.clone();
        let found = run(operation, async move { users.find_one(filter).await }).await?;
        Ok(found.map(User::from))
    }

    pub(super) async fn update(&self, user: &User) -> Result<bool, SaveUserError> {
        let before = doc! {
            "_id": user.id.as_str(),
            "version": user.version.cast_signed() - 1,
            "deleted_at": Bson::Null,
        };
        let set = doc! {
            "email_key": user.email.key().as_str(),
            "email": user.email.as_str(),
            "name": user.name.as_str(),
            "version": user.version.cast_signed(),
            "updated_at": to_bson(user.updated_at),
        };
        let users = self.users.clone();
        let updated = run("update user", async move {
            unless_taken(users.update_one(before, doc! {"$set": set}).await)
        });
        match updated.await? {
            Some(updated) => Ok(updated.matched_count > 0),
            None => Err(SaveUserError::EmailTaken),
        }
    }

    pub(super) async fn replace_password(
        &self,
        id: &UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<(), StoreError> {
        let read = doc! {"_id": id.as_str(), "password": old.as_str()};
        let update = doc! {"$set": {"password": new.as_str()}};
        self.write("replace password", read, update).await.map(drop)
    }

    pub(super) async fn change_password(
        &self,
        user: &User,
        new: &PasswordHash,
        kept: &SessionId,
    ) -> Result<bool, StoreError> {
        let before = doc! {
            "_id": user.id.as_str(),
            "generation": in_generation(user.generation),
            "deleted_at": Bson::Null,
        };
        let update = doc! {
            "$set": {
                "password": new.as_str(),
                "generation": user.generation.cast_signed() + 1,
                "kept_session": kept.as_str(),
                "dead_sessions": true,
            },
            // A repeated registration could no longer be checked against the password.
            "$unset": {"registration": 1},
        };
        self.write("change password", before, update).await
    }

    pub(super) async fn delete(
        &self,
        user: &User,
        event: &Envelope,
    ) -> Result<Option<Vec<Pending>>, StoreError> {
        const OPERATION: &str = "delete user";
        let version = user.version + 1;
        let before = doc! {
            "_id": user.id.as_str(),
            "version": user.version.cast_signed(),
            "generation": in_generation(user.generation),
            "deleted_at": Bson::Null,
        };
        let update = doc! {
            "$set": {
                "deleted_at": to_bson(event.time),
                "updated_at": to_bson(event.time),
                "version": version.cast_signed(),
                "dead_sessions": true,
                // Not an address, so nobody can have it, and unique for the index.
                "email_key": format!("deleted:{}", user.id),
            },
            "$unset": {"email": 1, "name": 1, "password": 1, "registration": 1},
            "$push": {"pending": pending_bson(OPERATION, event, version)?},
        };
        let deleted = self.write(OPERATION, before, update).await?;
        let event = event.clone();
        Ok(deleted.then(|| vec![Pending { version, event }]))
    }

    pub(super) async fn with_dead_sessions(&self, limit: usize) -> Result<Vec<UserId>, StoreError> {
        #[derive(Deserialize)]
        struct Found {
            #[serde(rename = "_id")]
            id: UserId,
        }
        let users = self.users.clone_with_type::<Found>();
        let found: Vec<Found> = run("find dead sessions", async move {
            let found = users.find(doc! {"dead_sessions": true});
            let found = found.projection(doc! {"_id": 1}).limit(limit as i64);
            found.await?.try_collect().await
        })
        .await?;
        Ok(found.into_iter().map(|found| found.id).collect())
    }

    /// The state of an account, deleted or not.
    pub(super) async fn account_state(
        &self,
        id: &UserId,
    ) -> Result<Option<AccountState>, StoreError> {
        let (users, id) = (self.users.clone_with_type::<AccountState>(), id.to_string());
        run("read account state", async move {
            let wanted = doc! {"generation": 1, "kept_session": 1, "deleted_at": 1};
            users.find_one(doc! {"_id": id}).projection(wanted).await
        })
        .await
    }

    /// Records that all dead sessions are marked, unless the account has changed since `seen`.
    pub(super) async fn clear_dead_sessions(
        &self,
        id: &UserId,
        seen: &AccountState,
    ) -> Result<(), StoreError> {
        let unchanged = doc! {
            "_id": id.as_str(),
            "generation": in_generation(seen.generation.cast_unsigned()),
            "deleted_at": seen.deleted_at,
        };
        let update = doc! {"$unset": {"dead_sessions": 1}};
        self.write("clear dead sessions", unchanged, update)
            .await
            .map(drop)
    }

    pub(super) async fn purge(&self, before: Timestamp) -> Result<u64, StoreError> {
        // MongoDB uses the partial index only with this `$type`.
        let gone = doc! {
            "deleted_at": {"$lt": to_bson(before), "$type": "date"},
            "pending.0": {"$exists": false},
            "dead_sessions": {"$exists": false},
        };
        let users = self.users.clone_with_type::<Document>();
        let history = self.history.clone();
        run("purge users", async move {
            let found = users
                .find(gone)
                .projection(doc! {"_id": 1})
                .limit(PURGE_BATCH);
            let found: Vec<Document> = found.await?.try_collect().await?;
            let ids: Vec<_> = found.iter().filter_map(|user| user.get("_id")).collect();
            if ids.is_empty() {
                return Ok(0);
            }
            // Delete the history first: after a crash in between, the account is found again.
            history.delete_many(doc! {"subject": {"$in": &ids}}).await?;
            let purged = users.delete_many(doc! {"_id": {"$in": ids}}).await?;
            Ok(purged.deleted_count)
        })
        .await
    }

    /// Makes one conditional write. Returns whether the condition held.
    async fn write(
        &self,
        operation: &'static str,
        condition: Document,
        update: Document,
    ) -> Result<bool, StoreError> {
        let users = self.users.clone();
        let written = run(operation, async move {
            users.update_one(condition, update).await
        });
        Ok(written.await?.matched_count > 0)
    }
}

/// `None` if another account has the address. The driver's error contains the address, so it must
/// not be passed on.
fn unless_taken<T>(written: mongodb::error::Result<T>) -> mongodb::error::Result<Option<T>> {
    match written {
        Ok(written) => Ok(Some(written)),
        Err(error) if is_duplicate_key(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

#[derive(Serialize, Deserialize)]
struct UserDocument {
    #[serde(rename = "_id")]
    id: UserId,
    email_key: String,
    email: String,
    name: String,
    password: String,
    #[serde(default)]
    generation: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_session: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration: Option<RegistrationDocument>,
    version: i64,
    created_at: bson::DateTime,
    updated_at: bson::DateTime,
    schema: i32,
}

#[derive(Serialize, Deserialize)]
struct RegistrationDocument {
    key: String,
    said: String,
}

impl From<&User> for UserDocument {
    fn from(user: &User) -> Self {
        let registration = user.registration.clone();
        Self {
            id: user.id.clone(),
            email_key: user.email.key().as_str().to_owned(),
            email: user.email.as_str().to_owned(),
            name: user.name.as_str().to_owned(),
            password: user.password.as_str().to_owned(),
            generation: user.generation.cast_signed(),
            kept_session: user.kept_session.clone(),
            registration: registration.map(|registration| RegistrationDocument {
                key: registration.key,
                said: registration.fingerprint,
            }),
            version: user.version.cast_signed(),
            created_at: to_bson(user.created_at),
            updated_at: to_bson(user.updated_at),
            schema: SCHEMA,
        }
    }
}

impl From<UserDocument> for User {
    fn from(document: UserDocument) -> Self {
        let registration = document.registration;
        Self {
            id: document.id,
            email: Email::stored(document.email),
            name: Name::stored(document.name),
            password: PasswordHash::new(document.password),
            generation: document.generation.cast_unsigned(),
            kept_session: document.kept_session,
            registration: registration.map(|document| Registration {
                key: document.key,
                fingerprint: document.said,
            }),
            version: document.version.cast_unsigned(),
            created_at: from_bson(document.created_at),
            updated_at: from_bson(document.updated_at),
        }
    }
}
