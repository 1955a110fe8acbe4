//! A cluster that exists only as positions: one primary file, transactions of 214 bytes from offset 120 on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use proto::status::AgentError;
use proto::v1::ErrorKind;

/// First transaction.
pub const START: u64 = 120;
/// Bytes of a transaction.
pub const TRANSACTION: u64 = 214;

/// What a call does instead of answering.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answers late.
    Slow(Duration),
    /// Never answers.
    Silent,
    /// Fails.
    Fails(ErrorKind, &'static str),
    /// Breaks the connection off without an answer.
    Dies,
    /// Dies the first time only.
    DiesOnce,
}

/// One server.
#[derive(Debug, Clone)]
pub struct FakeServer {
    pub name: String,
    pub server_id: u32,
    pub alive: bool,
    pub replica: bool,
    pub read_only: bool,
    pub log_bin: bool,
    pub version: &'static str,
    /// Received up to here (a survivor), or written up to here (the primary).
    pub received: u64,
    /// Oldest byte the relay log still holds.
    pub held_from: u64,
    pub executed: u64,
    pub receiver_running: bool,
    pub connected: bool,
    pub applier_running: bool,
    pub applier_errno: u32,
    pub source_host: String,
    pub source_port: u16,
    pub channels: u32,
    pub held_down_by: String,
    pub replicates_from: Option<(String, u16)>,
    /// Another history than the primary's.
    pub diverged: bool,
    /// The primary's log is damaged here.
    pub corrupt_at: Option<u64>,
    /// Segment files by id: range and bytes.
    pub segments: BTreeMap<String, (u64, u64)>,
    pub epoch: u64,
    pub holder: Option<(String, String)>,
    pub faults: BTreeMap<&'static str, Fault>,
    /// A cut whose manifest hides a missing transaction.
    pub drops_a_transaction: bool,
}

/// All servers, and every call in order.
#[derive(Debug, Default)]
pub struct World {
    pub servers: BTreeMap<String, FakeServer>,
    pub calls: Vec<String>,
}

/// Shared by all agents.
pub type Shared = Arc<Mutex<World>>;

pub fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap()
}

impl FakeServer {
    fn new(name: &str, server_id: u32) -> Self {
        Self {
            name: name.to_owned(),
            server_id,
            alive: true,
            replica: true,
            read_only: true,
            log_bin: true,
            version: "5.6.24-log",
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
            replicates_from: None,
            diverged: false,
            corrupt_at: None,
            segments: BTreeMap::new(),
            epoch: 0,
            holder: None,
            faults: BTreeMap::new(),
            drops_a_transaction: false,
        }
    }
}

impl World {
    /// The customer's scenario: db1 died at 1308, db2 (preferred) received up to 452, db3 up to 880.
    pub fn customer(primary_port: u16) -> Shared {
        let mut world = Self::default();
        let mut db1 = FakeServer::new("db1", 1);
        db1.alive = false;
        db1.replica = false;
        db1.read_only = false;
        db1.received = 1308 - 214 + 214;
        let mut db2 = FakeServer::new("db2", 2);
        db2.received = 452 - 452 % 1;
        db2.executed = 452;
        let mut db3 = FakeServer::new("db3", 3);
        db3.received = 880;
        db3.executed = 452;
        for server in [&mut db2, &mut db3] {
            server.source_port = primary_port;
        }
        for server in [db1, db2, db3] {
            world.servers.insert(server.name.clone(), server);
        }
        Arc::new(Mutex::new(world))
    }

    pub fn server(&mut self, name: &str) -> &mut FakeServer {
        self.servers.get_mut(name).unwrap()
    }
}

/// What a call checks first: the fault that waits for it.
pub async fn fault(world: &Shared, server: &str, call: &'static str) -> Result<(), tonic::Status> {
    let fault = {
        let mut world = lock(world);
        world.calls.push(format!("{call} {server}"));
        let faults = &mut world.server(server).faults;
        let fault = faults.get(call).cloned();
        if matches!(fault, Some(Fault::DiesOnce)) {
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
        Some(Fault::Fails(kind, text)) => Err(AgentError::new(kind, text)
            .with_host(server)
            .with_place("/data/mysql-bin.000001", Some(4))
            .into()),
        Some(Fault::Dies | Fault::DiesOnce) => Err(tonic::Status::unavailable("connection reset")),
    }
}

/// End of the last whole transaction at or before `offset`.
pub fn whole(offset: u64) -> u64 {
    let boundaries = [120, 238, 452, 666, 880, 1094, 1308];
    boundaries
        .into_iter()
        .filter(|b| *b <= offset)
        .max()
        .unwrap_or(START)
}
