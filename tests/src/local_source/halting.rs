//! Half a transaction in the relay log, and gaps of parallel appliers: how the server stops, and what it has then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use binlog_core::BinlogPosition;
use node_agent::source::fault::{Fault, FaultAction, FaultPlan, FaultPoint};
use node_agent::source::{ChainFeed, LocalSource};

use super::bench::{at, first_place, position};
use super::created::one_transaction;
use super::watching::reaches;
use super::{Bench, Seen, Trouble};
use crate::sandbox::{ServerKind, replica};

/// Longer than any experiment.
const FOR_EVER: Duration = Duration::from_secs(3600);
/// An agent must not have waited for the rest of a transaction, which servers do for 60 s.
const NOT_A_MINUTE: Duration = Duration::from_secs(45);
/// Events sent before the source falls silent: some way into the transaction.
const PART: u64 = 70;

/// From now on the source sends heartbeats alone.
fn silence_after(events: u64) -> FaultPlan {
    FaultPlan {
        faults: vec![Fault {
            at: FaultPoint::SentEvents(events),
            action: FaultAction::Stall(FOR_EVER),
        }],
    }
}

/// The replica has received a part of a transaction, and its applier has done what it can.
struct Half {
    source: LocalSource,
    end: BinlogPosition,
}

async fn half(bench: &Bench, format: &str, statements: &[String]) -> Result<Half, Trouble> {
    let end = bench.write(format, statements).await?;
    let segment = bench.all_to(&end).await?;
    let source = bench.serve(&[segment], silence_after(PART)).await?;
    bench.follow(&source, &first_place()?).await?;
    let sent = reaches(&source, "the part of the transaction", |progress| {
        progress.sent_events >= PART
    })
    .await?
    .last_sent
    .ok_or_else(|| Trouble::lacks("a place of what was sent"))?;
    bench.received(&sent).await?;
    bench
        .replica_value("SELECT COUNT(*) FROM e.t WHERE id=1000", "1")
        .await?;
    bench.idle().await?;
    Ok(Half { source, end })
}

/// The agent's own way out.
pub(super) async fn by_the_agent(bench: &Bench, workers: u32) -> Result<Seen, Trouble> {
    bench.workers(workers).await?;
    let half = half(bench, "ROW", &one_transaction(200)).await?;
    let segment = bench.all_to(&half.end).await?;
    let applied = bench.apply(&[segment], &half.end).await?;
    half.source.stop().await;
    let outcome = applied.ended?;
    let text = format!(
        "{} ms, {}, executed {}",
        applied.took.as_millis(),
        if outcome.applier_killed {
            "applier killed"
        } else {
            "applier not killed"
        },
        outcome.executed_after,
    );
    Ok(Seen::equal(bench, text)
        .await?
        .and(applied.took < NOT_A_MINUTE, "it waited for the rest")
        .and(outcome.executed_after == half.end, "not at the end"))
}

/// The same with a change that cannot be rolled back: reported, since it comes twice.
pub(super) async fn with_myisam(bench: &Bench) -> Result<Seen, Trouble> {
    let mut statements = one_transaction(200);
    statements.insert(2, "CREATE TABLE e.plain (id INT) ENGINE=MyISAM".to_owned());
    // Behind a transactional change it is part of the transaction, in statement format alone.
    statements.insert(8, "INSERT INTO e.plain VALUES (7)".to_owned());
    bench.workers(0).await?;
    let half = half(bench, "STATEMENT", &statements).await?;
    let segment = bench.all_to(&half.end).await?;
    let applied = bench.apply(&[segment], &half.end).await?;
    half.source.stop().await;
    let outcome = applied.ended?;
    let count = |table: &str| format!("SELECT COUNT(*) FROM e.{table}");
    let plain = bench.replica().value(&count("plain")).await?;
    let rows = bench.replica().value(&count("t")).await?;
    let written = bench.primary().value(&count("plain")).await?;
    let named = outcome.maybe_twice.iter().any(|name| name == "e.plain");
    let text = format!(
        "{} ms, {plain} of {written} rows of MyISAM, reported: {}",
        applied.took.as_millis(),
        outcome.maybe_twice.join(", ")
    );
    Ok(Seen::relied(plain == written || named, text)
        .and(rows == "101", "rows of InnoDB are missing")
        .and(applied.took < NOT_A_MINUTE, "it waited for the rest"))
}

/// What STOP alone does, for the record.
pub(super) async fn by_stop(bench: &Bench, workers: u32) -> Result<Seen, Trouble> {
    // 9.7 has a worker also where it is told to have none.
    let a_minute = !bench.is_mariadb() && (workers > 0 || bench.kind() == ServerKind::MySql97);
    bench.workers(workers).await?;
    let half = half(bench, "ROW", &one_transaction(200)).await?;
    bench.replica_says("STOP SLAVE IO_THREAD").await?;
    let began = Instant::now();
    bench.replica_says("STOP SLAVE SQL_THREAD").await?;
    let took = began.elapsed();
    let status = bench.status().await?;
    let error = status.text("Last_SQL_Errno")?.to_owned();
    let executed = position(&status.executed()?)?;
    // Whatever it took: from the executed position all of it comes again.
    let whole = bench
        .serve(&[bench.all_to(&half.end).await?], FaultPlan::default())
        .await?;
    bench.change(whole.port(), at(&executed)).await?;
    bench.replica_says("START SLAVE").await?;
    bench.executed(&half.end).await?;
    half.source.stop().await;
    let text = format!(
        "{:.1} s, error {error}, replay from {executed} equal",
        took.as_secs_f64()
    );
    let seen = Seen::equal(bench, text).await?;
    if !seen.holds() || (took > Duration::from_secs(30)) == a_minute {
        return Ok(seen);
    }
    Ok(Seen::recorded(false, seen.text))
}

/// A replica that is killed while one of its workers is behind the others.
pub(super) async fn gap_and_crash(bench: &Bench) -> Result<Seen, Trouble> {
    let mut statements: Vec<String> = ["e", "e2"]
        .iter()
        .flat_map(|name| {
            [
                format!("CREATE DATABASE {name}"),
                format!("CREATE TABLE {name}.t (id INT PRIMARY KEY) ENGINE=InnoDB"),
            ]
        })
        .collect();
    let before = bench.write("ROW", &statements).await?;
    statements = vec!["INSERT INTO e.t VALUES (1)".to_owned()];
    statements.extend((1..=8).map(|id| format!("INSERT INTO e2.t VALUES ({id})")));
    let end = bench.write("ROW", &statements).await?;
    bench.workers(4).await?;
    // 5.6 does not know it; where it is on, the later ones wait.
    let order = bench
        .set_replica("slave_preserve_commit_order", "OFF")
        .await;
    // One connection for both parts: an applier that begins between two transactions waits for the first of them.
    let first = bench.all_to(&before).await?;
    let feed = tokio::task::spawn_blocking(move || ChainFeed::growing(&[first]))
        .await
        .map_err(|_| Trouble::lacks("a feed that could be opened"))??;
    let feed = Arc::new(feed);
    let source = bench
        .serve_feed(Arc::clone(&feed), FaultPlan::default())
        .await?;
    bench.follow(&source, &first_place()?).await?;
    bench.executed(&before).await?;
    let mut blocker = bench.replica().admin().await?;
    blocker.exec("SET sql_log_bin=0").await?;
    blocker.exec("BEGIN").await?;
    blocker.exec("INSERT INTO e.t VALUES (1)").await?;
    let second = bench.segment(&before, &end).await?;
    tokio::task::spawn_blocking(move || feed.append(&second))
        .await
        .map_err(|_| Trouble::lacks("a feed that could grow"))??;
    bench.received(&end).await?;
    bench
        .replica_value("SELECT COUNT(*) FROM e2.t", "8")
        .await?;
    bench.replica().kill()?;
    source.stop().await;
    drop(blocker);
    bench.replica().start_with(&["--skip-slave-start"]).await?;
    let executed = bench.status().await?.executed()?;
    let held = bench.replica().value("SELECT COUNT(*) FROM e2.t").await?;
    let segment = bench.all_to(&end).await?;
    let applied = bench.apply(&[segment], &end).await?;
    let text = format!(
        "{held} later transactions were there with executed {executed} ({})",
        if order.is_ok() {
            "order of commits off"
        } else {
            "no order of commits"
        }
    );
    let outcome = applied.ended?;
    Ok(Seen::equal(bench, format!("{text}; filled"))
        .await?
        .and(outcome.executed_after == end, "not at the end"))
}

/// How far the executed position lags behind the data, and that it is exact once the applier stands still.
pub(super) async fn lag(bench: &Bench) -> Result<Seen, Trouble> {
    let mut statements = vec![
        "CREATE DATABASE e".to_owned(),
        "CREATE TABLE e.t (id INT PRIMARY KEY) ENGINE=InnoDB".to_owned(),
    ];
    statements.extend((1..=50).map(|id| format!("INSERT INTO e.t VALUES ({id})")));
    let end = bench.write("ROW", &statements).await?;
    bench.workers(4).await?;
    let source = bench
        .serve(&[bench.all_to(&end).await?], FaultPlan::default())
        .await?;
    bench.follow(&source, &first_place()?).await?;
    bench
        .replica_value(
            "SELECT IFNULL((SELECT 1 FROM information_schema.tables WHERE table_schema='e' AND table_name='t'), 0)",
            "1",
        )
        .await?;
    bench
        .replica_value("SELECT COUNT(*) FROM e.t", "50")
        .await?;
    let began = Instant::now();
    let behind = position(&bench.status().await?.executed()?)? < end;
    bench.replica_says("STOP SLAVE SQL_THREAD").await?;
    let stopped = replica::must_status(bench.replica()).await?.executed()?;
    let text = format!(
        "{} when all rows were there; after STOP ({} ms) {stopped}",
        if behind { "behind" } else { "level" },
        began.elapsed().as_millis()
    );
    Ok(Seen::equal(bench, text)
        .await?
        .and(position(&stopped)? == end, "not exact after STOP"))
}
