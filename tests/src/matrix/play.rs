//! One cell: a cluster is brought into its state, the primary dies, the manager's command runs, and everything is checked.
//!
//! The failover is timed from the kill. Clients try to write to both survivors all the while, so the first row that one of
//! them takes is known to the millisecond.

use std::path::Path;
use std::time::{Duration, Instant};

use manager::elect::{Lost, Unfit};

use super::cell::{Cell, Mode};
use crate::sandbox::compare::{self, Checksums};
use crate::sandbox::deployment::server_name;
use crate::sandbox::first_write::{self, Watch};
use crate::sandbox::wait::{self, Look};
use crate::sandbox::{Cluster, SandboxError, Server, progress};
use crate::scenario::before::Before;
use crate::scenario::{Ended, Expected, Failure, Scene, expect, expect_eq, files, gtids};

/// How long the survivors may take until one takes a write and the other has it.
const LIMIT: Duration = Duration::from_secs(60);

/// A cell that held.
#[derive(Debug, Clone)]
pub struct Held {
    /// Name of the new primary.
    pub winner: String,
    /// From the kill to the first row that a survivor took.
    pub first_write: Duration,
    /// From the kill to the end of the manager's command.
    pub ended: Duration,
    /// Rows that the client saw acknowledged before the kill, and how many of them are lost.
    pub rows: (usize, usize),
}

/// Plays it. Where it does not hold, logs and the program's files are copied to a folder of its name in `keep`.
pub async fn play(cell: Cell, keep: Option<&Path>) -> Result<Held, Failure> {
    let mut scene = Scene::open_with(cell.cluster(), &cell.deployment()).await?;
    let held = on(&mut scene, cell).await;
    if let (Err(_), Some(keep)) = (&held, keep) {
        let target = keep.join(cell.to_string().replace('/', "-"));
        // The cell failed already; that its files could not be kept must not hide why.
        match files::keep(&scene.cluster, &target) {
            Ok(()) => progress(&format!("files of {cell} are in {}", target.display())),
            Err(error) => progress(&format!("files of {cell} could not be kept: {error}")),
        }
    }
    held
}

async fn on(scene: &mut Scene, cell: Cell) -> Result<Held, Failure> {
    first_write::prepare(scene.cluster.primary()).await?;
    // Agents run for weeks before a failover; these have begun a moment ago.
    for number in 1..scene.cluster.servers().len() {
        scene.relay_logs_are_kept(number).await?;
    }
    for server in scene.cluster.servers() {
        let found = server.value("SELECT @@GLOBAL.binlog_format").await?;
        let what = format!("binlog_format of {}", server.name());
        expect_eq(what, &found.as_str(), &cell.format.value())?;
    }
    let played = scene.play(&cell.plan()).await?;
    let furthest = 3 - cell.line.winner();
    let (expected, holder) = match cell.reachable() {
        None => (Expected::all(), 0),
        Some((batches, rows)) => (
            Expected::all().up_to(played.place(batches)?, rows),
            furthest,
        ),
    };
    let reference = contents(scene.cluster.server(holder)).await?;
    let before = Before::read(&scene.cluster).await?;
    let survivors: Vec<&Server> = scene.cluster.replicas().collect();
    let watch = Watch::start(&survivors).await?;

    let killed = Instant::now();
    if cell.reachable().is_some() {
        scene.host_of_the_primary_is_gone()?;
    }
    scene.cluster.crash(0)?;
    let ((run, took), first) = tokio::join!(
        async { (scene.fail_over(&[]).await, killed.elapsed()) },
        watch.wait(LIMIT)
    );
    let ended = run?;
    if ended.finished.code == Some(expected.exit) {
        let as_it_was = as_it_was(&scene.cluster, &reference).await;
        as_it_was.map_err(|failure| told(failure, &ended))?;
    }
    let winner = scene.check(&before, &ended, &expected).await?;
    let first = first?;
    let primary = scene.cluster.server(winner);
    expect_eq(
        "who took the first write",
        &first.server.as_str(),
        &primary.name(),
    )?;
    elected(scene, cell, &ended, winner).map_err(|failure| told(failure, &ended))?;
    if cell.mode == Mode::Gtid {
        gtids::equal(&scene.cluster, winner).await?;
    }
    let acknowledged = scene.ledger.acknowledged().len();
    let kept = expected.rows.map_or(acknowledged, |rows| {
        usize::try_from(rows).unwrap_or(usize::MAX)
    });
    Ok(Held {
        winner: primary.name().to_owned(),
        first_write: first.at.duration_since(killed),
        ended: took,
        rows: (acknowledged, acknowledged.saturating_sub(kept)),
    })
}

fn told(failure: Failure, ended: &Ended) -> Failure {
    Failure::Told {
        failure: Box::new(failure),
        told: ended.tell(),
    }
}

/// What clients wrote, but for the first write after the failover.
async fn contents(server: &Server) -> Result<Checksums, SandboxError> {
    let mut found = compare::checksums(server).await?;
    found.remove(first_write::TABLE);
    Ok(found)
}

/// Both survivors have what the server had that held most of what could be reached, and the first write after it.
async fn as_it_was(cluster: &Cluster, reference: &Checksums) -> Result<(), Failure> {
    for server in cluster.replicas() {
        let name = server.name();
        let what = format!("the first write after the failover to reach {name}");
        wait::until(&what, LIMIT, || async {
            let question = format!("SELECT id FROM {}", first_write::TABLE);
            Ok::<_, SandboxError>(if server.rows(&question).await?.is_empty() {
                Look::NotYet("it is not there".to_owned())
            } else {
                Look::Done(())
            })
        })
        .await?;
        let differing = compare::differences(reference, &contents(server).await?);
        let what = format!("tables of {name} and those before the kill");
        expect(differing.is_empty(), what, "equal", differing.join("; "))?;
    }
    Ok(())
}

/// The oldest replica won, and the report says of a newer one that this is why it did not.
fn elected(scene: &Scene, cell: Cell, ended: &Ended, winner: usize) -> Result<(), Failure> {
    expect_eq("number of the new primary", &winner, &cell.line.winner())?;
    let preferred = cell.line.preferred();
    if preferred == winner {
        return Ok(());
    }
    let name = server_name(scene.cluster.server(preferred));
    let lost = ended
        .report
        .election
        .iter()
        .flat_map(|election| &election.losers)
        .find(|(server, _)| *server == name)
        .map(|(_, lost)| lost);
    let newer = matches!(lost, Some(Lost::Unfit { why }) if matches!(why.as_slice(), [Unfit::NewerVersion { .. }]));
    expect(
        newer,
        format!("why {name} lost"),
        "it is newer than the other replica, and nothing else",
        format!("{lost:?}"),
    )
}
