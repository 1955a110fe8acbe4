//! A primary killed while it writes a large transaction to its binary log: the file ends inside an event.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::sandbox::replica::{self, LogPlace};
use crate::sandbox::{Client, Cluster, SandboxError};

use super::failure::{Failure, expect};
use super::ledger::Ledger;

/// Rows of the transaction, each of [`ROW`] bytes.
const ROWS: u64 = 32;
const ROW: u64 = 1_000_000;
/// The kill comes when so much of it is in the file ...
const ENOUGH: u64 = 2 * ROW;
/// ... and not more than so much.
const TOO_MUCH: u64 = (ROWS - 2) * ROW;
/// A transaction that was written before anybody could look is followed by another one, so many times.
const ATTEMPTS: u32 = 5;
/// How long one transaction may take until it is in the file.
const LIMIT: Duration = Duration::from_secs(60);

/// The table that the transaction writes to.
pub const TABLE: &str = "app.large";

/// Makes the table.
pub async fn prepare(ledger: &mut Ledger) -> Result<(), SandboxError> {
    ledger
        .exec(&format!(
            "CREATE TABLE {TABLE} (attempt INT, id INT, body LONGBLOB, PRIMARY KEY (attempt, id)) ENGINE=InnoDB"
        ))
        .await
}

/// What was torn.
#[derive(Debug)]
pub struct Torn {
    /// Where the torn transaction begins: everything before it is whole.
    pub start: LogPlace,
    /// Size of the file.
    pub size: u64,
    /// The number in the table's `attempt` column.
    pub attempt: u32,
}

/// Kills the primary in the middle of a large transaction. The last replica must not be behind: where the transaction
/// turned out to be written in full, the plan of the others is still right, since they are held back.
pub async fn kill_in_the_middle(cluster: &Cluster) -> Result<Torn, Failure> {
    let primary = cluster.primary();
    for attempt in 1..=ATTEMPTS {
        let mut session = primary.admin().await?;
        fill(&mut session, attempt).await?;
        let start = replica::binlog_end(primary).await?;
        let file = primary.binlog_base().with_file_name(&start.file);
        let watched = start.offset;
        let commit = tokio::spawn(async move { session.exec("COMMIT").await });
        let path = file.clone();
        let size = tokio::task::spawn_blocking(move || wait_grown(&path, watched + ENOUGH))
            .await
            .map_err(std::io::Error::other)
            .and_then(|size| size)
            .map_err(SandboxError::io("watch", &file))?;
        expect(
            size > 0,
            "size of the growing binary log",
            "2 MB more within a minute",
            "less",
        )?;
        primary.freeze()?;
        let size = std::fs::metadata(&file)
            .map_err(SandboxError::io("inspect", &file))?
            .len();
        if size < watched + TOO_MUCH {
            cluster.crash(0)?;
            // Its connection is gone; what it says does not matter.
            let _ = commit.await;
            return Ok(Torn {
                start,
                size,
                attempt,
            });
        }
        primary.thaw()?;
        // The transaction is whole, and what the client is told of it does not matter either: the next is looked at.
        let _ = commit.await;
    }
    Err(Failure::Unexpected {
        what: "the binary log while a large transaction is written".to_owned(),
        expected: "a part of it".to_owned(),
        found: format!("all of it, {ATTEMPTS} times"),
    })
}

async fn fill(session: &mut Client, attempt: u32) -> Result<(), SandboxError> {
    session.exec("SET SESSION binlog_format=ROW").await?;
    session.exec("BEGIN").await?;
    for id in 0..ROWS {
        session
            .exec(&format!(
                "INSERT INTO {TABLE} VALUES ({attempt}, {id}, REPEAT('x', {ROW}))"
            ))
            .await?;
    }
    Ok(())
}

/// Looks without a pause until the file is larger than `size`; 0 if that takes too long.
fn wait_grown(file: &Path, size: u64) -> std::io::Result<u64> {
    let started = Instant::now();
    loop {
        let found = std::fs::metadata(file)?.len();
        if found > size {
            return Ok(found);
        }
        if started.elapsed() > LIMIT {
            return Ok(0);
        }
        std::thread::yield_now();
    }
}
