//! A watched cluster under load: the primary is killed, and nobody types a command.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use manager::report::Report;
use manager::returned::Found;

use crate::partition;
use crate::sandbox::accounts::APPLICATION;
use crate::sandbox::daemon::Daemon;
use crate::sandbox::deployment::{Deployment, DeploymentSpec, server_name};
use crate::sandbox::error::chain;
use crate::sandbox::first_write::{self, Watch};
use crate::sandbox::links::{Host, Links};
use crate::sandbox::load::{self, Load, LoadSpec};
use crate::sandbox::wait::{self, Look};
use crate::sandbox::witness::{self, Diary, Witness};
use crate::sandbox::{Cluster, ClusterSpec, SandboxError, Server, ServerKind, compare, replica};
use crate::scenario::half::{self, Engine};
use crate::scenario::ledger::Ledger;

/// How long the wait for the first write may be.
const FIRST_WRITE: Duration = Duration::from_secs(60);
/// How long the load runs before the kill.
const BEFORE: Duration = Duration::from_millis(700);
/// Rows at least that it has written by then.
const ROWS_BEFORE: usize = 20;

/// How the primary is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// SIGKILL of mysqld; its host and agent live.
    Killed,
    /// SIGSTOP of mysqld and its agent: not a byte comes back.
    HostFrozen,
    /// Not a packet passes between its host and all others, clients included; the cluster must have relays.
    HostCut,
    /// SIGSTOP of mysqld alone.
    Hung,
    /// The disk of its data directory completes no write, the one of its binary log does; see [`ClusterSpec::stalling_disk`].
    DiskStalled,
}

impl Loss {
    /// Nobody can read what the lost host alone held.
    fn takes_the_log(self) -> bool {
        matches!(self, Self::HostFrozen | Self::HostCut)
    }
}

/// How a cluster stands when its primary is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Before {
    /// Its replicas follow by GTID.
    pub gtid: bool,
    /// The replica that is no candidate holds the first part of a transaction, and nothing behind it.
    pub half: bool,
}

/// Servers, agents and a manager that watches them.
#[derive(Debug)]
pub struct Watched {
    /// Ends before agents and servers do.
    pub daemon: Daemon,
    /// Agents.
    pub deployment: Deployment,
    /// The servers.
    pub cluster: Cluster,
}

/// What a loss brought.
#[derive(Debug, Clone)]
pub struct Replaced {
    /// From the loss to the first row that a survivor took.
    pub first_write: Duration,
    /// Number of the new primary.
    pub new_primary: usize,
    /// Rows that the client saw acknowledged before the loss; all are on both survivors, but for those that nobody had
    /// received when a host was lost.
    pub acknowledged: usize,
    /// From the loss to the last row that the old primary took; `None` if it took none.
    pub old_wrote_for: Option<Duration>,
}

/// What the loss and return of a host brought.
#[derive(Debug, Clone)]
pub struct Thawed {
    /// From the loss to the first row that a survivor took.
    pub first_write: Duration,
    /// From the return to the first row that the old primary refused.
    pub refused_after: Duration,
    /// Rows that are on the old primary alone, all of them in the report.
    pub alone: usize,
}

impl Watched {
    /// Starts everything; `db2` is the preferred candidate.
    pub async fn start(cluster: Cluster, spec: DeploymentSpec) -> Result<Self, SandboxError> {
        first_write::prepare(cluster.primary()).await?;
        load::prepare(cluster.primary()).await?;
        witness::prepare(cluster.primary()).await?;
        cluster.wait_caught_up().await?;
        let deployment = Deployment::start(&cluster, &spec.candidate(1, "preferred")).await?;
        let daemon = Daemon::start(&deployment).await?;
        Ok(Self {
            daemon,
            deployment,
            cluster,
        })
    }

    /// Three servers of a line.
    pub async fn prepare(kind: ServerKind) -> Result<Self, SandboxError> {
        Self::prepare_for(kind, Loss::Killed, Before::default()).await
    }

    /// Three servers of a line, with what this loss needs, standing like this.
    pub async fn prepare_for(
        kind: ServerKind,
        loss: Loss,
        before: Before,
    ) -> Result<Self, SandboxError> {
        let mut plain = ClusterSpec::new(kind);
        if before.gtid {
            plain = plain.by_gtid();
        }
        let spec = match loss {
            Loss::Killed | Loss::HostFrozen | Loss::Hung => plain,
            Loss::HostCut => plain.relays(0),
            Loss::DiskStalled => plain.stalling_disk(),
        };
        let watched = Self::start(Cluster::start(spec).await?, DeploymentSpec::default()).await?;
        watched.leased().await?;
        if before.half {
            let cluster = &watched.cluster;
            let mut ledger = Ledger::open(cluster.primary()).await?;
            half::leave(cluster, &mut ledger, Engine::Transactional, 2, &[1])
                .await
                .map_err(|error| wrong("a replica with half a transaction", &chain(&error)))?;
        }
        Ok(watched)
    }

    /// The survivors.
    pub fn survivors(&self) -> [&Server; 2] {
        [self.cluster.server(1), self.cluster.server(2)]
    }

    /// Loses the primary under load, waits for a new one, and checks that at any moment at most one server took rows, and that
    /// nothing that was acknowledged is missing; where the host was lost with it, the last rows may be.
    pub async fn lose_the_primary(&self, loss: Loss) -> Result<Replaced, SandboxError> {
        let watch = Watch::start(&self.survivors()).await?;
        let login = self
            .cluster
            .primary()
            .login(APPLICATION.user, APPLICATION.password);
        let load = Load::start(&login, &LoadSpec::default());
        let witness = Witness::start(&self.cluster);
        tokio::time::sleep(BEFORE).await;
        load.wait_for(ROWS_BEFORE).await?;
        let lost = Instant::now();
        match loss {
            Loss::Killed => self.cluster.crash(0)?,
            Loss::HostFrozen => {
                self.deployment.agent(0).freeze()?;
                self.cluster.primary().freeze()?;
            }
            Loss::HostCut => {
                let links = self.links()?;
                partition::Partition::of(partition::PRIMARY, partition::Direction::Both)
                    .apply(links);
                links.cut(Host::Client, partition::PRIMARY);
            }
            Loss::Hung => self.cluster.primary().freeze()?,
            Loss::DiskStalled => match self.cluster.stalling_disk() {
                Some(disk) => disk.stall()?,
                None => return Err(wrong("a disk that can stand still", "none")),
            },
        }
        let first = watch
            .wait(FIRST_WRITE)
            .await
            .map_err(|error| self.explained(error))?;
        let first_write = first.at.duration_since(lost);
        if matches!(loss, Loss::Hung | Loss::DiskStalled) && self.cluster.primary().is_running() {
            return Err(wrong(
                "no mysqld on the old primary's host before the new one takes writes",
                &self.daemon.log_text(),
            ));
        }
        let new_primary = if first.server == self.cluster.server(1).name() {
            1
        } else {
            2
        };
        if loss == Loss::HostFrozen {
            // Its clients wait for an answer that never comes.
            self.cluster.primary().kill()?;
        }
        if loss == Loss::HostCut {
            self.links()?.refuse(Host::Client, partition::PRIMARY);
        }
        let written = load.finish().await;
        let name = server_name(self.cluster.server(new_primary));
        self.daemon
            .until("the new primary watched", |status| {
                status["primary"] == name.as_str()
            })
            .await?;
        let diaries = witness.finish().await;
        let old = self.one_at_a_time(&diaries)?;
        if loss == Loss::HostCut && !old.refused_after(lost) {
            let seen = format!("{old:?}\n{}", self.daemon.log_text());
            return Err(wrong("an old primary that closed itself", &seen));
        }
        self.check(new_primary, &written.acknowledged, loss).await?;
        Ok(Replaced {
            first_write,
            new_primary,
            acknowledged: written.acknowledged.len(),
            old_wrote_for: old
                .last_row()
                .and_then(|row| row.checked_duration_since(lost)),
        })
    }

    /// The primary's diary, if at any moment at most one server took rows.
    fn one_at_a_time<'a>(&self, diaries: &'a [Diary]) -> Result<&'a Diary, SandboxError> {
        let together = witness::together(diaries);
        match diaries.first() {
            Some(primary) if together.is_empty() => Ok(primary),
            _ => {
                let seen = format!("{}\n{}", together.join("; "), self.daemon.log_text());
                Err(wrong("one writable server at a time", &seen))
            }
        }
    }

    /// Waits until the primary's lease is in force, as it is soon after the manager's start.
    pub async fn leased(&self) -> Result<(), SandboxError> {
        let waited = wait::until("the primary's lease", FIRST_WRITE, || async {
            Ok(if self.daemon.log_text().contains("it holds a lease") {
                Look::Done(())
            } else {
                Look::NotYet("nobody was told".to_owned())
            })
        })
        .await;
        waited.map_err(|error| self.explained(error))
    }

    /// The report of the first failover, once what the replaced primary wrote has been read.
    pub async fn report_of_the_returned(&self) -> Result<Report, SandboxError> {
        let folder = self.deployment.manager_state().join("operations");
        let waited = wait::until("the old primary's log to be read", FIRST_WRITE, || async {
            let found = std::fs::read_dir(&folder)
                .into_iter()
                .flatten()
                .filter_map(Result::ok)
                .filter_map(|entry| std::fs::read(entry.path().join("report.json")).ok())
                .filter_map(|text| serde_json::from_slice::<Report>(&text).ok())
                .find(|report| report.returned.is_some());
            Ok(match found {
                Some(report) => Look::Done(report),
                None => Look::NotYet("no report says so".to_owned()),
            })
        })
        .await;
        waited.map_err(|error| self.explained(error))
    }

    /// Freezes the primary's host, waits for a new primary, and thaws it: what the old one took meanwhile must be found.
    pub async fn freeze_and_thaw(&self) -> Result<Thawed, SandboxError> {
        self.leased().await?;
        let watch = Watch::start(&self.survivors()).await?;
        let witness = Witness::start(&self.cluster);
        tokio::time::sleep(BEFORE).await;
        let (old, agent) = (self.cluster.primary(), self.deployment.agent(0));
        let lost = Instant::now();
        agent.freeze()?;
        old.freeze()?;
        let first = watch
            .wait(FIRST_WRITE)
            .await
            .map_err(|error| self.explained(error))?;
        let name = server_name(old);
        let replaced = |status: &serde_json::Value| {
            status["state"] == 0 && status["primary"].as_str().is_some_and(|now| now != name)
        };
        self.daemon.until("a new primary", replaced).await?;
        let thawed = Instant::now();
        old.thaw()?;
        agent.thaw()?;
        let shut = wait::until("the old primary to be read-only", FIRST_WRITE, || async {
            Ok(match old.value("SELECT @@read_only").await {
                Ok(value) if value == "1" => Look::Done(()),
                Ok(value) => Look::NotYet(value),
                Err(error) => Look::NotYet(error.to_string()),
            })
        });
        shut.await.map_err(|error| self.explained(error))?;
        let report = self.report_of_the_returned().await?;
        let diaries = witness.finish().await;
        let refused = diaries
            .first()
            .and_then(|diary| diary.refused().find(|one| one.first.answered > thawed));
        let Some(refused) = refused else {
            return Err(wrong(
                "a refusal of the old primary",
                &format!("{diaries:?}"),
            ));
        };
        let winner = self
            .survivors()
            .into_iter()
            .find(|s| s.name() == first.server);
        let there = witness::rows(winner.unwrap_or(old)).await?;
        let alone = witness::rows(old).await?.difference(&there).count();
        let listed = match report.returned.map(|returned| returned.found) {
            Some(Found::Written(written)) => written.transactions,
            _ => 0,
        };
        if usize::try_from(listed) != Ok(alone) {
            let seen = format!("{listed}\n{}", self.daemon.log_text());
            return Err(wrong(&format!("{alone} transactions in the report"), &seen));
        }
        Ok(Thawed {
            first_write: first.at.duration_since(lost),
            refused_after: refused.first.answered.duration_since(thawed),
            alone,
        })
    }

    fn links(&self) -> Result<&Links, SandboxError> {
        self.cluster.links().ok_or_else(|| wrong("relays", "none"))
    }

    fn explained(&self, error: SandboxError) -> SandboxError {
        SandboxError::Tool {
            command: "mha-manager run".to_owned(),
            status: error.to_string(),
            output: self.daemon.log_text(),
        }
    }

    async fn check(
        &self,
        new_primary: usize,
        acknowledged: &BTreeSet<u64>,
        loss: Loss,
    ) -> Result<(), SandboxError> {
        let differs = |seen: String| SandboxError::Wait {
            what: "equal survivors with every acknowledged row".to_owned(),
            waited: Duration::ZERO,
            seen,
        };
        let [winner, other] = [new_primary, 3 - new_primary].map(|n| self.cluster.server(n));
        replica::wait_level(other, winner).await?;
        let survivors = self.survivors();
        compare::all_equal(&survivors).await?.map_err(differs)?;
        for server in survivors {
            let rows = load::rows(server).await?;
            let lost: Vec<u64> = acknowledged.difference(&rows).copied().collect();
            // Nobody can have what a host took with it: the last rows, which no replica had received yet.
            let only_the_last = lost
                .iter()
                .all(|id| rows.range(id..&end_of_session(*id)).next().is_none());
            let excused = loss.takes_the_log() && only_the_last;
            if !lost.is_empty() && !excused {
                let lost = lost.len();
                return Err(differs(format!(
                    "{} lacks {lost} of {} acknowledged rows\n{}",
                    server.name(),
                    acknowledged.len(),
                    self.daemon.log_text()
                )));
            }
        }
        Ok(())
    }
}

/// An error of something that is not as it must be.
pub(crate) fn wrong(wanted: &str, seen: &str) -> SandboxError {
    SandboxError::Wait {
        what: wanted.to_owned(),
        waited: Duration::ZERO,
        seen: seen.to_owned(),
    }
}

/// Rows of a session are numbered upwards from its number in the upper half.
fn end_of_session(id: u64) -> u64 {
    id | u64::from(u32::MAX)
}
