//! Agents and a manager as processes beside the servers of a cluster, with certificates, as an operator runs them.
//!
//! Everything is configured through the files and command lines that operators use. Agents end with the value.

mod agent;
mod certificates;
mod files;
mod run;
mod spec;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;

use futures::future::try_join_all;

pub use self::agent::Agent;
pub use self::files::ManagerFiles;
pub use self::run::ManagerRun;
pub use self::spec::DeploymentSpec;

use self::certificates::{authority, issue};
use super::binaries::{self, Binaries};
use super::cluster::Cluster;
use super::error::SandboxError;
use super::links::Host;
use super::server::Server;
use super::stall::StallingDisk;

/// The name of the cluster in every configuration.
pub const CLUSTER: &str = "app1";
/// Number of the host of the first binlog server: no server's.
const FIRST_BINLOG_SERVER: u8 = 200;

/// Agents of all servers of a cluster, and the manager's configuration.
#[derive(Debug)]
pub struct Deployment {
    agents: Vec<Agent>,
    binlog_servers: Vec<Agent>,
    dir: PathBuf,
    binaries: Binaries,
    manager_config: PathBuf,
    /// Number of the next report file.
    reports: AtomicU32,
}

impl Deployment {
    /// Builds the programs, issues certificates, writes configurations, starts all agents and waits until they listen.
    pub async fn start(cluster: &Cluster, spec: &DeploymentSpec) -> Result<Self, SandboxError> {
        let binaries = binaries::ensure().await?.clone();
        let dir = cluster.dir().join("mha");
        let certificates = dir.join("tls");
        authority(&binaries, &certificates).await?;
        issue(&binaries, &certificates, (CLUSTER, "manager", "m1"), None).await?;

        let mut agents = Vec::new();
        let inside = cluster.servers().len().saturating_sub(spec.outside);
        for server in cluster.servers().iter().take(inside) {
            issue(
                &binaries,
                &certificates,
                (CLUSTER, "agent", server.name()),
                Some(server.address()),
            )
            .await?;
            let port = cluster.network().port(server.address())?;
            let mut listen = SocketAddr::from((server.address(), port));
            if let Some(links) = cluster.links() {
                let public = listen;
                listen.set_ip(server.bind_address().into());
                links
                    .relay(public, listen, Host::Server(agents.len()))
                    .await?;
            }
            let disk = cluster.stalling_disk().filter(|_| agents.is_empty());
            let environment = disk.map(StallingDisk::environment).unwrap_or_default();
            let program = &binaries.agent;
            agents.push(Agent::configure(
                &dir,
                server,
                listen,
                program,
                environment,
            )?);
        }
        let mut binlog_servers = Vec::new();
        for ((name, copies), host) in spec.binlog_servers.iter().zip(FIRST_BINLOG_SERVER..) {
            let address = cluster.network().host(host);
            let listen = SocketAddr::from((address, cluster.network().port(address)?));
            let whose = (CLUSTER, "agent", *name);
            issue(&binaries, &certificates, whose, Some(address)).await?;
            let program = &binaries.agent;
            binlog_servers.push(Agent::of_binlog_server(
                &dir, name, copies, listen, program,
            )?);
        }
        let manager_config = dir.join("manager.yaml");
        let config = files::of_manager(&dir, cluster, (&agents, &binlog_servers), spec)?;
        files::write_yaml(&manager_config, &config)?;
        let deployment = Self {
            agents,
            binlog_servers,
            dir,
            binaries,
            manager_config,
            reports: AtomicU32::new(1),
        };
        try_join_all(deployment.agents.iter().zip(cluster.servers()).map(
            |(agent, server)| async move {
                agent.start().await?;
                // Agents run for weeks before a failover; here they get the moment to learn what they must remember.
                if server.is_running() {
                    agent.wait_acquainted().await
                } else {
                    Ok(())
                }
            },
        ))
        .await?;
        try_join_all(deployment.binlog_servers.iter().map(Agent::start)).await?;
        Ok(deployment)
    }

    /// The agent of the binlog server with this number.
    ///
    /// # Panics
    /// If there is none: an error in the test.
    pub fn binlog_server(&self, number: usize) -> &Agent {
        &self.binlog_servers[number]
    }

    /// The agent of the server with this number.
    ///
    /// # Panics
    /// If there is none: an error in the test.
    pub fn agent(&self, number: usize) -> &Agent {
        &self.agents[number]
    }

    /// All agents, in the order of their servers.
    pub fn agents(&self) -> &[Agent] {
        &self.agents
    }

    /// The manager's configuration file.
    pub fn manager_config(&self) -> &Path {
        &self.manager_config
    }

    /// The folder of certificates.
    pub fn certificates(&self) -> PathBuf {
        self.dir.join("tls")
    }

    /// The manager's state folder.
    pub fn manager_state(&self) -> PathBuf {
        self.dir.join("manager-state")
    }

    /// The programs under test.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SandboxError> + Send + 'static,
) -> Result<T, SandboxError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| SandboxError::Io {
            action: "run",
            path: "a blocking task".into(),
            source: std::io::Error::other(error),
        })?
}

/// What agents and manager call a server.
pub fn server_name(server: &Server) -> String {
    format!("{}:{}", server.name(), server.port())
}
