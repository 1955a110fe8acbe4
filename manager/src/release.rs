//! Ends the hold that keeps a deposed primary's mysqld down, so that it can be rebuilt.
//!
//! The agent is claimed for this one act with an epoch above all others, so that no failover can be under way there.

use crate::agents::{AgentCallError, Claim, Context};
use crate::config::{ClusterConfig, ServerConfig};
use crate::execute;
use crate::observe::{Agents, StoredClaim};

/// Why a hold could not be ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The server's agent does not answer.
    #[error("the agent of {server} does not answer")]
    NoAgent {
        /// The server.
        server: String,
    },
    /// An operation is under way.
    #[error("another operation holds the cluster at agent {}", .0.agent)]
    Held(StoredClaim),
    /// The agent refused, failed, or its answer was lost.
    #[error("the hold of {server} could not be ended")]
    Call {
        /// The server.
        server: String,
        /// Why.
        #[source]
        source: AgentCallError,
    },
}

/// Ends the hold; true if there was one.
///
/// # Errors
/// [`ReleaseError`].
pub async fn release_hold(
    config: &ClusterConfig,
    server: &ServerConfig,
) -> Result<bool, ReleaseError> {
    let agents = Agents::connect(config).await;
    let client = agents.of(server).ok_or_else(|| ReleaseError::NoAgent {
        server: server.name.clone(),
    })?;
    let claims = agents.claims(config);
    let limit = config.failover.call_timeout;
    let foreign = execute::release_stale(config, &agents, &claims, limit).await;
    if let Some(claim) = foreign.into_iter().next() {
        return Err(ReleaseError::Held(claim));
    }
    let highest = claims.iter().map(|c| c.epoch).max().unwrap_or(0);
    let context = Context {
        cluster: config.cluster.clone(),
        operation: format!("release-{}", uuid::Uuid::new_v4().simple()),
        epoch: highest.saturating_add(1),
    };
    let call = |source| ReleaseError::Call {
        server: server.name.clone(),
        source,
    };
    let claim = Claim {
        cluster: context.cluster.clone(),
        epoch: context.epoch,
        operation: context.operation.clone(),
        manager: config.manager_name.clone(),
    };
    client.claim(&claim, limit).await.map_err(call)?;
    let released = client.release_hold(&context, &server.name, limit).await;
    // Given back whatever came of it; an agent that is gone keeps it, and the next claim is above it.
    let _ = client.release(&context, limit).await;
    released.map_err(call)
}
