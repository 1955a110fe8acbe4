//! Watching one mysqld: its process, its socket, its answers, its disks.
//!
//! Guarantees: what has an event is seen through it (the end of the process by its pidfd, a new socket by inotify); what has
//! none (a server that hangs, a disk that stalls) is tried by one attempt at a time, whose wait is counted only while the
//! agent itself runs ([`patience`]), so that an agent that was stopped for a second does not accuse its server. Nothing here
//! changes a server; the disk probe writes a file of its own ([`disk::FILE`]).

use std::sync::Arc;
use std::time::Duration;

use proto::lease::Assigned;
use proto::watch::{
    Cause, Disk, DiskState, Guard, Lease, Moment, Process, Socket, SocketState, Sql, SqlState,
    Watched,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::agent::LocalServer;
use crate::state::epoch::StoredEpoch;

pub mod clock;
pub mod disk;
mod knock;
pub mod patience;
pub mod ping;
pub mod port;
mod process;
pub mod receiver;

/// What was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The process.
    pub process: Process,
    /// Its socket.
    pub socket: Socket,
    /// Its answers.
    pub sql: Sql,
    /// `@@read_only` at the last answered ping of this process.
    pub read_only: Option<bool>,
    /// `@@super_read_only` likewise.
    pub super_read_only: Option<bool>,
    /// fsync in the data directory.
    pub datadir: Disk,
    /// fsync in the binary log's directory, where it is another one.
    pub binlog_dir: Option<Disk>,
}

/// The eyes on one server.
#[derive(Debug)]
pub struct ServerWatch {
    facts: watch::Sender<Facts>,
    since: Moment,
    /// Ends the pause between two pings.
    ping_now: Notify,
    /// Ends the pause between two looks for the process.
    look_now: Notify,
    /// Tells each time the server has said where its files are.
    learnt: watch::Sender<()>,
}

/// What the agent knows of a server besides what it sees.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Whether the agent keeps it read-only.
    pub guard: Guard,
    /// Its lease.
    pub lease: Lease,
    /// Who the primary is.
    pub assignment: Option<Assigned>,
    /// Operation for which mysqld is held down.
    pub held_down_by: Option<String>,
    /// What is stored of the cluster.
    pub stored: StoredEpoch,
}

/// A server that has been silent for so long hangs: it is not waited for where a failover waits.
const HANGS: Duration = Duration::from_millis(1500);

impl Default for ServerWatch {
    fn default() -> Self {
        Self::new()
    }
}

impl ServerWatch {
    /// Nothing seen yet.
    pub fn new() -> Self {
        let since = clock::now();
        let unseen = |reason: &str| Disk {
            directory: None,
            state: DiskState::Off {
                reason: reason.to_owned(),
            },
        };
        Self {
            facts: watch::Sender::new(Facts {
                process: Process::Unknown {
                    since,
                    reason: "not looked for yet".to_owned(),
                },
                socket: Socket {
                    state: SocketState::Unknown {
                        reason: "not tried yet".to_owned(),
                    },
                    since,
                },
                sql: Sql {
                    state: SqlState::NotTried,
                    answered: None,
                },
                read_only: None,
                super_read_only: None,
                datadir: unseen("not tried yet"),
                binlog_dir: None,
            }),
            since,
            ping_now: Notify::new(),
            look_now: Notify::new(),
            learnt: watch::Sender::new(()),
        }
    }

    /// What was seen last.
    pub fn facts(&self) -> Facts {
        self.facts.borrow().clone()
    }

    /// Tells of each change.
    pub fn subscribe(&self) -> watch::Receiver<Facts> {
        self.facts.subscribe()
    }

    /// Makes every stream look again, because something changed that is kept elsewhere (epoch, hold).
    pub fn nudge(&self) {
        self.facts.send_modify(|_| {});
    }

    /// Changes what is known; streams are woken if `change` says that it is news.
    fn update(&self, change: impl FnOnce(&mut Facts) -> bool) {
        self.facts.send_if_modified(change);
    }

    /// SQL has not been answered, or the data disk has completed no write, for [`HANGS`] and longer.
    pub fn hangs(&self) -> bool {
        let facts = self.facts.borrow();
        let sql = match facts.sql.state {
            SqlState::NoAnswer { silent } => silent,
            _ => Duration::ZERO,
        };
        let disk = match facts.datadir.state {
            DiskState::NoCompletion { silent } => silent,
            _ => Duration::ZERO,
        };
        sql.max(disk) >= HANGS
    }

    /// The server has said where its files are, which is remembered by now.
    pub fn server_told(&self) {
        self.learnt.send_modify(|()| {});
    }

    /// The agent made it so.
    pub fn is_read_only(&self, read_only: bool) {
        self.facts
            .send_modify(|facts| facts.read_only = Some(read_only));
    }

    /// The whole state for the wire.
    pub fn watched(
        &self,
        server: &str,
        boot_id: &str,
        standing: Standing,
        cause: Cause,
    ) -> Watched {
        let facts = self.facts();
        Watched {
            server: server.to_owned(),
            cause,
            sent: clock::now(),
            boot_id: boot_id.to_owned(),
            watching_since: self.since,
            process: facts.process,
            socket: facts.socket,
            sql: facts.sql,
            datadir: facts.datadir,
            binlog_dir: facts.binlog_dir,
            read_only: facts.read_only,
            super_read_only: facts.super_read_only,
            held_down_by: standing.held_down_by,
            epoch: standing.stored.epoch,
            manager_of_record: standing
                .stored
                .of_record()
                .map(|record| record.manager.clone()),
            operation: standing.stored.holder.map(|holder| holder.operation),
            guard: standing.guard,
            lease: standing.lease,
            assignment: standing.assignment,
        }
    }
}

/// Watches a server until `stop`.
pub fn start(server: &Arc<LocalServer>, stop: &CancellationToken) {
    tokio::spawn(process::run(Arc::clone(server), stop.clone()));
    tokio::spawn(ping::run(Arc::clone(server), stop.clone()));
    for place in [disk::Place::Datadir, disk::Place::BinlogDir] {
        tokio::spawn(disk::run(Arc::clone(server), place, stop.clone()));
    }
}
