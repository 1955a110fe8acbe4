//! Clients of agents.
//!
//! Guarantees: every call ends within the limit its caller gives; a stream ends when nothing moves for that long; an
//! answer is checked before anyone sees it. Nothing here repeats a call: whether a repetition is safe is the caller's
//! knowledge.

mod address;
mod client;
mod connect;
mod convert;
mod lease;
mod logs;
mod replication;
mod stream;
mod values;
mod watch;
mod watched;

pub use address::AddressFacts;
pub use client::AgentClient;
pub use connect::{AgentUnreachable, ServerAtAgent, connect};
pub use convert::BadAnswer;
pub use lease::{Primary, Word};
pub use stream::{NothingSaved, SegmentOutcome};
pub use values::{
    Applied, ApplyWay, Claim, ClaimGranted, Context, GtidPlace, Held, HeldEvent, Logs, Promoted,
    Repointed, SegmentRef, StoppedReceiver, Waits,
};
pub use watch::StateStream;

use proto::status::CallError;

/// Why a call brought nothing.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AgentCallError {
    /// The agent refused or failed, or its answer was lost.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Nothing came, or nothing moved, for too long.
    #[error("{agent}: {call}: nothing moved for {limit_ms} ms")]
    TimedOut {
        /// Agent called.
        agent: String,
        /// Name of the call.
        call: &'static str,
        /// The limit, milliseconds.
        limit_ms: u128,
    },
    /// The answer cannot be.
    #[error("{agent}: {call}")]
    Answer {
        /// Agent called.
        agent: String,
        /// Name of the call.
        call: &'static str,
        /// What is wrong.
        #[source]
        source: BadAnswer,
    },
}

impl AgentCallError {
    /// The kind the agent reported; `None` if there was no answer of its own.
    pub fn kind(&self) -> Option<proto::v1::ErrorKind> {
        match self {
            Self::Call(error) => error.kind(),
            Self::TimedOut { .. } | Self::Answer { .. } => None,
        }
    }

    /// The connection broke, so an agent that is restarted may answer in a moment; a silent one has not broken off.
    pub fn broke_off(&self) -> bool {
        matches!(self, Self::Call(CallError::Lost { code, .. }) if *code != tonic::Code::DeadlineExceeded)
    }

    /// No answer came: what the call did, if anything, is unknown.
    pub fn is_lost(&self) -> bool {
        matches!(
            self,
            Self::Call(CallError::Lost { .. }) | Self::TimedOut { .. }
        )
    }
}
