//! The connection: login, semi-synchronous replication declined, the end of the stream, heartbeats, refusals, large
//! events.

use std::sync::Arc;
use std::time::Duration;

use binlog_core::BinlogPosition;
use node_agent::source::ChainFeed;
use node_agent::source::fault::{Fault, FaultAction, FaultPlan, FaultPoint};

use super::bench::{at, first_place};
use super::created::one_transaction;
use super::watching::reaches;
use super::{Bench, Seen, Trouble};
use crate::sandbox::ServerKind;

/// Two times of it a replica that misses heartbeats has reconnected.
const NET_TIMEOUT: Duration = Duration::from_secs(4);

async fn replayed(
    bench: &Bench,
    faults: FaultPlan,
) -> Result<(node_agent::source::LocalSource, BinlogPosition), Trouble> {
    let end = bench.write("ROW", &one_transaction(20)).await?;
    let source = bench.serve(&[bench.all_to(&end).await?], faults).await?;
    bench.follow(&source, &first_place()?).await?;
    bench.executed(&end).await?;
    Ok((source, end))
}

/// The one-time account, twice, and with a wrong password.
pub(super) async fn login(bench: &Bench) -> Result<Seen, Trouble> {
    let (source, end) = replayed(bench, FaultPlan::cut_after_events([50])).await?;
    let seen = Seen::equal(bench, "").await?;
    let good = source.progress().borrow().clone();
    bench.replica_says("STOP SLAVE").await?;
    bench.change(source.port(), at(&end)).await?;
    bench
        .replica_says("CHANGE MASTER TO MASTER_PASSWORD='another'")
        .await?;
    bench.replica_says("START SLAVE IO_THREAD").await?;
    let refused = reaches(&source, "a refused login", |progress| {
        progress.refused_logins > 0
    })
    .await
    .is_ok();
    bench.replica_says("STOP SLAVE").await?;
    let plugin = match bench.kind() {
        ServerKind::MySql80 | ServerKind::MySql97 => "caching_sha2_password, fast path",
        _ => "mysql_native_password",
    };
    let text = format!(
        "{plugin}: {} connections, {} refused; wrong password {}",
        good.connections,
        good.refused_logins,
        if refused { "refused" } else { "NOT refused" }
    );
    Ok(Seen::relied(
        seen.holds() && good.refused_logins == 0 && good.dumps >= 2 && refused,
        text,
    ))
}

/// The replica's half of semi-synchronous replication is on; the source knows of none.
pub(super) async fn semi_sync(bench: &Bench) -> Result<Seen, Trouble> {
    let (status, was) = if bench.is_mariadb() {
        bench
            .replica()
            .exec("SET GLOBAL rpl_semi_sync_slave_enabled=1")
            .await?;
        ("Rpl_semi_sync_slave_status", "rpl_semi_sync_slave_enabled")
    } else {
        // From an earlier round it may be there already.
        let there = bench
            .replica()
            .value("SELECT COUNT(*) FROM information_schema.plugins WHERE plugin_name='rpl_semi_sync_replica'")
            .await?;
        if there == "0" {
            bench
                .replica()
                .exec("INSTALL PLUGIN rpl_semi_sync_replica SONAME 'semisync_replica.so'")
                .await?;
        }
        bench
            .replica()
            .exec("SET GLOBAL rpl_semi_sync_replica_enabled=1")
            .await?;
        (
            "Rpl_semi_sync_replica_status",
            "rpl_semi_sync_replica_enabled",
        )
    };
    let (source, _end) = replayed(bench, FaultPlan::default()).await?;
    let row = bench
        .replica()
        .row(&format!("SHOW GLOBAL STATUS LIKE '{status}'"))
        .await?;
    let state = row
        .as_ref()
        .and_then(|row| row.at(1))
        .unwrap_or("unknown")
        .to_owned();
    let connections = source.progress().borrow().connections;
    bench.replica().exec(&format!("SET GLOBAL {was}=0")).await?;
    Ok(Seen::equal(
        bench,
        format!("{status} {state}, {connections} connections"),
    )
    .await?
    .and(state == "OFF", "semi-synchronous after all"))
}

/// Nothing more to send: the connection stays, heartbeats keep it.
pub(super) async fn silence(bench: &Bench) -> Result<Seen, Trouble> {
    bench
        .set_replica("slave_net_timeout", &NET_TIMEOUT.as_secs().to_string())
        .await?;
    let end = bench.write("ROW", &one_transaction(20)).await?;
    let source = bench
        .serve(&[bench.all_to(&end).await?], FaultPlan::default())
        .await?;
    bench.change(source.port(), at(&first_place()?)).await?;
    bench
        .replica_says("CHANGE MASTER TO MASTER_HEARTBEAT_PERIOD=1")
        .await?;
    bench.replica_says("START SLAVE").await?;
    bench.executed(&end).await?;
    // As many as come in two and a half times the timeout.
    let seen = reaches(&source, "ten heartbeats", |progress| {
        progress.heartbeats >= 10
    })
    .await?;
    let status = bench.status().await?;
    Ok(Seen::relied(
        seen.connections == 1 && status.io_running()? == "Yes",
        format!(
            "{} heartbeats at a timeout of {} s, {} connection",
            seen.heartbeats,
            NET_TIMEOUT.as_secs(),
            seen.connections
        ),
    ))
}

/// A source that hangs: the replica reconnects from its read position, inside a transaction too, and nothing is lost.
pub(super) async fn hang(bench: &Bench) -> Result<Seen, Trouble> {
    bench.set_replica("slave_net_timeout", "4").await?;
    let freeze = FaultPlan {
        faults: vec![Fault {
            at: FaultPoint::SentEvents(60),
            action: FaultAction::Freeze(Duration::from_secs(3600)),
        }],
    };
    let (source, _end) = replayed(bench, freeze).await?;
    let seen = source.progress().borrow().clone();
    Ok(Seen::equal(bench, format!("{} dumps", seen.dumps))
        .await?
        .and(seen.dumps >= 2, "it never reconnected"))
}

/// What is not held is refused with 1236 and the reason.
pub(super) async fn not_held(bench: &Bench) -> Result<Seen, Trouble> {
    let middle = bench.write("ROW", &one_transaction(20)).await?;
    let end = bench
        .write("ROW", &["INSERT INTO e.t VALUES (2000, 'x')"])
        .await?;
    let source = bench
        .serve(&[bench.segment(&middle, &end).await?], FaultPlan::default())
        .await?;
    bench.follow(&source, &first_place()?).await?;
    let status = receiver_stopped(bench).await?;
    let (number, text) = status;
    Ok(Seen::relied(
        is_1236(&number, &text) && text.contains("the segments cover"),
        format!(
            "error {number}: {}",
            text.chars().take(200).collect::<String>()
        ),
    ))
}

/// The rest will not come: everything that was sent is applied first, then 1236.
pub(super) async fn failed(bench: &Bench) -> Result<Seen, Trouble> {
    let end = bench.write("ROW", &one_transaction(20)).await?;
    let segment = bench.all_to(&end).await?;
    let feed = tokio::task::spawn_blocking(move || ChainFeed::growing(&[segment]))
        .await
        .map_err(|_| Trouble::lacks("a feed that could be opened"))??;
    let feed = Arc::new(feed);
    let source = bench
        .serve_feed(Arc::clone(&feed), FaultPlan::default())
        .await?;
    bench.follow(&source, &first_place()?).await?;
    bench.received(&end).await?;
    feed.fail("the disk of db1 is gone".to_owned());
    let (number, text) = receiver_stopped(bench).await?;
    bench
        .replica_value("SELECT COUNT(*) FROM e.t", "101")
        .await?;
    Ok(Seen::equal(
        bench,
        format!("error {number}, all that was sent is applied"),
    )
    .await?
    .and(
        is_1236(&number, &text) && text.contains("the disk of db1 is gone"),
        "another error",
    ))
}

/// 9.7 has a number of its own for it, and says the source's in words.
fn is_1236(number: &str, text: &str) -> bool {
    number == "1236" || text.contains("fatal error 1236")
}

async fn receiver_stopped(bench: &Bench) -> Result<(String, String), Trouble> {
    let began = std::time::Instant::now();
    loop {
        let status = bench.status().await?;
        let number = status.text("Last_IO_Errno")?.to_owned();
        let text = status.text("Last_IO_Error")?.to_owned();
        if number != "0" && status.io_running()? == "No" {
            return Ok((number, text));
        }
        if began.elapsed() > super::bench::LIMIT {
            return Err(Trouble::Stopped {
                what: "the receiver to stop".to_owned(),
                seen: format!("{} {number} {text}", status.io_running()?),
            });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Events beyond 16 MiB, which take several packets; one connection is lost inside one of them.
pub(super) async fn large_events(bench: &Bench) -> Result<Seen, Trouble> {
    let statements = [
        "CREATE DATABASE e".to_owned(),
        // Without a redo log, whose size 5.6 holds against the size of a value.
        "CREATE TABLE e.t (id INT PRIMARY KEY, v LONGBLOB) ENGINE=MyISAM".to_owned(),
        // Exactly so many bytes that packets are full, then some more.
        format!("INSERT INTO e.t VALUES (1, REPEAT('a', {}))", 16 << 20),
        format!("INSERT INTO e.t VALUES (2, REPEAT('b', {}))", 33 << 20),
        "INSERT INTO e.t VALUES (3, 'c')".to_owned(),
    ];
    let end = bench.write("ROW", &statements).await?;
    let source = bench
        .serve(
            &[bench.all_to(&end).await?],
            FaultPlan::cut_after_bytes([8 << 20, 40 << 20]),
        )
        .await?;
    bench.follow(&source, &first_place()?).await?;
    bench.executed(&end).await?;
    let cuts = source.progress().borrow().cuts;
    Ok(
        Seen::equal(bench, format!("16 and 33 MiB, {cuts} cuts inside them"))
            .await?
            .and(cuts == 2, "not all cuts happened"),
    )
}
