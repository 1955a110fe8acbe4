//! A primary and its replicas, replicating, with the accounts that agents, manager and clients use.
//!
//! After [`Cluster::start`] all servers are at the beginning of their own binary logs, and the replicas have read the
//! primary's to its end. Server numbers count from 0: 0 is the primary, 1.. are the replicas; names are `db1`, `db2`...

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use futures::future::try_join_all;
use tempfile::TempDir;

use super::accounts::{self, REPLICATION};
use super::dialect::{Channel, Start};
use super::error::SandboxError;
use super::fetch::ServerKind;
use super::gate::{Gate, Mode, StreamPoint};
use super::links::{Host, Links};
use super::network::Network;
use super::options::ServerOptions;
use super::replica::{self, LogPlace};
use super::server::{Server, ServerSpec};
use super::stall::StallingDisk;

/// How replicas follow the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// By file and offset.
    Position,
    /// By `MASTER_USE_GTID=slave_pos`; MariaDB only.
    SlavePos,
    /// By `MASTER_AUTO_POSITION=1`; MySQL only, with GTIDs.
    AutoPosition,
}

/// What cluster to start.
#[derive(Debug, Clone)]
pub struct ClusterSpec {
    /// The line of all servers that [`ClusterSpec::lines`] does not name.
    pub kind: ServerKind,
    /// The lines of single servers, by server number; all are of one family.
    pub lines: Vec<(usize, ServerKind)>,
    /// Number of replicas.
    pub replicas: u8,
    /// How they follow.
    pub replication: Replication,
    /// Options of all servers.
    pub options: ServerOptions,
    /// Options of single servers on top, by server number.
    pub server_options: Vec<(usize, ServerOptions)>,
    /// Databases that are there before replication begins, on each server and in no binary log.
    pub databases: Vec<String>,
    /// All connections between hosts pass relays; what chance decides there comes from this seed.
    pub relays: Option<u64>,
    /// The primary's data directory can be made to stand still; its binary log is elsewhere then.
    pub stalling_disk: bool,
}

impl ClusterSpec {
    /// A primary and two replicas by position.
    pub fn new(kind: ServerKind) -> Self {
        Self {
            kind,
            lines: Vec::new(),
            replicas: 2,
            replication: Replication::Position,
            options: ServerOptions::new(),
            server_options: Vec::new(),
            databases: Vec::new(),
            relays: None,
            stalling_disk: false,
        }
    }

    /// With a primary whose data disk can be made to stand still, see [`StallingDisk`]; its binary log is elsewhere.
    #[must_use]
    pub fn stalling_disk(mut self) -> Self {
        self.stalling_disk = true;
        self
    }

    /// With relays on all links between hosts, see [`Links`].
    #[must_use]
    pub fn relays(mut self, seed: u64) -> Self {
        self.relays = Some(seed);
        self
    }

    /// With a server of this line, as in the middle of an upgrade. It must be of the same family as the others.
    #[must_use]
    pub fn line(mut self, server: usize, kind: ServerKind) -> Self {
        self.lines.push((server, kind));
        self
    }

    fn kind_of(&self, server: usize) -> ServerKind {
        self.lines
            .iter()
            .find(|(number, _)| *number == server)
            .map_or(self.kind, |(_, kind)| *kind)
    }

    /// With this many replicas.
    #[must_use]
    pub fn replicas(mut self, replicas: u8) -> Self {
        self.replicas = replicas;
        self
    }

    /// With this option on all servers.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.options = self.options.set(name, value);
        self
    }

    /// With this option on one server.
    #[must_use]
    pub fn set_on(mut self, server: usize, name: &str, value: impl ToString) -> Self {
        self.server_options
            .push((server, ServerOptions::new().set(name, value)));
        self
    }

    /// With a database that is there before replication begins.
    #[must_use]
    pub fn database(mut self, name: &str) -> Self {
        self.databases.push(name.to_owned());
        self
    }

    /// With replicas that follow by GTID, in the way of this line.
    #[must_use]
    pub fn by_gtid(self) -> Self {
        if self.kind.is_mariadb() {
            return self.replication(Replication::SlavePos);
        }
        self.replication(Replication::AutoPosition)
            .set("gtid-mode", "ON")
            .set("enforce-gtid-consistency", 1)
    }

    /// With replicas that follow in this way.
    #[must_use]
    pub fn replication(mut self, replication: Replication) -> Self {
        self.replication = replication;
        self
    }
}

/// Added to a host's number for the address behind its gate.
const HIDDEN: u8 = 100;
/// Added to a host's number for the address of its gate where a relay has the public one.
const RELAYED_GATE: u8 = 150;

/// Servers in one temporary folder and one loopback network. All end when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    // Declared before the folder: fields are dropped in order, and servers must end before their files go.
    stalling_disk: Option<StallingDisk>,
    links: Option<Links>,
    gates: Vec<Gate>,
    servers: Vec<Server>,
    network: Network,
    dir: TempDir,
}

impl Cluster {
    /// Starts all servers, makes the accounts, and lets the replicas follow.
    pub async fn start(spec: ClusterSpec) -> Result<Self, SandboxError> {
        let cluster = Self::create(&spec).await?;
        try_join_all(
            cluster
                .servers
                .iter()
                .map(|server| prepare(server, &spec.databases)),
        )
        .await?;
        try_join_all(cluster.replicas().map(|replica| async {
            cluster
                .follow(replica, cluster.primary(), spec.replication)
                .await?;
            replica.exec("SET GLOBAL read_only=1").await
        }))
        .await?;
        cluster.wait_caught_up().await?;
        Ok(cluster)
    }

    async fn create(spec: &ClusterSpec) -> Result<Self, SandboxError> {
        let network = Network::take()?;
        let scratch = std::env::temp_dir();
        let dir = tempfile::Builder::new()
            .prefix("mha-")
            .tempdir()
            .map_err(SandboxError::io("create a folder in", &scratch))?;
        let mut stalling_disk = None;
        let mut specs = Vec::new();
        for number in 0..=spec.replicas {
            let address = network.host(number + 1);
            // The gate has the public address, the server a hidden one with the same port.
            let bind_address = network.host(number + 1 + HIDDEN);
            let mut options = spec.options.clone();
            for (_, extra) in spec
                .server_options
                .iter()
                .filter(|(server, _)| *server == usize::from(number))
            {
                options = options.with(extra);
            }
            let mut environment = Vec::new();
            if spec.stalling_disk && number == 0 {
                let binlogs = dir.path().join("binlogs");
                std::fs::create_dir(&binlogs).map_err(SandboxError::io("create", &binlogs))?;
                options = options.set("log-bin", binlogs.join("mysql-bin").display());
                let disk = StallingDisk::make(dir.path(), &dir.path().join("db1/data"))?;
                environment = disk.environment();
                stalling_disk = Some(disk);
            }
            specs.push(ServerSpec {
                environment,
                kind: spec.kind_of(usize::from(number)),
                name: format!("db{}", number + 1),
                parent: dir.path().to_owned(),
                address,
                bind_address,
                port: network.port(address)?,
                server_id: u32::from(number) + 1,
                options,
            });
        }
        let servers = try_join_all(specs.into_iter().map(Server::create)).await?;
        let links = spec.relays.map(|seed| Links::new(dir.path(), seed));
        let mut gates = Vec::new();
        for (number, server) in servers.iter().enumerate() {
            let at = |address: Ipv4Addr| SocketAddr::from((address, server.port()));
            let mut door = at(server.address());
            if let Some(links) = &links {
                let behind = u8::try_from(number + 1).unwrap_or(u8::MAX - RELAYED_GATE);
                let gate = at(network.host(behind + RELAYED_GATE));
                links.relay(door, gate, Host::Server(number)).await?;
                door = gate;
            }
            gates.push(Gate::start(door, at(server.bind_address())).await?);
        }
        Ok(Self {
            stalling_disk,
            links,
            gates,
            servers,
            network,
            dir,
        })
    }

    /// The line of the server that was started as the primary; its replicas may be of others of the same family.
    pub fn kind(&self) -> ServerKind {
        self.primary().kind()
    }

    /// The folder of everything that belongs to it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its loopback network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// All servers, the primary first.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The server with this number, from 0.
    ///
    /// # Panics
    /// If the cluster has no such server: an error in the test.
    pub fn server(&self, number: usize) -> &Server {
        &self.servers[number]
    }

    /// The same, to change its options.
    ///
    /// # Panics
    /// As [`Cluster::server`].
    pub fn server_mut(&mut self, number: usize) -> &mut Server {
        &mut self.servers[number]
    }

    /// The server that was started as the primary.
    pub fn primary(&self) -> &Server {
        self.server(0)
    }

    /// The servers that were started as replicas.
    pub fn replicas(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().skip(1)
    }

    /// Lets `replica` follow `source` from the present end of its log.
    pub async fn follow(
        &self,
        replica: &Server,
        source: &Server,
        replication: Replication,
    ) -> Result<(), SandboxError> {
        let end = replica::binlog_end(source).await?;
        let start = match replication {
            Replication::Position => Start::At {
                file: end.file,
                offset: end.offset,
            },
            Replication::SlavePos | Replication::AutoPosition => Start::Gtid,
        };
        if replication == Replication::SlavePos {
            let position = source.value("SELECT @@gtid_binlog_pos").await?;
            replica
                .exec(&format!("SET GLOBAL gtid_slave_pos='{position}'"))
                .await?;
        }
        replica
            .exec_all(&[
                &replica.kind().change_source(&Channel {
                    address: source.address(),
                    port: source.port(),
                    account: REPLICATION,
                    start,
                }),
                &replica.kind().statement("START SLAVE"),
            ])
            .await
    }

    /// Waits until every replica has executed what the primary has written so far.
    pub async fn wait_caught_up(&self) -> Result<(), SandboxError> {
        let end = replica::binlog_end(self.primary()).await?;
        try_join_all(
            self.replicas()
                .map(|server| replica::wait_executed(server, &end)),
        )
        .await?;
        Ok(())
    }

    /// The gate of the server with this number.
    ///
    /// # Panics
    /// As [`Cluster::server`].
    pub fn gate(&self, number: usize) -> &Gate {
        &self.gates[number]
    }

    /// The network between the hosts, if it was asked for.
    pub fn links(&self) -> Option<&Links> {
        self.links.as_ref()
    }

    /// The primary's data disk, if it was asked for.
    pub fn stalling_disk(&self) -> Option<&StallingDisk> {
        self.stalling_disk.as_ref()
    }

    fn close(&self, number: usize) {
        self.gate(number).set_mode(Mode::Refusing);
        if let Some(links) = &self.links {
            let server = self.server(number);
            links.listening((server.address(), server.port()).into(), false);
        }
    }

    /// From now on the replica with this number receives nothing of the primary's log that ends beyond `place`.
    pub fn hold(&self, number: usize, place: &LogPlace) {
        self.gate(0).hold(
            self.server(number).server_id(),
            StreamPoint::new(&place.file, place.offset),
        );
    }

    /// The replica with this number receives what comes from now on no more; returns where it stands.
    pub async fn hold_here(&self, number: usize) -> Result<LogPlace, SandboxError> {
        let place = replica::binlog_end(self.primary()).await?;
        self.hold(number, &place);
        replica::wait_read(self.server(number), &place).await?;
        Ok(place)
    }

    /// The replica with this number receives everything again.
    pub fn release(&self, number: usize) {
        self.gate(0).release(self.server(number).server_id());
    }

    /// `kill -9` of the server with this number; its host refuses connections from then on.
    pub fn crash(&self, number: usize) -> Result<(), SandboxError> {
        self.server(number).kill()?;
        self.close(number);
        Ok(())
    }

    /// SIGTERM to the server with this number; its host refuses connections from then on.
    pub async fn shut_down(&self, number: usize) -> Result<(), SandboxError> {
        self.server(number).stop().await?;
        self.close(number);
        Ok(())
    }
}

async fn prepare(server: &Server, databases: &[String]) -> Result<(), SandboxError> {
    server.start().await?;
    let mut session = server.admin().await?;
    accounts::create(server.kind(), &mut session).await?;
    for name in databases {
        session.exec(&format!("CREATE DATABASE `{name}`")).await?;
    }
    session.exec(&server.kind().statement("RESET MASTER")).await
}
