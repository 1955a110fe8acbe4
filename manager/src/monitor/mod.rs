//! What to make of what is seen of a primary, moment by moment: a state machine without I/O and without a clock.
//!
//! Inputs are values (answers of pings, states of the agents' streams, ports seen by replicas' agents, ticks), each with
//! the moment it came; outputs are actions. Guarantees: a failover is asked for only on a verdict that allows it, from
//! evidence that was gathered after the suspicion began, and that has lasted for its limit; nothing seen before the last
//! sign of life counts. A decision comes within a bounded time, see [`Limits`].
//!
//! The way of a suspicion:
//!
//! ```text
//!             ping failed, agent silent,              verdict of death,
//!             process gone, disk stalled              lasting for its limit
//!   watching ---------------------------> suspicious ----------------------> decided
//!      ^                                      |                                 |
//!      +--------------------------------------+                                 |
//!      |   a fresh ping is answered and nothing else is wrong                   |
//!      +------------------------------------------------------------------------+
//!          the caller has acted, or was not allowed to: `resume`
//! ```

mod agent;
mod suspicion;

use std::time::Duration;

pub use agent::{AgentState, Disk, LocalSql};
pub use suspicion::Monitor;

use crate::config::MonitorConfig;
use crate::verdict::{Evidence, Ping, Reason, ReplicaEvidence, Verdict};

/// A moment: time since the monitor began, of a clock that never goes back.
pub type At = Duration;

/// How long evidence must last, and how many pings must fail. From the moment something happens, a decision comes at
/// the latest after
/// - the process is seen to end by its agent: one ping;
/// - the host falls silent: `host`, or a ping and a probe that began after it was suspected, whichever is later;
/// - the process hangs: `hang` and a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Failed pings in a row, where no agent has seen the process end.
    pub ping_failures: u32,
    /// Silence of a stream after which its agent counts as silent.
    pub agent_silence: Duration,
    /// How long nothing may be heard of a host.
    pub host: Duration,
    /// How long SQL, or the data disk, may not answer.
    pub hang: Duration,
    /// Between two rounds of questions while there is a suspicion.
    pub ask_interval: Duration,
    /// After which a round that was not answered is given up.
    pub ask_timeout: Duration,
}

impl Limits {
    /// The limits of a configuration.
    #[must_use]
    pub fn of(config: &MonitorConfig) -> Self {
        Self {
            ping_failures: config.ping_failures,
            agent_silence: config.agent_silence(),
            host: config.host_limit,
            hang: config.hang_limit,
            ask_interval: config.ping_interval.min(Duration::from_millis(500)),
            ask_timeout: config.probe_timeout.max(config.ping_timeout) * 2,
        }
    }
}

/// Something that was seen.
#[derive(Debug, Clone)]
pub enum Input {
    /// A ping of the primary ended.
    Ping {
        /// When it began.
        begun: At,
        /// How it ended.
        ping: Ping,
    },
    /// The primary's agent said how its server is.
    Agent(AgentState),
    /// The stream of the primary's agent ended or could not be opened.
    AgentLost,
    /// What replicas' agents see; those that did not answer are absent.
    Ports {
        /// When they were asked.
        asked: At,
        /// One for each replica whose agent answered.
        replicas: Vec<ReplicaEvidence>,
    },
    /// Time has passed.
    Tick,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask at once: a ping on a new connection, and every replica's agent for the primary's port.
    Ask,
    /// Tell the operator.
    Say(Said),
    /// The primary is dead: fail over.
    FailOver(Decision),
}

/// A sentence for the operator, said once for each change of mind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The verdict by now.
    pub verdict: Verdict,
    /// The sentence.
    pub sentence: String,
}

/// A verdict that allows a failover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What decided.
    pub reason: Reason,
    /// All that was seen.
    pub evidence: Evidence,
    /// The sentence for the operator.
    pub sentence: String,
    /// From the last sign of life to the decision.
    pub silent_for: Duration,
}

#[cfg(test)]
mod tests;
