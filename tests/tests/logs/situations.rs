//! What happens to a primary and its replica, one function per set of logs.

use tests::sandbox::{Replication, SandboxError, ServerKind, replica};

use super::set::LogSet;
use super::stage::Stage;

type Made = Result<LogSet, SandboxError>;

/// Everything a log may hold: row and statement format, tables without transactions, user variables, DDL, savepoints; on
/// MySQL 9.7 tagged GTIDs and compressed transactions, on MariaDB a second domain.
pub(crate) async fn mixture(stage: &Stage) -> Result<(), SandboxError> {
    stage.rows(2, 40).await?;
    stage.transaction(3).await?;
    stage
        .write(&[
            "SET SESSION binlog_format=STATEMENT",
            "INSERT INTO t.a (v) VALUES ('by statement')",
            "SET @x=7, @s='text'",
            "INSERT INTO t.a (v) VALUES (CONCAT(@x, @s))",
            "BEGIN",
            "INSERT INTO t.a (v) VALUES ('kept')",
            "SAVEPOINT s",
            "INSERT INTO t.a (v) VALUES ('not kept')",
            "ROLLBACK TO s",
            "COMMIT",
        ])
        .await?;
    stage
        .write(&["INSERT INTO t.m (v) VALUES ('plain')"])
        .await?;
    stage
        .write(&[
            "SET SESSION binlog_format=MIXED",
            "INSERT INTO t.a (v) VALUES (UUID())",
            "CREATE TABLE t.c (id INT PRIMARY KEY)",
            "DROP TABLE t.c",
        ])
        .await?;
    let long = "INSERT INTO t.a (v) VALUES (REPEAT('p', 900))";
    match stage.kind() {
        ServerKind::MySql56 | ServerKind::MySql57 | ServerKind::MySql80 => Ok(()),
        ServerKind::MySql97 => {
            if stage.replication() == Replication::AutoPosition {
                let tag = "SET gtid_next='AUTOMATIC:import'";
                stage.write(&[tag, long]).await?;
            }
            let compressed = "SET SESSION binlog_transaction_compression=ON";
            stage
                .write(&[compressed, "BEGIN", long, long, "COMMIT", long])
                .await
        }
        ServerKind::MariaDb105 | ServerKind::MariaDb1011 | ServerKind::MariaDb118 => {
            stage.write(&["SET SESSION gtid_domain_id=2", long]).await
        }
    }
}

/// Rotation by size and by FLUSH on either side.
///
/// MHA 0.58 does not find the end of the first event of a relay log that has no Rotate at its head (6.4, step 3), which
/// is every relay log that a rotation by size or FLUSH RELAY LOGS began; nor the end of a format description of the
/// primary, nor the end of Previous_gtids (6.9, `mysql-bin.000002:120`).
pub(crate) async fn rotations(stage: &Stage) -> Made {
    stage.begin().await?;
    stage.tables().await?;
    mixture(stage).await?;
    stage.write(&["FLUSH LOGS"]).await?;
    mixture(stage).await?;
    stage.received().await?;
    stage.replica_do(&["FLUSH LOGS"]).await?;
    stage.rows(2, 10).await?;
    stage.received().await?;
    stage
        .replica_do(&["SET GLOBAL max_relay_log_size=4096"])
        .await?;
    stage.rows(14, 700).await?;
    stage.transaction(4).await?;
    stage.received().await?;
    stage.write(&["SET GLOBAL max_binlog_size=4096"]).await?;
    stage.rows(14, 700).await?;
    stage.received().await?;
    stage
        .replica_do(&["SET GLOBAL max_relay_log_size=0"])
        .await?;
    // An inserted statement of more than a whole file.
    stage.rows(2, 6000).await?;
    stage
        .write(&["SET GLOBAL max_binlog_size=1073741824"])
        .await?;
    stage.write(&["FLUSH LOGS", "FLUSH LOGS"]).await?;
    stage.rows(2, 10).await?;
    stage.caught_up().await?;
    LogSet::take(stage, "rotations").await
}

/// Receiver and servers stopped, restarted and killed, also inside a transaction.
///
/// MHA 0.58 takes a Stop for data (6.5), and copies what the replica wrote of its own.
pub(crate) async fn restarts(stage: &Stage) -> Made {
    stage.begin().await?;
    stage.tables().await?;
    stage.rows(2, 10).await?;
    stage.received().await?;
    stage.replica_do(&["STOP SLAVE IO_THREAD"]).await?;
    stage.rows(2, 10).await?;
    stage.replica_do(&["START SLAVE IO_THREAD"]).await?;
    stage.caught_up().await?;
    stage.replica_do(&["STOP SLAVE", "START SLAVE"]).await?;
    stage.transaction(2).await?;
    stage.caught_up().await?;
    stage.restart(1).await?;
    stage.rows(1, 10).await?;
    stage.caught_up().await?;
    stage.kill(1).await?;
    stage.rows(1, 10).await?;
    stage.caught_up().await?;
    stage.restart(0).await?;
    stage.rows(1, 10).await?;
    stage.caught_up().await?;
    stage.kill(0).await?;
    stage.rows(1, 10).await?;
    stage.caught_up().await?;
    LogSet::take(stage, "restarts").await
}

/// The receiver interrupted inside a transaction: the connection lost, then the server killed.
///
/// By position the source goes on behind the last event that was received; by GTID it sends the transaction again.
pub(crate) async fn interrupted(stage: &Stage) -> Made {
    stage.begin().await?;
    stage.tables().await?;
    stage.half_received().await?;
    stage.replica_do(&["STOP SLAVE IO_THREAD"]).await?;
    stage.release();
    stage.replica_do(&["START SLAVE IO_THREAD"]).await?;
    stage.rows(1, 10).await?;
    stage.caught_up().await?;
    stage.half_received().await?;
    stage.replica().kill()?;
    stage.release();
    stage.replica().start().await?;
    stage.rows(1, 10).await?;
    stage.received().await?;
    LogSet::take(stage, "interrupted").await
}

/// Half a transaction is all that came of the last one.
pub(crate) async fn half(stage: &Stage) -> Made {
    stage.begin().await?;
    stage.tables().await?;
    stage.rows(2, 10).await?;
    stage.half_received().await?;
    let set = LogSet::take(stage, "half").await;
    stage.release();
    stage.received().await?;
    set
}

/// Checksums switched off and on in the middle, on the primary, then on the replica, then on both.
///
/// MHA 0.58 reads a whole relay log under the setting of its first format description (6.5, last point).
pub(crate) async fn checksums(stage: &Stage) -> Made {
    stage.begin().await?;
    stage.tables().await?;
    stage.rows(2, 10).await?;
    stage.write(&["SET GLOBAL binlog_checksum=NONE"]).await?;
    mixture(stage).await?;
    stage.received().await?;
    stage
        .replica_do(&["SET GLOBAL binlog_checksum=NONE", "FLUSH LOGS"])
        .await?;
    stage.rows(2, 10).await?;
    stage.write(&["SET GLOBAL binlog_checksum=CRC32"]).await?;
    stage.rows(2, 10).await?;
    stage.received().await?;
    stage
        .replica_do(&[
            "STOP SLAVE IO_THREAD",
            "SET GLOBAL binlog_checksum=CRC32",
            "START SLAVE IO_THREAD",
        ])
        .await?;
    stage.transaction(2).await?;
    stage.received().await?;
    stage.replica_do(&["FLUSH LOGS"]).await?;
    stage.rows(2, 10).await?;
    stage.received().await?;
    LogSet::take(stage, "checksums").await
}

/// Connected, and nothing ever came.
pub(crate) async fn idle(stage: &Stage) -> Made {
    stage.begin().await?;
    LogSet::take(stage, "idle").await
}

/// Connected, while the primary rotated several times without a change; then one row.
pub(crate) async fn idle_rotations(stage: &Stage) -> Result<[LogSet; 2], SandboxError> {
    stage.begin().await?;
    stage.tables().await?;
    stage.received().await?;
    stage
        .write(&["FLUSH LOGS", "FLUSH LOGS", "FLUSH LOGS"])
        .await?;
    stage.in_newest_file().await?;
    let idle = LogSet::take(stage, "idle for three files").await?;
    stage.rows(1, 10).await?;
    stage.received().await?;
    Ok([
        idle,
        LogSet::take(stage, "one row after three files").await?,
    ])
}

/// Not connected while the primary wrote and rotated: what was received ends far before the primary's end.
pub(crate) async fn left_behind(stage: &Stage) -> Made {
    stage.begin().await?;
    stage.tables().await?;
    stage.rows(1, 10).await?;
    stage.received().await?;
    stage.replica_do(&["STOP SLAVE IO_THREAD"]).await?;
    stage.write(&["FLUSH LOGS"]).await?;
    stage.rows(1, 10).await?;
    stage.write(&["FLUSH LOGS"]).await?;
    stage.rows(1, 10).await?;
    LogSet::take(stage, "left behind").await
}

/// One file on the primary, and one relay log that holds it.
pub(crate) async fn one_log(stage: &Stage) -> Made {
    stage.begin().await?;
    stage.tables().await?;
    mixture(stage).await?;
    stage.received().await?;
    LogSet::take(stage, "one log").await
}

/// Events over 64 KiB and one over 1 MiB, in row and in statement format.
///
/// MHA 0.58 reads the rest of a file into memory at once (6.5).
pub(crate) async fn large(stage: &Stage) -> Made {
    stage.begin().await?;
    stage.tables().await?;
    stage.rows(1, 70_000).await?;
    stage.rows(1, 1_200_000).await?;
    stage
        .write(&[
            "SET SESSION binlog_format=STATEMENT",
            &format!("INSERT INTO t.a (v) VALUES ('{}')", "q".repeat(70_000)),
        ])
        .await?;
    stage.write(&["FLUSH LOGS"]).await?;
    stage.transaction(2).await?;
    stage.rows(1, 66_000).await?;
    stage.received().await?;
    LogSet::take(stage, "large").await
}

/// Another server's transactions in the primary's log, which the receiver was told to ignore: a hole that is right, and
/// that only another provider can fill.
///
/// MHA 0.58 does not notice it: it copies what is behind the hole as if nothing were missing.
pub(crate) async fn ignored_ids(stage: &Stage) -> Made {
    stage.begin().await?;
    stage
        .replica_do(&[
            "STOP SLAVE",
            "CHANGE MASTER TO IGNORE_SERVER_IDS=(7)",
            "START SLAVE",
        ])
        .await?;
    stage.tables().await?;
    stage.rows(2, 10).await?;
    // Sessions opened from now on write as server 7.
    stage.write(&["SET GLOBAL server_id=7"]).await?;
    stage.rows(2, 10).await?;
    stage.write(&["SET GLOBAL server_id=1"]).await?;
    stage.rows(2, 10).await?;
    stage.received().await?;
    stage.write(&["SET GLOBAL server_id=7"]).await?;
    stage.rows(2, 10).await?;
    stage
        .write(&["SET GLOBAL server_id=1", "FLUSH LOGS"])
        .await?;
    stage.rows(2, 10).await?;
    stage.received().await?;
    let set = LogSet::take(stage, "ignored ids").await;
    stage
        .replica_do(&["STOP SLAVE", "CHANGE MASTER TO IGNORE_SERVER_IDS=()"])
        .await?;
    set
}

/// MariaDB's compressed events, which a receiver unpacks before it stores them: the primary's own bytes are not held, so
/// each is a hole that only the primary's log can fill.
pub(crate) async fn compressed_events(stage: &Stage) -> Made {
    stage.begin().await?;
    stage.tables().await?;
    stage.rows(2, 10).await?;
    stage.write(&["SET GLOBAL log_bin_compress=1"]).await?;
    stage.rows(2, 900).await?;
    stage.write(&["SET GLOBAL log_bin_compress=0"]).await?;
    stage.rows(2, 900).await?;
    stage.write(&["FLUSH LOGS"]).await?;
    stage.rows(2, 900).await?;
    stage.received().await?;
    LogSet::take(stage, "compressed events").await
}

/// Relay logs purged by the server itself, while it goes on receiving.
pub(crate) async fn purged_by_the_server(stage: &Stage) -> Made {
    let before = rotations(stage).await?;
    stage
        .replica_do(&["SET GLOBAL relay_log_purge=1", "FLUSH LOGS"])
        .await?;
    stage.rows(3, 10).await?;
    stage.caught_up().await?;
    stage.replica_do(&["FLUSH LOGS"]).await?;
    stage.rows(3, 10).await?;
    stage.caught_up().await?;
    let read = replica::must_status(stage.replica()).await?;
    let mut set = LogSet::take(stage, "purged").await?;
    let kept = set.relay_logs();
    assert!(
        kept.len() < before.relay_logs().len(),
        "{}: nothing was purged, {read:?}",
        set.name
    );
    stage.replica_do(&["SET GLOBAL relay_log_purge=0"]).await?;
    set.gone = before.relay_logs();
    Ok(set)
}
