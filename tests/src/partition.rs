//! Hosts that lose sight of each other while a manager watches: what must not be a failover, and what must be one with at
//! most one writable server at any moment.

use std::time::{Duration, Instant};

use crate::sandbox::deployment::{CLUSTER, DeploymentSpec, server_name};
use crate::sandbox::links::{Flow, Host, Links};
use crate::sandbox::slot::Slot;
use crate::sandbox::wait::{self, Look};
use crate::sandbox::witness::{self, Diary, Witness};
use crate::sandbox::{Cluster, ClusterSpec, SandboxError, ServerKind, replica};
use crate::watched::{Watched, wrong};

/// As long as several verdicts would take.
const LONG: Duration = Duration::from_secs(5);
/// How long a failover may take here; the figures are `sandbox speed`'s.
const REPLACED: Duration = Duration::from_secs(60);
/// The hosts of a cluster of three servers.
pub const HOSTS: [Host; 4] = [
    Host::Manager,
    Host::Server(0),
    Host::Server(1),
    Host::Server(2),
];
/// The host of the primary.
pub const PRIMARY: Host = Host::Server(0);

/// Which packets are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// All.
    Both,
    /// Those that the first host sends.
    Out,
    /// Those that it should receive.
    In,
}

impl Direction {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Both, Self::Out, Self::In];
}

/// A host and those that it cannot talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The host.
    pub host: Host,
    /// The others.
    pub from: Vec<Host>,
    /// Which packets.
    pub direction: Direction,
}

impl Partition {
    /// Between two hosts.
    pub fn between(host: Host, other: Host, direction: Direction) -> Self {
        Self {
            host,
            from: vec![other],
            direction,
        }
    }

    /// Of a host from all others of the cluster.
    pub fn of(host: Host, direction: Direction) -> Self {
        let from = HOSTS.into_iter().filter(|other| *other != host).collect();
        Self {
            host,
            from,
            direction,
        }
    }

    /// A failover must follow: nobody reaches the primary's host.
    pub fn loses_the_primary(&self) -> bool {
        self.host == PRIMARY && self.from.len() == HOSTS.len() - 1
    }

    /// Loses these packets from now on.
    pub fn apply(&self, links: &Links) {
        for other in &self.from {
            if self.direction != Direction::In {
                links.set(self.host, *other, Flow::Lost);
            }
            if self.direction != Direction::Out {
                links.set(*other, self.host, Flow::Lost);
            }
        }
    }
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |host: &Host| match host {
            Host::Manager => "the manager".to_owned(),
            Host::Server(0) => "the primary".to_owned(),
            Host::Server(number) => format!("db{}", number + 1),
            Host::Client => "clients".to_owned(),
        };
        let others = if self.from.len() + 1 == HOSTS.len() {
            "everybody".to_owned()
        } else {
            self.from.iter().map(name).collect::<Vec<_>>().join(", ")
        };
        let host = name(&self.host);
        match self.direction {
            Direction::Both => write!(f, "nothing passes between {host} and {others}"),
            Direction::Out => write!(f, "nothing passes from {host} to {others}"),
            Direction::In => write!(f, "nothing passes from {others} to {host}"),
        }
    }
}

/// A watched cluster whose hosts can lose sight of each other, and its witness.
#[derive(Debug)]
pub struct Divided {
    /// The cluster, agents and manager.
    pub watched: Watched,
    witness: Witness,
}

/// What a partition brought.
#[derive(Debug, Clone)]
pub struct Replaced {
    /// From the loss of the last packet to the last row that the old primary took.
    pub old_wrote_for: Duration,
    /// From the loss of the last packet to the first row that the new primary took.
    pub first_write: Duration,
    /// Rows that each server took.
    pub rows: Vec<u64>,
}

impl Divided {
    /// Starts everything.
    pub async fn start(kind: ServerKind, seed: u64) -> Result<Self, SandboxError> {
        // Replicas notice a silent source soon, so that they are whole again after each partition.
        let spec = ClusterSpec::new(kind)
            .relays(seed)
            .set("slave-net-timeout", 4)
            .set("read-only", 1);
        let cluster = Cluster::start(spec).await?;
        cluster.primary().exec("SET GLOBAL read_only=0").await?;
        let watched = Watched::start(cluster, DeploymentSpec::default()).await?;
        watched.leased().await?;
        let witness = Witness::start(&watched.cluster);
        Ok(Self { watched, witness })
    }

    fn links(&self) -> Result<&Links, SandboxError> {
        self.watched
            .cluster
            .links()
            .ok_or_else(|| wrong("relays", "none"))
    }

    /// Failovers that were begun so far.
    pub fn failovers(&self) -> usize {
        let state = self.watched.deployment.manager_state();
        let Ok(entries) = std::fs::read_dir(state.join("journal").join(CLUSTER)) else {
            return 0;
        };
        entries
            .filter_map(Result::ok)
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "journal"))
            .count()
    }

    /// For a while nothing is done about it; afterwards everything is as before.
    pub async fn left_alone(&self, partition: &Partition) -> Result<(), SandboxError> {
        let links = self.links()?;
        partition.apply(links);
        tokio::time::sleep(LONG).await;
        links.heal();
        let daemon = &self.watched.daemon;
        let name = server_name(self.watched.cluster.primary());
        let whole = |status: &serde_json::Value| {
            let servers = status["servers"].as_array();
            status["state"] == 0
                && status["primary"] == name.as_str()
                && servers.is_some_and(|all| all.iter().all(|s| s["agent_heard"] == true))
        };
        daemon
            .until(&format!("all to be well again ({partition})"), whole)
            .await?;
        let end = replica::binlog_end(self.watched.cluster.primary()).await?;
        for server in self.watched.survivors() {
            replica::wait_until(server, "replicate again", |status| {
                Ok(status.sql_running()? && status.executed()?.offset >= end.offset)
            })
            .await?;
        }
        match self.failovers() {
            0 => Ok(()),
            count => Err(wrong(
                &format!("no failover while {partition}"),
                &format!("{count}\n{}", daemon.log_text()),
            )),
        }
    }

    /// Nobody reaches the primary any more: it is replaced, and refuses writes before the new one takes any, also once it
    /// can be reached again.
    pub async fn replaced(self, partition: &Partition) -> Result<Replaced, SandboxError> {
        let lost = Instant::now();
        partition.apply(self.links()?);
        let old = server_name(self.watched.cluster.primary());
        let daemon = &self.watched.daemon;
        let is_replaced = |status: &serde_json::Value| {
            status["state"] == 0
                && status["primary"]
                    .as_str()
                    .is_some_and(|primary| primary != old)
        };
        daemon
            .until(&format!("a new primary ({partition})"), is_replaced)
            .await?;
        let servers = self.watched.survivors();
        wait::until("a survivor that takes rows", REPLACED, || async {
            for server in servers {
                if server.value("SELECT @@read_only").await? == "0" {
                    return Ok(Look::Done(()));
                }
            }
            Ok(Look::NotYet("all are read-only".to_owned()))
        })
        .await?;
        tokio::time::sleep(LONG / 5).await;
        self.links()?.heal();
        // Whatever it hears now, it is deposed.
        tokio::time::sleep(LONG).await;
        let primary = self.watched.cluster.primary();
        let read_only = primary.value("SELECT @@read_only").await?;
        let text = self.watched.daemon.log_text();
        if read_only != "1" {
            return Err(wrong(
                "a read-only old primary",
                &format!("read_only={read_only}\n{text}"),
            ));
        }
        let diaries = self.witness.finish().await;
        let together = witness::together(&diaries);
        if !together.is_empty() {
            let seen = together.join("; ");
            return Err(wrong(
                "one writable server at a time",
                &format!("{seen}\n{text}"),
            ));
        }
        summary(lost, &diaries).ok_or_else(|| {
            wrong(
                "rows taken by the old primary and one survivor",
                &format!("{diaries:?}\n{text}"),
            )
        })
    }

    /// Ends the witness: only the primary took rows. Returns its diary.
    pub async fn undivided(self) -> Result<Diary, SandboxError> {
        let mut diaries = self.witness.finish().await;
        let rows: Vec<u64> = diaries.iter().map(Diary::rows).collect();
        match rows.split_first() {
            Some((own, others)) if *own > 0 && others.iter().all(|rows| *rows == 0) => {
                Ok(diaries.swap_remove(0))
            }
            _ => Err(wrong(
                "rows taken by the primary alone",
                &format!("{rows:?}"),
            )),
        }
    }
}

fn summary(lost: Instant, diaries: &[Diary]) -> Option<Replaced> {
    let (old, others) = diaries.split_first()?;
    let first_write = others.iter().filter_map(Diary::first_row).min()?;
    Some(Replaced {
        old_wrote_for: old.last_row()?.saturating_duration_since(lost),
        first_write: first_write.saturating_duration_since(lost),
        rows: diaries.iter().map(Diary::rows).collect(),
    })
}

/// Runs the whole matrix: every pair of hosts in every direction, one host without all others, and the primary's host that
/// nobody reaches.
///
/// # Errors
/// The sandbox's, and the first partition that brought something else than it should.
pub async fn run_all(
    kind: ServerKind,
    seed: u64,
    say: impl Fn(&str) -> Result<(), SandboxError>,
) -> Result<(), SandboxError> {
    let _slot = Slot::take().await?;
    let mut all = Vec::new();
    for direction in Direction::ALL {
        for (number, host) in HOSTS.into_iter().enumerate() {
            all.push(Partition::of(host, direction));
            for other in HOSTS.into_iter().skip(number + 1) {
                all.push(Partition::between(host, other, direction));
            }
        }
    }
    let (deadly, harmless): (Vec<_>, Vec<_>) =
        all.into_iter().partition(Partition::loses_the_primary);
    let divided = Divided::start(kind, seed).await?;
    for partition in &harmless {
        divided.left_alone(partition).await?;
        say(&format!("{partition}: no failover"))?;
    }
    let primary = divided.undivided().await?;
    let longest = primary.interruptions().into_iter().max();
    say(&format!(
        "{} rows taken by the primary alone; refused for at most {longest:?}",
        primary.rows()
    ))?;
    for partition in &deadly {
        let replaced = Divided::start(kind, seed)
            .await?
            .replaced(partition)
            .await?;
        say(&format!(
            "{partition}: the old primary took its last row after {:?}, the new one its first after {:?}; rows {:?}",
            replaced.old_wrote_for, replaced.first_write, replaced.rows
        ))?;
    }
    Ok(())
}
