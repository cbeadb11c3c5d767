//! Lists ended sessions for the gateways, which ask again and again.

use std::sync::Arc;

use contract::id::SessionId;
use contract::problem::Problem;
use contract::revocation::{Ends, MAX_ENDED, OVERLAP};
use jiff::Timestamp;
use web::{Public, Reply, Request};

use crate::app::App;
use crate::store::SessionKey;
use crate::tokens;

/// `GET /internal/revocations`
pub(super) async fn list(app: Arc<App>, request: Request<Public>) -> Result<Reply, Problem> {
    let mut query = request.query();
    let since = query.optional("since", |text| {
        let since = text.parse().ok().map(Timestamp::from_millisecond);
        since
            .and_then(Result::ok)
            .ok_or_else(|| "must be milliseconds since 1970".to_owned())
    });
    let after = query.optional("after", |text| {
        SessionId::parse(text).ok_or_else(|| "must be a session's id".to_owned())
    });
    query.finish()?;
    let now = app.clock.now();
    let since = since.unwrap_or(now - tokens::LIFETIME - OVERLAP);
    let after = SessionKey(
        since.as_millisecond(),
        after.map(|id| id.to_string()).unwrap_or_default(),
    );
    let ended = app.store.ended_sessions(&after, MAX_ENDED).await?;
    Ok(Reply::ok(&Ends {
        now,
        tokens_live_ms: tokens::LIFETIME.as_millis() as u64,
        ended,
    }))
}
