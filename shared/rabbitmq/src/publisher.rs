//! A channel in confirm mode, and the outcome of each message that was published on it.

use std::collections::HashSet;
use std::sync::Arc;
use std::task::Poll;

use contract::event::Envelope;
use events::bus::{BusError, PublishOutcome};
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
    connection: Arc<BrokerConnection>,
    channel: Channel,
}

impl Publisher {
    pub(super) async fn open(connection: Arc<BrokerConnection>) -> Result<Self, BusError> {
        if connection.is_blocked() {
            return Err(blocked());
        }
        let channel = connection.channel().await?;
        connection
            .call(channel.confirm_select(ConfirmSelectOptions::default()))
            .await?;
        Ok(Self {
            connection,
            channel,
        })
    }

    pub(super) fn is_usable(&self) -> bool {
        self.connection.is_alive() && self.channel.status().connected()
    }

    /// Ends the connection for all publishers, after an error on it. A blocked connection stays open: its
    /// broker would not even read the close, and reports on it when there is room again.
    pub(super) fn give_up(&self) {
        if !self.connection.is_blocked() {
            self.connection.kill();
        }
    }

    pub(super) async fn close(self) -> Result<(), BusError> {
        self.connection
            .call(self.channel.close(200, "done".into()))
            .await
    }

    pub(super) async fn publish(
        &self,
        batch: &[Envelope],
    ) -> Result<Vec<PublishOutcome>, BusError> {
        let messages: Vec<Message> = batch.iter().map(message).collect::<Result<_, _>>()?;
        let results = self.send(&messages).await;
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut broken = None;
        for result in results {
            outcomes.push(match result {
                Ok(outcome) => outcome,
                Err(error) => {
                    let why = PublishOutcome::Failed(runtime::error::chain(&error));
                    broken = Some(error);
                    why
                }
            });
        }
        match broken {
            None => Ok(outcomes),
            Some(error) => {
                self.give_up();
                match outcomes.contains(&PublishOutcome::Confirmed) {
                    true => Ok(outcomes),
                    false => Err(error),
                }
            }
        }
    }

    /// Sends all messages in order, then waits for the confirms, and returns one result per message. An error
    /// means that the connection failed, and the message counts as unpublished.
    pub(super) async fn send(&self, messages: &[Message]) -> Vec<Result<PublishOutcome, BusError>> {
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
            // The first poll queues the frames, so the order of the first polls is the order of the messages.
            // The rest of each future only waits until the frames are written.
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
                match timeout_at(deadline, self.connection.while_alive(confirm)).await {
                    Ok(Ok(confirmation)) => Ok(confirmation),
                    _ if self.connection.is_blocked() => Err(blocked()),
                    Ok(error) => error,
                    Err(_) => Err(late("a publish", ANSWER_DEADLINE)),
                },
            );
        }
        self.outcomes(messages, confirmations).await
    }

    /// Matches returned messages by their id. The driver attaches a returned message to the confirmation that
    /// comes next, and the broker confirms an unroutable message before earlier ones that a quorum queue still
    /// writes. Matched by position, the wrong message would count as published.
    async fn outcomes(
        &self,
        messages: &[Message],
        mut confirmations: Vec<Result<Confirmation, BusError>>,
    ) -> Vec<Result<PublishOutcome, BusError>> {
        let mut nacked = Vec::with_capacity(messages.len());
        let mut returned: HashSet<ShortString> = HashSet::new();
        // A dead letter that another program published may have no id. If one is returned, no message without
        // an id counts as published.
        let mut returned_without_id = false;
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
                    None => returned_without_id = true,
                }
            }
        }
        if (returned_without_id || !returned.is_empty())
            && let Err(error) = topology::declare(&self.connection).await
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
                match (
                    nacked,
                    id.map_or(returned_without_id, |id| returned.contains(id)),
                ) {
                    (_, true) => {
                        PublishOutcome::Failed("returned: no queue is bound for it".to_owned())
                    }
                    (true, _) => PublishOutcome::Failed("refused by a queue".to_owned()),
                    (false, false) => PublishOutcome::Confirmed,
                },
            )
        })
        .collect()
    }
}

/// The error after `connection.blocked`: an alarm of the broker, which ends when there is room again.
fn blocked() -> BusError {
    let why =
        "the broker is short of memory or disk space and takes nothing; its log says of which";
    BusError::Unavailable(why.into())
}
