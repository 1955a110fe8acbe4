//! Every server line, by position and by GTID: the primary is killed while clients write, the replicas are behind at
//! different points, and the end of its log is only on the dead disk.
//!
//! By position the lines are here that the table of cases does not have.

use tests::sandbox::ClusterSpec;
use tests::sandbox::ServerKind::{
    self, MariaDb105, MariaDb118, MariaDb1011, MySql56, MySql57, MySql80, MySql97,
};
use tests::scenario::{Failure, gtids};

use super::table::lag::killed_under_load;

async fn by_position(kind: ServerKind) -> Result<(), Failure> {
    killed_under_load(ClusterSpec::new(kind)).await?;
    Ok(())
}

async fn by_gtid(kind: ServerKind) -> Result<(), Failure> {
    let (scene, winner) = killed_under_load(ClusterSpec::new(kind).by_gtid()).await?;
    gtids::equal(&scene.cluster, winner).await?;
    Ok(())
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
