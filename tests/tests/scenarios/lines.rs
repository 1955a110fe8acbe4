//! Every server line, by position and by GTID: the primary is killed while clients write, the replicas are behind at
//! different points, and the end of its log is only on the dead disk.
//!
//! By position the lines are here that the table of cases does not have.

use std::time::Duration;

use tests::sandbox::ServerKind::{
    self, MariaDb105, MariaDb118, MariaDb1011, MySql56, MySql57, MySql80, MySql97,
};
use tests::sandbox::wait::{self, Look};
use tests::sandbox::{Cluster, ClusterSpec, SandboxError, Server};
use tests::scenario::Failure;

use super::table::lag::killed_under_load;

async fn by_position(kind: ServerKind) -> Result<(), Failure> {
    killed_under_load(ClusterSpec::new(kind)).await?;
    Ok(())
}

async fn by_gtid(kind: ServerKind) -> Result<(), Failure> {
    let (scene, winner) = killed_under_load(ClusterSpec::new(kind).by_gtid()).await?;
    same_gtids(&scene.cluster, winner).await?;
    Ok(())
}

/// All survivors have executed the same GTIDs, the row included that was written after the failover.
async fn same_gtids(cluster: &Cluster, winner: usize) -> Result<(), SandboxError> {
    let (of_primary, of_replica) = if cluster.kind().is_mariadb() {
        ("SELECT @@gtid_binlog_pos", "SELECT @@gtid_slave_pos")
    } else {
        let executed = "SELECT @@GLOBAL.gtid_executed";
        (executed, executed)
    };
    let primary = cluster.server(winner);
    for replica in cluster
        .replicas()
        .filter(|server| server.name() != primary.name())
    {
        let what = format!("the GTIDs of {} and {}", primary.name(), replica.name());
        wait::until(&what, Duration::from_secs(60), || async {
            let (wanted, found) = (
                value(primary, of_primary).await?,
                value(replica, of_replica).await?,
            );
            if wanted == found && !wanted.is_empty() {
                return Ok(Look::Done(()));
            }
            Ok::<_, SandboxError>(Look::NotYet(format!("{wanted} and {found}")))
        })
        .await?;
    }
    Ok(())
}

async fn value(server: &Server, statement: &str) -> Result<String, SandboxError> {
    Ok(server.value(statement).await?.replace('\n', ""))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_5_7_by_position() -> Result<(), Failure> {
    by_position(MySql57).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_8_0_by_position() -> Result<(), Failure> {
    by_position(MySql80).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_9_7_by_position() -> Result<(), Failure> {
    by_position(MySql97).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_10_5_by_position() -> Result<(), Failure> {
    by_position(MariaDb105).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_11_8_by_position() -> Result<(), Failure> {
    by_position(MariaDb118).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_5_6_by_gtid() -> Result<(), Failure> {
    by_gtid(MySql56).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_5_7_by_gtid() -> Result<(), Failure> {
    by_gtid(MySql57).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_8_0_by_gtid() -> Result<(), Failure> {
    by_gtid(MySql80).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_9_7_by_gtid() -> Result<(), Failure> {
    by_gtid(MySql97).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_10_5_by_gtid() -> Result<(), Failure> {
    by_gtid(MariaDb105).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_10_11_by_gtid() -> Result<(), Failure> {
    by_gtid(MariaDb1011).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_11_8_by_gtid() -> Result<(), Failure> {
    by_gtid(MariaDb118).await
}
