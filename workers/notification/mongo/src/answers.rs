//! What a user's latest read-alls with an `Idempotency-Key` answered, or how far they are: one small
//! document per user, written in the transactions that mark.

use bson::DateTime;
use contract::id::UserId;
use jiff::{SignedDuration, Timestamp};
use mongo::{from_bson, to_bson};
use serde::{Deserialize, Serialize};
use stores::{Idempotency, idempotency};

use super::document::SCHEMA;

/// Keys that are remembered of one user. Whoever sends more within their lifetime loses the oldest:
/// sent again, it marks what is unread then.
const MAX_KEYS: usize = 100;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AnswersDocument {
    #[serde(rename = "_id")]
    user: UserId,
    /// The oldest first.
    answers: Vec<Answer>,
    /// When the latest came: the document expires with it.
    at: DateTime,
    schema: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    key: String,
    body: String,
    at: DateTime,
    /// The sequence up to which it marks: what came later stays unread, so it ends.
    pub(super) up_to: i64,
    pub(super) updated: i64,
    pub(super) done: bool,
}

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    No,
    Yes(Answer),
    OtherBody,
}

impl AnswersDocument {
    pub(super) fn new(user: &UserId) -> Self {
        Self {
            user: user.clone(),
            answers: Vec::new(),
            at: DateTime::MIN,
            schema: SCHEMA,
        }
    }

    pub(super) fn find(&self, key: &Idempotency, now: Timestamp) -> Known {
        let name = key.key.to_hex();
        let mut living = self.answers.iter().filter(|answer| answer.is_alive(now));
        match living.find(|answer| answer.key == name) {
            None => Known::No,
            Some(answer) if answer.body != key.body.to_hex() => Known::OtherBody,
            Some(answer) => Known::Yes(answer.clone()),
        }
    }

    /// Keeps an answer in place of its key's earlier one.
    pub(super) fn keep(&mut self, answer: Answer, now: Timestamp) {
        self.at = self.at.max(answer.at);
        match self.answers.iter_mut().find(|kept| kept.key == answer.key) {
            Some(kept) => *kept = answer,
            None => self.answers.push(answer),
        }
        self.answers.retain(|answer| answer.is_alive(now));
        let surplus = self.answers.len().saturating_sub(MAX_KEYS);
        self.answers.drain(..surplus);
    }
}

impl Answer {
    pub(super) fn new(key: &Idempotency, up_to: i64, now: Timestamp) -> Self {
        Self {
            key: key.key.to_hex(),
            body: key.body.to_hex(),
            at: to_bson(now),
            up_to,
            updated: 0,
            done: false,
        }
    }

    fn is_alive(&self, now: Timestamp) -> bool {
        let age = now.duration_since(from_bson(self.at));
        SignedDuration::try_from(idempotency::LIFETIME).is_ok_and(|lifetime| age <= lifetime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stores::idempotency::Digest;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn key(name: usize, body: &str) -> Idempotency {
        Idempotency {
            key: Digest::of(&name.to_be_bytes()),
            body: Digest::of(body.as_bytes()),
        }
    }

    #[test]
    fn a_key_is_known_for_a_day_with_the_body_it_came_with() {
        let mut kept = AnswersDocument::new(&UserId::new());
        let mut answer = Answer::new(&key(1, ""), 7, NOW);
        kept.keep(answer.clone(), NOW);
        answer.done = true;
        kept.keep(answer.clone(), NOW);
        let day = idempotency::LIFETIME;
        assert_eq!(kept.find(&key(1, ""), NOW + day), Known::Yes(answer));
        assert_eq!(kept.find(&key(1, "{}"), NOW), Known::OtherBody);
        assert_eq!(kept.find(&key(2, ""), NOW), Known::No);
        let later = NOW + day + SignedDuration::from_millis(1);
        assert_eq!(kept.find(&key(1, ""), later), Known::No);
        kept.keep(Answer::new(&key(2, ""), 7, later), later);
        assert_eq!(kept.answers.len(), 1);
    }

    #[test]
    fn of_more_keys_than_are_remembered_the_oldest_goes() {
        let mut kept = AnswersDocument::new(&UserId::new());
        for name in 0..=MAX_KEYS {
            kept.keep(Answer::new(&key(name, ""), 0, NOW), NOW);
        }
        assert_eq!(kept.answers.len(), MAX_KEYS);
        assert_eq!(kept.find(&key(0, ""), NOW), Known::No);
        assert_ne!(kept.find(&key(1, ""), NOW), Known::No);
    }
}
