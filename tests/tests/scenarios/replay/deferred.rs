//! Commits of a replay that reach the disk together: only while it lasts, and never past it.

use std::time::Duration;

use tests::sandbox::wait::{self, Look};
use tests::sandbox::{ClusterSpec, SandboxError, Server, ServerKind};
use tests::scenario::before::Before;
use tests::scenario::{Act, Expected, Failure, Lag, Plan, Scene};

/// How long the local source holds back the end of the stream.
const STALL: Duration = Duration::from_secs(5);
/// How long a replica may take until it replays.
const LIMIT: Duration = Duration::from_secs(60);

/// With the durability that 5.6 has by itself. That the setting is as it was afterwards is checked with all others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_are_deferred_while_a_replica_replays_and_not_longer() -> Result<(), Failure> {
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
    let fault = format!("stall {} s after 12 events", STALL.as_secs());
    scene.inject(1, &[fault]).await?;
    let before = Before::read(&scene.cluster).await?;
    scene.cluster.crash(0)?;
    let (ended, seen) = tokio::join!(scene.fail_over(&[]), deferred(scene.cluster.server(1)),);
    seen?;
    scene.check(&before, &ended?, &Expected::all()).await?;
    Ok(())
}

async fn deferred(server: &Server) -> Result<(), SandboxError> {
    wait::until("commits that are deferred", LIMIT, || async {
        let flush = server
            .value("SELECT @@GLOBAL.innodb_flush_log_at_trx_commit")
            .await?;
        Ok(if flush == "2" {
            Look::Done(())
        } else {
            Look::NotYet(flush)
        })
    })
    .await
}
