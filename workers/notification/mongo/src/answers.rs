//! The answers to a user's latest read-all requests with an `Idempotency-Key`, and the progress of
//! unfinished ones. One small document per user, written in the same transaction as the marks.

use bson::DateTime;
use contract::id::UserId;
use jiff::{SignedDuration, Timestamp};
use mongo::{from_bson, to_bson};
use serde::{Deserialize, Serialize};
use stores::{Idempotency, idempotency};

use super::document::SCHEMA;

/// How many keys are remembered per user. A user who sends more within their lifetime loses the
/// oldest: when it is sent again, it marks what is unread at that time.
const MAX_KEYS: usize = 100;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AnswersDocument {
    #[serde(rename = "_id")]
    user: UserId,
    /// The oldest first.
    answers: Vec<Answer>,
    /// When the latest key was first used. The document expires with it.
    at: DateTime,
    schema: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    key: String,
    body: String,
    at: DateTime,
    /// The last sequence number that it marks. Later notifications stay unread, so that it ends.
    pub(super) up_to: i64,
    pub(super) updated: i64,
    pub(super) done: bool,
}

/// What a look-up of a key finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    Unknown,
    Found(Answer),
    /// The key was used with another body.
    DifferentBody,
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

    pub(super) fn find(&self, key: &Idempotency, now: Timestamp) -> Lookup {
        let name = key.key.to_hex();
        let mut living = self.answers.iter().filter(|answer| answer.is_alive(now));
        match living.find(|answer| answer.key == name) {
            None => Lookup::Unknown,
            Some(answer) if answer.body != key.body.to_hex() => Lookup::DifferentBody,
            Some(answer) => Lookup::Found(answer.clone()),
        }
    }

    /// Stores an answer; it replaces an earlier one of the same key.
    pub(super) fn put(&mut self, answer: Answer, now: Timestamp) {
        self.at = self.at.max(answer.at);
        match self
            .answers
            .iter_mut()
            .find(|known| known.key == answer.key)
        {
            Some(known) => *known = answer,
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
        let mut document = AnswersDocument::new(&UserId::new());
        let mut answer = Answer::new(&key(1, ""), 7, NOW);
        document.put(answer.clone(), NOW);
        answer.done = true;
        document.put(answer.clone(), NOW);
        let day = idempotency::LIFETIME;
        assert_eq!(document.find(&key(1, ""), NOW + day), Lookup::Found(answer));
        assert_eq!(document.find(&key(1, "{}"), NOW), Lookup::DifferentBody);
        assert_eq!(document.find(&key(2, ""), NOW), Lookup::Unknown);
        let later = NOW + day + SignedDuration::from_millis(1);
        assert_eq!(document.find(&key(1, ""), later), Lookup::Unknown);
        document.put(Answer::new(&key(2, ""), 7, later), later);
        assert_eq!(document.answers.len(), 1);
    }

    #[test]
    fn of_more_keys_than_are_remembered_the_oldest_goes() {
        let mut document = AnswersDocument::new(&UserId::new());
        for name in 0..=MAX_KEYS {
            document.put(Answer::new(&key(name, ""), 0, NOW), NOW);
        }
        assert_eq!(document.answers.len(), MAX_KEYS);
        assert_eq!(document.find(&key(0, ""), NOW), Lookup::Unknown);
        assert_ne!(document.find(&key(1, ""), NOW), Lookup::Unknown);
    }
}
