//! Many replicas in mixed states, equalised at the same time: how long that takes beside one replica alone.

use std::time::Duration;

use super::replay::{self, Equalised};
use super::tail::{self, Replaced, done_by};
use crate::sandbox::deployment::DeploymentSpec;
use crate::sandbox::replica::{self, LogPlace};
use crate::sandbox::slot::Slot;
use crate::sandbox::{Cluster, ClusterSpec, SandboxError, ServerKind, compare};
use crate::scenario::ledger::{self, Ledger};
use crate::watched::{Watched, wrong};

/// Stretches of rows before the last transaction that some replica received.
const STRETCHES: usize = 4;
/// Rows of the transaction of which replicas hold a part.
const TOGETHER: u32 = 40;
/// Longest wait for the first write.
const FIRST_WRITE: Duration = Duration::from_secs(600);

/// What a replica holds when the primary is killed. Nobody holds the last stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Everything that any replica holds.
    CaughtUp,
    /// It received, and executed, so many stretches.
    Behind(usize),
    /// It received everything; its applier was stopped after so many stretches.
    Stopped(usize),
    /// All stretches, and the first part of the transaction behind them.
    Half,
}

/// The states of eight replicas; further ones begin again with the first.
const STATES: [State; 8] = [
    State::Behind(0),
    State::CaughtUp,
    State::Behind(3),
    State::Stopped(2),
    State::Half,
    State::Behind(1),
    State::Stopped(0),
    State::Behind(2),
];

/// What to play.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Line of the servers.
    pub server: ServerKind,
    /// Number of replicas.
    pub number: u8,
    /// Rows of each stretch, one transaction each.
    pub rows: u32,
}

/// Plays it with one replica, the one that is furthest behind, then with all; `say` prints a line for each figure. True if
/// all together took less than one after the other would, and nothing needs care.
///
/// # Errors
/// The sandbox's, and any difference between the survivors and what the client saw acknowledged.
pub async fn run(
    plan: &Plan,
    say: impl Fn(&str) -> Result<(), SandboxError>,
) -> Result<bool, SandboxError> {
    let _alone = Slot::alone().await?;
    say(&format!(
        "replicas: {} of {}, {} rows in the stretch that nobody has, load average {}",
        plan.number,
        plan.server,
        plan.rows,
        tail::load_average()
    ))?;
    let one = play(&Plan { number: 1, ..*plan }, &say).await?;
    let all = play(plan, &say).await?;
    let serial = one.took.mul_f64(f64::from(plan.number));
    let kept = all.took < serial;
    say(&format!(
        "{} replicas equalised in {} ms, one in {} ms: {:.1} times as long; limit {}{}",
        plan.number,
        all.took.as_millis(),
        one.took.as_millis(),
        all.took.as_secs_f64() / one.took.as_secs_f64().max(1e-6),
        plan.number,
        if kept { "" } else { ", MISSED" },
    ))?;
    Ok(kept && one.good && all.good)
}

/// What one play measured.
struct Measured {
    /// From the beginning of the first replica's drain or replay to the end of the last one's.
    took: Duration,
    /// Nothing needs care.
    good: bool,
}

async fn play(
    plan: &Plan,
    say: &impl Fn(&str) -> Result<(), SandboxError>,
) -> Result<Measured, SandboxError> {
    let cluster = Cluster::start(ClusterSpec::new(plan.server).replicas(plan.number)).await?;
    let watched = Watched::start(cluster, DeploymentSpec::default()).await?;
    if plan.number > 1 {
        watched.leased().await?;
    }
    let cluster = &watched.cluster;
    let mut ledger = Ledger::open(cluster.primary()).await?;
    prepare(cluster, &mut ledger, plan.rows).await?;
    let replaced = tail::lose_the_primary(&watched, FIRST_WRITE).await?;
    check(cluster, &ledger, &replaced).await?;

    let equalised = replay::equalised(&replaced.report)?;
    for (number, server) in cluster.replicas().enumerate() {
        say(&format!(
            "{} {:?}: {}",
            server.name(),
            state(number),
            told(done_by(&equalised, server)?)
        ))?;
    }
    let took = wall(&equalised);
    say(&format!(
        "{} replicas: equalised in {} ms, kill to first write {} ms, exit code {}",
        plan.number,
        took.as_millis(),
        replaced.first_write.as_millis(),
        replaced.report.exit_code
    ))?;
    Ok(Measured {
        took,
        good: replaced.report.exit_code == 0,
    })
}

fn state(replica: usize) -> State {
    STATES
        .get(replica % STATES.len())
        .copied()
        .unwrap_or(State::CaughtUp)
}

fn told(one: &Equalised) -> String {
    let [drain, switch, replay] = one.phases().map(|took| took.as_millis());
    format!("drain {drain} ms, switch {switch} ms, replay {replay} ms")
}

/// From the beginning of the first one to the end of the last one.
fn wall(all: &[Equalised]) -> Duration {
    let began = all.iter().map(|one| one.began_ms).min().unwrap_or_default();
    let ended = all.iter().map(|one| one.ended_ms).max().unwrap_or_default();
    Duration::from_millis(ended.saturating_sub(began))
}

/// Brings every replica to its state, and the primary to the end of the last stretch.
async fn prepare(cluster: &Cluster, ledger: &mut Ledger, rows: u32) -> Result<(), SandboxError> {
    // A twin of the transaction that some will hold a part of tells its size.
    let before = replica::binlog_end(cluster.primary()).await?;
    ledger.write_together(TOGETHER).await?;
    let size = replica::binlog_end(cluster.primary()).await?.offset - before.offset;
    cluster.wait_caught_up().await?;
    let replicas = || (1..cluster.servers().len()).map(|number| (number, state(number - 1)));
    for stretch in 0..STRETCHES {
        let end = replica::binlog_end(cluster.primary()).await?;
        for (number, state) in replicas() {
            let server = cluster.server(number);
            if state == State::Behind(stretch) {
                cluster.hold_here(number).await?;
                replica::wait_executed(server, &end).await?;
            } else if state == State::Stopped(stretch) {
                replica::wait_executed(server, &end).await?;
                let stop = server.kind().statement("STOP SLAVE SQL_THREAD");
                server.exec(&stop).await?;
            }
        }
        ledger.write(rows).await?;
    }
    let start = replica::binlog_end(cluster.primary()).await?;
    let middle = LogPlace::new(&start.file, start.offset + size * 6 / 10);
    for (number, _) in replicas().filter(|(_, state)| *state == State::Half) {
        replica::wait_executed(cluster.server(number), &start).await?;
        cluster.hold(number, &middle);
    }
    ledger.write_together(TOGETHER).await?;
    for (number, state) in replicas() {
        match state {
            State::Half => {
                let what = format!("hold a part of the transaction at {start}");
                replica::wait_until(cluster.server(number), &what, |status| {
                    let read = status.read()?;
                    Ok(read.file == start.file
                        && read.offset > start.offset
                        && status.executed()? == start)
                })
                .await?;
            }
            State::CaughtUp | State::Stopped(_) => {
                cluster.hold_here(number).await?;
            }
            State::Behind(_) => {}
        }
    }
    ledger.write(rows).await
}

/// All survivors are equal and have every acknowledged row.
async fn check(
    cluster: &Cluster,
    ledger: &Ledger,
    replaced: &Replaced,
) -> Result<(), SandboxError> {
    let winner = cluster.server(replaced.new_primary);
    let survivors: Vec<_> = cluster.replicas().collect();
    for server in &survivors {
        if server.name() != winner.name() {
            replica::wait_level(server, winner).await?;
        }
    }
    let differs = |seen: String| wrong("equal survivors with every acknowledged row", &seen);
    compare::all_equal(&survivors).await?.map_err(differs)?;
    let rows = ledger::rows(winner).await?;
    let lost = ledger.acknowledged().difference(&rows).count();
    if lost > 0 {
        return Err(differs(format!("{} lacks {lost} rows", winner.name())));
    }
    Ok(())
}
