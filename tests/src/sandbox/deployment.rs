//! Agents and a manager as processes beside the servers of a cluster, with certificates, as an operator runs them.
//!
//! Everything is configured through the files and command lines that operators use. Agents end with the value.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::try_join_all;
use manager::report::Report;
use nix::sys::signal::Signal;
use proto::tls::TlsPaths;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::accounts::{AGENT, MONITOR, REPLICATION};
use super::binaries::{self, Binaries};
use super::cluster::Cluster;
use super::error::SandboxError;
use super::launch::{Launch, Process};
use super::links::Host;
use super::server::Server;
use super::tool::{self, Finished};
use super::wait::{self, Look};

/// The name of the cluster in every configuration.
pub const CLUSTER: &str = "app1";

/// How long an agent may take until it listens.
const AGENT_START: Duration = Duration::from_secs(90);
/// How long a certificate may take.
const CERTIFICATE: Duration = Duration::from_secs(90);
/// How long a run of the manager may take: longer than any of its own limits in the scenarios.
const MANAGER: Duration = Duration::from_secs(240);

/// What differs from a plain deployment.
#[derive(Debug, Clone, Default)]
pub struct DeploymentSpec {
    /// `candidate:` of servers, by number; `allowed` where nothing is said.
    pub candidates: Vec<(usize, &'static str)>,
    /// Further keys of servers in the manager's configuration.
    pub servers: Vec<(usize, &'static str, Value)>,
    /// Keys of `failover:` in the manager's configuration.
    pub failover: Vec<(&'static str, Value)>,
    /// `hooks:` in the manager's configuration.
    pub hooks: Option<Value>,
    /// Keys of `monitor:` in the manager's configuration.
    pub monitor: Vec<(&'static str, Value)>,
    /// Further sections of the manager's configuration.
    pub more: Vec<(&'static str, Value)>,
}

impl DeploymentSpec {
    /// With these hooks.
    #[must_use]
    pub fn hooks(mut self, hooks: Value) -> Self {
        self.hooks = Some(hooks);
        self
    }

    /// With this candidate setting of a server.
    #[must_use]
    pub fn candidate(mut self, server: usize, setting: &'static str) -> Self {
        self.candidates.push((server, setting));
        self
    }

    /// With this key of `failover:`.
    #[must_use]
    pub fn failover(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.failover.push((key, value.into()));
        self
    }

    /// With this key of `monitor:`.
    #[must_use]
    pub fn monitor(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.monitor.push((key, value.into()));
        self
    }

    /// With this section of the manager's configuration.
    #[must_use]
    pub fn more(mut self, section: &'static str, value: Value) -> Self {
        self.more.push((section, value));
        self
    }

    /// With this key of a server.
    #[must_use]
    pub fn server(mut self, server: usize, key: &'static str, value: impl Into<Value>) -> Self {
        self.servers.push((server, key, value.into()));
        self
    }
}

/// One agent of one server's host.
#[derive(Debug)]
pub struct Agent {
    name: String,
    /// What it calls its server.
    server: String,
    /// Where others reach it.
    address: SocketAddr,
    /// Where it listens: elsewhere if a relay has the address.
    listen: SocketAddr,
    config: PathBuf,
    state_dir: PathBuf,
    log: PathBuf,
    program: PathBuf,
    environment: Vec<(String, String)>,
    process: Mutex<Option<Process>>,
}

/// Agents of all servers of a cluster, and the manager's configuration.
#[derive(Debug)]
pub struct Deployment {
    agents: Vec<Agent>,
    dir: PathBuf,
    binaries: Binaries,
    manager_config: PathBuf,
    /// Number of the next report file.
    reports: AtomicU32,
}

/// The files of one of several managers of a cluster.
#[derive(Debug, Clone)]
pub struct ManagerFiles {
    /// Its name, in its certificate and wherever it holds the cluster.
    pub name: String,
    /// Its configuration.
    pub config: PathBuf,
    /// Its state folder.
    pub state: PathBuf,
}

/// One end of a run of the manager.
#[derive(Debug, Clone)]
pub struct ManagerRun {
    /// Exit code, outputs and duration.
    pub finished: Finished,
    /// The report, if one was written.
    pub report: Option<Report>,
}

impl ManagerRun {
    /// All that it printed.
    pub fn text(&self) -> String {
        format!("{}{}", self.finished.stdout, self.finished.stderr)
    }

    /// Whether it printed this.
    pub fn mentions(&self, text: &str) -> bool {
        self.finished.stdout.contains(text) || self.finished.stderr.contains(text)
    }

    /// Checks the exit code.
    ///
    /// # Panics
    /// With all that was printed, if it is another one.
    pub fn must_end_with(&self, code: i32) {
        assert_eq!(
            self.finished.code,
            Some(code),
            "exit code of mha-manager; it printed:\n{}",
            self.text()
        );
    }
}

impl Deployment {
    /// Builds the programs, issues certificates, writes configurations, starts all agents and waits until they listen.
    pub async fn start(cluster: &Cluster, spec: &DeploymentSpec) -> Result<Self, SandboxError> {
        let binaries = binaries::ensure().await?.clone();
        let dir = cluster.dir().join("mha");
        let certificates = dir.join("tls");
        create_private(&certificates)?;
        certs(&binaries, &["init", "--dir"], &certificates, &[]).await?;
        issue(&binaries, &certificates, (CLUSTER, "manager", "m1"), None).await?;

        let mut agents = Vec::new();
        for server in cluster.servers() {
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
            let mut agent = Agent::configure(&dir, server, listen, &binaries.agent)?;
            if let Some(disk) = cluster.stalling_disk().filter(|_| agents.is_empty()) {
                agent.environment = disk.environment();
            }
            agents.push(agent);
        }
        let manager_config = dir.join("manager.yaml");
        write_yaml(
            &manager_config,
            &manager_yaml(&dir, cluster, &agents, spec)?,
        )?;
        let deployment = Self {
            agents,
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
        Ok(deployment)
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

    /// A further manager of this cluster: a name, a certificate and a state folder of its own.
    pub async fn another_manager(&self, name: &str) -> Result<ManagerFiles, SandboxError> {
        self.issue("manager", name).await?;
        let path = &self.manager_config;
        let text = fs::read_to_string(path).map_err(SandboxError::io("read", path))?;
        let mut config: Value =
            serde_yaml::from_str(&text).map_err(|error| SandboxError::Format {
                path: path.clone(),
                wanted: "YAML",
                detail: error.to_string(),
            })?;
        let files = ManagerFiles {
            name: name.to_owned(),
            config: self.dir.join(format!("{name}.yaml")),
            state: self.dir.join(format!("{name}-state")),
        };
        config["manager_name"] = name.into();
        config["state_dir"] = json!(files.state);
        config["tls"] = tls(&self.dir, name);
        write_yaml(&files.config, &config)?;
        Ok(files)
    }

    /// The programs under test.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Issues a further certificate: `NAME.pem` and `NAME.key` beside the others.
    pub async fn issue(&self, role: &str, name: &str) -> Result<(), SandboxError> {
        self.issue_for(CLUSTER, role, name).await
    }

    /// Issues a further certificate for another cluster.
    pub async fn issue_for(
        &self,
        cluster: &str,
        role: &str,
        name: &str,
    ) -> Result<(), SandboxError> {
        issue(
            &self.binaries,
            &self.certificates(),
            (cluster, role, name),
            None,
        )
        .await
    }

    /// Makes another authority and a manager's certificate of it, as somebody else's network may have.
    pub async fn foreign_authority(&self, name: &str) -> Result<TlsPaths, SandboxError> {
        let folder = self.dir.join("foreign-tls");
        create_private(&folder)?;
        certs(&self.binaries, &["init", "--dir"], &folder, &[]).await?;
        issue(&self.binaries, &folder, (CLUSTER, "manager", name), None).await?;
        Ok(TlsPaths {
            ca: folder.join("ca.pem"),
            cert: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        })
    }

    /// A command line `mha-manager failover --config .. --dead-primary ..`, without `--yes`.
    pub fn failover_command(&self, dead: &Server, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binaries.manager);
        command
            .arg("failover")
            .arg("--config")
            .arg(&self.manager_config);
        command
            .arg("--dead-primary")
            .arg(dead.host_port())
            .args(arguments);
        command
    }

    /// Runs `mha-manager failover --yes` to its end.
    pub async fn failover(
        &self,
        dead: &Server,
        arguments: &[&str],
    ) -> Result<ManagerRun, SandboxError> {
        let mut all = vec!["--yes"];
        all.extend(arguments);
        self.run(self.failover_command(dead, &all)).await
    }

    /// Starts `mha-manager failover --yes` and returns while it runs; its output goes to the file of this name.
    pub fn start_failover(&self, dead: &Server, log: &str) -> Result<Process, SandboxError> {
        self.start_failover_with(dead, log, Vec::new())
    }

    /// The same with these environment variables.
    pub fn start_failover_with(
        &self,
        dead: &Server,
        log: &str,
        environment: Vec<(String, String)>,
    ) -> Result<Process, SandboxError> {
        let command = self.failover_command(dead, &["--yes"]);
        Process::start(&Launch {
            name: format!("mha-manager ({log})"),
            program: self.binaries.manager.clone(),
            arguments: command.get_args().map(Into::into).collect(),
            environment,
            log: self.dir.join(log),
        })
    }

    /// Runs a `failover` command of the manager to its end and reads its report.
    pub async fn run(&self, mut command: Command) -> Result<ManagerRun, SandboxError> {
        let number = self.reports.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("report-{number}.json"));
        command.arg("--report").arg(&path);
        let finished = blocking(move || tool::finish(command, None, MANAGER)).await?;
        let report = match fs::read(&path) {
            Ok(text) => {
                Some(
                    serde_json::from_slice(&text).map_err(|error| SandboxError::Format {
                        path,
                        wanted: "a report of this build",
                        detail: error.to_string(),
                    })?,
                )
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => {
                return Err(SandboxError::Io {
                    action: "read",
                    path,
                    source,
                });
            }
        };
        Ok(ManagerRun { finished, report })
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

async fn certs(
    binaries: &Binaries,
    before: &[&str],
    folder: &Path,
    after: &[String],
) -> Result<(), SandboxError> {
    let mut command = Command::new(&binaries.manager);
    command.arg("certs").args(before).arg(folder).args(after);
    blocking(move || tool::run(command, None, CERTIFICATE))
        .await
        .map(|_| ())
}

async fn issue(
    binaries: &Binaries,
    folder: &Path,
    (cluster, role, name): (&str, &str, &str),
    host: Option<Ipv4Addr>,
) -> Result<(), SandboxError> {
    let mut after = vec!["--cluster".to_owned(), cluster.to_owned()];
    after.extend([
        "--role".to_owned(),
        role.to_owned(),
        "--name".to_owned(),
        name.to_owned(),
    ]);
    if let Some(host) = host {
        after.extend(["--host".to_owned(), host.to_string()]);
    }
    certs(binaries, &["issue", "--dir"], folder, &after).await
}

fn create_private(folder: &Path) -> Result<(), SandboxError> {
    fs::create_dir_all(folder).map_err(SandboxError::io("create", folder))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
        .map_err(SandboxError::io("protect", folder))
}

fn write_private(path: &Path, text: &str) -> Result<(), SandboxError> {
    fs::write(path, text).map_err(SandboxError::io("write", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(SandboxError::io("protect", path))
}

fn write_yaml(path: &Path, value: &Value) -> Result<(), SandboxError> {
    let text = serde_yaml::to_string(value).map_err(|error| SandboxError::Format {
        path: path.to_owned(),
        wanted: "writable as YAML",
        detail: error.to_string(),
    })?;
    write_private(path, &text)
}

fn tls(folder: &Path, name: &str) -> Value {
    let at = |file: String| folder.join("tls").join(file);
    json!({ "ca": at("ca.pem".to_owned()), "cert": at(format!("{name}.pem")), "key": at(format!("{name}.key")) })
}

/// What agents and manager call a server.
pub fn server_name(server: &Server) -> String {
    format!("{}:{}", server.name(), server.port())
}

fn manager_yaml(
    dir: &Path,
    cluster: &Cluster,
    agents: &[Agent],
    spec: &DeploymentSpec,
) -> Result<Value, SandboxError> {
    let password = dir.join("monitor.password");
    write_private(&password, MONITOR.password)?;
    let mut servers = Vec::new();
    for (number, (server, agent)) in cluster.servers().iter().zip(agents).enumerate() {
        let candidate = spec
            .candidates
            .iter()
            .find(|(wanted, _)| *wanted == number)
            .map_or("allowed", |found| found.1);
        let mut entry = json!({
            "name": server_name(server),
            "host": server.address().to_string(),
            "port": server.port(),
            "agent": agent.address.to_string(),
            "agent_name": agent.name,
            "candidate": candidate,
        });
        for (_, key, value) in spec
            .servers
            .iter()
            .filter(|(wanted, _, _)| *wanted == number)
        {
            entry[*key] = value.clone();
        }
        servers.push(entry);
    }
    let mut failover = json!({});
    for (key, value) in &spec.failover {
        failover[*key] = value.clone();
    }
    let mut monitor = json!({ "user": MONITOR.user, "password_file": password });
    for (key, value) in &spec.monitor {
        monitor[*key] = value.clone();
    }
    let mut config = json!({
        "cluster": CLUSTER,
        "state_dir": dir.join("manager-state"),
        "tls": tls(dir, "m1"),
        "servers": servers,
        "monitor": monitor,
        "failover": failover,
    });
    if let Some(hooks) = &spec.hooks {
        config["hooks"] = hooks.clone();
    }
    for (section, value) in &spec.more {
        config[*section] = value.clone();
    }
    Ok(config)
}

impl Agent {
    fn configure(
        dir: &Path,
        server: &Server,
        listen: SocketAddr,
        program: &Path,
    ) -> Result<Self, SandboxError> {
        let name = server.name().to_owned();
        let state_dir = dir.join(format!("{name}-state"));
        let own = dir.join(format!("{name}.agent.password"));
        let replication = dir.join(format!("{name}.replication.password"));
        write_private(&own, AGENT.password)?;
        write_private(&replication, REPLICATION.password)?;
        let address = SocketAddr::from((server.address(), listen.port()));
        let config = dir.join(format!("{name}.yaml"));
        write_yaml(
            &config,
            &json!({
                "name": name,
                "listen": listen.to_string(),
                "state_dir": state_dir,
                "tls": tls(dir, &name),
                "servers": [{
                    "name": server_name(server),
                    "cluster": CLUSTER,
                    "socket": server.socket(),
                    "user": AGENT.user,
                    "password_file": own,
                    "replication_user": REPLICATION.user,
                    "replication_password_file": replication,
                }],
            }),
        )?;
        let log = dir.join(format!("{name}.log"));
        Ok(Self {
            name,
            server: server_name(server),
            address,
            listen,
            config,
            state_dir,
            log,
            program: program.to_owned(),
            environment: Vec::new(),
            process: Mutex::new(None),
        })
    }

    fn slot(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the agent and waits until it listens.
    pub async fn start(&self) -> Result<(), SandboxError> {
        *self.slot() = Some(Process::start(&Launch {
            name: format!("agent of {}", self.name),
            program: self.program.clone(),
            arguments: vec!["run".into(), "--config".into(), self.config.clone().into()],
            environment: self.environment.clone(),
            log: self.log.clone(),
        })?);
        wait::until(
            &format!("the agent of {} to listen", self.name),
            AGENT_START,
            || async {
                if let Some(process) = self.slot().as_ref()
                    && let Some(status) = process.ended()?
                {
                    return Err(process.not_ready(Process::describe(status)));
                }
                match tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(self.listen))
                    .await
                {
                    Ok(Ok(_)) => Ok(Look::Done(())),
                    Ok(Err(error)) => Ok(Look::NotYet(error.to_string())),
                    Err(_) => Ok(Look::NotYet("connecting".to_owned())),
                }
            },
        )
        .await
    }

    /// Waits until the agent has noted the facts about its server that it needs when the server is dead.
    async fn wait_acquainted(&self) -> Result<(), SandboxError> {
        let path = self
            .state_dir
            .join("servers")
            .join(self.server.replace(':', "_"))
            .join("remembered.json");
        let what = format!("the agent of {} to know its server", self.name);
        wait::until(&what, AGENT_START, || async {
            Ok(if path.exists() {
                Look::Done(())
            } else {
                Look::NotYet(format!("no {}", path.display()))
            })
        })
        .await
    }

    /// SIGKILL.
    pub fn kill(&self) -> Result<(), SandboxError> {
        match self.slot().take() {
            Some(process) => process.kill(),
            None => Ok(()),
        }
    }

    /// SIGSTOP: it keeps its connections and answers nothing.
    pub fn freeze(&self) -> Result<(), SandboxError> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<(), SandboxError> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), SandboxError> {
        match self.slot().as_ref() {
            Some(process) => process.signal(signal),
            None => Err(SandboxError::NotRunning {
                name: self.name.clone(),
            }),
        }
    }

    /// Process id while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.slot().as_ref().map(Process::pid)
    }

    /// Where others reach it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its name, as in its certificate.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Its state folder.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }
}
