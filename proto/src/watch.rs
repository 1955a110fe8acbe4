//! What an agent sees of its mysqld, as values.
//!
//! Guarantee: a [`Watched`] that came off the wire is complete; each kind of knowledge carries exactly what belongs to it, so
//! that who decides on it meets no field that means nothing. Messages are turned into these values and back in
//! [`convert`](self::convert) only.

use std::path::PathBuf;
use std::time::Duration;

use crate::lease::Assigned;

mod convert;
#[cfg(test)]
mod tests;

/// Shortest heartbeat an agent sends.
pub const HEARTBEAT_MIN: Duration = Duration::from_millis(20);
/// Longest heartbeat an agent agrees to.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(60);

/// A validated `WatchServerRequest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchOrder {
    /// Cluster.
    pub cluster: String,
    /// Server as its agent names it.
    pub server: String,
    /// Longest silence wanted.
    pub heartbeat: Duration,
}

/// A moment on an agent's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// `CLOCK_BOOTTIME`: runs through suspend, is never set, comparable within one boot.
    pub boottime: Duration,
    /// Wall clock, milliseconds since the Unix epoch.
    pub unix_ms: i64,
}

/// Why a state was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// First of its stream.
    Present,
    /// Something changed.
    Change,
    /// Nothing did for the heartbeat's time.
    Heartbeat,
}

/// One server as its agent sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Server name.
    pub server: String,
    /// Why it was sent.
    pub cause: Cause,
    /// When it was sent.
    pub sent: Moment,
    /// Boot id of the host's kernel; empty where the kernel does not tell.
    pub boot_id: String,
    /// When this run of the agent began to watch.
    pub watching_since: Moment,
    /// The mysqld process.
    pub process: Process,
    /// Its socket.
    pub socket: Socket,
    /// The agent's SQL ping.
    pub sql: Sql,
    /// fsync in the data directory.
    pub datadir: Disk,
    /// fsync in the binary log's directory, where it is another one.
    pub binlog_dir: Option<Disk>,
    /// `@@read_only` at the last answered ping of this process.
    pub read_only: Option<bool>,
    /// `@@super_read_only` likewise; `None` where the server has none.
    pub super_read_only: Option<bool>,
    /// Operation for which mysqld is held down.
    pub held_down_by: Option<String>,
    /// Highest epoch stored for the cluster; 0 if none.
    pub epoch: u64,
    /// Operation that holds the cluster here.
    pub operation: Option<String>,
    /// The manager that claimed the cluster here last.
    pub manager_of_record: Option<String>,
    /// Whether the agent keeps the server read-only.
    pub guard: Guard,
    /// The lease of a primary.
    pub lease: Lease,
    /// Who the primary is, as the agent has stored it.
    pub assignment: Option<Assigned>,
}

/// The mysqld process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Process {
    /// Runs.
    Running {
        /// Process id.
        pid: u32,
        /// Since when, as far as this run of the agent knows.
        since: Moment,
    },
    /// Ran and was seen to end.
    Exited {
        /// Process id it had.
        pid: u32,
        /// When.
        since: Moment,
        /// How, if that could still be read: the status is told to the parent, to others only until it has asked for it.
        how: Option<Exit>,
    },
    /// None was found.
    NotRunning {
        /// Since when.
        since: Moment,
    },
    /// Cannot be told.
    Unknown {
        /// Since when.
        since: Moment,
        /// Why not.
        reason: String,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(u8),
    /// By this signal.
    Signal(u8),
}

/// The Unix socket of mysqld.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// What a connection met.
    pub state: SocketState,
    /// Since when it is so.
    pub since: Moment,
}

/// What a connection to the socket met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketState {
    /// It was made.
    Accepts,
    /// The file is there, nobody listens.
    Refuses,
    /// No such file.
    Absent,
    /// The queue is full.
    NoAnswer,
    /// Not tried yet, or the kernel said something else.
    Unknown {
        /// What.
        reason: String,
    },
}

/// The agent's SQL ping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sql {
    /// What came of it.
    pub state: SqlState,
    /// When the last answer of any kind came.
    pub answered: Option<Moment>,
}

/// What came of the last ping, or of the one under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlState {
    /// A statement was answered.
    Alive {
        /// Within this time.
        took: Duration,
    },
    /// The server answered with an error: it lives.
    Error {
        /// Its number.
        errno: u16,
        /// Its text.
        text: String,
    },
    /// No answer by now.
    NoAnswer {
        /// For this long.
        silent: Duration,
    },
    /// No connection.
    Unreachable {
        /// What the kernel said.
        text: String,
    },
    /// The agent has no usable credentials.
    NotConfigured {
        /// Why not.
        text: String,
    },
    /// Not tried yet.
    NotTried,
}

/// A small write and fsync in a directory of mysqld.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The directory; `None` if it is not known.
    pub directory: Option<PathBuf>,
    /// What came of it.
    pub state: DiskState,
}

/// What came of the last probe of a directory, or of the one under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskState {
    /// It completed.
    Ok {
        /// Within this time.
        took: Duration,
    },
    /// It has not completed by now.
    NoCompletion {
        /// For this long.
        silent: Duration,
    },
    /// It failed.
    Error {
        /// What the kernel said.
        text: String,
    },
    /// Not probed.
    Off {
        /// Why not.
        reason: String,
    },
}

/// Whether the agent keeps a server read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// It may be writable as far as this agent knows.
    None,
    /// It must be read-only; not yet confirmed for the process that runs.
    Enforcing {
        /// Why it must be.
        reason: String,
        /// Since when.
        since: Moment,
    },
    /// It must be, and it is.
    ReadOnly {
        /// Why it must be.
        reason: String,
        /// Since when.
        since: Moment,
    },
}

/// The lease of a primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its state.
    pub state: LeaseState,
    /// Agents that vouch now, this one counted.
    pub vouching: u32,
    /// Agents of the cluster, this one counted.
    pub agents: u32,
    /// The manager was heard within the lease's time.
    pub manager_heard: bool,
}

/// State of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// None.
    Off,
    /// Held.
    Held {
        /// Since when.
        since: Moment,
        /// How long it lasts if nobody is heard any more.
        remaining: Duration,
    },
    /// Lost.
    Lost {
        /// Since when.
        since: Moment,
    },
}

// === impl Watched ===

impl Watched {
    /// True if `other` tells nothing new: figures that move all the time (durations, moments of answers) aside.
    pub fn same_facts(&self, other: &Self) -> bool {
        let disk = |disk: &Disk| (disk.directory.clone(), std::mem::discriminant(&disk.state));
        self.process == other.process
            && self.socket == other.socket
            && self.sql.state.same_kind(&other.sql.state)
            && disk(&self.datadir) == disk(&other.datadir)
            && self.binlog_dir.as_ref().map(disk) == other.binlog_dir.as_ref().map(disk)
            && self.read_only == other.read_only
            && self.super_read_only == other.super_read_only
            && self.held_down_by == other.held_down_by
            && (self.epoch, &self.operation) == (other.epoch, &other.operation)
            && self.manager_of_record == other.manager_of_record
            && self.guard == other.guard
            && self.assignment == other.assignment
            && std::mem::discriminant(&self.lease.state)
                == std::mem::discriminant(&other.lease.state)
            && self.lease.vouching == other.lease.vouching
            && self.lease.agents == other.lease.agents
            && self.lease.manager_heard == other.lease.manager_heard
    }
}

impl SqlState {
    /// True if only durations or texts differ.
    fn same_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Error { errno, .. }, Self::Error { errno: theirs, .. }) => errno == theirs,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl Process {
    /// Its process id, if it runs.
    pub fn running_pid(&self) -> Option<u32> {
        match self {
            Self::Running { pid, .. } => Some(*pid),
            _ => None,
        }
    }
}
