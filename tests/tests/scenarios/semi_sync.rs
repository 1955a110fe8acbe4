//! Semi-synchronous replication in both vocabularies. A commit waits for a replica, so with the primary's host gone nothing is lost
//! that was acknowledged; replicas that ask for it replay through the local source, which has none; and the commits of the new
//! primary wait for its replicas, as those of the old one did.

use manager::plan::{SemiSync, SourceSide};
use tests::sandbox::deployment::server_name;
use tests::sandbox::replica::{self, ReplicaStatus};
use tests::sandbox::wait::{self, Look};
use tests::sandbox::{ClusterSpec, SandboxError, Server, ServerKind};
use tests::scenario::{Expected, Failure, Lag, Plan, Scene, expect_eq};

use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(90);

/// A variable or a status of semi-synchronous replication, under this server's name.
async fn named(server: &Server, show: &str, name: &str) -> Result<String, SandboxError> {
    let name = server.kind().option(name);
    let row = server
        .row(&format!("SHOW GLOBAL {show} LIKE '{name}'"))
        .await?;
    Ok(row
        .and_then(|row| row.at(1).map(str::to_owned))
        .unwrap_or_default())
}

async fn wait_for(server: &Server, status: &str, wanted: &str) -> Result<(), Failure> {
    let what = format!("{status} of {} to be {wanted}", server.name());
    wait::until(&what, LIMIT, || async {
        let found = named(server, "STATUS", status).await?;
        Ok::<_, SandboxError>(if found == wanted {
            Look::Done(())
        } else {
            Look::NotYet(found)
        })
    })
    .await?;
    Ok(())
}

/// With the replicas' side on; no commit goes on without a replica before any limit of a scenario has passed.
fn spec(kind: ServerKind) -> ClusterSpec {
    let spec = ClusterSpec::new(kind)
        .by_gtid()
        .set("loose-rpl-semi-sync-slave-enabled", 1)
        .set("loose-rpl-semi-sync-master-timeout", 600_000);
    if kind.is_mariadb() {
        return spec;
    }
    spec.set("plugin-load-add", "semisync_source.so;semisync_replica.so")
}

/// Commits of the primary wait for its two replicas from now on.
async fn switch_on(scene: &Scene) -> Result<(), Failure> {
    let kind = scene.cluster.kind();
    let variable = kind.option("rpl_semi_sync_master_enabled");
    let primary = scene.cluster.primary();
    primary.exec(&format!("SET GLOBAL {variable}=1")).await?;
    for server in scene.cluster.replicas() {
        let words = |statement| kind.statement(statement);
        server
            .exec_all(&[
                &words("STOP SLAVE IO_THREAD"),
                &words("START SLAVE IO_THREAD"),
            ])
            .await?;
        wait_for(server, "Rpl_semi_sync_slave_status", "ON").await?;
    }
    wait_for(primary, "Rpl_semi_sync_master_clients", "2").await
}

async fn nothing_acknowledged_is_lost_with_the_host(kind: ServerKind) -> Result<(), Failure> {
    let mut scene = Scene::open(spec(kind)).await?;
    switch_on(&scene).await?;
    // The second replica gets nothing beyond the first batch; the commits wait for the first one only.
    let played = scene
        .play(&Plan::rows(&[Lag::behind(4), Lag::behind(1)]))
        .await?;
    scene.host_of_the_primary_is_gone()?;
    let expected = Expected::all().up_to(played.end()?, 12);
    let (ended, winner) = scene.survives(&expected).await?;
    expect_eq("number of the new primary", &winner, &1)?;
    let decided = ended
        .report
        .plan
        .as_ref()
        .and_then(|p| p.semi_sync.as_ref());
    let names = [1, 2].map(|number| server_name(scene.cluster.server(number)));
    let wanted = SemiSync {
        old_primary: server_name(scene.cluster.primary()),
        waited_for: names.to_vec(),
        new_primary: names[0].clone(),
        source_side: SourceSide::Off,
        acknowledging: vec![names[1].clone()],
        wait_for: 1,
        timeout_ms: Some(600_000),
    };
    expect_eq("what was decided", &decided, &Some(&wanted))?;
    let (primary, follower) = (scene.cluster.server(1), scene.cluster.server(2));
    let waits = named(primary, "VARIABLES", "rpl_semi_sync_master_enabled").await?;
    expect_eq("commits of the new primary wait", &waits.as_str(), &"ON")?;
    wait_for(primary, "Rpl_semi_sync_master_clients", "1").await?;
    wait_for(follower, "Rpl_semi_sync_slave_status", "ON").await?;
    // The row that the check has written waited for the follower.
    wait_for(primary, "Rpl_semi_sync_master_status", "ON").await?;
    let without = named(primary, "STATUS", "Rpl_semi_sync_master_no_tx").await?;
    expect_eq("commits that waited for nobody", &without.as_str(), &"0")?;
    let status: ReplicaStatus = replica::must_status(follower).await?;
    expect_eq("source", &status.source()?, &primary.host_port())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn source_and_replica_on_mysql_9_7() -> Result<(), Failure> {
    nothing_acknowledged_is_lost_with_the_host(ServerKind::MySql97).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn master_and_slave_on_mariadb_10_11() -> Result<(), Failure> {
    nothing_acknowledged_is_lost_with_the_host(ServerKind::MariaDb1011).await
}
