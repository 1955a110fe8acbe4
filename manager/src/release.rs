//! Ends the hold that keeps a deposed primary's mysqld down, so that it can be rebuilt.
//!
//! The agent is claimed for this one act ([`Alone`]). A command that is killed in the middle leaves a claim that the same
//! command, a failover or the daemon gives back; whether there still is a hold the agent knows.

use std::sync::Arc;

use crate::agents::AgentCallError;
use crate::config::{ClusterConfig, ServerConfig};
use crate::execute::{Alone, NotBegun};
use crate::exit_code::ExitCode;
use crate::journal::{NoHook, StepOutcome};
use crate::observe::chain;
use crate::plan::Act;

/// How ids of such operations begin.
const KIND: &str = "release";

/// Why a hold could not be ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// It did not begin.
    #[error("the hold of {server} is not touched")]
    NotBegun {
        /// The server.
        server: String,
        /// Why.
        #[source]
        source: NotBegun,
    },
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

impl ReleaseError {
    /// The command's exit code.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::NotBegun { source, .. } => source.exit_code(),
            Self::Call { source, .. } if source.is_lost() => ExitCode::OutcomeUnknown,
            Self::Call { .. } => ExitCode::Failed,
        }
    }
}

/// Ends the hold; true if there was one.
///
/// # Errors
/// [`ReleaseError`].
pub async fn release_hold(
    config: &ClusterConfig,
    server: &ServerConfig,
) -> Result<bool, ReleaseError> {
    let act = Act::ReleaseHold {
        server: server.name.clone(),
    };
    let alone = Alone::begin(config, server, KIND, act, Arc::new(NoHook))
        .await
        .map_err(|source| ReleaseError::NotBegun {
            server: server.name.clone(),
            source,
        })?;
    let limit = config.failover.call_timeout;
    let released = alone
        .client
        .release_hold(&alone.context, &server.name, limit)
        .await
        .map_err(|source| ReleaseError::Call {
            server: server.name.clone(),
            source,
        });
    let outcome = match &released {
        Ok(released) => Ok(StepOutcome::HoldReleased {
            released: *released,
        }),
        Err(error) => Err((error.exit_code(), chain(error))),
    };
    alone.end(config, outcome).await;
    released
}
