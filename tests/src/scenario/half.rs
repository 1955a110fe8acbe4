//! A replica that holds the first part of a transaction, as a primary leaves behind that dies while it sends.

use std::time::Duration;

use crate::sandbox::replica::{self, LogPlace};
use crate::sandbox::wait::{self, Look};
use crate::sandbox::{Cluster, SandboxError, Server, ServerKind, ServerOptions};

use super::failure::{Failure, expect, expect_eq};
use super::ledger::Ledger;

/// A table without transactions and without a key, so that a change applied twice shows as two rows.
pub const PLAIN: &str = "app.plain";

/// What the transaction changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// InnoDB tables only.
    Transactional,
    /// An InnoDB table, then a MyISAM table near the beginning, then the InnoDB table again.
    WithMyIsam,
}

/// Options for so many parallel workers of the applier; 0 for none.
pub fn workers(kind: ServerKind, number: u32) -> ServerOptions {
    let name = if kind.is_mariadb() {
        "slave-parallel-threads"
    } else {
        "slave-parallel-workers"
    };
    ServerOptions::new().set(name, number)
}

/// The transaction of which one replica holds a part.
#[derive(Debug)]
pub struct Half {
    /// Where it begins.
    pub start: LogPlace,
    /// Where the part ends that the replica holds.
    pub part: LogPlace,
    /// Where it ends.
    pub end: LogPlace,
    /// Number of the client's rows before it.
    pub rows_before: u64,
}

const ROWS: u32 = 40;

/// How long a replica may take to get to its part.
const LIMIT: Duration = Duration::from_secs(60);

/// Makes the MyISAM table.
pub async fn prepare(ledger: &mut Ledger) -> Result<(), SandboxError> {
    ledger
        .exec(&format!("CREATE TABLE {PLAIN} (id INT) ENGINE=MyISAM"))
        .await
}

async fn transaction(ledger: &mut Ledger, engine: Engine, id: u32) -> Result<(), SandboxError> {
    match engine {
        Engine::Transactional => ledger.write_together(ROWS).await,
        Engine::WithMyIsam => {
            // Only after a transactional change is a MyISAM change written inside the transaction.
            let plain = format!("INSERT INTO {PLAIN} VALUES ({id})");
            ledger.write_together_with(ROWS, Some(&plain)).await
        }
    }
}

/// Writes a transaction and lets the replica with this number have 60 % of it, and no other replica any of it that is
/// not named in `whole`. Returns when the replica has applied what it can of its part.
pub async fn leave(
    cluster: &Cluster,
    ledger: &mut Ledger,
    engine: Engine,
    number: usize,
    whole: &[usize],
) -> Result<Half, Failure> {
    // A twin of it tells its size.
    let before = replica::binlog_end(cluster.primary()).await?;
    transaction(ledger, engine, 1).await?;
    ledger.write(1).await?;
    cluster.wait_caught_up().await?;
    let start = replica::binlog_end(cluster.primary()).await?;
    let size = start.offset - before.offset;
    let middle = LogPlace::new(&start.file, start.offset + size * 6 / 10);
    for other in 1..cluster.servers().len() {
        if other == number {
            cluster.hold(other, &middle);
        } else if !whole.contains(&other) {
            cluster.hold(other, &start);
        }
    }
    let rows_before = ledger.next() - 1;
    transaction(ledger, engine, 2).await?;
    let end = replica::binlog_end(cluster.primary()).await?;

    let server = cluster.server(number);
    // It receives whole events: nothing more can come once it has the last one that ends by the middle.
    let part = last_event_end(cluster.primary(), &start, &middle).await?;
    replica::wait_read(server, &part).await?;
    wait_idle(server).await?;
    if engine == Engine::WithMyIsam {
        wait_plain_rows(server, 2).await?;
    }
    for other in (1..cluster.servers().len()).filter(|other| *other != number) {
        let place = if whole.contains(&other) { &end } else { &start };
        replica::wait_executed(cluster.server(other), place).await?;
    }

    let status = replica::must_status(server).await?;
    expect(
        part.offset > start.offset && part.offset < end.offset,
        format!("what {} received", server.name()),
        format!("inside ({start}, {end})"),
        &part,
    )?;
    expect_eq("received", &status.read()?, &part)?;
    expect_eq("executed", &status.executed()?, &start)?;
    expect_eq("the applier runs", &status.sql_running()?, &true)?;
    Ok(Half {
        start,
        part,
        end,
        rows_before,
    })
}

/// The end of the last event, from `from` on, that ends at or before `limit` in the same file.
async fn last_event_end(
    primary: &Server,
    from: &LogPlace,
    limit: &LogPlace,
) -> Result<LogPlace, SandboxError> {
    let question = format!("SHOW BINLOG EVENTS IN '{}' FROM {}", from.file, from.offset);
    let events = primary.rows(&question).await?;
    let end = events
        .iter()
        .filter_map(|event| event.get("End_log_pos")?.parse::<u64>().ok())
        .filter(|end| *end <= limit.offset)
        .max();
    Ok(LogPlace::new(&from.file, end.unwrap_or(from.offset)))
}

/// Waits until the applier has taken everything from its relay log.
async fn wait_idle(server: &Server) -> Result<(), SandboxError> {
    let what = format!("the applier of {} to wait for more", server.name());
    wait::until(&what, LIMIT, || async {
        let states: Vec<String> = server
            .rows("SELECT state FROM information_schema.processlist WHERE user='system user'")
            .await?
            .iter()
            .filter_map(|row| row.at(0).map(str::to_owned))
            .collect();
        // "Slave has read all relay log; waiting for ..": the words of 5.6 and of MariaDB agree so far.
        if states
            .iter()
            .any(|state| state.contains("has read all relay log"))
        {
            return Ok(Look::Done(()));
        }
        Ok(Look::NotYet(states.join("; ")))
    })
    .await
}

async fn wait_plain_rows(server: &Server, wanted: u64) -> Result<(), SandboxError> {
    let what = format!("{} to have {wanted} rows in {PLAIN}", server.name());
    wait::until(&what, LIMIT, || async {
        let found = server
            .value(&format!("SELECT COUNT(*) FROM {PLAIN}"))
            .await?;
        if found == wanted.to_string() {
            return Ok(Look::Done(()));
        }
        Ok(Look::NotYet(found))
    })
    .await
}
