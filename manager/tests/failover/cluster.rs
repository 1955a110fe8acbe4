//! A cluster of three scripted agents, db1 dead, with a configuration, and runs of the manager against it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use manager::config::{self, ClusterConfig};
use manager::exit_code::ExitCode;
use manager::failover::{self, Request, Surroundings};
use manager::journal::{self, Hook, NoHook};
use manager::prompt::Operator;
use manager::report::Report;
use tokio::task::JoinHandle;

use super::fake::FakeAgent;
use super::world::{Fault, Shared, World, lock};

pub(crate) struct Cluster {
    pub(crate) world: Shared,
    pub(crate) config: Arc<ClusterConfig>,
    pub(crate) state: tempfile::TempDir,
    pub(crate) agents: Vec<JoinHandle<()>>,
    pub(crate) dead: String,
    _port_of_dead: tokio::net::TcpSocket,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for agent in &self.agents {
            agent.abort();
        }
    }
}

/// Limits that no agent reaches by being slow on a busy machine.
pub(crate) const POLICY: &str =
    "failover: { call_timeout: 5s, connect_timeout: 3s, save_timeout: 5s, progress_timeout: 5s }\n";

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::with(POLICY, &["candidate: preferred", ""]).await
    }

    /// With limits that nothing meets on a busy machine.
    pub(crate) async fn patient() -> Self {
        Self::with("", &["candidate: preferred", ""]).await
    }

    /// db1 is dead and its port refuses; `extra` are further keys of db2 and db3.
    pub(crate) async fn with(policy: &str, extra: &[&str; 2]) -> Self {
        Self::with_binlog_servers(policy, extra, &[]).await
    }

    /// The same with binlog servers, whose copies end at these places.
    pub(crate) async fn with_binlog_servers(
        policy: &str,
        extra: &[&str; 2],
        copies: &[(&str, u64)],
    ) -> Self {
        // Nobody listens there, and nobody is given it by chance; whoever asks for it by its number may listen.
        let port_of_dead = tokio::net::TcpSocket::new_v4().unwrap();
        port_of_dead.set_reuseaddr(true).unwrap();
        port_of_dead.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let port = port_of_dead.local_addr().unwrap().port();
        let state = tempfile::tempdir().unwrap();
        let world = World::customer(port, state.path());
        let mut agents = Vec::new();
        let mut servers = String::new();
        for (name, extra) in [("db1", ""), ("db2", extra[0]), ("db3", extra[1])] {
            let (address, serving) = FakeAgent::spawn(world.clone(), name).await;
            agents.push(serving);
            let port = if name == "db1" { port } else { 3306 };
            let host = if name == "db1" { "127.0.0.1" } else { name };
            servers.push_str(&format!(
                "  - {{ name: {name}, host: {host}, port: {port}, agent: '{address}', {extra} }}\n"
            ));
        }
        let mut binlog_servers = String::new();
        for (name, received) in copies {
            lock(&world).add_binlog_server(name, *received, state.path());
            let (address, serving) = FakeAgent::spawn(world.clone(), name).await;
            agents.push(serving);
            binlog_servers.push_str(&format!("  - {{ name: {name}, agent: '{address}' }}\n"));
        }
        if !copies.is_empty() {
            binlog_servers.insert_str(0, "binlog_servers:\n");
        }
        let text = format!(
            "cluster: app1\nplaintext: true\nmanager_name: m1\nstate_dir: {}\nservers:\n{servers}{binlog_servers}{policy}",
            state.path().join("state").display()
        );
        let path = state.path().join("app1.yaml");
        std::fs::write(&path, text).unwrap();
        Self {
            world,
            config: Arc::new(config::load(&path).unwrap()),
            state,
            agents,
            dead: format!("127.0.0.1:{port}"),
            _port_of_dead: port_of_dead,
        }
    }

    pub(crate) fn request(&self) -> Request {
        Request {
            dead_primary: self.dead.clone(),
            yes: true,
            ..Request::default()
        }
    }

    pub(crate) async fn run(&self, request: &Request) -> Report {
        self.run_with(request, Arc::new(NoHook), None).await
    }

    pub(crate) async fn run_with(
        &self,
        request: &Request,
        hook: Arc<dyn Hook>,
        operator: Option<&mut dyn Operator>,
    ) -> Report {
        let surroundings = Surroundings {
            narrator: Arc::new(|_: &str| {}),
            operator,
            hook,
        };
        let report = failover::run(self.config.clone(), request, surroundings).await;
        self.until_unlocked().await;
        report
    }

    /// Ends an agent; nobody listens at its address any more.
    pub(crate) async fn lose_agent(&self, number: usize) {
        let agent = &self.agents[number];
        agent.abort();
        while !agent.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    /// The writer thread lets go of a journal a moment after its run has ended; a process would be gone.
    pub(crate) async fn until_unlocked(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self
            .journals()
            .iter()
            .any(|j| journal::is_running(j).unwrap())
        {
            assert!(Instant::now() < deadline, "the journal stays locked");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn journals(&self) -> Vec<PathBuf> {
        journal::operations(&self.config.state_dir, "app1").unwrap()
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        lock(&self.world).calls.clone()
    }

    pub(crate) fn called(&self, call: &str) -> usize {
        self.calls().iter().filter(|c| c.starts_with(call)).count()
    }

    /// Waits until agents were called so often.
    pub(crate) async fn until_called(&self, call: &str, times: usize) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.called(call) < times {
            assert!(Instant::now() < deadline, "{call} is not called");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn set_fault(&self, server: &str, call: &'static str, fault: Fault) {
        lock(&self.world).server(server).faults.insert(call, fault);
    }

    /// Nothing was changed anywhere, and nobody holds the cluster.
    pub(crate) fn assert_untouched(&self, story: &str) {
        for server in lock(&self.world).servers.values() {
            assert_eq!(server.holder, None, "{story}: {}", server.name);
            assert!(
                server.read_only || server.name == "db1",
                "{story}: {}",
                server.name
            );
            assert_eq!(server.replicates_from, None, "{story}: {}", server.name);
            assert_eq!(server.held_down_by, "", "{story}: {}", server.name);
            if server.name != "db1" {
                assert!(server.receiver_running, "{story}: {}", server.name);
            }
        }
    }
}

pub(crate) fn code(report: &Report) -> ExitCode {
    ExitCode::ALL
        .into_iter()
        .find(|c| c.number() == report.exit_code)
        .unwrap()
}
