//! A random workload against plain replication, once by position and once by GTID; the suite `sandbox differential` plays
//! hundreds.

use tests::differential::play::play;
use tests::differential::shape::Shape;
use tests::sandbox::ServerKind;
use tests::scenario::{Failure, expect};

async fn plays(kind: ServerKind, gtid: bool, seed: u64) -> Result<(), Failure> {
    let shape = Shape::of(kind, seed);
    expect(
        shape.gtid == gtid,
        "the servers",
        format!("GTID {gtid}"),
        &shape,
    )?;
    play(kind, seed).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survivors_equal_a_replica_that_received_everything_by_position() -> Result<(), Failure> {
    plays(ServerKind::MySql56, false, 100).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survivors_equal_a_replica_that_received_everything_by_gtid() -> Result<(), Failure> {
    plays(ServerKind::MariaDb1011, true, 105).await
}
