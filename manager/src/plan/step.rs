//! Steps: the acts of a plan, as values that can be printed, journalled and compared.

use std::fmt;

use binlog_core::{BinlogPosition, StreamRange};
use serde::{Deserialize, Serialize};

use super::cover::PieceId;
use crate::agents::Logs;
use crate::hooks::HookCall;
use crate::topology::Standing;

/// Number of a step within its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub u32);

/// Logs of a server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Source {
    /// Server.
    pub server: String,
    /// Which logs of it.
    pub logs: Logs,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.logs {
            Logs::Binary => write!(f, "binary log of {}", self.server),
            Logs::Relay => write!(f, "relay log of {}", self.server),
            Logs::BinlogServer => write!(f, "copies of binlog server {}", self.server),
        }
    }
}

/// One act and what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Number.
    pub id: StepId,
    /// The act.
    #[serde(flatten)]
    pub act: Act,
    /// Steps that must have succeeded before.
    pub after: Vec<StepId>,
}

/// What is done. Every act is idempotent at its agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Act {
    /// Claim the cluster at an agent.
    ClaimEpoch {
        /// Agent.
        agent: String,
    },
    /// Give the claim back.
    ReleaseEpoch {
        /// Agent.
        agent: String,
    },
    /// Hold the dead primary's mysqld down.
    HoldDown {
        /// The dead primary.
        server: String,
    },
    /// Stop a survivor's receiver.
    StopReceiver {
        /// The survivor.
        server: String,
    },
    /// Compare the event before a meeting point at two providers.
    Compare {
        /// Meeting point.
        at: BinlogPosition,
        /// One.
        left: Source,
        /// The other.
        right: Source,
    },
    /// Cut the tail from the dead primary's log.
    SaveBinaryLogs {
        /// Piece.
        piece: PieceId,
        /// The dead primary.
        server: String,
        /// Start.
        from: BinlogPosition,
        /// End that the survey found.
        expected_end: BinlogPosition,
    },
    /// Cut a part of the tail from a binlog server's copies.
    SaveCopies {
        /// Piece.
        piece: PieceId,
        /// The binlog server.
        server: String,
        /// What is cut.
        range: StreamRange,
    },
    /// Cut a diff from a survivor's relay logs.
    GenerateDiff {
        /// Piece.
        piece: PieceId,
        /// The survivor that has it.
        server: String,
        /// What is cut.
        range: StreamRange,
    },
    /// Copy a piece to the manager.
    KeepCopy {
        /// Piece.
        piece: PieceId,
        /// Server whose agent has it.
        server: String,
    },
    /// Fetch a piece to the agent of a survivor.
    Pull {
        /// Piece.
        piece: PieceId,
        /// The survivor that needs it.
        server: String,
        /// Server whose agent has it.
        from: String,
    },
    /// Let the applier work through what was received.
    Drain {
        /// The survivor.
        server: String,
        /// End of the last whole transaction it received.
        until: BinlogPosition,
    },
    /// Drain, then replay pieces through the local source.
    Apply {
        /// The survivor.
        server: String,
        /// Pieces, in stream order; none if it has everything.
        pieces: Vec<PieceId>,
        /// Executed position to reach.
        until: BinlogPosition,
        /// Where its GTIDs have it stand, if its status shows another place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        standing: Option<Standing>,
    },
    /// Make the new primary no replica any more.
    Promote {
        /// New primary.
        server: String,
        /// It must have executed this much.
        executed_at_least: BinlogPosition,
        /// An interrupted operation that may have done it already.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        continues: Option<String>,
    },
    /// Open the new primary for writes: the point of no return.
    MakeWritable {
        /// New primary.
        server: String,
        /// Before that, have its commits wait for replicas. See [`super::SemiSync`].
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        wait_for_replicas: bool,
    },
    /// Wait until the dead primary's lease is over and its agent has closed it.
    AwaitLease {
        /// The dead primary.
        server: String,
    },
    /// Tell an agent who the primary is; that of the primary itself takes up a lease.
    AssignPrimary {
        /// A server of the agent that is told.
        server: String,
        /// The new primary.
        primary: String,
    },
    /// Take the virtual IP down where it was.
    DropAddress {
        /// The dead primary.
        server: String,
    },
    /// Bring the virtual IP up.
    TakeAddress {
        /// New primary.
        server: String,
        /// Whoever held it serves nothing any more: it is taken even if somebody answers for it.
        holder_fenced: bool,
    },
    /// Point a survivor at the new primary.
    Repoint {
        /// The survivor.
        server: String,
        /// New primary.
        to: String,
        /// It must have executed this much.
        executed_at_least: BinlogPosition,
    },
    /// Undo what was done to a survivor.
    ResumeReplication {
        /// The survivor.
        server: String,
    },
    /// End the hold of a server's mysqld.
    ReleaseHold {
        /// The server.
        server: String,
    },
    /// Run one of MHA's scripts here. The only act that is not idempotent by itself: a manager that died while it ran
    /// runs it again.
    RunHook {
        /// What the script is called for.
        call: HookCall,
    },
}

impl Act {
    /// Server or agent that acts.
    pub fn actor(&self) -> &str {
        match self {
            Self::ClaimEpoch { agent } | Self::ReleaseEpoch { agent } => agent,
            Self::HoldDown { server }
            | Self::StopReceiver { server }
            | Self::SaveBinaryLogs { server, .. }
            | Self::SaveCopies { server, .. }
            | Self::GenerateDiff { server, .. }
            | Self::KeepCopy { server, .. }
            | Self::Pull { server, .. }
            | Self::Drain { server, .. }
            | Self::Apply { server, .. }
            | Self::Promote { server, .. }
            | Self::MakeWritable { server, .. }
            | Self::AwaitLease { server }
            | Self::AssignPrimary { server, .. }
            | Self::DropAddress { server }
            | Self::TakeAddress { server, .. }
            | Self::Repoint { server, .. }
            | Self::ResumeReplication { server }
            | Self::ReleaseHold { server } => server,
            Self::Compare { left, .. } => &left.server,
            Self::RunHook { call } => call.server(),
        }
    }

    /// MHA's phase this act belongs to.
    pub fn phase(&self) -> Phase {
        match self {
            Self::ClaimEpoch { .. } => Phase::ConfigurationCheck,
            Self::HoldDown { .. }
            | Self::AwaitLease { .. }
            | Self::DropAddress { .. }
            | Self::StopReceiver { .. }
            | Self::ResumeReplication { .. }
            | Self::ReleaseHold { .. } => Phase::DeadPrimaryShutdown,
            Self::SaveBinaryLogs { .. } | Self::SaveCopies { .. } | Self::KeepCopy { .. } => {
                Phase::SavingBinlog
            }
            Self::Compare { .. } | Self::GenerateDiff { .. } | Self::Pull { .. } => {
                Phase::DiffGeneration
            }
            Self::Drain { .. } | Self::Apply { .. } => Phase::LogApply,
            Self::Promote { .. } | Self::MakeWritable { .. } | Self::TakeAddress { .. } => {
                Phase::LogApply
            }
            Self::Repoint { .. } => Phase::ReplicaRecovery,
            Self::AssignPrimary { .. } | Self::ReleaseEpoch { .. } => Phase::Cleanup,
            Self::RunHook { call } => match call {
                HookCall::TakeAddressDown { .. } | HookCall::ShutDown { .. } => {
                    Phase::DeadPrimaryShutdown
                }
                HookCall::BringAddressUp { .. } => Phase::LogApply,
                HookCall::SendReport { .. } => Phase::Cleanup,
            },
        }
    }
}

/// MHA's phases of a failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// 1.
    ConfigurationCheck,
    /// 2.
    DeadPrimaryShutdown,
    /// 3.1.
    LatestReplicas,
    /// 3.2.
    SavingBinlog,
    /// 3.3.
    NewPrimary,
    /// 3.4.
    DiffGeneration,
    /// 3.5.
    LogApply,
    /// 4.
    ReplicaRecovery,
    /// 5.
    Cleanup,
}

impl Phase {
    /// Heading as MHA's users know it, in this system's words.
    pub fn heading(self) -> &'static str {
        match self {
            Self::ConfigurationCheck => "* Phase 1: Configuration Check Phase..",
            Self::DeadPrimaryShutdown => "* Phase 2: Dead Primary Shutdown Phase..",
            Self::LatestReplicas => "* Phase 3.1: Getting Latest Replicas Phase..",
            Self::SavingBinlog => "* Phase 3.2: Saving Dead Primary's Binlog Phase..",
            Self::NewPrimary => "* Phase 3.3: Determining New Primary Phase..",
            Self::DiffGeneration => "* Phase 3.4: Diff Log Generation Phase..",
            Self::LogApply => "* Phase 3.5: Log Apply Phase..",
            Self::ReplicaRecovery => "* Phase 4: Replicas Recovery Phase..",
            Self::Cleanup => "* Phase 5: New Primary Cleanup Phase..",
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClaimEpoch { agent } => write!(f, "claim the cluster at agent {agent}"),
            Self::ReleaseEpoch { agent } => write!(f, "release the cluster at agent {agent}"),
            Self::HoldDown { server } => write!(f, "hold mysqld of {server} down"),
            Self::StopReceiver { server } => write!(f, "stop the receiver of {server}"),
            Self::Compare { at, left, right } => {
                write!(f, "compare the event before {at}: {left} with {right}")
            }
            Self::SaveBinaryLogs {
                piece,
                server,
                from,
                expected_end,
            } => write!(
                f,
                "save {piece} [{from}, {expected_end}) from the binary log of {server}"
            ),
            Self::SaveCopies {
                piece,
                server,
                range,
            } => write!(f, "save {piece} {range} from binlog server {server}"),
            Self::GenerateDiff {
                piece,
                server,
                range,
            } => write!(f, "cut {piece} {range} from the relay log of {server}"),
            Self::KeepCopy { piece, server } => {
                write!(f, "keep a copy of {piece} from {server} on the manager")
            }
            Self::Pull {
                piece,
                server,
                from,
            } => write!(f, "send {piece} from {from} to {server}"),
            Self::Drain { server, until } => {
                write!(f, "let {server} apply what it received, up to {until}")
            }
            Self::Apply {
                server,
                pieces,
                until,
                ..
            } => {
                if pieces.is_empty() {
                    return write!(f, "bring {server} to {until} from what it received");
                }
                let pieces: Vec<String> = pieces.iter().map(ToString::to_string).collect();
                write!(f, "bring {server} to {until} with {}", pieces.join(", "))
            }
            Self::Promote { server, .. } => write!(f, "promote {server}"),
            Self::MakeWritable {
                server,
                wait_for_replicas: false,
            } => write!(f, "open {server} for writes"),
            Self::MakeWritable {
                server,
                wait_for_replicas: true,
            } => write!(
                f,
                "open {server} for writes, its commits waiting for replicas"
            ),
            Self::AwaitLease { server } => write!(f, "wait for the end of the lease of {server}"),
            Self::AssignPrimary { server, primary } => {
                write!(
                    f,
                    "tell the agent of {server} that {primary} is the primary"
                )
            }
            Self::DropAddress { server } => write!(f, "take the virtual IP down at {server}"),
            Self::TakeAddress { server, .. } => write!(f, "bring the virtual IP up at {server}"),
            Self::Repoint { server, to, .. } => write!(f, "point {server} at {to}"),
            Self::RunHook { call } => write!(f, "run {call}"),
            Self::ReleaseHold { server } => write!(f, "let mysqld of {server} start again"),
            Self::ResumeReplication { server } => {
                write!(f, "undo: replication of {server} as it was")
            }
        }
    }
}
