//! The report of an operation: what was found, done, recovered, proven, lost. One value, shown as text or JSON.
//!
//! It is filled while the operation runs, so that it also tells the truth when the operation stops half-way.

mod save;
mod steps;
mod text;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use binlog_core::BinlogPosition;
use serde::{Deserialize, Serialize};

pub use save::save;
pub use text::render;

use crate::config::ClusterConfig;
use crate::elect::Election;
use crate::execute::{StepTiming, unix_ms};
use crate::exit_code::ExitCode;
use crate::failover::{FailoverError, Request};
use crate::hooks::Hook;
use crate::observe::chain;
use crate::plan::{BinlogServerLog, DeadLog, Holdings, Plan};
use crate::proof::{Proof, ProofVerdict};
use crate::returned::Returned;
use crate::topology::Topology;

/// Positions of one survivor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// Received when it was frozen.
    pub received: Option<BinlogPosition>,
    /// Executed before anything was done.
    pub executed_before: Option<BinlogPosition>,
    /// Executed at the end, in the dead primary's coordinates.
    pub executed_after: Option<BinlogPosition>,
    /// GTID state at the end.
    pub gtid_after: String,
}

/// A recovered piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// What and from where.
    pub what: String,
    /// Segment id.
    pub segment: String,
    /// Transactions.
    pub transactions: u64,
    /// Bytes.
    pub bytes: u64,
    /// Bytes of an unfinished transaction or torn event that were left out.
    pub dropped_bytes: u64,
    /// Copy on the manager.
    pub copy: Option<String>,
}

/// How sure it is that the old primary takes no more writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fence {
    /// Not sure.
    Unconfirmed,
    /// Its agent holds mysqld down.
    HeldDown,
    /// Its lease is over before anything else is opened: its agent makes it read-only.
    LeaseOver,
    /// `shutdown_script` switched the host off.
    PoweredOff,
}

/// Something an operator has to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Care {
    /// The server.
    pub server: String,
    /// What and why.
    pub why: String,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this format: 1.
    pub format_version: u32,
    /// Cluster.
    pub cluster: String,
    /// Operation; empty if nothing was claimed.
    pub operation: String,
    /// Epoch; 0 if nothing was claimed.
    pub epoch: u64,
    /// Journal of the operation.
    pub journal: Option<String>,
    /// End of the run, milliseconds since the Unix epoch.
    pub finished_unix_ms: u64,
    /// Microseconds from start to end of the command.
    pub duration_us: u64,
    /// Microseconds from start until the new primary was open for writes.
    pub writable_after_us: Option<u64>,
    /// Only a dry run.
    pub dry_run: bool,
    /// What was asked for.
    pub dead_primary: String,
    /// Verdict and evidence, in words.
    pub verdict: String,
    /// The old primary's mysqld is held down for sure; absent if it never came to that.
    pub fenced: Option<bool>,
    /// How it was held down.
    pub fence: Option<String>,
    /// New primary, once promoted (or chosen, in a dry run).
    pub new_primary: Option<String>,
    /// Election on final facts.
    pub election: Option<Election>,
    /// Winner of the first election, if it was another.
    pub first_choice: Option<String>,
    /// Positions by survivor.
    pub positions: BTreeMap<String, Positions>,
    /// The plan.
    pub plan: Option<Plan>,
    /// What was recovered.
    pub recovered: Vec<Recovered>,
    /// Replicas now following the new primary.
    pub replicas: Vec<String>,
    /// What is proven.
    pub proof: Option<Proof>,
    /// What is lost or unknown.
    pub lost: Vec<String>,
    /// Servers that need care.
    pub care: Vec<Care>,
    /// Further remarks.
    pub remarks: Vec<String>,
    /// Every act with its times.
    pub timeline: Vec<StepTiming>,
    /// Exit code.
    pub exit_code: u8,
    /// One sentence.
    pub summary: String,
    /// What the replaced primary was found to have written, once it could be reached again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<Returned>,
}

impl Report {
    /// An empty report of a request.
    pub fn new(config: &ClusterConfig, request: &Request) -> Self {
        Self {
            format_version: 1,
            cluster: config.cluster.clone(),
            operation: String::new(),
            epoch: 0,
            journal: None,
            finished_unix_ms: 0,
            duration_us: 0,
            writable_after_us: None,
            dry_run: request.dry_run,
            dead_primary: request.dead_primary.clone(),
            verdict: String::new(),
            fenced: None,
            fence: None,
            new_primary: None,
            election: None,
            first_choice: None,
            positions: BTreeMap::new(),
            plan: None,
            recovered: Vec::new(),
            replicas: Vec::new(),
            proof: None,
            lost: Vec::new(),
            care: Vec::new(),
            remarks: Vec::new(),
            timeline: Vec::new(),
            exit_code: 0,
            summary: String::new(),
            returned: None,
        }
    }

    /// Who is who, and who would win.
    pub(crate) fn observed(&mut self, topology: &Topology, election: &Election) {
        self.dead_primary.clone_from(&topology.dead);
        self.verdict = format!("{}: {}", topology.verdict, topology.evidence.ping);
        self.positions(topology, true);
        self.election = Some(election.clone());
        if self.dry_run {
            self.new_primary = Some(election.winner.clone());
        }
    }

    fn positions(&mut self, topology: &Topology, before: bool) {
        for survivor in &topology.survivors {
            let positions = self.positions.entry(survivor.server.clone()).or_default();
            positions.received.clone_from(&survivor.replica.read);
            if before {
                positions
                    .executed_before
                    .clone_from(&survivor.replica.executed);
            }
        }
    }

    pub(crate) fn operation(&mut self, operation: &str, epoch: u64, journal: &Path) {
        operation.clone_into(&mut self.operation);
        self.epoch = epoch;
        self.journal = Some(journal.display().to_string());
    }

    pub(crate) fn frozen(
        &mut self,
        fence: Fence,
        how: Option<String>,
        no_lease: Option<String>,
        topology: &Topology,
    ) {
        self.fenced = Some(fence != Fence::Unconfirmed);
        self.fence = how;
        self.positions(topology, false);
        for left in &topology.left_aside {
            self.needs_care(&left.server, format!("left aside: {}", left.why));
        }
        for survivor in &topology.survivors {
            if let Some(error) = survivor.applier_failed() {
                self.needs_care(
                    &survivor.server,
                    format!(
                        "its applier had stopped with error {error}; it is left stopped and unchanged"
                    ),
                );
            }
        }
        for server in &topology.following {
            self.remarks
                .push(format!("{server} already followed the new primary"));
        }
        let dead = &self.dead_primary;
        self.remarks.push(match fence {
            Fence::Unconfirmed => format!(
                "UNFENCED: mysqld of {dead} could not be held down for sure{}; make sure that it stays off",
                no_lease.map(|why| format!(", and there is no lease to wait for: {why}")).unwrap_or_default()
            ),
            Fence::LeaseOver => format!(
                "fenced by its lease: mysqld of {dead} could not be held down, but its lease was over before the new primary was opened; its agent makes it read-only and keeps it so. Without its agent only read_only=1 in its configuration does"
            ),
            Fence::HeldDown => format!(
                "mysqld of {dead} is held down by its agent and will not start until released: mha-manager release --config FILE --server {dead}"
            ),
            Fence::PoweredOff => format!(
                "the host of {dead} was switched off by {}; nothing holds its mysqld down when it is switched on again",
                Hook::ShutdownScript
            ),
        });
    }

    pub(crate) fn remarks(&mut self, remarks: Vec<String>) {
        self.remarks.extend(remarks);
    }

    pub(crate) fn elected(&mut self, first_choice: &str, election: &Election) {
        for (server, why) in &election.cannot_follow {
            self.needs_care(server, why.clone());
        }
        if !election.filters.is_empty() {
            let remark = format!(
                "{} has filters ({}): what they leave out is not on it",
                election.winner,
                election.filters.join(", ")
            );
            if !self.remarks.contains(&remark) {
                self.remarks.push(remark);
            }
        }
        if election.winner != first_choice {
            self.first_choice = Some(first_choice.to_owned());
        }
        self.election = Some(election.clone());
    }

    pub(crate) fn planned(&mut self, holdings: &Holdings, plan: &Plan) {
        self.plan = Some(plan.clone());
        if self.dry_run {
            self.new_primary = Some(plan.winner.clone());
        }
        self.lost.clear();
        match &holdings.dead {
            DeadLog::Read { survey } => {
                if let Some(end) = &survey.end
                    && end.kind == crate::facts::LogEndKind::Corrupt
                {
                    self.lost.push(format!(
                        "the log of {} is {end}; what follows was accepted as lost",
                        self.dead_primary
                    ));
                }
                if let (Some(whole), Some(data)) = (&survey.whole_end, &survey.data_end)
                    && whole < data
                {
                    self.lost.push(format!(
                        "an unfinished transaction [{whole}, {data}) at the end of the log of {} was dropped, as the server itself would",
                        self.dead_primary
                    ));
                }
                if let Some(last) = &survey.last_transaction
                    && last.end < plan.frontier.end
                {
                    self.remarks.push(format!(
                        "{} itself holds less than its replicas ({} of {}): it has lost transactions and must be rebuilt",
                        self.dead_primary, last.end, plan.frontier.end
                    ));
                }
            }
            DeadLog::Unreachable { why } | DeadLog::GivenUp { why } => {
                self.lost.push(format!(
                    "whatever {} held beyond {}: {why}",
                    self.dead_primary, plan.frontier.end
                ));
            }
        }
        self.of_binlog_servers(holdings, plan);
    }

    /// Copies that could not be used may have held what is not known otherwise; all others are told of for the record.
    fn of_binlog_servers(&mut self, holdings: &Holdings, plan: &Plan) {
        for (server, log) in &holdings.binlog_servers {
            let line = format!("binlog server {server} {log}");
            let beyond = match log {
                BinlogServerLog::Verified { .. } => false,
                BinlogServerLog::Unusable { up_to, .. } => {
                    holdings.dead.survey().is_none()
                        && up_to.as_ref().is_none_or(|end| *end > plan.frontier.end)
                }
            };
            if beyond {
                self.lost
                    .push(format!("{line}; what it alone may hold is unknown"));
            } else if !self.remarks.contains(&line) {
                self.remarks.push(line);
            }
        }
    }

    pub(crate) fn winner_failed(&mut self, server: &str, why: &str) {
        self.needs_care(server, format!("could not be made the new primary: {why}"));
    }

    pub(crate) fn claims_kept(&mut self, agents: Vec<String>) {
        for agent in agents {
            self.remarks.push(format!(
                "agent {agent} did not answer the release; the next operation of this manager gives its claim back"
            ));
        }
    }

    pub(crate) fn timeline(&mut self, timeline: Vec<StepTiming>) {
        self.timeline = timeline;
    }

    fn needs_care(&mut self, server: &str, why: String) {
        let care = Care {
            server: server.to_owned(),
            why,
        };
        if !self.care.contains(&care) {
            self.care.push(care);
        }
    }

    /// 0, or 10 if anything needs care.
    pub(crate) fn code_after_promotion(&mut self) -> ExitCode {
        if let Some(proof) = &self.proof
            && proof.verdict == ProofVerdict::NotProven
        {
            let why: Vec<String> = proof.flaws.iter().map(ToString::to_string).collect();
            let server = self.new_primary.clone().unwrap_or_default();
            self.needs_care(&server, format!("not proven: {}", why.join("; ")));
        }
        if self.care.is_empty() {
            ExitCode::Done
        } else {
            ExitCode::DoneNeedsCare
        }
    }

    /// Says how it ended. May be said again later, with a longer duration.
    pub(crate) fn finish(&mut self, result: &Result<ExitCode, FailoverError>, started: Instant) {
        let code = match result {
            Ok(code) => {
                self.summary = match (&self.new_primary, self.dry_run) {
                    (Some(winner), true) => {
                        format!("dry run: {winner} would replace {}", self.dead_primary)
                    }
                    (Some(winner), false) => format!(
                        "{winner} replaced {} ({})",
                        self.dead_primary,
                        code.meaning()
                    ),
                    (None, _) => code.meaning().to_owned(),
                };
                *code
            }
            Err(error) => {
                self.summary = chain(error);
                error.exit_code()
            }
        };
        self.exit_code = code.number();
        self.finished_unix_ms = unix_ms();
        self.duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    }
}

#[cfg(test)]
mod tests;
