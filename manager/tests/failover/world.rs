//! A cluster without servers: positions, and logs on disk that hold what these say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use proto::status::AgentError;
use proto::v1;
use proto::v1::ErrorKind;

use super::logs::BOUNDARIES;

/// First transaction.
pub(crate) const START: u64 = 120;

/// What a call does instead of answering.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Answers late.
    Slow(Duration),
    /// Never answers.
    Silent,
    /// Fails.
    Fails(ErrorKind, &'static str),
    /// Fails the first time only.
    FailsOnce(ErrorKind, &'static str),
    /// Breaks the connection off without an answer.
    Dies,
    /// Dies the first time only.
    DiesOnce,
}

/// One server.
#[derive(Debug, Clone)]
pub(crate) struct FakeServer {
    pub(crate) name: String,
    pub(crate) server_id: u32,
    pub(crate) alive: bool,
    /// Its process runs and answers no SQL.
    pub(crate) hangs: bool,
    /// Its agent's stream says nothing any more.
    pub(crate) silent: bool,
    /// Its agent is answered by the primary's port.
    pub(crate) reaches_primary: bool,
    pub(crate) replica: bool,
    pub(crate) read_only: bool,
    pub(crate) log_bin: bool,
    pub(crate) version: &'static str,
    /// The source's side of semi-synchronous replication, if it has one.
    pub(crate) semi_sync_source: Option<bool>,
    /// The primary waited for its receiver.
    pub(crate) semi_sync_received: bool,
    /// Received up to here (a survivor), or written up to here (the primary).
    pub(crate) received: u64,
    /// Oldest byte the relay log still holds.
    pub(crate) held_from: u64,
    pub(crate) executed: u64,
    pub(crate) receiver_running: bool,
    pub(crate) connected: bool,
    pub(crate) applier_running: bool,
    pub(crate) applier_errno: u32,
    pub(crate) source_host: String,
    pub(crate) source_port: u16,
    pub(crate) channels: u32,
    pub(crate) held_down_by: String,
    /// The virtual IP as it was taken, and whether its holder was said to be fenced.
    pub(crate) address: Option<(v1::VirtualAddress, bool)>,
    pub(crate) replicates_from: Option<(String, u16)>,
    /// Another history than the primary's.
    pub(crate) diverged: bool,
    /// The primary's log is damaged here.
    pub(crate) corrupt_at: Option<u64>,
    /// Its logs and segments.
    pub(crate) folder: PathBuf,
    pub(crate) epoch: u64,
    pub(crate) holder: Option<(String, String)>,
    /// Manager that claimed the cluster last.
    pub(crate) of_record: Option<String>,
    /// Who the primary is, as its agent has stored it.
    pub(crate) assignment: Option<v1::Assignment>,
    /// How long before a claim its agent vouched last; `None`: it knows no leases.
    pub(crate) vouched_ms_ago: Option<u64>,
    /// Words of a manager for its lease: epoch, and the moment of the state that they answer.
    pub(crate) words: Vec<(u64, u64)>,
    pub(crate) faults: BTreeMap<&'static str, Fault>,
    /// So many calls find their connection broken, whatever they ask.
    pub(crate) breaks: u32,
    /// The operation that made it no replica any more.
    pub(crate) promoted_by: Option<String>,
    /// A cut whose manifest hides a missing transaction.
    pub(crate) drops_a_transaction: bool,
}

/// All servers, and every call in order.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) servers: BTreeMap<String, FakeServer>,
    pub(crate) calls: Vec<String>,
}

/// Shared by all agents.
pub(crate) type Shared = Arc<Mutex<World>>;

pub(crate) fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap()
}

impl FakeServer {
    fn new(name: &str, server_id: u32) -> Self {
        Self {
            name: name.to_owned(),
            server_id,
            alive: true,
            hangs: false,
            silent: false,
            reaches_primary: false,
            replica: true,
            read_only: true,
            log_bin: true,
            version: "5.6.24-log",
            semi_sync_source: None,
            semi_sync_received: false,
            received: START,
            held_from: START,
            executed: START,
            receiver_running: true,
            connected: false,
            applier_running: true,
            applier_errno: 0,
            source_host: "127.0.0.1".to_owned(),
            source_port: 1,
            channels: 1,
            held_down_by: String::new(),
            address: None,
            replicates_from: None,
            diverged: false,
            corrupt_at: None,
            folder: PathBuf::new(),
            epoch: 0,
            holder: None,
            of_record: None,
            assignment: None,
            vouched_ms_ago: Some(60_000),
            words: Vec::new(),
            faults: BTreeMap::new(),
            breaks: 0,
            promoted_by: None,
            drops_a_transaction: false,
        }
    }
}

impl World {
    /// The customer's scenario: db1 died at 1308, db2 (preferred) received up to 452, db3 up to 880.
    pub(crate) fn customer(primary_port: u16, folder: &Path) -> Shared {
        let mut world = Self::default();
        let mut db1 = FakeServer::new("db1", 1);
        db1.alive = false;
        db1.replica = false;
        db1.read_only = false;
        db1.received = 1308;
        let mut db2 = FakeServer::new("db2", 2);
        db2.received = 452;
        db2.executed = 452;
        let mut db3 = FakeServer::new("db3", 3);
        db3.received = 880;
        db3.executed = 452;
        for server in [&mut db2, &mut db3] {
            server.source_port = primary_port;
        }
        for mut server in [db1, db2, db3] {
            server.folder = folder.join(&server.name);
            world.servers.insert(server.name.clone(), server);
        }
        Arc::new(Mutex::new(world))
    }

    /// A binlog server whose copies end at `received`.
    pub(crate) fn add_binlog_server(&mut self, name: &str, received: u64, folder: &Path) {
        let mut server = FakeServer::new(name, 0);
        server.alive = false;
        server.received = received;
        server.folder = folder.join(name);
        self.servers.insert(name.to_owned(), server);
    }

    pub(crate) fn server(&mut self, name: &str) -> &mut FakeServer {
        self.servers.get_mut(name).unwrap()
    }
}

/// What a call checks first: the fault that waits for it.
pub(crate) async fn fault(
    world: &Shared,
    server: &str,
    call: &'static str,
) -> Result<(), tonic::Status> {
    let fault = {
        let mut world = lock(world);
        world.calls.push(format!("{call} {server}"));
        let server = world.server(server);
        if server.breaks > 0 {
            server.breaks -= 1;
            return Err(tonic::Status::unavailable("connection reset"));
        }
        let faults = &mut server.faults;
        let fault = faults.get(call).cloned();
        if matches!(fault, Some(Fault::DiesOnce | Fault::FailsOnce(..))) {
            faults.remove(call);
        }
        fault
    };
    match fault {
        None => Ok(()),
        Some(Fault::Slow(by)) => {
            tokio::time::sleep(by).await;
            Ok(())
        }
        Some(Fault::Silent) => std::future::pending().await,
        Some(Fault::Fails(kind, text) | Fault::FailsOnce(kind, text)) => {
            Err(AgentError::new(kind, text)
                .with_host(server)
                .with_place("/data/mysql-bin.000001", Some(4))
                .into())
        }
        Some(Fault::Dies | Fault::DiesOnce) => Err(tonic::Status::unavailable("connection reset")),
    }
}

/// End of the last whole transaction at or before `offset`.
pub(crate) fn whole(offset: u64) -> u64 {
    BOUNDARIES
        .into_iter()
        .filter(|b| *b <= offset)
        .max()
        .unwrap_or(START)
}
