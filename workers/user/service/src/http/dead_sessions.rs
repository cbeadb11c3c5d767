//! Marks sessions that a password change or a deletion has killed. Handlers call it after that
//! write.

use contract::id::UserId;
use runtime::error::chain;

use crate::app::App;

/// Marks the account's dead sessions as ended. They are dead since the write before, so a failure
/// here changes no answer; the maintenance task marks what is left, twice a second.
pub(super) async fn end_dead_sessions(app: &App, user: &UserId) {
    if let Err(error) = app.store.end_dead_sessions(user, app.clock.now()).await {
        tracing::warn!(
            user.id = %user,
            error = chain(&error),
            "could not mark dead sessions of `{user}`; will try again",
        );
    }
}
