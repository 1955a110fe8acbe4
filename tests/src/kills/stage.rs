//! Three servers on which a failover has every kind of step to do, and what must hold when it is over.
//!
//! `db2`, the preferred candidate, lacks two stretches of acknowledged rows; `db3` has received one of them and not
//! executed it, its applier stands still; the last stretch is on the primary's disk alone.

use std::path::Path;
use std::time::Duration;

use manager::journal::{self, Record, StepOutcome};

use super::Servers;
use super::writers::{self, Taken, Writers};
use crate::sandbox::accounts::APPLICATION;
use crate::sandbox::deployment::{CLUSTER, Deployment, DeploymentSpec, server_name};
use crate::sandbox::load::{self, Load, LoadSpec, Written};
use crate::sandbox::slot::Slot;
use crate::sandbox::wait::{self, Look};
use crate::sandbox::{Cluster, ClusterSpec, SandboxError, Server, compare, replica};

/// Rows per stretch.
const ROWS: u32 = 20;
/// How long a replica may take to have everything of the new primary.
const LIMIT: Duration = Duration::from_secs(60);

/// Servers and agents, and what a client wrote. The primary lives.
#[derive(Debug)]
pub struct Stage {
    /// Stops before the cluster does.
    pub deployment: Deployment,
    /// The servers.
    pub cluster: Cluster,
    written: Written,
    _slot: Slot,
}

/// An expectation that was not met.
pub fn differs(what: &str, seen: impl Into<String>) -> SandboxError {
    SandboxError::Wait {
        what: what.to_owned(),
        waited: Duration::ZERO,
        seen: seen.into(),
    }
}

impl Stage {
    /// Starts everything when no more than one other cluster runs on this machine.
    pub async fn prepare(servers: Servers) -> Result<Self, SandboxError> {
        let slot = Slot::take().await?;
        let mut spec = ClusterSpec::new(servers.kind);
        if servers.gtid {
            spec = spec.by_gtid();
        }
        let cluster = Cluster::start(spec).await?;
        writers::prepare(cluster.primary()).await?;
        load::prepare(cluster.primary()).await?;
        cluster.wait_caught_up().await?;
        let spec = DeploymentSpec::default().candidate(1, "preferred");
        let deployment = Deployment::start(&cluster, &spec).await?;
        let login = cluster
            .primary()
            .login(APPLICATION.user, APPLICATION.password);
        let mut written = Written::default();
        for stretch in 0..3 {
            let some = LoadSpec {
                sessions: 1,
                first_session: stretch,
                rows: ROWS,
                ..LoadSpec::default()
            };
            written.add(Load::start(&login, &some).finish_all().await);
            let end = replica::binlog_end(cluster.primary()).await?;
            match stretch {
                0 => {
                    cluster.hold(1, &end);
                    cluster.wait_caught_up().await?;
                    let stop = servers.kind.statement("STOP SLAVE SQL_THREAD");
                    cluster.server(2).exec(&stop).await?;
                }
                1 => {
                    cluster.hold(2, &end);
                    replica::wait_read(cluster.server(2), &end).await?;
                }
                _ => {}
            }
        }
        let wanted = usize::try_from(ROWS).unwrap_or(usize::MAX) * 3;
        if written.acknowledged.len() != wanted {
            return Err(differs("acknowledged rows", format!("{written:?}")));
        }
        Ok(Self {
            deployment,
            cluster,
            written,
            _slot: slot,
        })
    }

    /// The survivors.
    pub fn survivors(&self) -> [&Server; 2] {
        [self.cluster.server(1), self.cluster.server(2)]
    }

    /// The primary dies; from now on clients try to write to every server.
    pub fn lose_the_primary(&self) -> Result<Writers, SandboxError> {
        self.cluster.crash(0)?;
        let servers: Vec<&Server> = self.cluster.servers().iter().collect();
        Ok(Writers::start(&servers))
    }

    /// Whether a manager says that it watches one of the survivors as the primary, and all is well.
    pub fn replaced(&self, status: &serde_json::Value) -> bool {
        let primary = status["primary"].as_str();
        let [one, other] = self.survivors().map(server_name);
        status["state"] == 0 && (primary == Some(&one) || primary == Some(&other))
    }

    /// One of the survivors is the primary and was the only one to take a write; the other follows it; both have equal
    /// tables and every row that a client saw acknowledged; the dead primary stays down. Returns the new primary's name.
    pub async fn check(&self, mut writers: Writers) -> Result<String, SandboxError> {
        writers.first(LIMIT).await?;
        let [one, other] = self.survivors();
        // On a busy machine its lease may have ended once more; then its agent opens it again.
        let what = "one server that takes writes";
        let (winner, follower) = wait::until(what, LIMIT, || async {
            let read_only = [
                one.value("SELECT @@read_only").await?,
                other.value("SELECT @@read_only").await?,
            ];
            Ok(match read_only.each_ref().map(String::as_str) {
                ["0", "1"] => Look::Done((one, other)),
                ["1", "0"] => Look::Done((other, one)),
                ["1", "1"] => Look::NotYet("both are read-only".to_owned()),
                both => return Err(differs(what, format!("read_only: {both:?}"))),
            })
        })
        .await?;
        if self.cluster.primary().is_running() {
            return Err(differs("the old primary to be down", "it runs"));
        }
        if replica::status(winner).await?.is_some() {
            return Err(differs(
                "the new primary to follow nobody",
                "it is a replica",
            ));
        }
        let what = format!("{} to follow {}", follower.name(), winner.name());
        wait::until(&what, LIMIT, || async {
            let status = replica::must_status(follower).await?;
            let follows = status.source()? == winner.host_port()
                && status.io_running()? == "Yes"
                && status.sql_running()?;
            Ok(if follows {
                Look::Done(())
            } else {
                Look::NotYet(format!("{status:?}"))
            })
        })
        .await?;
        let taken = writers.finish().await;
        let end = replica::binlog_end(winner).await?;
        replica::wait_executed(follower, &end).await?;
        self.rows(winner, &taken).await?;
        Ok(winner.name().to_owned())
    }

    /// Every acknowledged row is on both survivors, and the new primary alone has taken new ones.
    async fn rows(&self, winner: &Server, taken: &Taken) -> Result<(), SandboxError> {
        compare::all_equal(&self.survivors())
            .await?
            .map_err(|seen| differs("equal tables", seen))?;
        for server in self.survivors() {
            let rows = load::rows(server).await?;
            let lost = self.written.acknowledged.difference(&rows).count();
            if lost > 0 {
                let seen = format!("{} lacks {lost}", server.name());
                return Err(differs("every acknowledged row", seen));
            }
        }
        for server in self.cluster.servers() {
            let name = server.name();
            let acknowledged = taken.get(name).cloned().unwrap_or_default();
            let there = writers::rows_of(winner, name).await?;
            if name == winner.name() {
                if let Some(lost) = acknowledged.iter().find(|row| !there.contains(row)) {
                    return Err(differs("new rows to stay", format!("row {lost} is gone")));
                }
            } else if !acknowledged.is_empty() || !there.is_empty() {
                return Err(differs(
                    "one server that takes writes",
                    format!("{name} took {} rows", acknowledged.len().max(there.len())),
                ));
            }
        }
        Ok(())
    }

    /// All records of all operations of the manager with this state folder, oldest operation first.
    pub fn records(&self, state: &Path) -> Result<Vec<Vec<Record>>, SandboxError> {
        let unreadable = |error: journal::JournalError| differs("journals", error.to_string());
        journal::operations(state, CLUSTER)
            .map_err(unreadable)?
            .iter()
            .map(|path| Ok(journal::read(path).map_err(unreadable)?.records))
            .collect()
    }

    /// The last operation is closed with a new primary, and no two servers were ever opened. Returns its exit code.
    pub fn closed(&self, state: &Path) -> Result<u8, SandboxError> {
        let operations = self.records(state)?;
        let code = match operations.last().and_then(|records| records.last()) {
            Some(Record::End {
                exit_code: code @ (0 | 10),
                ..
            }) => *code,
            other => {
                return Err(differs(
                    "a journal that is closed",
                    format!("it ends with {other:?}"),
                ));
            }
        };
        let opened: std::collections::BTreeSet<String> = operations
            .iter()
            .flat_map(|records| opened(records))
            .collect();
        if opened.len() == 1 {
            Ok(code)
        } else {
            Err(differs("one server opened", format!("{opened:?}")))
        }
    }
}

/// The acts of records that ended with `Writable`.
fn opened(records: &[Record]) -> Vec<String> {
    let mut acts = Vec::new();
    let mut opened = Vec::new();
    for record in records {
        match record {
            Record::Started { stage, step, .. } => {
                acts.push(((*stage, step.id), step.act.to_string()));
            }
            Record::Done {
                stage,
                step,
                outcome,
                ..
            } if matches!(**outcome, StepOutcome::Writable { .. }) => {
                let act = acts.iter().rfind(|(id, _)| *id == (*stage, *step));
                opened.extend(act.map(|(_, act)| act.clone()));
            }
            _ => {}
        }
    }
    opened
}

/// A record in a few words.
pub fn in_words(record: &Record, before: &[Record]) -> String {
    let act = |stage: &u32, id: &manager::plan::StepId| {
        before
            .iter()
            .rev()
            .find_map(|record| match record {
                Record::Started { stage: s, step, .. } if (s, &step.id) == (stage, id) => {
                    Some(step.act.to_string())
                }
                _ => None,
            })
            .unwrap_or_else(|| "a step".to_owned())
    };
    match record {
        Record::Begin(_) => "begin".to_owned(),
        Record::Facts { .. } => "facts".to_owned(),
        Record::Plan { .. } => "plan".to_owned(),
        Record::Started { step, .. } => format!("started: {}", step.act),
        Record::Done { stage, step, .. } => format!("done: {}", act(stage, step)),
        Record::Failed { stage, step, .. } => format!("failed: {}", act(stage, step)),
        Record::TakenUp { by, .. } => format!("taken up by {by}"),
        Record::End { exit_code, .. } => format!("end with {exit_code}"),
        _ => "another record".to_owned(),
    }
}
