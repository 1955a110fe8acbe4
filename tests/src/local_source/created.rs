//! A connection that is lost where it hurts: inside a transaction, and while a temporary table is open.
//!
//! A format description with a `created` time tells an applier that its source restarted. The local source zeroes it
//! wherever a replica resumes; [`kept`] puts it back on the way, to show that these experiments can fail.

use node_agent::source::fault::FaultPlan;

use super::bench::{at, first_place};
use super::tamper::Tamper;
use super::{Bench, Seen, Trouble};
use crate::sandbox::Client;

/// Rows of the transaction that is cut.
const ROWS: u64 = 100;
/// Where connections are cut, in events sent.
const CUTS: [u64; 5] = [20, 60, 61, 130, 180];
/// Cuts among the statements with the temporary table.
const STATEMENT_CUTS: [u64; 8] = [10, 13, 15, 17, 19, 21, 23, 25];
/// `created` in a file: magic, header, version of the format, version of the server.
const CREATED: std::ops::Range<usize> = 75..79;

/// Statements with one transaction of [`ROWS`] rows of about `size` bytes.
pub(super) fn one_transaction(size: usize) -> Vec<String> {
    let mut statements = vec![
        "CREATE DATABASE e".to_owned(),
        "CREATE TABLE e.t (id INT PRIMARY KEY, v VARCHAR(2000)) ENGINE=InnoDB".to_owned(),
        "INSERT INTO e.t VALUES (1000, 'before')".to_owned(),
        "BEGIN".to_owned(),
    ];
    statements
        .extend((0..ROWS).map(|id| format!("INSERT INTO e.t VALUES ({id}, REPEAT('x', {size}))")));
    statements.push("COMMIT".to_owned());
    statements
}

/// Statements that fill a table from a temporary one, again and again.
pub(super) const TEMPORARY: [&str; 10] = [
    "CREATE DATABASE e",
    "CREATE TABLE e.t (id INT PRIMARY KEY) ENGINE=InnoDB",
    "CREATE TEMPORARY TABLE e.tmp (id INT PRIMARY KEY) ENGINE=InnoDB",
    "INSERT INTO e.tmp VALUES (1)",
    "INSERT INTO e.t SELECT id FROM e.tmp",
    "UPDATE e.tmp SET id=id+1",
    "INSERT INTO e.t SELECT id FROM e.tmp",
    "UPDATE e.tmp SET id=id+1",
    "INSERT INTO e.t SELECT id FROM e.tmp",
    "INSERT INTO e.t SELECT id+100 FROM e.tmp",
];

/// Whether the first log of the primary begins as one of a server that has just started.
async fn is_dangerous(bench: &Bench) -> Result<bool, Trouble> {
    let path = format!("{}.000001", bench.primary().binlog_base().display());
    let bytes = tokio::fs::read(&path)
        .await
        .map_err(|_| Trouble::lacks(format!("a readable {path}")))?;
    Ok(bytes.get(CREATED).is_some_and(|created| created != [0; 4]))
}

/// Cuts inside a transaction.
pub(super) async fn rows(bench: &Bench, workers: u32) -> Result<Seen, Trouble> {
    let end = bench.write("ROW", &one_transaction(200)).await?;
    let dangerous = is_dangerous(bench).await?;
    let segment = bench.all_to(&end).await?;
    bench.workers(workers).await?;
    let source = bench
        .serve(&[segment], FaultPlan::cut_after_events(CUTS))
        .await?;
    bench.follow(&source, &first_place()?).await?;
    bench.executed(&end).await?;
    let progress = source.progress().borrow().clone();
    let text = format!(
        "{} connections lost, {} positions asked for, all rows",
        progress.cuts, progress.dumps
    );
    Ok(Seen::equal(bench, text)
        .await?
        .and(progress.cuts == CUTS.len() as u64, "not all cuts happened")
        .and(dangerous, "`created` was zero from the beginning"))
}

/// The same with `created` put back on the way.
pub(super) async fn kept(bench: &Bench) -> Result<Seen, Trouble> {
    let end = bench.write("ROW", &one_transaction(200)).await?;
    let segment = bench.all_to(&end).await?;
    let source = bench
        .serve(&[segment], FaultPlan::cut_after_events([120]))
        .await?;
    let tamper = Tamper::start(source.port()).await?;
    bench.change(tamper.port(), at(&first_place()?)).await?;
    bench.replica_says("START SLAVE").await?;
    let ended = bench.executed(&end).await;
    // 5.6 and MariaDB say nothing and go on; what is there is what counts.
    let found = bench
        .replica()
        .value("SELECT COUNT(*) FROM e.t WHERE id < 1000")
        .await?;
    let whole = found == ROWS.to_string();
    let status = match &ended {
        Ok(_) => "no error in the status",
        Err(_) => "the applier stopped",
    };
    Ok(Seen::recorded(
        whole != rolls_back(bench),
        format!(
            "{found} of {ROWS} rows, {status}, {} put back",
            tamper.changed()
        ),
    )
    .and(
        tamper.changed() > 0,
        "nothing was put back: the experiment shows nothing",
    ))
}

/// Whether the line rolls back on a `created` time, by the record: 9.7 does not.
fn rolls_back(bench: &Bench) -> bool {
    use crate::sandbox::ServerKind::{MySql57, MySql80, MySql97};
    !matches!(bench.kind(), MySql57 | MySql80 | MySql97)
}

/// The end of a session with a temporary table: its DROP must not come into the log of whatever follows.
async fn end_quietly(mut session: Client) -> Result<(), Trouble> {
    for statement in ["SET sql_log_bin=0", "DROP TEMPORARY TABLE e.tmp"] {
        session.exec(statement).await?;
    }
    Ok(session.close().await?)
}

/// Cuts while a temporary table is open.
pub(super) async fn temporary(bench: &Bench) -> Result<Seen, Trouble> {
    let mut session = bench.writer("STATEMENT").await?;
    for statement in TEMPORARY {
        session.exec(statement).await?;
    }
    let end = bench.end().await?;
    let segment = bench.all_to(&end).await?;
    let source = bench
        .serve(&[segment], FaultPlan::cut_after_events(STATEMENT_CUTS))
        .await?;
    bench.follow(&source, &first_place()?).await?;
    bench.executed(&end).await?;
    let progress = source.progress().borrow().clone();
    let text = format!(
        "{} connections lost, all rows that came from it",
        progress.cuts
    );
    let seen = Seen::equal(bench, text).await?;
    end_quietly(session).await?;
    Ok(seen.and(progress.cuts >= 4, "too few cuts happened"))
}

/// A temporary table across STOP and CHANGE, as the agent does them.
pub(super) async fn temporary_across_change(bench: &Bench) -> Result<Seen, Trouble> {
    let mut session = bench.writer("STATEMENT").await?;
    let (first, second) = TEMPORARY.split_at(6);
    for statement in first {
        session.exec(statement).await?;
    }
    let middle = bench.end().await?;
    for statement in second {
        session.exec(statement).await?;
    }
    let end = bench.end().await?;
    let source = bench
        .serve(&[bench.all_to(&middle).await?], FaultPlan::default())
        .await?;
    bench.follow(&source, &first_place()?).await?;
    bench.executed(&middle).await?;
    source.stop().await;
    let rest = bench.segment(&middle, &end).await?;
    let applied = bench.apply(&[rest], &end).await?;
    applied.ended?;
    let seen = Seen::equal(bench, "all rows that came from it").await?;
    end_quietly(session).await?;
    Ok(seen)
}
