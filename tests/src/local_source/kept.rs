//! What becomes of relay logs on STOP, START and CHANGE: why none is trusted that the agent has not kept aside.

use node_agent::source::fault::FaultPlan;

use super::bench::{at, first_place};
use super::{Bench, Seen, Trouble};
use crate::sandbox::dialect::Start;

/// Rows that are received and not applied.
const ROWS: u32 = 5;

/// Statements: a table, then [`ROWS`] transactions.
fn statements() -> Vec<String> {
    let mut statements = vec![
        "CREATE DATABASE e".to_owned(),
        "CREATE TABLE e.t (id INT PRIMARY KEY) ENGINE=InnoDB".to_owned(),
    ];
    statements.extend((1..=ROWS).map(|id| format!("INSERT INTO e.t VALUES ({id})")));
    statements
}

/// How many of the rows the applier brings from its relay logs alone.
async fn rows_from_relay_logs(bench: &Bench) -> Result<u32, Trouble> {
    bench.replica_says("START SLAVE SQL_THREAD").await?;
    bench.idle().await?;
    let found = bench
        .replica()
        .value("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema='e'")
        .await?;
    if found == "0" {
        return Ok(0);
    }
    let found = bench.replica().value("SELECT COUNT(*) FROM e.t").await?;
    Ok(found.parse().unwrap_or(0))
}

/// A delayed replica goes on from its executed position, without a drain; its relay logs are kept before.
pub(super) async fn delayed(bench: &Bench) -> Result<Seen, Trouble> {
    let end = bench.write("ROW", &statements()).await?;
    let segment = bench.all_to(&end).await?;
    let source = bench
        .serve(std::slice::from_ref(&segment), FaultPlan::default())
        .await?;
    bench.change(source.port(), at(&first_place()?)).await?;
    bench
        .replica_says("CHANGE MASTER TO MASTER_DELAY=3600")
        .await?;
    bench.replica_says("START SLAVE").await?;
    bench.received(&end).await?;
    let applied = bench.apply(&[segment], &end).await?;
    source.stop().await;
    let outcome = applied.ended?;
    let text = format!(
        "{} ms, {} relay logs kept before CHANGE",
        applied.took.as_millis(),
        applied.kept
    );
    Ok(Seen::equal(bench, text)
        .await?
        .and(applied.kept > 0, "none was kept")
        .and(outcome.executed_after == end, "not at the end"))
}

/// CHANGE with both threads stopped, without naming a relay log.
pub(super) async fn on_change(bench: &Bench) -> Result<Seen, Trouble> {
    let end = bench.write("ROW", &statements()).await?;
    let source = bench
        .serve(&[bench.all_to(&end).await?], FaultPlan::default())
        .await?;
    bench.change(source.port(), at(&first_place()?)).await?;
    bench.replica_says("START SLAVE IO_THREAD").await?;
    bench.received(&end).await?;
    bench.replica_says("STOP SLAVE").await?;
    bench
        .replica_says("CHANGE MASTER TO MASTER_CONNECT_RETRY=2")
        .await?;
    let rows = rows_from_relay_logs(bench).await?;
    source.stop().await;
    Ok(Seen::recorded(
        rows == 0,
        format!("{rows} of {ROWS} rows from what was received"),
    ))
}

/// MariaDB by GTID: the first START after both threads were stopped.
pub(super) async fn on_start_by_slave_pos(bench: &Bench) -> Result<Seen, Trouble> {
    let end = bench.write("ROW", &statements()).await?;
    let source = bench
        .serve(&[bench.all_to(&end).await?], FaultPlan::default())
        .await?;
    bench.change(source.port(), Start::Gtid).await?;
    bench.replica_says("START SLAVE IO_THREAD").await?;
    bench.received(&end).await?;
    bench.replica_says("STOP SLAVE").await?;
    let rows = rows_from_relay_logs(bench).await?;
    source.stop().await;
    Ok(Seen::recorded(
        rows == 0,
        format!("{rows} of {ROWS} rows from what was received"),
    ))
}

/// MariaDB by GTID, received and not applied, both threads stopped: the agent must lose nothing of it.
pub(super) async fn apply_to_slave_pos(bench: &Bench) -> Result<Seen, Trouble> {
    let end = bench.write("ROW", &statements()).await?;
    let segment = bench.all_to(&end).await?;
    let source = bench
        .serve(std::slice::from_ref(&segment), FaultPlan::default())
        .await?;
    bench.change(source.port(), Start::Gtid).await?;
    bench.replica_says("START SLAVE IO_THREAD").await?;
    bench.received(&end).await?;
    bench.replica_says("STOP SLAVE").await?;
    let applied = bench.apply(&[segment], &end).await?;
    source.stop().await;
    applied.ended?;
    let text = format!(
        "{} ms, {} relay logs kept before CHANGE",
        applied.took.as_millis(),
        applied.kept
    );
    Ok(Seen::equal(bench, text)
        .await?
        .and(applied.kept > 0, "none was kept"))
}
