//! Channels that were pointed elsewhere a moment ago: the primary dies before they have shown a position in its log.
//!
//! With GTIDs the sets say where such a replica stands; by position the place that the CHANGE named does, and a channel that was
//! given none stops the run.

use std::time::Duration;

use manager::proof::ProofVerdict;
use tests::sandbox::accounts::{APPLICATION, REPLICATION};
use tests::sandbox::deployment::server_name;
use tests::sandbox::dialect::{Channel, Start};
use tests::sandbox::replica;
use tests::sandbox::wait::{self, Look};
use tests::sandbox::{Client, Cluster, ClusterSpec, SandboxError, Server, ServerKind};
use tests::scenario::before::Before;
use tests::scenario::ledger::{self, LEDGER};
use tests::scenario::{Ended, Expected, Failure, Lag, Plan, Scene, aftermath, expect, expect_eq};

/// How long a replica may take to get what the new primary wrote.
const LIMIT: Duration = Duration::from_secs(60);

/// How the replica that never connected was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Nobody started it.
    Stopped,
    /// It was started when the primary was dead already.
    Knocking,
}

/// CHANGE MASTER to the primary, as an operator types it; the channel is not started.
async fn point_at(replica: &Server, primary: &Server, start: Start) -> Result<(), SandboxError> {
    let kind = replica.kind();
    let channel = Channel {
        address: primary.address(),
        port: primary.port(),
        account: REPLICATION,
        start,
    };
    replica
        .exec_all(&[&kind.statement("STOP SLAVE"), &kind.change_source(&channel)])
        .await
}

/// What must hold after the second failover of a cluster of four.
async fn hold_after_second(
    scene: &Scene,
    before: &Before,
    ended: &Ended,
    dead: [usize; 2],
) -> Result<usize, Failure> {
    let cluster = &scene.cluster;
    // The first primary is still dead: the report says so, and that is all that needs care.
    expect_eq("exit code", &ended.finished.code, &Some(10))?;
    let first = server_name(cluster.server(dead[0]));
    let others = ended.report.care.iter().filter(|care| care.server != first);
    expect_eq(
        "servers that need care, but for the first primary",
        &others.count(),
        &0,
    )?;
    let named = ended.report.new_primary.clone();
    let survivors: Vec<usize> = (0..cluster.servers().len())
        .filter(|number| !dead.contains(number))
        .collect();
    let is_winner = |number: &&usize| named == Some(server_name(cluster.server(**number)));
    let Some(&winner) = survivors.iter().find(is_winner) else {
        return Err(Failure::Unexpected {
            what: "the new primary".to_owned(),
            expected: format!("one of {survivors:?}"),
            found: format!("{named:?}"),
        });
    };
    let proof = ended
        .report
        .proof
        .as_ref()
        .map(|proof| proof.verdict.clone());
    expect_eq("the proof", &proof, &Some(ProofVerdict::Proven))?;
    for number in &survivors {
        let server = cluster.server(*number);
        let missing: Vec<u64> = scene
            .ledger
            .acknowledged()
            .difference(&ledger::rows(server).await?)
            .copied()
            .collect();
        let what = format!("rows that {} lacks", server.name());
        expect_eq(what, &missing, &Vec::new())?;
        if *number != winner {
            let status = replica::must_status(server).await?;
            let source = cluster.server(winner).host_port();
            expect_eq(
                format!("source of {}", server.name()),
                &status.source()?,
                &source,
            )?;
            before.channel_is_as_it_was(server).await?;
        }
    }
    aftermath::equal_tables(cluster, &survivors, &[]).await?;
    goes_on(
        cluster.server(winner),
        survivors.iter().map(|n| cluster.server(*n)),
    )
    .await?;
    same_gtids(cluster, winner, &dead).await?;
    Ok(winner)
}

/// All that live have executed the same GTIDs, the row included that was written after the failover.
async fn same_gtids(cluster: &Cluster, winner: usize, dead: &[usize]) -> Result<(), SandboxError> {
    let (of_primary, of_replica) = if cluster.kind().is_mariadb() {
        ("SELECT @@gtid_binlog_pos", "SELECT @@gtid_slave_pos")
    } else {
        let executed = "SELECT @@GLOBAL.gtid_executed";
        (executed, executed)
    };
    let primary = cluster.server(winner);
    let replicas = (0..cluster.servers().len()).filter(|n| *n != winner && !dead.contains(n));
    for replica in replicas.map(|number| cluster.server(number)) {
        let what = format!("the GTIDs of {} and {}", primary.name(), replica.name());
        wait::until(&what, LIMIT, || async {
            let wanted = primary.value(of_primary).await?;
            let found = replica.value(of_replica).await?;
            if wanted == found && !wanted.is_empty() {
                return Ok(Look::Done(()));
            }
            Ok::<_, SandboxError>(Look::NotYet(format!("{wanted} and {found}")))
        })
        .await?;
    }
    Ok(())
}

/// A new row reaches all.
async fn goes_on<'a>(
    primary: &Server,
    all: impl Iterator<Item = &'a Server>,
) -> Result<(), Failure> {
    let login = primary.login(APPLICATION.user, APPLICATION.password);
    let mut client = Client::connect(&login).await?;
    let insert = format!("INSERT INTO {LEDGER} VALUES (2000000, 'after the second')");
    client.exec(&insert).await?;
    for server in all {
        let what = format!("the new row to reach {}", server.name());
        wait::until(&what, LIMIT, || async {
            let there = ledger::rows(server).await?.contains(&2_000_000);
            Ok::<_, SandboxError>(if there {
                Look::Done(())
            } else {
                Look::NotYet("it is not there".to_owned())
            })
        })
        .await?;
    }
    Ok(())
}

/// Two failovers, and nobody writes between them. In the second one a survivor has not connected since the first.
async fn twice_in_a_row(kind: ServerKind, one_never_connected: bool) -> Result<(), Failure> {
    let mut scene = Scene::open(ClusterSpec::new(kind).by_gtid().replicas(3)).await?;
    scene
        .play(&Plan::rows(&[
            Lag::behind(1),
            Lag::behind(3),
            Lag::behind(2),
        ]))
        .await?;
    scene.cluster.crash(0)?;
    let first = scene.fail_over(&[]).await?;
    expect(
        first.finished.code == Some(0),
        "the first failover",
        "exit 0",
        first.tell(),
    )?;
    let named = first.report.new_primary.clone();
    let winner = (1..=3)
        .find(|n| named == Some(server_name(scene.cluster.server(*n))))
        .unwrap_or_default();
    let rest: Vec<usize> = (1..=3).filter(|number| *number != winner).collect();
    if one_never_connected && let Some(last) = rest.last() {
        let (replica, primary) = (scene.cluster.server(*last), scene.cluster.server(winner));
        point_at(replica, primary, Start::Gtid).await?;
    }
    let before = Before::of_replicas(rest.iter().map(|n| scene.cluster.server(*n))).await?;
    scene.cluster.crash(winner)?;
    let dead = scene.cluster.server(winner);
    let run = scene
        .mha()?
        .failover(dead, &["--ignore-last-failover"])
        .await?;
    let Some(report) = run.report else {
        return Err(Failure::NoReport {
            told: format!("{:?}", run.finished),
        });
    };
    let ended = Ended {
        finished: run.finished,
        report,
    };
    let held = hold_after_second(&scene, &before, &ended, [0, winner]).await;
    held.map_err(|failure| Failure::Told {
        failure: Box::new(failure),
        told: ended.tell(),
    })?;
    Ok(())
}

/// The second replica was given a new CHANGE, and never connected; the first has received more, and the rest is only on the
/// dead disk.
async fn never_connected(kind: ServerKind, left: Left) -> Result<(), Failure> {
    let mut scene = Scene::open(ClusterSpec::new(kind).by_gtid()).await?;
    scene.ledger.write(3).await?;
    scene.cluster.wait_caught_up().await?;
    point_at(
        scene.cluster.server(2),
        scene.cluster.primary(),
        Start::Gtid,
    )
    .await?;
    scene.ledger.write(3).await?;
    scene.cluster.hold_here(1).await?;
    scene.ledger.write(3).await?;
    if left == Left::Stopped {
        let (_, winner) = scene.survives(&Expected::all()).await?;
        same_gtids(&scene.cluster, winner, &[0]).await?;
        return Ok(());
    }
    let before = Before::read(&scene.cluster).await?;
    scene.cluster.crash(0)?;
    let server = scene.cluster.server(2);
    server.exec(&kind.statement("START SLAVE")).await?;
    replica::wait_until(server, "knock at the dead primary", |status| {
        Ok(status.io_running()? == "Connecting")
    })
    .await?;
    let ended = scene.fail_over(&[]).await?;
    let winner = scene.check(&before, &ended, &Expected::all()).await?;
    same_gtids(&scene.cluster, winner, &[0])
        .await
        .map_err(Failure::from)
}

/// The same, and the dead host cannot be asked: what the other replica received is brought to this one.
async fn never_connected_and_host_gone(kind: ServerKind) -> Result<(), Failure> {
    let mut scene = Scene::open(ClusterSpec::new(kind).by_gtid()).await?;
    scene.ledger.write(3).await?;
    scene.cluster.wait_caught_up().await?;
    point_at(
        scene.cluster.server(2),
        scene.cluster.primary(),
        Start::Gtid,
    )
    .await?;
    scene.ledger.write(3).await?;
    let place = scene.cluster.hold_here(1).await?;
    scene.ledger.write(3).await?;
    scene.host_of_the_primary_is_gone()?;
    let (_, winner) = scene.survives(&Expected::all().up_to(&place, 6)).await?;
    same_gtids(&scene.cluster, winner, &[0]).await?;
    Ok(())
}

/// By position the CHANGE itself says where the channel stands, and the failover goes on from there.
async fn never_connected_by_position(kind: ServerKind) -> Result<(), Failure> {
    let mut scene = Scene::open(ClusterSpec::new(kind)).await?;
    scene.ledger.write(3).await?;
    scene.cluster.wait_caught_up().await?;
    let end = replica::binlog_end(scene.cluster.primary()).await?;
    let start = Start::At {
        file: end.file,
        offset: end.offset,
    };
    point_at(scene.cluster.server(2), scene.cluster.primary(), start).await?;
    scene.ledger.write(3).await?;
    scene.cluster.hold_here(1).await?;
    scene.ledger.write(3).await?;
    scene.loses_nothing().await
}

/// By position and without a place nobody knows where the channel stands: nothing is done.
async fn no_place_by_position(kind: ServerKind) -> Result<(), Failure> {
    let mut scene = Scene::open(ClusterSpec::new(kind)).await?;
    scene.ledger.write(3).await?;
    scene.cluster.wait_caught_up().await?;
    let (first, second) = (scene.cluster.server(1), scene.cluster.server(2));
    let change = format!(
        "CHANGE MASTER TO MASTER_HOST='{}', MASTER_PORT={}",
        scene.cluster.primary().address(),
        scene.cluster.primary().port()
    );
    second
        .exec_all(&[&kind.statement("STOP SLAVE"), &kind.statement(&change)])
        .await?;
    let before = Before::read(&scene.cluster).await?;
    scene.cluster.crash(0)?;
    let run = scene.mha()?.failover(scene.cluster.primary(), &[]).await?;
    expect(run.finished.code == Some(12), "exit code", 12, run.text())?;
    let sentence = format!(
        "{} reports no executed position in the primary's log, and without GTIDs nothing else tells",
        server_name(second)
    );
    expect(
        run.mentions(&sentence),
        "what was printed",
        sentence,
        run.text(),
    )?;
    for server in [first, second] {
        before.channel_is_as_it_was(server).await?;
        before.position_is_as_it_was(server).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_connected_by_position_on_mysql_8_0() -> Result<(), Failure> {
    never_connected_by_position(ServerKind::MySql80).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_place_by_position_on_mysql_5_7() -> Result<(), Failure> {
    no_place_by_position(ServerKind::MySql57).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twice_in_a_row_on_mysql_8_0() -> Result<(), Failure> {
    twice_in_a_row(ServerKind::MySql80, false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twice_in_a_row_and_one_never_connected_on_mysql_5_7() -> Result<(), Failure> {
    twice_in_a_row(ServerKind::MySql57, true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twice_in_a_row_and_one_never_connected_on_mariadb_10_11() -> Result<(), Failure> {
    twice_in_a_row(ServerKind::MariaDb1011, true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_connected_on_mysql_9_7() -> Result<(), Failure> {
    never_connected(ServerKind::MySql97, Left::Stopped).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_connected_on_mariadb_10_11() -> Result<(), Failure> {
    never_connected(ServerKind::MariaDb1011, Left::Knocking).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_connected_on_mysql_8_0_without_the_dead_host() -> Result<(), Failure> {
    never_connected_and_host_gone(ServerKind::MySql80).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_connected_on_mariadb_10_11_without_the_dead_host() -> Result<(), Failure> {
    never_connected_and_host_gone(ServerKind::MariaDb1011).await
}
