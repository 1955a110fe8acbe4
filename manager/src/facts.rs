//! What is known about servers, as values: the input of every decision.
//!
//! A value that exists is valid: positions parse, enums are known. What is not known is absent, never a default.

use binlog_core::{BinlogPosition, RelayPosition, StreamRange};
use serde::{Deserialize, Serialize};

/// Family of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavor {
    /// MySQL and builds of it.
    Mysql,
    /// MariaDB.
    MariaDb,
}

/// What the agent knows of the mysqld process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Process {
    /// A mysqld of this data directory runs.
    Running,
    /// None runs.
    NotRunning,
    /// Cannot be told.
    Unknown,
}

/// State of a receiver (I/O thread).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Receiver {
    /// Connected, or not yet aware that it no longer is.
    Running,
    /// Trying to connect.
    Connecting,
    /// Stopped.
    Stopped,
}

/// Identity of a server, fresh or remembered by its agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Family.
    pub flavor: Flavor,
    /// `@@version`.
    pub version: String,
    /// `@@server_id`.
    pub server_id: u32,
    /// `@@server_uuid`; empty for MariaDB.
    pub server_uuid: String,
    /// `@@gtid_mode`; empty for MariaDB.
    pub gtid_mode: String,
    /// `@@binlog_checksum`.
    pub binlog_checksum: String,
    /// Directory and base name of the binary log.
    pub log_bin_basename: String,
}

/// Settings that decide about candidates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `@@read_only`.
    pub read_only: bool,
    /// `@@log_bin`.
    pub log_bin: bool,
    /// `@@log_slave_updates`.
    pub log_replica_updates: bool,
    /// Applier workers.
    pub parallel_workers: u32,
    /// `binlog_do_db`, `binlog_ignore_db`, sorted.
    pub binlog_filters: Vec<String>,
    /// `replicate_*`, sorted.
    pub replicate_filters: Vec<String>,
    /// The variable that has its binary logs and relay logs encrypted; `None` if they are not.
    #[serde(default)]
    pub log_encryption: Option<String>,
    /// `@@binlog_storage_engine`; `None`: the binary log is in files of its own.
    #[serde(default)]
    pub binlog_storage_engine: Option<String>,
    /// `@@relay_log_recovery`.
    #[serde(default)]
    pub relay_log_recovery: bool,
    /// Its commits wait for replicas, once it is a primary; `None` if it cannot be told to.
    #[serde(default)]
    pub semi_sync_source: Option<bool>,
    /// It tells its source what it has received; `None` if it cannot be told to.
    #[serde(default)]
    pub semi_sync_replica: Option<bool>,
    /// How many replicas its commits wait for then; `None` where the server has no such variable: for one.
    #[serde(default)]
    pub semi_sync_wait_for: Option<u32>,
    /// How long they wait, in milliseconds.
    #[serde(default)]
    pub semi_sync_timeout_ms: Option<u64>,
}

/// A server's own binary log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnBinlog {
    /// End of the current file.
    pub position: Option<BinlogPosition>,
    /// `gtid_executed`, or `gtid_binlog_pos` of MariaDB.
    pub gtid_executed: String,
}

/// Replication status of the cluster's channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Source host as configured on the replica.
    pub source_host: String,
    /// Source port.
    pub source_port: u16,
    /// Receiver.
    pub receiver: Receiver,
    /// Applier (SQL thread) runs.
    pub applier_running: bool,
    /// End of what was received.
    pub read: Option<BinlogPosition>,
    /// End of what was executed.
    pub executed: Option<BinlogPosition>,
    /// Relay log place of the executed end.
    pub relay: Option<RelayPosition>,
    /// Last receiver error; `None` if there is none.
    pub receiver_error: Option<ThreadError>,
    /// Last applier error; `None` if there is none.
    pub applier_error: Option<ThreadError>,
    /// Configured delay, seconds.
    pub delay_s: u32,
    /// The channel finds its position by GTID.
    pub gtid_position: bool,
    /// `Executed_Gtid_Set`, or `gtid_slave_pos` of MariaDB.
    pub gtid_executed: String,
    /// What was received by GTID and perhaps not executed: `Retrieved_Gtid_Set`, or `Gtid_IO_Pos` of MariaDB.
    #[serde(default)]
    pub gtid_received: String,
    /// `server_id` of the source.
    pub source_server_id: u32,
    /// `server_uuid` of the source; empty for MariaDB.
    pub source_uuid: String,
    /// Number of replication channels of this server.
    pub channels: u32,
}

/// Why a replication thread stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadError {
    /// MySQL error number.
    pub errno: u32,
    /// Its text.
    pub text: String,
}

impl std::fmt::Display for ThreadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.errno, self.text)
    }
}

impl Replica {
    /// The applier stands still because of an error.
    pub fn applier_failed(&self) -> Option<&ThreadError> {
        self.applier_error
            .as_ref()
            .filter(|_| !self.applier_running)
    }
}

/// Whether something is so, as far as it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Yes.
    Yes,
    /// No.
    No,
    /// It cannot be told.
    Unknown,
}

/// Whether the next start of a server makes it read-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configured {
    /// Whether it does.
    pub answer: Answer,
    /// Which file, line or option says so, or why it cannot be told.
    pub evidence: String,
}

impl Default for Configured {
    fn default() -> Self {
        Self {
            answer: Answer::Unknown,
            evidence: "its agent does not look".to_owned(),
        }
    }
}

/// Everything an agent reports of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFacts {
    /// The process.
    pub process: Process,
    /// The agent holds this mysqld down for this operation.
    pub held_down_by: Option<String>,
    /// Why SQL did not answer; `None` if it did.
    pub sql_error: Option<String>,
    /// Identity, if ever learnt.
    pub identity: Option<Identity>,
    /// Settings, if SQL answered.
    pub settings: Option<Settings>,
    /// Own binary log, if SQL answered and there is one.
    pub binlog: Option<OwnBinlog>,
    /// Replication status, if SQL answered and the server is a replica.
    pub replica: Option<Replica>,
    /// Operation whose replay is unfinished here.
    pub unfinished_replay: Option<String>,
    /// Where replication credentials were found; `None` if nowhere or not needed.
    pub credentials_source: Option<String>,
    /// Whether its configuration has `read_only=1`.
    #[serde(default)]
    pub configured_read_only: Configured,
    /// The source waited for its receiver when that last ran, and its own side of semi-synchronous replication is still on.
    #[serde(default)]
    pub semi_sync_received: bool,
    /// The account of its agent; `None` where nothing is asked of it beyond what older servers ask, or the agent does not look.
    #[serde(default)]
    pub account: Option<Account>,
}

/// The account that an agent uses at its server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// As in GRANT: `'user'@'host'`.
    pub name: String,
    /// Privileges that it needs there and has not.
    pub missing: Vec<String>,
}

impl ServerFacts {
    /// SQL answered through the local socket.
    pub fn sql_alive(&self) -> bool {
        self.sql_error.is_none()
    }
}

/// How the last file of a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogEndKind {
    /// Closed.
    Clean,
    /// At an event boundary, in-use flag set.
    InUse,
    /// The last event is cut off.
    Torn,
    /// An event is damaged.
    Corrupt,
}

/// How a log ends, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEnd {
    /// Kind.
    pub kind: LogEndKind,
    /// File name without directory.
    pub file: String,
    /// Offset in bytes.
    pub offset: u64,
    /// What was found there.
    pub detail: String,
}

impl std::fmt::Display for LogEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            LogEndKind::Clean => "closed",
            LogEndKind::InUse => "not closed, whole",
            LogEndKind::Torn => "torn",
            LogEndKind::Corrupt => "corrupt",
        };
        write!(f, "{kind} at {}:{}", self.file, self.offset)?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        Ok(())
    }
}

/// The last transaction of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastTransaction {
    /// Its end.
    pub end: BinlogPosition,
    /// GTID, if it has one.
    pub gtid: Option<String>,
    /// XID, if it ends with one.
    pub xid: Option<u64>,
}

impl std::fmt::Display for LastTransaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ends at {}", self.end)?;
        if let Some(gtid) = &self.gtid {
            write!(f, ", GTID {gtid}")?;
        }
        if let Some(xid) = self.xid {
            write!(f, ", XID {xid}")?;
        }
        Ok(())
    }
}

/// What a provider holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSurvey {
    /// Contiguous ranges, ascending.
    pub ranges: Vec<StreamRange>,
    /// How the log ends; absent if there is no file.
    pub end: Option<LogEnd>,
    /// End of the last whole transaction or of the last event outside one.
    pub whole_end: Option<BinlogPosition>,
    /// End of the last event.
    pub data_end: Option<BinlogPosition>,
    /// The last whole transaction of the surveyed part.
    pub last_transaction: Option<LastTransaction>,
    /// Bytes walked.
    pub walked_bytes: u64,
}
