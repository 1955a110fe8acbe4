//! What the record left untried about the contents of a log: XA, compression, tagged GTIDs, LOAD DATA.

use node_agent::source::fault::FaultPlan;

use super::bench::first_place;
use super::created::one_transaction;
use super::{Bench, Seen, Trouble};
use crate::sandbox::ServerKind;

/// A place to cut at every so many events.
fn cuts(every: u64, number: u64) -> FaultPlan {
    FaultPlan::cut_after_events((1..=number).map(|cut| cut * every))
}

/// Replays everything with cuts; the two must be equal.
async fn replay(
    bench: &Bench,
    end: &binlog_core::BinlogPosition,
    faults: FaultPlan,
    text: &str,
) -> Result<Seen, Trouble> {
    let source = bench.serve(&[bench.all_to(end).await?], faults).await?;
    bench.follow(&source, &first_place()?).await?;
    bench.executed(end).await?;
    let cuts = source.progress().borrow().cuts;
    Seen::equal(bench, format!("{text}, {cuts} connections lost")).await
}

/// XA transactions: committed, rolled back, in one phase, and one that is prepared and nothing else.
pub(super) async fn xa(bench: &Bench, format: &str) -> Result<Seen, Trouble> {
    let mut session = bench.writer(format).await?;
    for statement in [
        "CREATE DATABASE e",
        "CREATE TABLE e.t (id INT PRIMARY KEY, v VARCHAR(20)) ENGINE=InnoDB",
    ] {
        session.exec(statement).await?;
    }
    drop(session);
    for (name, ending) in [
        ("a", "XA COMMIT 'a'"),
        ("b", "XA ROLLBACK 'b'"),
        ("c", "XA COMMIT 'c' ONE PHASE"),
        ("d", ""),
    ] {
        // Each in a session of its own: what a session prepared and another one ends is the common case.
        let mut session = bench.writer(format).await?;
        session.exec(&format!("XA START '{name}'")).await?;
        for id in 0..10 {
            session
                .exec(&format!(
                    "INSERT INTO e.t VALUES ({}, '{name}')",
                    u32::from(name.as_bytes()[0]) * 100 + id
                ))
                .await?;
        }
        session.exec(&format!("XA END '{name}'")).await?;
        if !ending.contains("ONE PHASE") {
            session.exec(&format!("XA PREPARE '{name}'")).await?;
        }
        if !ending.is_empty() {
            session.exec(ending).await?;
        }
        session.close().await?;
    }
    let end = bench
        .write(format, &["INSERT INTO e.t VALUES (1, 'after')"])
        .await?;
    let seen = replay(bench, &end, cuts(5, 20), "four of them").await?;
    let prepared = |rows: Vec<crate::sandbox::Record>| -> Vec<String> {
        rows.iter()
            .filter_map(|row| row.get("data").map(str::to_owned))
            .collect()
    };
    let ours = prepared(bench.primary().rows("XA RECOVER").await?);
    let theirs = prepared(bench.replica().rows("XA RECOVER").await?);
    // Ends what is prepared, so that the next experiment finds nothing.
    for server in [bench.primary(), bench.replica()] {
        let mut session = server.admin().await?;
        session.exec("SET sql_log_bin=0").await?;
        // 5.6 rolls a prepared one back with its session.
        let _gone = session.exec("XA ROLLBACK 'd'").await;
    }
    let text = format!("prepared at the end: {ours:?} and {theirs:?}");
    let same = ours == theirs;
    Ok(if seen.holds() && same {
        Seen::relied(true, text)
    } else {
        Seen::relied(false, format!("{}; {text}", seen.text))
    })
}

/// XA transactions through the agent's apply, the replica inside the first of them.
pub(super) async fn xa_apply(bench: &Bench) -> Result<Seen, Trouble> {
    let begun = bench.write("ROW", &one_transaction(20)).await?;
    let mut session = bench.writer("ROW").await?;
    session.exec("XA START 'k'").await?;
    for id in 0..5 {
        session
            .exec(&format!("INSERT INTO e.t VALUES ({}, 'xa')", 3000 + id))
            .await?;
    }
    session.exec("XA END 'k'").await?;
    session.exec("XA PREPARE 'k'").await?;
    let prepared = bench.end().await?;
    session.exec("XA COMMIT 'k'").await?;
    let end = bench.end().await?;
    let first = bench
        .serve(&[bench.all_to(&prepared).await?], FaultPlan::default())
        .await?;
    bench.follow(&first, &first_place()?).await?;
    bench.executed(&prepared).await?;
    let rest = bench.segment(&begun, &end).await?;
    let applied = bench.apply(&[rest], &end).await?;
    first.stop().await;
    applied.ended?;
    Seen::equal(
        bench,
        format!("{} ms between PREPARE and COMMIT", applied.took.as_millis()),
    )
    .await
}

/// Compressed transactions or events.
pub(super) async fn compressed(bench: &Bench, format: &str) -> Result<Seen, Trouble> {
    let (on, off) = if bench.is_mariadb() {
        (
            "SET GLOBAL log_bin_compress=ON, GLOBAL log_bin_compress_min_len=10",
            "SET GLOBAL log_bin_compress=OFF",
        )
    } else {
        (
            "SET GLOBAL binlog_transaction_compression=ON",
            "SET GLOBAL binlog_transaction_compression=OFF",
        )
    };
    bench.primary().exec(on).await?;
    let mut statements = one_transaction(1500);
    statements.push("UPDATE e.t SET v=REPEAT('y', 1900)".to_owned());
    statements.push("DELETE FROM e.t WHERE id % 2 = 1".to_owned());
    let end = bench.write(format, &statements).await?;
    bench.primary().exec(off).await?;
    let events = bench
        .primary()
        .rows("SHOW BINLOG EVENTS IN 'mysql-bin.000001'")
        .await?;
    let packed = events
        .iter()
        .filter_map(|event| event.get("Event_type"))
        .filter(|name| name.contains("ompressed") || name.contains("payload"))
        .count();
    Ok(
        replay(bench, &end, cuts(3, 10), &format!("{packed} compressed"))
            .await?
            .and(packed > 0, "nothing was compressed"),
    )
}

/// LOAD DATA in statement format: the file's bytes are in the log.
pub(super) async fn load_data(bench: &Bench) -> Result<Seen, Trouble> {
    let text: String = (0..2000)
        .map(|id| format!("{id}\trow number {id} of a file\n"))
        .collect();
    let path = bench.file("rows.txt", &text)?;
    let load = |table: &str| format!("LOAD DATA INFILE '{}' INTO TABLE e.{table}", path.display());
    let statements = [
        "CREATE DATABASE e".to_owned(),
        "CREATE TABLE e.t (id INT PRIMARY KEY, v VARCHAR(100)) ENGINE=InnoDB".to_owned(),
        "CREATE TABLE e.u LIKE e.t".to_owned(),
        load("t"),
        "BEGIN".to_owned(),
        "INSERT INTO e.u VALUES (9000, 'in the same transaction')".to_owned(),
        load("u"),
        "UPDATE e.u SET v=UPPER(v) WHERE id < 10".to_owned(),
        "COMMIT".to_owned(),
    ];
    let end = bench.write("STATEMENT", &statements).await?;
    replay(bench, &end, cuts(2, 16), "two files").await
}

/// GTIDs with tags beside those without, in a log that is cut inside.
pub(super) async fn tagged(bench: &Bench) -> Result<Seen, Trouble> {
    let mut statements = one_transaction(20);
    for (id, tag) in [(2000, "red"), (2001, "blue"), (2002, "red")] {
        statements.push(format!("SET SESSION gtid_next='AUTOMATIC:{tag}'"));
        statements.push(format!("INSERT INTO e.t VALUES ({id}, '{tag}')"));
    }
    statements.push("SET SESSION gtid_next='AUTOMATIC'".to_owned());
    statements.push("INSERT INTO e.t VALUES (2003, 'none')".to_owned());
    let end = bench.write("ROW", &statements).await?;
    let middle = bench.all_to(&end).await?;
    let source = bench
        .serve(std::slice::from_ref(&middle), cuts(37, 6))
        .await?;
    bench.follow(&source, &first_place()?).await?;
    bench.executed(&end).await?;
    let executed = bench
        .replica()
        .value("SELECT @@GLOBAL.gtid_executed")
        .await?;
    Ok(Seen::equal(bench, executed.clone())
        .await?
        .and(executed.contains("red"), "no tag came through"))
}

/// Why this line compresses no rows.
pub(super) fn lacks_compression(kind: ServerKind) -> Option<&'static str> {
    match kind {
        ServerKind::MySql56 | ServerKind::MySql57 => Some(""),
        ServerKind::MySql80 => {
            Some("the server is 8.0.15: binlog_transaction_compression came with 8.0.20")
        }
        _ => None,
    }
}

/// Why this line compresses no statements.
pub(super) fn lacks_statement_compression(kind: ServerKind) -> Option<&'static str> {
    match kind {
        ServerKind::MySql97 => Some("the server compresses transactions of rows alone"),
        other => lacks_compression(other),
    }
}
