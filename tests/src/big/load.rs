//! What the primary writes: many tiny transactions, one large row, or one large transaction.
//!
//! The primary makes the data itself, in a stored procedure that is in no binary log, so that neither a client nor its own
//! commits to disk are what takes the time.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;

use crate::sandbox::{Client, Login, SandboxError, Server, ServerKind, ServerOptions};

/// Longest time for one load, and for reading a large table.
const LIMIT: Duration = Duration::from_secs(3600);
/// The table of all loads.
const TABLE: &str = "app.big";
const MIB: u64 = 1024 * 1024;

/// In which way a load is large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Many transactions of one small row each.
    Tiny,
    /// One transaction of one large row.
    Row,
    /// One transaction of many rows of 1 MiB.
    Big,
}

/// A load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// In which way it is large.
    pub kind: Kind,
    /// Number of tiny transactions.
    pub transactions: u32,
    /// Size of the row or the transaction in MiB.
    pub mib: u32,
}

impl Load {
    /// Number of transactions.
    pub fn count(self) -> u64 {
        match self.kind {
            Kind::Tiny => u64::from(self.transactions),
            Kind::Row | Kind::Big => 1,
        }
    }

    /// Number of rows.
    fn rows(self) -> u64 {
        match self.kind {
            Kind::Tiny => u64::from(self.transactions),
            Kind::Row => 1,
            Kind::Big => u64::from(self.mib),
        }
    }

    /// Bytes of each row's text.
    fn row_bytes(self) -> u64 {
        match self.kind {
            Kind::Tiny => 32,
            Kind::Row => u64::from(self.mib) * MIB,
            Kind::Big => MIB,
        }
    }

    /// What the throughput of this load is told in, and how much of it there is.
    pub fn amount(self) -> (f64, &'static str) {
        match self.kind {
            Kind::Tiny => (f64::from(self.transactions), "transactions"),
            Kind::Row | Kind::Big => (f64::from(self.mib), "MiB"),
        }
    }

    /// What servers need to take it; their own defaults, also of durability, where nothing else is needed.
    pub fn options(self, kind: ServerKind) -> ServerOptions {
        let own = ServerOptions::new()
            .unset("sync-binlog")
            .unset("innodb-flush-log-at-trx-commit")
            .unset("innodb-buffer-pool-size");
        if self.kind == Kind::Tiny {
            return own.unset("innodb-redo-log-capacity");
        }
        // 5.6 wants ten times the size of a row as redo log, in two files.
        let redo = (self.row_bytes() / MIB * 12).max(256);
        let large = own.set("max-allowed-packet", "1G");
        if kind == ServerKind::MySql97 {
            return large.set("innodb-redo-log-capacity", format!("{redo}M"));
        }
        large.set("innodb-log-file-size", format!("{}M", redo / 2))
    }

    /// Makes table and procedure on the primary; the table is replicated, the procedure is not.
    pub async fn prepare(self, primary: &Server) -> Result<(), SandboxError> {
        let text = match self.kind {
            Kind::Tiny => "VARCHAR(64)",
            Kind::Row | Kind::Big => "LONGTEXT",
        };
        // LONGTEXT of latin1: a byte is a character.
        let table = format!(
            "CREATE TABLE {TABLE} (id BIGINT PRIMARY KEY, body {text} CHARACTER SET latin1) ENGINE=InnoDB"
        );
        let (begin, end) = match self.kind {
            Kind::Big => ("START TRANSACTION;", "COMMIT;"),
            Kind::Tiny | Kind::Row => ("", ""),
        };
        // No hash functions: MySQL 9.6 and newer have MD5 and SHA1 in a component only.
        let procedure = format!(
            "CREATE PROCEDURE app.write_big(first BIGINT, number BIGINT, bytes BIGINT) \
             BEGIN DECLARE i BIGINT DEFAULT first; {begin} \
             WHILE i < first + number DO \
               INSERT INTO {TABLE} VALUES (i, REPEAT(LPAD(HEX(i * 7919), 32, 'tail'), bytes DIV 32)); SET i = i + 1; \
             END WHILE; {end} END"
        );
        primary
            .exec_all(&[
                "CREATE DATABASE IF NOT EXISTS app",
                &table,
                "SET sql_log_bin=0",
                &procedure,
            ])
            .await
    }

    /// Writes it, `round` times behind what earlier rounds wrote.
    pub async fn write(self, primary: &Server, round: u64) -> Result<(), SandboxError> {
        let mut session = patient(primary).await?;
        // The primary's own commits are not what is measured, and its binary log survives a kill of the process.
        let shown = session
            .value(
                "SELECT CONCAT(@@GLOBAL.sync_binlog, ' ', @@GLOBAL.innodb_flush_log_at_trx_commit)",
            )
            .await?;
        let set = |values: &str| {
            let (sync, flush) = values.split_once(' ').unwrap_or(("1", "1"));
            format!("SET GLOBAL sync_binlog={sync}, GLOBAL innodb_flush_log_at_trx_commit={flush}")
        };
        session.exec(&set("0 0")).await?;
        let call = format!(
            "CALL app.write_big({}, {}, {})",
            round * self.rows(),
            self.rows(),
            self.row_bytes()
        );
        session.exec(&call).await?;
        session.exec(&set(&shown)).await
    }

    /// Everything that a server has of it, as one line to be compared.
    pub async fn held(self, server: &Server) -> Result<String, SandboxError> {
        let question = format!(
            "SELECT CONCAT_WS(' ', COUNT(*), SUM(LENGTH(body)), SUM(CRC32(body)), SUM(id)) FROM {TABLE}"
        );
        patient(server).await?.value(&question).await
    }

    /// Removes all of it, so that the disk has room for the next.
    pub async fn clear(self, primary: &Server) -> Result<(), SandboxError> {
        patient(primary)
            .await?
            .exec(&format!("TRUNCATE TABLE {TABLE}"))
            .await
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Tiny => write!(f, "{} tiny transactions", self.transactions),
            Kind::Row => write!(f, "a row of {} MiB", self.mib),
            Kind::Big => write!(f, "a transaction of {} MiB", self.mib),
        }
    }
}

/// A session whose statements may take long.
async fn patient(server: &Server) -> Result<Client, SandboxError> {
    Client::connect(&Login {
        limit: LIMIT,
        ..server.admin_login()
    })
    .await
}
