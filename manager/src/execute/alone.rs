//! One act at one agent that is no part of a failover: ending a hold, bringing the virtual IP up.
//!
//! Guarantees: the agent is claimed for it with an epoch above all others, so that no failover can be under way there; it is
//! journalled before the claim and after the act, in a journal that is locked while it runs. So whoever comes later knows a
//! claim that a killed command has left from one that is in use, and [`super::release_stale`] gives it back. Its journal has
//! no head ([`Record::Begin`]): what asks for earlier failovers passes it over.

use std::sync::Arc;

use super::{release_stale, unix_ms};
use crate::agents::{AgentCallError, AgentClient, Claim, Context};
use crate::config::{ClusterConfig, ServerConfig};
use crate::exit_code::ExitCode;
use crate::journal::{Hook, Journal, JournalError, Record, StepOutcome};
use crate::lease;
use crate::observe::{Agents, StoredClaim, chain};
use crate::plan::{Act, Step, StepId};
use crate::record::{self, Another};

/// Why the act did not begin. Nothing has changed then, unless the answer to the claim was lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotBegun {
    /// The server's agent does not answer.
    #[error("the agent of {server} does not answer")]
    NoAgent {
        /// The server.
        server: String,
    },
    /// An operation is under way.
    #[error("another operation holds the cluster at agent {}", .0.agent)]
    Held(StoredClaim),
    /// It is another manager's.
    #[error(transparent)]
    OfAnother(#[from] Another),
    /// It cannot be journalled.
    #[error("the journal cannot be written")]
    Journal(#[from] JournalError),
    /// The agent refused the claim, or its answer was lost.
    #[error("the agent of {server} does not grant the cluster")]
    Claim {
        /// The server.
        server: String,
        /// Why.
        #[source]
        source: AgentCallError,
    },
}

impl NotBegun {
    /// The exit code of a command that could not begin.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Held(_) | Self::OfAnother(_) => ExitCode::Held,
            Self::Claim { source, .. } if source.is_lost() => ExitCode::OutcomeUnknown,
            Self::NoAgent { .. } | Self::Journal(_) | Self::Claim { .. } => ExitCode::Failed,
        }
    }
}

/// The agent of one server, claimed for one act.
#[derive(Debug)]
pub struct Alone {
    /// Epoch and operation of the act.
    pub context: Context,
    /// The agent.
    pub client: AgentClient,
    journal: Journal,
}

impl Alone {
    /// Claims the agent of `server`; `kind` begins the operation's id: `release`.
    ///
    /// # Errors
    /// [`NotBegun`].
    pub async fn begin(
        config: &ClusterConfig,
        server: &ServerConfig,
        kind: &str,
        act: Act,
        hook: Arc<dyn Hook>,
    ) -> Result<Self, NotBegun> {
        let agents = Agents::connect(config).await;
        let client = agents.of(server).ok_or_else(|| NotBegun::NoAgent {
            server: server.name.clone(),
        })?;
        let claims = agents.claims(config);
        let limit = config.failover.call_timeout;
        let foreign = release_stale(config, &agents, &claims, limit).await;
        if let Some(claim) = foreign.into_iter().next() {
            return Err(NotBegun::Held(claim));
        }
        let all = lease::agents(config).len();
        let seen = claims.iter().map(StoredClaim::seen);
        let take_over = record::of_record(&config.manager_name, all, seen)?;
        let highest = claims.iter().map(|c| c.epoch).max().unwrap_or(0);
        let context = Context {
            cluster: config.cluster.clone(),
            operation: format!("{kind}-{}", uuid::Uuid::new_v4().simple()),
            epoch: highest.saturating_add(1),
        };
        let alone = Self {
            journal: Journal::create(&config.state_dir, &config.cluster, &context.operation, hook)?,
            client: client.clone(),
            context,
        };
        let step = Step {
            id: StepId(0),
            act,
            after: vec![],
        };
        let started = Record::Started {
            unix_ms: unix_ms(),
            stage: 0,
            step,
        };
        alone.journal.append(&started).await?;
        let claim = Claim {
            cluster: alone.context.cluster.clone(),
            epoch: alone.context.epoch,
            operation: alone.context.operation.clone(),
            manager: config.manager_name.clone(),
            take_over: take_over.at(&client.endpoint().name),
        };
        if let Err(source) = alone.client.claim(&claim, limit).await {
            let refused = NotBegun::Claim {
                server: server.name.clone(),
                source,
            };
            let why = (refused.exit_code(), chain(&refused));
            alone.end(config, Err(why)).await;
            return Err(refused);
        }
        Ok(alone)
    }

    /// Gives the claim back, whatever came of the act, and closes the journal. An agent that is gone keeps the claim: the
    /// next one is above it. An act that failed is told as the command's exit code and why.
    pub async fn end(
        self,
        config: &ClusterConfig,
        result: Result<StepOutcome, (ExitCode, String)>,
    ) {
        let limit = config.failover.call_timeout;
        let _ = self.client.release(&self.context, limit).await;
        let unix_ms = unix_ms();
        let (stage, step) = (0, StepId(0));
        let (came, code, summary) = match result {
            Ok(outcome) => (
                Record::Done {
                    unix_ms,
                    stage,
                    step,
                    outcome: Box::new(outcome),
                },
                ExitCode::Done,
                ExitCode::Done.meaning().to_owned(),
            ),
            Err((code, why)) => (
                Record::Failed {
                    unix_ms,
                    stage,
                    step,
                    why: why.clone(),
                    outcome_unknown: code == ExitCode::OutcomeUnknown,
                    output: None,
                },
                code,
                why,
            ),
        };
        let end = Record::End {
            unix_ms,
            exit_code: code.number(),
            summary,
        };
        for record in [came, end] {
            // The act is done, and nothing depends on what is written of it.
            if let Err(error) = self.journal.append(&record).await {
                tracing::warn!(cluster = %config.cluster, error = chain(&error), "the journal stays open");
                return;
            }
        }
    }
}
