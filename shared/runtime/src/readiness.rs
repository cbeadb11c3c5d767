//! Whether a process can do its work. Every `/readyz` checks its dependencies again.

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use crate::error::chain;

/// A server that a process depends on, and whether it can be reached.
#[derive(Debug, Clone, Serialize)]
pub struct Dependency {
    pub name: &'static str,
    pub ok: bool,
    /// Whether the process is not ready without it.
    pub required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Dependency {
    /// Checks a dependency for at most a second, so that readiness always answers soon.
    pub async fn ask<E: std::error::Error>(
        name: &'static str,
        required: bool,
        check: impl Future<Output = Result<(), E>>,
    ) -> Self {
        const DEADLINE: Duration = Duration::from_secs(1);
        let detail = match tokio::time::timeout(DEADLINE, check).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(chain(&error)),
            Err(_) => Some(format!("no answer within {DEADLINE:?}")),
        };
        Self {
            name,
            ok: detail.is_none(),
            required,
            detail,
        }
    }
}

/// Checks the dependencies of a process. Must answer within about a second.
#[async_trait]
pub trait Readiness: Send + Sync + 'static {
    async fn dependencies(&self) -> Vec<Dependency>;
}

/// Whether every required dependency is reachable.
pub(crate) fn is_ready(dependencies: &[Dependency]) -> bool {
    dependencies.iter().all(|d| d.ok || !d.required)
}
