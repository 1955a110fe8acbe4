//! The executor: does the steps of a plan and nothing else.
//!
//! Every step is journalled before and after, carries epoch and operation, and ends within a limit. Steps run as soon
//! as the steps they wait for have succeeded, all at once; a step whose predecessor failed is skipped. An act that
//! cannot be journalled is not done: the run stops there as if the manager had crashed.

mod address;
mod again;
mod alone;
mod claim;
pub(crate) mod copy;
mod dag;
mod perform;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use binlog_core::{BinlogPosition, ServerId};
use serde::{Deserialize, Serialize};

pub(crate) use again::again;
pub use alone::{Alone, NotBegun};
pub use claim::{ClaimRefused, Claimed, claim, release, release_stale};
pub use dag::{StepResult, StepResults};
pub(crate) use perform::COMPARED_EVENTS;

use crate::agents::{AgentCallError, AgentClient, Context, HeldEvent, Promoted, SegmentRef};
use crate::config::{AgentEndpoint, ClusterConfig, ServerConfig};
use crate::facts::Identity;
use crate::hooks::{HookError, Output};
use crate::journal::{Journal, JournalError};
use crate::observe::Agents;
use crate::plan::{Act, Phase, PieceId, Source, Step, StepId};

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The agent refused, failed, or did not answer.
    #[error(transparent)]
    Call(#[from] AgentCallError),
    /// The server has no reachable agent.
    #[error("no connection to the agent of {server}")]
    NotConnected {
        /// The server.
        server: String,
    },
    /// Two providers hold different events at the same place.
    #[error(
        "divergence before {at}: {left} holds {left_event}, {right} holds {right_event}; their histories differ"
    )]
    Divergence {
        /// Meeting point.
        at: BinlogPosition,
        /// One.
        left: Source,
        /// What it holds.
        left_event: String,
        /// The other.
        right: Source,
        /// What it holds.
        right_event: String,
    },
    /// A segment is not what was planned.
    #[error("{server} cut {found}, planned was {expected}")]
    UnexpectedSegment {
        /// Provider.
        server: String,
        /// Planned range.
        expected: String,
        /// Range of the segment.
        found: String,
    },
    /// A survey promised transactions, the cut found none.
    #[error(
        "{server} has nothing to save from {from} on ({reason}), though its survey found transactions there"
    )]
    NothingThere {
        /// Provider.
        server: String,
        /// Start.
        from: BinlogPosition,
        /// The agent's reason.
        reason: String,
    },
    /// A transferred segment differs from the one that was cut.
    #[error(
        "{server} reports another segment than {provider} cut: expected {expected}, found {found}"
    )]
    WrongCopy {
        /// Receiver.
        server: String,
        /// Provider.
        provider: String,
        /// Digest of the original.
        expected: String,
        /// Digest at the receiver.
        found: String,
    },
    /// The copy on the manager could not be written.
    #[error("{}", path.display())]
    Copy {
        /// File.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A server executed less than it was brought to.
    #[error("{server} says it is done at {found}, planned was {expected}")]
    NotReached {
        /// The server.
        server: String,
        /// Planned position.
        expected: BinlogPosition,
        /// Executed position.
        found: BinlogPosition,
    },
    /// A hook could not be run, failed, or ran into its limit.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// A step needs what another one should have brought.
    #[error("{what} is not there")]
    Incomplete {
        /// What is missing.
        what: &'static str,
    },
}

impl StepError {
    /// No answer came: what was done is not known.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::Call(error) => {
                error.is_lost() || error.kind() == Some(proto::v1::ErrorKind::OutcomeUnknown)
            }
            Self::Hook(error) => error.outcome_unknown(),
            _ => false,
        }
    }

    /// The connection to the agent broke; see [`AgentCallError::broke_off`].
    pub fn broke_off(&self) -> bool {
        matches!(self, Self::Call(error) if error.broke_off())
    }

    /// What a hook printed before it failed.
    pub fn output(&self) -> Option<&Output> {
        match self {
            Self::Hook(error) => error.output(),
            _ => None,
        }
    }

    /// The agent's kind of error.
    pub fn kind(&self) -> Option<proto::v1::ErrorKind> {
        match self {
            Self::Call(error) => error.kind(),
            _ => None,
        }
    }
}

/// What one step took and brought, for the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTiming {
    /// Run of steps.
    pub stage: u32,
    /// Step.
    pub step: StepId,
    /// Phase.
    pub phase: Phase,
    /// The act in words.
    pub act: String,
    /// Microseconds since the command started.
    pub started_us: u64,
    /// Microseconds since the command started.
    pub finished_us: u64,
    /// It succeeded.
    pub ok: bool,
    /// What it brought, or why it failed.
    pub note: String,
}

/// What steps have brought so far.
#[derive(Debug, Default)]
struct Progress {
    segments: BTreeMap<PieceId, SegmentRef>,
    promoted: Option<Promoted>,
    timeline: Vec<StepTiming>,
    stage: u32,
    hooks_ran: bool,
    lease_ends: Option<Instant>,
    address_dropped: bool,
}

/// Receives a line whenever something happened that an operator wants to see.
pub type Narrator = Arc<dyn Fn(&str) + Send + Sync>;

/// A running operation.
pub struct Run {
    /// Configuration.
    pub config: Arc<ClusterConfig>,
    /// Epoch and operation.
    pub context: Context,
    /// Agents.
    pub agents: Agents,
    /// Journal.
    pub journal: Journal,
    /// Who the dead primary was.
    pub identity: Identity,
    /// When the command started.
    pub started: Instant,
    /// Hears what happens.
    pub narrator: Narrator,
    progress: Mutex<Progress>,
    latest: Mutex<BTreeMap<String, BinlogPosition>>,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

/// Milliseconds since the Unix epoch, for records.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data are plain values that no panic can leave half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run {
    /// A run that has done nothing yet.
    pub fn new(
        config: Arc<ClusterConfig>,
        context: Context,
        agents: Agents,
        journal: Journal,
        identity: Identity,
        started: Instant,
        narrator: Narrator,
    ) -> Self {
        Self {
            config,
            context,
            agents,
            journal,
            identity,
            started,
            narrator,
            progress: Mutex::new(Progress::default()),
            latest: Mutex::new(BTreeMap::new()),
        }
    }

    /// Does the steps; returns what came of each.
    ///
    /// # Errors
    /// [`JournalError`]: the run stopped where it was, as a crash would stop it.
    pub async fn steps(&self, steps: &[Step]) -> Result<StepResults, JournalError> {
        let stage = {
            let mut progress = lock(&self.progress);
            progress.stage += 1;
            progress.stage
        };
        dag::run(self, stage, steps).await
    }

    /// Tells the read position of a survivor, which names the primary file of its relay logs.
    pub fn set_latest(&self, server: &str, read: BinlogPosition) {
        lock(&self.latest).insert(server.to_owned(), read);
    }

    fn latest(&self, server: &str) -> Option<BinlogPosition> {
        lock(&self.latest).get(server).cloned()
    }

    /// Forgets the segments of an abandoned plan.
    pub fn forget_segments(&self) {
        lock(&self.progress).segments.clear();
    }

    /// The promoted server's position, if there is one.
    pub fn promoted(&self) -> Option<Promoted> {
        lock(&self.progress).promoted.clone()
    }

    /// Takes over the promotion of an earlier run.
    pub fn set_promoted(&self, promoted: Promoted) {
        lock(&self.progress).promoted = Some(promoted);
    }

    /// A hook has run: what it did outside is not undone by anything here.
    pub fn hooks_ran(&self) -> bool {
        lock(&self.progress).hooks_ran
    }

    /// The dead primary's lease is over then, and its server closed; nothing is opened before.
    pub fn set_lease_end(&self, at: Instant) {
        lock(&self.progress).lease_ends = Some(at);
    }

    /// Whether a lease is waited out.
    pub fn awaits_lease(&self) -> bool {
        lock(&self.progress).lease_ends.is_some()
    }

    /// The virtual IP was up at the dead primary and was taken down.
    pub fn has_dropped_address(&self) -> bool {
        lock(&self.progress).address_dropped
    }

    fn address_dropped(&self) {
        lock(&self.progress).address_dropped = true;
    }

    /// Segments by piece.
    pub fn segments(&self) -> BTreeMap<PieceId, SegmentRef> {
        lock(&self.progress).segments.clone()
    }

    /// What was done so far, in order of completion.
    pub fn timeline(&self) -> Vec<StepTiming> {
        lock(&self.progress).timeline.clone()
    }

    /// Microseconds since the command started.
    pub fn elapsed_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn server(&self, name: &str) -> Result<&ServerConfig, StepError> {
        self.config
            .servers
            .iter()
            .find(|s| s.name == name)
            .ok_or_else(|| StepError::NotConnected {
                server: name.to_owned(),
            })
    }

    /// The agent of a server, or of a binlog server.
    fn client(&self, server: &str) -> Result<&AgentClient, StepError> {
        let client = match self.config.binlog_server(server) {
            Some(binlog_server) => self.agents.of_binlog_server(binlog_server).ok(),
            None => self.agents.of(self.server(server)?),
        };
        client.ok_or_else(|| StepError::NotConnected {
            server: server.to_owned(),
        })
    }

    /// Where that agent is.
    fn endpoint(&self, server: &str) -> Result<&AgentEndpoint, StepError> {
        match self.config.binlog_server(server) {
            Some(binlog_server) => Ok(&binlog_server.agent),
            None => Ok(&self.server(server)?.agent),
        }
    }

    /// The dead primary, as its log names it.
    fn primary_id(&self) -> ServerId {
        ServerId(self.identity.server_id)
    }

    fn record(&self, timing: StepTiming) {
        lock(&self.progress).timeline.push(timing);
    }
}

/// How an event is shown.
fn show_event(event: &HeldEvent) -> String {
    let digest = event.sha256.get(..16).unwrap_or(&event.sha256);
    format!(
        "[{}, {}) type {} sha256 {digest}..",
        event.start, event.end.offset, event.type_code
    )
}

/// Does one act that belongs to no plan, journalled like all others.
///
/// # Errors
/// [`JournalError`] as in [`Run::steps`].
pub async fn single(run: &Run, acts: Vec<Act>) -> Result<StepResults, JournalError> {
    let steps: Vec<Step> = acts
        .into_iter()
        .zip(0u32..)
        .map(|(act, id)| Step {
            id: StepId(id),
            act,
            after: vec![],
        })
        .collect();
    run.steps(&steps).await
}
