//! Commits of a replay that reach the disk together: only while it lasts, and never past it, whatever becomes of the agent.

use std::time::Duration;

use tests::sandbox::wait::{self, Look};
use tests::sandbox::{ClusterSpec, SandboxError, Server, ServerKind};
use tests::scenario::before::Before;
use tests::scenario::{Act, Expected, Failure, Lag, Plan, Scene, expect};

/// How long the local source holds back the end of the stream.
const STALL: Duration = Duration::from_secs(5);
/// The agent does not live to see its end.
const FOR_GOOD: Duration = Duration::from_secs(3600);
/// How long a replica may take until it replays.
const LIMIT: Duration = Duration::from_secs(60);

/// With the durability that 5.6 has by itself. That the setting is as it was afterwards is checked with all others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_are_deferred_while_a_replica_replays_and_not_longer() -> Result<(), Failure> {
    let scene = lagging(STALL).await?;
    let before = Before::read(&scene.cluster).await?;
    scene.cluster.crash(0)?;
    let (ended, seen) = tokio::join!(
        scene.fail_over(&[]),
        flushed_at_commit(scene.cluster.server(1), "2")
    );
    seen?;
    scene.check(&before, &ended?, &Expected::all()).await?;
    Ok(())
}

/// The agent is killed in the middle of the replay. Once it is back, and before anybody goes on with the replay, every
/// commit is on disk again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_comes_back_defers_no_commits_of_a_replay_that_broke_off()
-> Result<(), Failure> {
    let scene = lagging(FOR_GOOD).await?;
    let before = Before::read(&scene.cluster).await?;
    let server = scene.cluster.server(1);
    scene.cluster.crash(0)?;
    let strike = async {
        flushed_at_commit(server, "2").await?;
        scene.mha()?.agent(1).kill()?;
        Ok::<_, Failure>(())
    };
    let (first, struck) = tokio::join!(scene.fail_over(&[]), strike);
    struck?;
    let first = first?;
    expect(
        matches!(first.finished.code, Some(1 | 11)),
        "exit code of the first run",
        "1 or 11",
        first.tell(),
    )?;
    flushed_at_commit(server, "2").await?;
    scene.start_agent_without_faults(1).await?;
    flushed_at_commit(server, "1").await?;

    let second = scene.fail_over(&[]).await?;
    scene.check(&before, &second, &Expected::all()).await?;
    Ok(())
}

/// A replica with the durability that 5.6 has by itself, which lacks a part of the stream. Its local source holds back the
/// end of it for so long.
async fn lagging(stall: Duration) -> Result<Scene, Failure> {
    let mut spec = ClusterSpec::new(ServerKind::MySql56).replicas(1);
    spec.options = spec
        .options
        .unset("sync-binlog")
        .unset("innodb-flush-log-at-trx-commit");
    let mut scene = Scene::open(spec).await?;
    let plan = Plan {
        batches: vec![vec![Act::Rows(3)], vec![Act::Rows(6)]],
        lags: vec![Lag::behind(1)],
    };
    scene.play(&plan).await?;
    let fault = format!("stall {} s after 12 events", stall.as_secs());
    scene.inject(1, &[fault]).await?;
    Ok(scene)
}

async fn flushed_at_commit(server: &Server, wanted: &str) -> Result<(), SandboxError> {
    let what = format!("innodb_flush_log_at_trx_commit to be {wanted}");
    wait::until(&what, LIMIT, || async {
        let flush = server
            .value("SELECT @@GLOBAL.innodb_flush_log_at_trx_commit")
            .await?;
        Ok(if flush == wanted {
            Look::Done(())
        } else {
            Look::NotYet(flush)
        })
    })
    .await
}
