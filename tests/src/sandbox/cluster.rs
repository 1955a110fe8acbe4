//! A primary and its replicas, replicating, with the accounts that agents, manager and clients use.
//!
//! After [`Cluster::start`] all servers are at the beginning of their own binary logs, and the replicas have read the
//! primary's to its end. Server numbers count from 0: 0 is the primary, 1.. are the replicas; names are `db1`, `db2`...

use std::path::Path;
use std::time::Duration;

use futures::future::try_join_all;
use tempfile::TempDir;

use super::error::SandboxError;
use super::fetch::ServerKind;
use super::network::Network;
use super::options::ServerOptions;
use super::server::{Server, ServerSpec};
use super::wait::{self, Look};

/// Name and password of an account.
#[derive(Debug, Clone, Copy)]
pub struct Account {
    /// Account name.
    pub user: &'static str,
    /// Password.
    pub password: &'static str,
}

/// The account of the agents, on the unix socket.
pub const AGENT: Account = Account {
    user: "mha_agent",
    password: "agent-secret",
};
/// The account of the manager's ping.
pub const MONITOR: Account = Account {
    user: "mha",
    password: "monitor-secret",
};
/// The account of the replicas.
pub const REPLICATION: Account = Account {
    user: "repl",
    password: "repl-secret",
};
/// The account of clients: no SUPER, so `read_only` holds for it.
pub const APPLICATION: Account = Account {
    user: "app",
    password: "app-secret",
};

/// How replicas follow the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// By file and offset.
    Position,
    /// By `MASTER_USE_GTID=slave_pos`; MariaDB only.
    SlavePos,
}

/// What cluster to start.
#[derive(Debug, Clone)]
pub struct ClusterSpec {
    /// The line of all servers.
    pub kind: ServerKind,
    /// Number of replicas.
    pub replicas: u8,
    /// How they follow.
    pub replication: Replication,
    /// Options of all servers.
    pub options: ServerOptions,
    /// Options of single servers on top, by server number.
    pub server_options: Vec<(usize, ServerOptions)>,
}

impl ClusterSpec {
    /// A primary and two replicas by position.
    pub fn new(kind: ServerKind) -> Self {
        Self {
            kind,
            replicas: 2,
            replication: Replication::Position,
            options: ServerOptions::new(),
            server_options: Vec::new(),
        }
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

    /// With replicas that follow in this way.
    #[must_use]
    pub fn replication(mut self, replication: Replication) -> Self {
        self.replication = replication;
        self
    }
}

/// Servers in one temporary folder and one loopback network. All end when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    // Declared before the folder: fields are dropped in order, and servers must end before their files go.
    servers: Vec<Server>,
    network: Network,
    kind: ServerKind,
    dir: TempDir,
}

impl Cluster {
    /// Starts all servers, makes the accounts, and lets the replicas follow.
    pub async fn start(spec: ClusterSpec) -> Result<Self, SandboxError> {
        let cluster = Self::create(&spec).await?;
        try_join_all(cluster.servers.iter().map(Server::start)).await?;
        try_join_all(cluster.servers.iter().map(make_accounts)).await?;
        for replica in cluster.replicas() {
            cluster
                .follow(replica, cluster.primary(), spec.replication)
                .await?;
            replica.exec("SET GLOBAL read_only=1").await?;
        }
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
        let mut specs = Vec::new();
        for number in 0..=spec.replicas {
            let address = network.host(number + 1);
            let mut options = spec.options.clone();
            for (_, extra) in spec
                .server_options
                .iter()
                .filter(|(server, _)| *server == usize::from(number))
            {
                options = options.with(extra);
            }
            specs.push(ServerSpec {
                kind: spec.kind,
                name: format!("db{}", number + 1),
                parent: dir.path().to_owned(),
                address,
                port: network.port(address)?,
                server_id: u32::from(number) + 1,
                options,
            });
        }
        let servers = try_join_all(specs.into_iter().map(Server::create)).await?;
        Ok(Self {
            servers,
            network,
            kind: spec.kind,
            dir,
        })
    }

    /// The line of its servers.
    pub fn kind(&self) -> ServerKind {
        self.kind
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
        let status = master_status(source).await?;
        let place = match replication {
            Replication::Position => {
                let no_gtid = if self.kind.is_mariadb() {
                    ", MASTER_USE_GTID=no"
                } else {
                    ""
                };
                format!(
                    "MASTER_LOG_FILE='{}', MASTER_LOG_POS={}{no_gtid}",
                    status.file, status.position
                )
            }
            Replication::SlavePos => "MASTER_USE_GTID=slave_pos".to_owned(),
        };
        if replication == Replication::SlavePos {
            let position = source.value("SELECT @@gtid_binlog_pos").await?;
            replica
                .exec(&format!("SET GLOBAL gtid_slave_pos='{position}'"))
                .await?;
        }
        replica
            .exec_all(&[
                &format!(
                    "CHANGE MASTER TO MASTER_HOST='{}', MASTER_PORT={}, MASTER_USER='{}', MASTER_PASSWORD='{}', \
                     MASTER_CONNECT_RETRY=1, {place}",
                    source.address(),
                    source.port(),
                    REPLICATION.user,
                    REPLICATION.password,
                ),
                "START SLAVE",
            ])
            .await
    }

    /// Waits until every replica has executed what the primary has written so far.
    pub async fn wait_caught_up(&self) -> Result<(), SandboxError> {
        let end = master_status(self.primary()).await?;
        for replica in self.replicas() {
            wait_executed(replica, &end).await?;
        }
        Ok(())
    }
}

async fn make_accounts(server: &Server) -> Result<(), SandboxError> {
    let mut session = server.admin().await?;
    // Accounts are each server's own; nothing of them is to be in the binary log.
    session.exec("SET sql_log_bin=0").await?;
    let client = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, EXECUTE, CREATE ROUTINE, EVENT, TRIGGER, \
                  CREATE TEMPORARY TABLES, LOCK TABLES, CREATE VIEW";
    for (account, host, privileges) in [
        (AGENT, "localhost", "ALL PRIVILEGES"),
        (MONITOR, "%", "REPLICATION CLIENT, PROCESS, SELECT"),
        (REPLICATION, "%", "REPLICATION SLAVE, REPLICATION CLIENT"),
        (APPLICATION, "%", client),
    ] {
        let option = if account.user == AGENT.user {
            " WITH GRANT OPTION"
        } else {
            ""
        };
        session
            .exec(&format!(
                "GRANT {privileges} ON *.* TO '{}'@'{host}' IDENTIFIED BY '{}'{option}",
                account.user, account.password
            ))
            .await?;
    }
    session
        .exec(&format!(
            "GRANT ALL PRIVILEGES ON infra.* TO '{}'@'%'",
            MONITOR.user
        ))
        .await?;
    session.exec("RESET MASTER").await
}

/// The end of a server's binary log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterStatus {
    /// File name.
    pub file: String,
    /// Offset in bytes.
    pub position: u64,
}

/// The end of a server's binary log, as it says itself.
pub async fn master_status(server: &Server) -> Result<MasterStatus, SandboxError> {
    let statement = "SHOW MASTER STATUS";
    let lacking = |wanted: &str| SandboxError::Answer {
        server: server.name().to_owned(),
        statement: statement.to_owned(),
        wanted: wanted.to_owned(),
    };
    let row = server
        .row(statement)
        .await?
        .ok_or_else(|| lacking("row: no binary log"))?;
    let file = row.get("File").ok_or_else(|| lacking("File"))?.to_owned();
    let position = row
        .get("Position")
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| lacking("Position as a number"))?;
    Ok(MasterStatus { file, position })
}

/// Waits until the replica has executed the source's log up to this point.
pub async fn wait_executed(replica: &Server, end: &MasterStatus) -> Result<(), SandboxError> {
    let what = format!(
        "{} to execute {}:{}",
        replica.name(),
        end.file,
        end.position
    );
    wait::until(&what, Duration::from_secs(30), || async {
        let Some(status) = replica.row("SHOW SLAVE STATUS").await? else {
            return Ok(Look::NotYet("no replica status".to_owned()));
        };
        let file = status
            .get("Relay_Master_Log_File")
            .unwrap_or_default()
            .to_owned();
        let position: u64 = status
            .get("Exec_Master_Log_Pos")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let io = status.get("Slave_IO_Running").unwrap_or_default();
        // Until it has connected the replica may show the position that it was told, not one that exists.
        if io == "Yes" && file == end.file && position >= end.position {
            return Ok(Look::Done(()));
        }
        let errors = [status.get("Last_IO_Error"), status.get("Last_SQL_Error")]
            .map(Option::unwrap_or_default);
        Ok(Look::NotYet(format!(
            "{file}:{position}, I/O thread {io} {}",
            errors.join(" ")
        )))
    })
    .await
}
