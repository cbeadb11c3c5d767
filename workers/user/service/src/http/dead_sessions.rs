//! Sessions that died with a password or an account.

use contract::id::UserId;
use runtime::error::chain;

use crate::app::App;

/// Marks sessions that are dead already. Whoever asks has been answered by the write before, and a
/// look twice a second finds what is left undone here.
pub(super) async fn end_dead_sessions(app: &App, user: &UserId) {
    if let Err(error) = app.store.end_dead_sessions(user, app.clock.now()).await {
        tracing::warn!(user.id = %user, error = chain(&error), "dead sessions are marked later");
    }
}
