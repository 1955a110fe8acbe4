//! A pair of each server line that [`super::servers`] does not play: what is written on the primary comes to the replica,
//! by position and by GTID, and again after both were stopped and started.
//!
//! A line of the sandbox is in one of the two files, or a test here fails.

use tests::sandbox::{Replication, SandboxError, Server, ServerKind};

use super::servers::PLAYED;
use super::stage::Stage;

/// The lines of this file and what their servers say of their version.
const PAIRS: [(ServerKind, &str); 4] = [
    (ServerKind::MySql57, "5.7."),
    (ServerKind::MySql80, "8.0."),
    (ServerKind::MariaDb105, "10.5."),
    (ServerKind::MariaDb118, "11.8."),
];

#[test]
fn every_line_of_the_sandbox_is_tested() {
    for kind in ServerKind::ALL {
        let paired = PAIRS.iter().any(|(pair, _)| *pair == kind);
        assert!(paired != PLAYED.contains(&kind), "{kind}");
    }
}

#[tokio::test]
async fn mysql_57_replicates_by_position() -> Result<(), SandboxError> {
    replicates(ServerKind::MySql57, Replication::Position).await
}

#[tokio::test]
async fn mysql_57_replicates_by_gtid() -> Result<(), SandboxError> {
    replicates(ServerKind::MySql57, Replication::AutoPosition).await
}

#[tokio::test]
async fn mysql_80_replicates_by_position() -> Result<(), SandboxError> {
    replicates(ServerKind::MySql80, Replication::Position).await
}

#[tokio::test]
async fn mysql_80_replicates_by_gtid() -> Result<(), SandboxError> {
    replicates(ServerKind::MySql80, Replication::AutoPosition).await
}

#[tokio::test]
async fn mariadb_105_replicates_by_position() -> Result<(), SandboxError> {
    replicates(ServerKind::MariaDb105, Replication::Position).await
}

#[tokio::test]
async fn mariadb_105_replicates_by_gtid() -> Result<(), SandboxError> {
    replicates(ServerKind::MariaDb105, Replication::SlavePos).await
}

#[tokio::test]
async fn mariadb_118_replicates_by_position() -> Result<(), SandboxError> {
    replicates(ServerKind::MariaDb118, Replication::Position).await
}

#[tokio::test]
async fn mariadb_118_replicates_by_gtid() -> Result<(), SandboxError> {
    replicates(ServerKind::MariaDb118, Replication::SlavePos).await
}

async fn replicates(kind: ServerKind, replication: Replication) -> Result<(), SandboxError> {
    let stage = Stage::start(kind, replication).await?;
    let (primary, replica) = (stage.primary(), stage.replica());
    let (_, line) = PAIRS.iter().find(|(pair, _)| *pair == kind).unwrap();
    for server in [primary, replica] {
        let version = server.value("SELECT VERSION()").await?;
        assert!(version.starts_with(line), "{}: {version}", server.name());
        assert_eq!(server.value("SELECT @@log_bin").await?, "1");
    }
    let status = tests::sandbox::replica::must_status(replica).await?;
    let by_gtid = if kind.is_mariadb() {
        status.text("Using_Gtid")? == "Slave_Pos"
    } else {
        status.text("Auto_Position")? == "1"
    };
    assert_eq!(by_gtid, replication != Replication::Position);

    stage.tables().await?;
    stage.rows(3, 40).await?;
    stage.transaction(2).await?;
    stage.caught_up().await?;
    same_rows(primary, replica, "7").await?;

    stage.restart(0).await?;
    stage.restart(1).await?;
    stage.rows(1, 40).await?;
    stage.caught_up().await?;
    same_rows(primary, replica, "8").await
}

async fn same_rows(primary: &Server, replica: &Server, count: &str) -> Result<(), SandboxError> {
    let count_of = "SELECT COUNT(*) FROM t.a";
    let digest = "SELECT MD5(GROUP_CONCAT(id, v ORDER BY id)) FROM t.a";
    assert_eq!(primary.value(count_of).await?, count);
    assert_eq!(replica.value(count_of).await?, count);
    assert_eq!(primary.value(digest).await?, replica.value(digest).await?);
    Ok(())
}
