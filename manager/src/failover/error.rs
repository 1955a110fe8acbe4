//! How a failover can end without a new primary, and with which exit code.

use crate::agents::AgentCallError;
use crate::execute::{ClaimRefused, StepError};
use crate::exit_code::ExitCode;
use crate::facts::LogEnd;
use crate::guard::Blocked;
use crate::journal::JournalError;
use crate::observe::StoredClaim;
use crate::plan::PlanError;
use crate::record::Another;
use crate::topology::Refusal;

/// Why an operation stopped after it had frozen the cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopReason {
    /// A survivor could not be frozen.
    #[error("{server} could not be frozen")]
    Freeze {
        /// The survivor.
        server: String,
        /// Why.
        #[source]
        source: StepError,
    },
    /// The dead primary's mysqld could not be held down.
    #[error("mysqld of {server} could not be held down: {how}")]
    NotHeldDown {
        /// The dead primary.
        server: String,
        /// What was tried.
        how: String,
    },
    /// The dead primary's log cannot be read.
    #[error("the log of {server} cannot be read (--accept-loss goes on without it)")]
    DeadLog {
        /// The dead primary.
        server: String,
        /// Why, with path and offset.
        #[source]
        source: AgentCallError,
    },
    /// The dead primary's log is damaged before its end.
    #[error(
        "the log of {server} is {end}; what follows cannot be read (--accept-loss takes what is before)"
    )]
    DeadLogCorrupt {
        /// The dead primary.
        server: String,
        /// Where.
        end: LogEnd,
    },
    /// A part of the stream is held by nobody.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The final facts speak against it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A step failed and there is no way round it.
    #[error("{act}")]
    Step {
        /// The act.
        act: String,
        /// Why.
        #[source]
        source: StepError,
    },
    /// Nobody could be brought to the end.
    #[error("no survivor could be brought to the end: {why}")]
    NobodyEqual {
        /// Why, per survivor.
        why: String,
    },
}

/// Why a failover ended without a new primary.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FailoverError {
    /// Refused before anything changed.
    #[error("refused")]
    Refused(#[from] Refusal),
    /// Not now: too soon after the last one, paused, or too many of all clusters.
    #[error("refused")]
    Blocked(#[from] Blocked),
    /// Somebody else holds the cluster.
    #[error("another operation holds the cluster: {}", show_claims(.0))]
    Held(Vec<StoredClaim>),
    /// It is another manager's.
    #[error(transparent)]
    OfAnother(#[from] Another),
    /// The claim was refused.
    #[error("the cluster could not be claimed")]
    Claim(#[from] ClaimRefused),
    /// The operator said no.
    #[error("declined by the operator; nothing was changed")]
    Declined,
    /// The journal could not be written.
    #[error("the journal could not be written; the operation stopped where it was")]
    Journal(#[from] JournalError),
    /// Stopped after freezing; undone.
    #[error("stopped, everything is as it was")]
    Undone(#[source] StopReason),
    /// Stopped after freezing; not all of it could be undone.
    #[error("stopped, and not everything could be undone")]
    NotUndone(#[source] StopReason),
    /// Stopped after changes that are not undone: all data are kept.
    #[error("stopped after changes; segments and journal are kept")]
    AfterChanges(#[source] StopReason),
    /// A change was sent and nobody knows whether it was done.
    #[error("a change was sent and its outcome is unknown")]
    Unknown(#[source] StopReason),
}

impl FailoverError {
    /// The command's exit code.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Refused(Refusal::NotConfigured { .. }) => ExitCode::Usage,
            Self::Refused(_) | Self::Blocked(_) => ExitCode::Refused,
            Self::Held(_) | Self::OfAnother(_) | Self::Claim(ClaimRefused::Refused { .. }) => {
                ExitCode::Held
            }
            Self::Claim(ClaimRefused::NoAnswer { .. } | ClaimRefused::Journal(_))
            | Self::Declined
            | Self::Undone(_) => ExitCode::Failed,
            Self::Journal(_) | Self::NotUndone(_) | Self::AfterChanges(_) => {
                ExitCode::FailedAfterChanges
            }
            Self::Unknown(_) => ExitCode::OutcomeUnknown,
        }
    }
}

fn show_claims(claims: &[StoredClaim]) -> String {
    let shown: Vec<String> = claims
        .iter()
        .map(|c| match &c.holder {
            Some((operation, manager)) => format!(
                "{operation} of manager {manager} at agent {}, epoch {}",
                c.agent, c.epoch
            ),
            None => format!("nobody at agent {}", c.agent),
        })
        .collect();
    shown.join("; ")
}
