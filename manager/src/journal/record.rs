//! What stands in a journal.

use std::collections::BTreeMap;

use binlog_core::{BinlogPosition, Manifest, StreamRange};
use serde::{Deserialize, Serialize};

use crate::agents::{Applied, Held, HeldEvent, Promoted, Repointed, StoppedReceiver, Waits};
use crate::config::HostPort;
use crate::elect::Election;
use crate::facts::Replica;
use crate::hooks::{HookRan, Output};
use crate::plan::{Holdings, Plan, Step, StepId};
use crate::returned::Returned;
use crate::topology::Topology;

/// One record. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Record {
    /// The operation begins; written before the first claim.
    Begin(Box<Begin>),
    /// What was observed.
    Facts {
        /// When.
        unix_ms: u64,
        /// Who is who.
        topology: Box<Topology>,
        /// Who becomes the primary.
        election: Box<Election>,
    },
    /// What will be done.
    Plan {
        /// When.
        unix_ms: u64,
        /// What the logs hold.
        holdings: Box<Holdings>,
        /// The plan.
        plan: Box<Plan>,
    },
    /// A step is about to be done.
    Started {
        /// When.
        unix_ms: u64,
        /// Which run of steps of this operation.
        stage: u32,
        /// The step.
        step: Step,
    },
    /// A step is done.
    Done {
        /// When.
        unix_ms: u64,
        /// Which run of steps.
        stage: u32,
        /// Which step.
        step: StepId,
        /// What came of it.
        outcome: Box<StepOutcome>,
    },
    /// A step failed.
    Failed {
        /// When.
        unix_ms: u64,
        /// Which run of steps.
        stage: u32,
        /// Which step.
        step: StepId,
        /// Why.
        why: String,
        /// No answer came: what was done is not known.
        outcome_unknown: bool,
        /// What a hook printed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Output>,
    },
    /// The operation was interrupted, and this one goes on with what it left.
    TakenUp {
        /// When.
        unix_ms: u64,
        /// The other operation.
        by: String,
    },
    /// The operation ends.
    End {
        /// When.
        unix_ms: u64,
        /// Exit code.
        exit_code: u8,
        /// Last sentence.
        summary: String,
    },
    /// After the end: the server that was replaced can be reached again, and its log has been read.
    Returned(Box<Returned>),
}

/// Head of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// Version of the format: 1.
    pub format_version: u32,
    /// Program version.
    pub program: String,
    /// When.
    pub unix_ms: u64,
    /// Cluster.
    pub cluster: String,
    /// Operation.
    pub operation: String,
    /// Epoch that is claimed.
    pub epoch: u64,
    /// Manager.
    pub manager: String,
    /// The dead primary.
    pub dead: String,
    /// Its address.
    pub dead_address: HostPort,
    /// A forced new primary.
    pub forced: Option<String>,
    /// Losses are accepted.
    pub accept_loss: bool,
    /// Agent address by server.
    pub agents: BTreeMap<String, String>,
}

/// What a step brought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepOutcome {
    /// Claimed.
    Claimed {
        /// Epoch now stored.
        epoch: u64,
        /// What the agent knew of a lease, in words; empty if nothing.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        lease: String,
    },
    /// Released.
    Released {
        /// This call did it.
        released: bool,
    },
    /// Held down.
    HeldDown(Held),
    /// Receiver stopped.
    ReceiverStopped(StoppedReceiver),
    /// Compared.
    Compared {
        /// The event both hold; `None` if they share none there: continuity alone.
        event: Option<HeldEvent>,
    },
    /// A segment was cut.
    Cut {
        /// Its id.
        segment: String,
        /// Its manifest.
        manifest: Manifest,
    },
    /// A segment arrived at a survivor.
    Pulled {
        /// Its id.
        segment: String,
        /// Its manifest there.
        manifest: Manifest,
    },
    /// A copy was kept on the manager.
    Copied {
        /// File.
        path: String,
        /// What it holds.
        range: StreamRange,
        /// End of its last whole transaction by the manager's own walk, or what that walk found wrong.
        walked: Result<BinlogPosition, String>,
    },
    /// Applied.
    Applied(Applied),
    /// Promoted, still read-only.
    Promoted(Promoted),
    /// Open for writes.
    Writable {
        /// Whether its commits wait for replicas; `None` if nobody asked for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        waits: Option<Waits>,
    },
    /// The dead primary's lease is over.
    LeaseOver {
        /// How long that was waited for, milliseconds.
        waited_ms: u64,
    },
    /// The agent knows who the primary is.
    Assigned {
        /// It holds a lease now.
        lease: bool,
    },
    /// Repointed.
    Repointed(Box<Repointed>),
    /// As it was.
    Resumed(Box<Replica>),
    /// No longer held.
    HoldReleased {
        /// This call did it.
        released: bool,
    },
    /// The virtual IP is down where it was.
    AddressDropped {
        /// It was up there.
        was_there: bool,
    },
    /// The virtual IP is up.
    AddressTaken {
        /// It was up already.
        was_there: bool,
    },
    /// A hook ended with a code that lets the operation go on.
    HookRan(HookRan),
}
