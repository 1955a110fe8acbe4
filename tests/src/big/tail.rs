//! A large load that only the dead primary's disk holds: applied by every survivor, how fast beside their own
//! replication of the same load, how soon the new primary takes writes, and in how much memory.

use std::time::{Duration, Instant};

use super::memory::Peaks;
use super::replay::Equalised;
use super::{Kind, Load, normal, replay};
use crate::sandbox::deployment::{DeploymentSpec, server_name};
use crate::sandbox::first_write::Watch;
use crate::sandbox::slot::Slot;
use crate::sandbox::{Cluster, ClusterSpec, SandboxError, Server, ServerKind, replica};
use crate::watched::{Watched, wrong};

/// The share of a server's own replication that a replay must reach.
const SHARE: f64 = 0.8;
/// Between two tries of a client to write: rare enough not to take the processor from what it waits for.
const PAUSE: Duration = Duration::from_millis(10);
/// Longest wait for the first write.
const FIRST_WRITE: Duration = Duration::from_secs(3600);

/// What to play.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Line of the servers.
    pub server: ServerKind,
    /// Number of replicas.
    pub replicas: u8,
    /// They follow by GTID.
    pub gtid: bool,
    /// What only the dead primary holds.
    pub load: Load,
    /// Longest time from the kill to the first write that passes; none if absent.
    pub limit: Option<Duration>,
    /// Options of all servers, on top of what the load needs.
    pub options: Vec<(String, String)>,
}

/// Plays it; `say` prints a line for each figure. True if every limit was kept.
///
/// # Errors
/// The sandbox's, and a survivor that does not hold what the primary held.
pub async fn run(
    plan: &Plan,
    say: impl Fn(&str) -> Result<(), SandboxError>,
) -> Result<bool, SandboxError> {
    let _alone = Slot::alone().await?;
    let load = plan.load;
    let mut spec = ClusterSpec::new(plan.server).replicas(plan.replicas);
    spec.options = load.options(plan.server);
    for (name, value) in &plan.options {
        spec = spec.set(name, value);
    }
    if plan.gtid {
        spec = spec.by_gtid();
    }
    let replication = spec.replication;
    let cluster = Cluster::start(spec).await?;
    load.prepare(cluster.primary()).await?;
    say(&format!(
        "tail: {load}, {}{}, replicas: {}, load average {}; {}",
        plan.server,
        if plan.gtid { " by GTID" } else { "" },
        plan.replicas,
        load_average(),
        durability(cluster.server(1)).await?,
    ))?;

    let normal = normal::replicate(&cluster, replication, load, 0).await?;
    if load.kind != Kind::Tiny {
        load.clear(cluster.primary()).await?;
        purge(&cluster).await?;
    }
    let watched = Watched::start(cluster, DeploymentSpec::default()).await?;
    if plan.replicas > 1 {
        watched.leased().await?;
    }
    let idle = Peaks::read(&watched)?;
    let cluster = &watched.cluster;
    for number in 1..cluster.servers().len() {
        cluster.hold_here(number).await?;
    }
    load.write(cluster.primary(), 1).await?;
    let wanted = load.held(cluster.primary()).await?;
    let replaced = lose_the_primary(&watched, FIRST_WRITE).await?;
    let mut good = true;
    let mut judge = |kept: bool| {
        good &= kept;
        if kept { "" } else { ", MISSED" }
    };

    let equalised = replay::equalised(&replaced.report)?;
    let (amount, unit) = load.amount();
    let rate = |took: Duration| amount / took.as_secs_f64().max(1e-6);
    for (server, took) in cluster.replicas().zip(&normal) {
        let own = done_by(&equalised, server)?;
        let [_, switch, took_replay] = own.phases();
        let share = rate(took_replay) / rate(*took);
        say(&format!(
            "{}: replay {:.2} s = {:.0} {unit}/s; its own replication {:.2} s = {:.0} {unit}/s; share {share:.2}, limit {SHARE}{}; switch {} ms, {} connections",
            server.name(),
            took_replay.as_secs_f64(),
            rate(took_replay),
            took.as_secs_f64(),
            rate(*took),
            judge(share >= SHARE),
            switch.as_millis(),
            own.applied.connections,
        ))?;
    }
    let limit = plan.limit.map_or_else(String::new, |limit| {
        format!(
            ", limit {} ms{}",
            limit.as_millis(),
            judge(replaced.first_write < limit)
        )
    });
    say(&format!(
        "kill to first write {} ms{limit}; {}",
        replaced.first_write.as_millis(),
        steps(&replaced.report),
    ))?;
    let peaks = Peaks::read(&watched)?;
    say(&format!("{peaks}{}", judge(peaks.good())))?;
    say(&format!("before the load: {idle}"))?;

    let winner = cluster.server(replaced.new_primary);
    for server in cluster.replicas() {
        if server.name() != winner.name() {
            replica::wait_level(server, winner).await?;
        }
        let held = load.held(server).await?;
        if held != wanted {
            return Err(wrong(
                &format!("{} with what the primary held: {wanted}", server.name()),
                &held,
            ));
        }
    }
    say(&format!(
        "every survivor holds what the primary held; exit code {}, {}",
        replaced.report.exit_code, replaced.report.summary
    ))?;
    Ok(good && replaced.report.exit_code == 0)
}

/// What the loss of the primary brought.
pub(super) struct Replaced {
    /// From the kill to the first row that a survivor took.
    pub(super) first_write: Duration,
    /// Number of the new primary.
    pub(super) new_primary: usize,
    /// What the manager reported.
    pub(super) report: manager::report::Report,
}

/// Kills the primary and waits for the end of the failover.
pub(super) async fn lose_the_primary(
    watched: &Watched,
    limit: Duration,
) -> Result<Replaced, SandboxError> {
    let cluster = &watched.cluster;
    let survivors: Vec<&Server> = cluster.replicas().collect();
    let watch = Watch::start_every(&survivors, PAUSE).await?;
    let killed = Instant::now();
    cluster.crash(0)?;
    let first = watch.wait(limit).await.map_err(|error| {
        let seen = format!("{error}\n{}", watched.daemon.log_text());
        wrong("a first write", &seen)
    })?;
    let report = replay::report(watched).await?;
    let new_primary = (1..cluster.servers().len())
        .find(|number| cluster.server(*number).name() == first.server)
        .unwrap_or_default();
    Ok(Replaced {
        first_write: first.at.duration_since(killed),
        new_primary,
        report,
    })
}

/// What this server's agent did.
pub(super) fn done_by<'a>(
    all: &'a [Equalised],
    server: &Server,
) -> Result<&'a Equalised, SandboxError> {
    let name = server_name(server);
    all.iter()
        .rfind(|one| one.server == name)
        .ok_or_else(|| wrong(&format!("an apply of {name}"), &format!("{all:?}")))
}

/// When the acts that take long had ended, in milliseconds from the manager's beginning.
fn steps(report: &manager::report::Report) -> String {
    let told: Vec<String> = report
        .timeline
        .iter()
        .filter(|step| step.finished_us.saturating_sub(step.started_us) > 20_000)
        .map(|step| {
            format!(
                "{} {}..{}",
                step.act,
                step.started_us / 1000,
                step.finished_us / 1000
            )
        })
        .collect();
    format!("steps over 20 ms: {}", told.join(", "))
}

/// The settings that decide what a commit costs.
async fn durability(server: &Server) -> Result<String, SandboxError> {
    let rows = server
        .rows(
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('sync_binlog','innodb_flush_log_at_trx_commit',\
             'relay_log_info_repository','sync_relay_log','sync_relay_log_info','slave_parallel_workers',\
             'replica_parallel_workers','slave_parallel_threads')",
        )
        .await?;
    let told: Vec<String> = rows
        .iter()
        .map(|row| {
            format!(
                "{}={}",
                row.at(0).unwrap_or_default(),
                row.at(1).unwrap_or_default()
            )
        })
        .collect();
    Ok(told.join(" "))
}

/// The machine's load average of the last minute; other work beside a measurement spoils it.
pub(super) fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

/// Gives the disk back what the first round took.
async fn purge(cluster: &Cluster) -> Result<(), SandboxError> {
    for server in cluster.servers() {
        replica::rotate(server).await?;
    }
    cluster.wait_caught_up().await?;
    for server in cluster.servers() {
        let now = replica::binlog_end(server).await?.file;
        server
            .exec(&format!("PURGE BINARY LOGS TO '{now}'"))
            .await?;
    }
    Ok(())
}
