//! The ways to replay: beside the running applier by GTID and from the read position, and with both threads stopped where
//! something speaks against it.

use manager::agents::ApplyWay;
use tests::sandbox::{ClusterSpec, ServerKind, replica};
use tests::scenario::before::Before;
use tests::scenario::half::{self, Engine};
use tests::scenario::{Act, Ended, Expected, Failure, Lag, Plan, Scene, expect, files, gtids};

/// The replica of which each story tells.
const VICTIM: usize = 1;
const OTHER: usize = 2;

/// The first replica holds a part of a transaction of which the dead disk has the rest. Both survivors replay in this way.
async fn half(
    spec: ClusterSpec,
    engine: Engine,
    way: ApplyWay,
) -> Result<(Scene, Ended, usize), Failure> {
    let mut scene = Scene::open(spec).await?;
    half::prepare(&mut scene.ledger).await?;
    scene.ledger.write(3).await?;
    let half = half::leave(&scene.cluster, &mut scene.ledger, engine, VICTIM, &[]).await?;
    let (ended, winner) = scene.survives(&Expected::all()).await?;
    let why = format!("holds a part of the transaction at {}", half.start);
    ended.went(scene.cluster.server(VICTIM), way, &why)?;
    ended.went(scene.cluster.server(OTHER), way, "")?;
    Ok((scene, ended, winner))
}

/// With four workers, the default: an applier that was stopped here would wait for a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_transaction_is_replayed_by_gtid_on_mysql_9_7() -> Result<(), Failure> {
    let spec = ClusterSpec::new(ServerKind::MySql97).replicas(2).by_gtid();
    let (scene, _, winner) = half(spec, Engine::Transactional, ApplyWay::BesideByGtid).await?;
    gtids::equal(&scene.cluster, winner).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_transaction_is_replayed_from_inside_it_on_mysql_8_0() -> Result<(), Failure> {
    let mut spec = ClusterSpec::new(ServerKind::MySql80).replicas(2);
    spec.options = spec.options.with(&half::workers(ServerKind::MySql80, 4));
    half(spec, Engine::Transactional, ApplyWay::BesideFromRead).await?;
    Ok(())
}

/// A change that cannot be rolled back is in the part that was received: it is not made twice, and no table needs care.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_without_transactions_is_not_repeated_on_mysql_5_7() -> Result<(), Failure> {
    let spec = ClusterSpec::new(ServerKind::MySql57)
        .replicas(2)
        .set("binlog-format", "STATEMENT")
        .set("relay-log-info-repository", "TABLE");
    half(spec, Engine::WithMyIsam, ApplyWay::BesideFromRead).await?;
    Ok(())
}

/// The relay log that the applier reads is not in its place: nobody could go on from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_relay_log_the_applier_is_stopped_first_on_mysql_8_0() -> Result<(), Failure> {
    let spec = ClusterSpec::new(ServerKind::MySql80).replicas(2).by_gtid();
    let mut scene = Scene::open(spec).await?;
    let plan = Plan::rows(&[Lag::behind(1), Lag::behind(2)]);
    scene.play(&plan).await?;
    scene.relay_logs_are_kept(VICTIM).await?;
    let server = scene.cluster.server(VICTIM);
    let base = server.relay_base();
    let folder = base.parent().unwrap_or(&base).to_owned();
    let read = replica::must_status(server).await?.relay()?.file;
    files::remove(&folder.join(read))?;
    let (ended, winner) = scene.survives(&Expected::all()).await?;
    ended.went(
        scene.cluster.server(VICTIM),
        ApplyWay::Stopped,
        "the relay log that its applier reads is gone",
    )?;
    ended.went(scene.cluster.server(OTHER), ApplyWay::BesideByGtid, "")?;
    gtids::equal(&scene.cluster, winner).await?;
    Ok(())
}

/// The agent is killed while its replica has received a part of a transaction from it. A second run finishes, from what had
/// been executed, and the part is neither lost nor there twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_killed_in_a_replay_beside_the_applier_by_gtid_on_mysql_9_7()
-> Result<(), Failure> {
    let spec = ClusterSpec::new(ServerKind::MySql97).replicas(2).by_gtid();
    let winner = killed(spec, 12).await?;
    gtids::equal(&winner.0.cluster, winner.1).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_killed_in_a_replay_beside_the_applier_by_position_on_mysql_8_0()
-> Result<(), Failure> {
    let mut spec = ClusterSpec::new(ServerKind::MySql80).replicas(2);
    spec.options = spec.options.with(&half::workers(ServerKind::MySql80, 2));
    killed(spec, 12).await?;
    Ok(())
}

/// The local source has no compression, and a receiver that insists on it would not connect: the channel is without it for the
/// replay, and has it again afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_channel_is_replayed_and_stays_compressed_on_mysql_9_7() -> Result<(), Failure>
{
    let spec = ClusterSpec::new(ServerKind::MySql97).replicas(2).by_gtid();
    let mut scene = Scene::open(spec).await?;
    scene.ledger.write(3).await?;
    scene.cluster.wait_caught_up().await?;
    for server in scene.cluster.replicas() {
        let change = [
            "STOP REPLICA IO_THREAD",
            "CHANGE REPLICATION SOURCE TO SOURCE_COMPRESSION_ALGORITHMS='zstd', SOURCE_ZSTD_COMPRESSION_LEVEL=7",
        ];
        server.exec_all(&change).await?;
    }
    scene.ledger.write(3).await?;
    let (ended, winner) = scene.survives(&Expected::all()).await?;
    for number in [VICTIM, OTHER] {
        ended.went(scene.cluster.server(number), ApplyWay::BesideByGtid, "")?;
    }
    gtids::equal(&scene.cluster, winner).await?;
    Ok(())
}

/// After so many events of the first transaction that it lacks the replica gets no more, and its agent is killed.
async fn killed(spec: ClusterSpec, events: u32) -> Result<(Scene, usize), Failure> {
    let mut scene = Scene::open(spec).await?;
    let plan = Plan {
        batches: vec![vec![Act::Rows(3)], vec![Act::Together(20), Act::Rows(4)]],
        lags: vec![Lag::behind(1); 2],
    };
    let played = scene.play(&plan).await?;
    let lagging = played.place(1)?.clone();
    scene
        .inject(VICTIM, &[format!("stall 3600 s after {events} events")])
        .await?;
    let before = Before::read(&scene.cluster).await?;
    scene.cluster.crash(0)?;
    let server = scene.cluster.server(VICTIM);
    let strike = async {
        replica::wait_until(server, "it holds a part of a transaction", |status| {
            let source = status.source()?;
            let read = status.read()?;
            Ok(source.starts_with("127.0.0.1:")
                && read.file == lagging.file
                && read.offset > lagging.offset + PART)
        })
        .await?;
        scene.mha()?.agent(VICTIM).kill()?;
        Ok::<_, Failure>(())
    };
    let other = scene.cluster.server(OTHER).host_port();
    let arguments = ["--new-primary", other.as_str()];
    let (first, struck) = tokio::join!(scene.fail_over(&arguments), strike);
    struck?;
    let first = first?;
    expect(
        first.finished.code == Some(10),
        "exit code of the first run, which leaves a survivor behind",
        "10",
        first.tell(),
    )?;
    scene.start_agent_without_faults(VICTIM).await?;
    let second = scene.fail_over(&[]).await?;
    let winner = scene.check(&before, &second, &Expected::all()).await?;
    second.went(server, ApplyWay::Stopped, "an earlier replay broke off")?;
    Ok((scene, winner))
}

/// More than a GTID and a BEGIN take.
const PART: u64 = 200;
