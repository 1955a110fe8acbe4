//! What calls take and bring, in the manager's types.

use std::time::Duration;

use binlog_core::{BinlogPosition, Manifest};
use proto::lease::Assigned;
use proto::v1;
use serde::{Deserialize, Serialize};

use crate::facts::Replica;

/// Which logs of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Logs {
    /// Its own binary logs.
    Binary,
    /// Its relay logs.
    Relay,
    /// Of a binlog server: its copies of the primary's binary logs.
    BinlogServer,
}

/// A claim of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Cluster.
    pub cluster: String,
    /// Epoch, above 0.
    pub epoch: u64,
    /// Operation.
    pub operation: String,
    /// Manager.
    pub manager: String,
    /// Also where another manager is the one of record; see [`crate::record`].
    pub take_over: bool,
}

/// What an agent knows when it grants a claim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimGranted {
    /// Who the primary is, by the newest assignment that it has stored.
    pub assigned: Option<Assigned>,
    /// How long ago it last vouched for a primary, at most; `None` from an agent without leases.
    pub vouched_ago: Option<Duration>,
    /// The manager of record before, if it was another one.
    pub taken_over_from: Option<String>,
}

/// What every changing call carries besides its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Cluster.
    pub cluster: String,
    /// Operation.
    pub operation: String,
    /// Epoch.
    pub epoch: u64,
}

/// Whether the commits of a server that was opened wait for replicas, where that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waits {
    /// They do.
    By {
        /// The variable that has them wait.
        variable: String,
    },
    /// They do not.
    Not {
        /// Why.
        why: String,
    },
}

/// A segment in an agent's store.
#[derive(Debug, Clone)]
pub struct SegmentRef {
    /// Id.
    pub id: String,
    /// Its manifest, checked against size and digest of the answer.
    pub manifest: Manifest,
    /// As the agent described it, to hand on unchanged.
    pub wire: v1::SegmentInfo,
}

/// How mysqld was held down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// mysqld ran when the call came.
    pub was_running: bool,
    /// No mysqld runs any more, or a SIGKILL is pending on it.
    pub confirmed: bool,
    /// How it was stopped.
    pub how: String,
}

/// An event's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldEvent {
    /// Start.
    pub start: BinlogPosition,
    /// End.
    pub end: BinlogPosition,
    /// Type code.
    pub type_code: u32,
    /// sha256 in hex.
    pub sha256: String,
}

/// Where a server stands by its GTIDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GtidPlace {
    /// The last place before which it has every transaction; absent if the log cannot tell.
    pub place: Option<BinlogPosition>,
    /// Every GTID that the log has ever held, if it says so.
    pub ever_held: Option<String>,
}

/// A stopped receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedReceiver {
    /// Status afterwards; positions are final.
    pub status: Replica,
    /// It ran before this operation.
    pub was_running: bool,
}

/// Outcome of a drain or replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Executed when the call came.
    pub executed_before: Option<BinlogPosition>,
    /// Executed after the drain.
    pub executed_drained: Option<BinlogPosition>,
    /// Executed at the end.
    pub executed_after: BinlogPosition,
    /// GTID state at the end.
    pub gtid_executed: String,
    /// The received range ended inside a transaction.
    pub half_transaction: bool,
    /// The applier was killed because of it.
    pub applier_killed: bool,
    /// The applier was found stopped without an error and started.
    pub applier_started: bool,
    /// Tables whose changes may have come twice.
    pub maybe_twice: Vec<String>,
    /// Microseconds of drain, switch, replay.
    pub phases_us: [u64; 3],
    /// Connections to the local source.
    pub connections: u32,
    /// How it was replayed, and what decided that; `None` if nothing was, or by an agent that does not tell.
    #[serde(default)]
    pub way: Option<(ApplyWay, String)>,
}

/// How a server replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplyWay {
    /// Beside its running applier, by its GTID set.
    BesideByGtid,
    /// Beside its running applier, from its read position.
    BesideFromRead,
    /// Both threads stopped, from its executed position.
    Stopped,
}

impl std::fmt::Display for ApplyWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::BesideByGtid => "beside its applier by GTID",
            Self::BesideFromRead => "beside its applier from its read position",
            Self::Stopped => "with its applier stopped first",
        })
    }
}

/// A promoted server, still read-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promoted {
    /// End of its own binary log: the others start here.
    pub position: BinlogPosition,
    /// Own GTID state.
    pub gtid_executed: String,
    /// Executed position in the dead primary's coordinates, before the reset.
    pub executed: BinlogPosition,
    /// GTID state in the dead primary's terms, before the reset.
    pub gtid_before_reset: String,
}

/// A repointed replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repointed {
    /// Status afterwards.
    pub status: Replica,
    /// Executed position in the dead primary's coordinates, before the CHANGE.
    pub executed_before: Option<BinlogPosition>,
    /// GTID state before the CHANGE.
    pub gtid_before: String,
}
