//! Sessions: one document each, kept until the session expires or, once ended, for
//! [`ENDED_SESSIONS_KEPT`].

use bson::{Bson, Document, doc};
use contract::id::{SessionId, UserId};
use contract::page::{Page, PageRequest};
use contract::revocation::Ended;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use mongo::{from_bson, run, to_bson};
use mongodb::{Collection, Database};
use serde::{Deserialize, Serialize};
use stores::StoreError;
use users::domain::{Salt, Session, TokenFamily, TokenHash, User};
use users::store::{ENDED_SESSIONS_KEPT, SessionKey};

use super::accounts::AccountState;
use super::schema::{SCHEMA, binary, expiry, in_generation, index, partial, unique};

pub(super) struct Sessions(Collection<SessionDocument>);

impl Sessions {
    pub(super) fn of(database: &Database) -> Self {
        Self(database.collection("sessions"))
    }

    pub(super) async fn prepare(&self) -> Result<(), StoreError> {
        let sessions = self.0.clone();
        let indexes = [
            unique("family_hash"),
            expiry("expires_at"),
            index(doc! {"user_id": 1, "created_at": -1, "_id": -1}),
            // For the list of sessions that ended lately.
            partial(
                doc! {"ended_at": 1, "_id": 1},
                doc! {"ended_at": {"$type": "date"}},
            ),
        ];
        run("prepare sessions", async move {
            sessions.create_indexes(indexes).await
        })
        .await?;
        Ok(())
    }

    pub(super) async fn create(&self, session: &Session) -> Result<(), StoreError> {
        let (sessions, document) = (self.0.clone(), SessionDocument::from(session));
        run("create session", async move {
            sessions.insert_one(document).await
        })
        .await?;
        Ok(())
    }

    pub(super) async fn remove(&self, id: &SessionId) -> Result<(), StoreError> {
        let (sessions, id) = (self.0.clone(), id.to_string());
        run("remove session", async move {
            sessions.delete_one(doc! {"_id": id}).await
        })
        .await?;
        Ok(())
    }

    /// Finds a session that is not marked as ended.
    pub(super) async fn find(&self, mut filter: Document) -> Result<Option<Session>, StoreError> {
        const OPERATION: &str = "find session";
        filter.insert("ended_at", Bson::Null);
        let sessions = self.0.clone();
        let found = run(OPERATION, async move { sessions.find_one(filter).await }).await?;
        found.map(|found| found.read(OPERATION)).transpose()
    }

    pub(super) async fn refresh(
        &self,
        before: &TokenFamily,
        after: &Session,
    ) -> Result<bool, StoreError> {
        const OPERATION: &str = "refresh session";
        let current = doc! {
            "_id": after.id.as_str(),
            "refresh_hash": binary(before.current.as_bytes()),
            "ended_at": Bson::Null,
        };
        let after = bson::serialize_to_document(&SessionDocument::from(after))
            .map_err(|why| StoreError::corrupt(OPERATION, why))?;
        let sessions = self.0.clone();
        let written = run(OPERATION, async move {
            sessions.update_one(current, doc! {"$set": after}).await
        });
        Ok(written.await?.matched_count > 0)
    }

    pub(super) async fn end(
        &self,
        id: &SessionId,
        only_if_current: Option<&TokenFamily>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut alive = doc! {"_id": id.as_str(), "ended_at": Bson::Null};
        if let Some(family) = only_if_current {
            alive.insert("refresh_hash", binary(family.current.as_bytes()));
        }
        let sessions = self.0.clone();
        let written = run("end session", async move {
            sessions.update_one(alive, ended(now)).await
        });
        Ok(written.await?.matched_count > 0)
    }

    /// Marks the sessions that are dead according to `state`.
    pub(super) async fn end_dead(
        &self,
        user: &UserId,
        state: &AccountState,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut dead = doc! {"user_id": user.as_str(), "ended_at": Bson::Null};
        if state.deleted_at.is_none() {
            let present = in_generation(state.generation.cast_unsigned());
            dead.insert("generation", doc! {"$not": present});
            let kept = state.kept_session.as_ref().map(SessionId::as_str);
            dead.insert("_id", doc! {"$ne": kept});
        }
        let sessions = self.0.clone();
        run("end dead sessions", async move {
            sessions.update_many(dead, ended(now)).await
        })
        .await?;
        Ok(())
    }

    pub(super) async fn ended(
        &self,
        SessionKey(at, id): &SessionKey,
        limit: usize,
    ) -> Result<Vec<Ended>, StoreError> {
        #[derive(Deserialize)]
        struct Found {
            #[serde(rename = "_id")]
            sid: SessionId,
            ended_at: bson::DateTime,
        }
        let at = bson::DateTime::from_millis(*at);
        let later = doc! {"ended_at": {"$gt": at}};
        let same = doc! {"ended_at": at, "_id": {"$gt": id}};
        // The first bound is where the index scan starts (MongoDB uses the index only with this
        // `$type`). The second one separates sessions of the same millisecond.
        let behind = doc! {"ended_at": {"$gte": at, "$type": "date"}, "$or": [later, same]};
        let sessions = self.0.clone_with_type::<Found>();
        let found: Vec<Found> = run("find ended sessions", async move {
            sessions
                .find(behind)
                .sort(doc! {"ended_at": 1, "_id": 1})
                .projection(doc! {"ended_at": 1})
                .limit(limit as i64)
                .await?
                .try_collect()
                .await
        })
        .await?;
        let ended = |found: Found| Ended {
            sid: found.sid,
            at: from_bson(found.ended_at),
        };
        Ok(found.into_iter().map(ended).collect())
    }

    pub(super) async fn list(
        &self,
        user: &User,
        page: &PageRequest<SessionKey>,
        now: Timestamp,
    ) -> Result<Page<Session>, StoreError> {
        const OPERATION: &str = "list sessions";
        let kept = user.kept_session.as_ref().map(SessionId::as_str);
        let good = [
            doc! {"generation": in_generation(user.generation)},
            doc! {"_id": kept},
        ];
        let mut all = vec![doc! {
            "user_id": user.id.as_str(),
            "ended_at": Bson::Null,
            "expires_at": {"$gt": to_bson(now)},
            "$or": good.to_vec(),
        }];
        if let Some(SessionKey(created_at, id)) = &page.after {
            let created_at = bson::DateTime::from_millis(*created_at);
            let earlier = doc! {"created_at": {"$lt": created_at}};
            let same = doc! {"created_at": created_at, "_id": {"$lt": id}};
            // The first bound is where the index scan starts. The second one separates sessions of
            // the same millisecond.
            all.push(doc! {"created_at": {"$lte": created_at}, "$or": [earlier, same]});
        }
        let (sessions, limit) = (self.0.clone(), page.limit);
        let found: Vec<SessionDocument> = run(OPERATION, async move {
            sessions
                .find(doc! {"$and": all})
                .sort(doc! {"created_at": -1, "_id": -1})
                .limit(limit as i64 + 1)
                .await?
                .try_collect()
                .await
        })
        .await?;
        let items = found.into_iter().map(|found| found.read(OPERATION));
        let items = items.collect::<Result<_, _>>()?;
        Ok(Page::new(items, limit, SessionKey::of))
    }
}

fn ended(now: Timestamp) -> Document {
    doc! {"$set": {
        "ended_at": to_bson(now),
        "expires_at": to_bson(now + ENDED_SESSIONS_KEPT),
    }}
}

#[derive(Serialize, Deserialize)]
pub(super) struct SessionDocument {
    #[serde(rename = "_id")]
    id: SessionId,
    user_id: UserId,
    #[serde(default)]
    generation: i64,
    family_hash: bson::Binary,
    refresh_hash: bson::Binary,
    #[serde(skip_serializing_if = "Option::is_none")]
    salt: Option<bson::Binary>,
    #[serde(default)]
    replaced: Vec<bson::DateTime>,
    device: String,
    address: String,
    created_at: bson::DateTime,
    last_used_at: bson::DateTime,
    expires_at: bson::DateTime,
    schema: i32,
}

impl From<&Session> for SessionDocument {
    fn from(session: &Session) -> Self {
        let family = &session.family;
        Self {
            id: session.id.clone(),
            user_id: session.user_id.clone(),
            generation: session.generation.cast_signed(),
            family_hash: binary(family.id.as_bytes()),
            refresh_hash: binary(family.current.as_bytes()),
            salt: family.salt.map(|salt| binary(salt.as_bytes())),
            replaced: family.replaced.iter().copied().map(to_bson).collect(),
            device: session.device.clone(),
            address: session.address.clone(),
            created_at: to_bson(session.created_at),
            last_used_at: to_bson(session.last_used_at),
            expires_at: to_bson(session.expires_at),
            schema: SCHEMA,
        }
    }
}

impl SessionDocument {
    fn read(self, operation: &'static str) -> Result<Session, StoreError> {
        let malformed =
            || StoreError::corrupt(operation, "a hash of a session does not have 32 bytes");
        let hash = |kept: &bson::Binary| TokenHash::stored(&kept.bytes).ok_or_else(malformed);
        let salt = self.salt.as_ref();
        let salt = salt.map(|kept| Salt::stored(&kept.bytes).ok_or_else(malformed));
        Ok(Session {
            generation: self.generation.cast_unsigned(),
            family: TokenFamily {
                id: hash(&self.family_hash)?,
                current: hash(&self.refresh_hash)?,
                salt: salt.transpose()?,
                replaced: self.replaced.into_iter().map(from_bson).collect(),
            },
            id: self.id,
            user_id: self.user_id,
            device: self.device,
            address: self.address,
            created_at: from_bson(self.created_at),
            last_used_at: from_bson(self.last_used_at),
            expires_at: from_bson(self.expires_at),
        })
    }
}
