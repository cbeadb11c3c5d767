//! A channel in confirm mode, and what became of each message that was published on it.

use std::collections::HashSet;
use std::sync::Arc;
use std::task::Poll;

use contract::event::Envelope;
use events::bus::{BusError, Outcome};
use futures_util::poll;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{Channel, Confirmation};
use tokio::time::{Instant, timeout_at};

use super::connection::{ANSWER_DEADLINE, BrokerConnection};
use super::error::{bus_error, late};
use super::message::{Message, message};
use super::topology;

pub(super) struct Publisher {
    link: Arc<BrokerConnection>,
    channel: Channel,
}

impl Publisher {
    pub(super) async fn open(link: Arc<BrokerConnection>) -> Result<Self, BusError> {
        if link.is_blocked() {
            return Err(blocked());
        }
        let channel = link.channel().await?;
        link.call(channel.confirm_select(ConfirmSelectOptions::default()))
            .await?;
        Ok(Self { link, channel })
    }

    pub(super) fn is_usable(&self) -> bool {
        self.link.is_alive() && self.channel.status().connected()
    }

    /// Ends the connection for all who publish, after an error on it. One that is blocked stays: its broker
    /// would not even read that it was closed, and tells it when there is room again.
    pub(super) fn give_up(&self) {
        if !self.link.is_blocked() {
            self.link.kill();
        }
    }

    pub(super) async fn close(self) -> Result<(), BusError> {
        self.link.call(self.channel.close(200, "done".into())).await
    }

    pub(super) async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Outcome>, BusError> {
        let messages: Vec<Message> = batch.iter().map(message).collect::<Result<_, _>>()?;
        let results = self.send(&messages).await;
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut broken = None;
        for result in results {
            outcomes.push(match result {
                Ok(outcome) => outcome,
                Err(error) => {
                    let why = Outcome::Failed(runtime::error::chain(&error));
                    broken = Some(error);
                    why
                }
            });
        }
        match broken {
            None => Ok(outcomes),
            Some(error) => {
                self.give_up();
                match outcomes.contains(&Outcome::Confirmed) {
                    true => Ok(outcomes),
                    false => Err(error),
                }
            }
        }
    }

    /// Sends all in order, then waits for the confirms; one result per message. An error is the
    /// connection's, and the message counts as unpublished.
    pub(super) async fn send(&self, messages: &[Message]) -> Vec<Result<Outcome, BusError>> {
        let deadline = Instant::now() + ANSWER_DEADLINE;
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..Default::default()
        };
        let mut sending = Vec::with_capacity(messages.len());
        for message in messages {
            let mut sent = Box::pin(self.channel.basic_publish(
                message.exchange.into(),
                message.routing_key.into(),
                mandatory,
                &message.body,
                message.properties.clone(),
            ));
            // The first poll queues the frames, so polling in order is what keeps the order; the
            // rest of each future only waits until they are written.
            let first = poll!(&mut sent);
            sending.push((sent, first));
        }
        let mut confirmations = Vec::with_capacity(messages.len());
        for (sent, first) in sending {
            let confirm = async {
                let confirm = match first {
                    Poll::Ready(confirm) => confirm,
                    Poll::Pending => sent.await,
                };
                confirm.map_err(bus_error)?.await.map_err(bus_error)
            };
            confirmations.push(
                match timeout_at(deadline, self.link.while_alive(confirm)).await {
                    Ok(Ok(confirmation)) => Ok(confirmation),
                    _ if self.link.is_blocked() => Err(blocked()),
                    Ok(error) => error,
                    Err(_) => Err(late("a publish", ANSWER_DEADLINE)),
                },
            );
        }
        self.outcomes(messages, confirmations).await
    }

    /// Matches returned messages by their id. The driver hands a returned message to whichever
    /// confirmation comes next, and an unroutable message is confirmed before those in front of it
    /// that a quorum queue still writes: by position, the wrong one would count as published.
    async fn outcomes(
        &self,
        messages: &[Message],
        mut confirmations: Vec<Result<Confirmation, BusError>>,
    ) -> Vec<Result<Outcome, BusError>> {
        let mut nacked = Vec::with_capacity(messages.len());
        let mut returned: HashSet<ShortString> = HashSet::new();
        // A foreign message in a dead letter may have no id; then none without an id counts.
        let mut nameless = false;
        for confirmation in &mut confirmations {
            let Ok(confirmation) = confirmation else {
                nacked.push(false);
                continue;
            };
            nacked.push(!confirmation.is_ack());
            let taken = std::mem::replace(confirmation, Confirmation::NotRequested);
            if let Some(message) = taken.take_message() {
                match message.delivery.properties.message_id() {
                    Some(id) => {
                        returned.insert(id.clone());
                    }
                    None => nameless = true,
                }
            }
        }
        if (nameless || !returned.is_empty())
            && let Err(error) = topology::declare(&self.link).await
        {
            tracing::warn!(
                error = runtime::error::chain(&error),
                "a missing queue could not be declared again"
            );
        }
        let each = messages.iter().zip(confirmations).zip(nacked);
        each.map(|((message, confirmation), nacked)| {
            confirmation?;
            let id = message.properties.message_id().as_ref();
            Ok(
                match (nacked, id.map_or(nameless, |id| returned.contains(id))) {
                    (_, true) => Outcome::Failed("returned: no queue is bound for it".to_owned()),
                    (true, _) => Outcome::Failed("refused by a queue".to_owned()),
                    (false, false) => Outcome::Confirmed,
                },
            )
        })
        .collect()
    }
}

/// `connection.blocked`: an alarm of the broker's, which ends by itself when there is room again.
fn blocked() -> BusError {
    let why =
        "the broker is short of memory or disk space and takes nothing; its log says of which";
    BusError::Unavailable(why.into())
}
