//! One real server in a folder of its own, on a loopback address of its own.
//!
//! The process is started, stopped, killed and frozen by the id that was started; it ends when the value is dropped.
//! A server can be down (crashed, held down by an agent) and started again on the same files, address and port.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Uid;

use super::cache::copy_tree;
use super::client::{Client, Login, Record, Target};
use super::error::{SandboxError, chain};
use super::fetch::{self, Distribution, ServerKind};
use super::launch::{Launch, Process};
use super::options::ServerOptions;
use super::template;

/// The size of `sun_path` in `sockaddr_un`, without its closing zero.
const SOCKET_PATH_LIMIT: usize = 107;

/// How long a server may take to start, crash recovery on a loaded machine included.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long a server may take to stop after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(120);
/// Limit of a statement where the caller sets no other.
const STATEMENT_LIMIT: Duration = Duration::from_secs(90);

/// What a new server is to be.
#[derive(Debug, Clone)]
pub struct ServerSpec {
    /// Its line.
    pub kind: ServerKind,
    /// Short name, also of its folder: `db1`.
    pub name: String,
    /// Parent folder.
    pub parent: PathBuf,
    /// The address that clients, replicas and the manager know.
    pub address: Ipv4Addr,
    /// The address it listens on: another one where a gate stands in front of it.
    pub bind_address: Ipv4Addr,
    /// Its port, the same on both addresses.
    pub port: u16,
    /// `server_id`.
    pub server_id: u32,
    /// Options on top of the sandbox's defaults.
    pub options: ServerOptions,
    /// Environment variables on top of those that its line needs.
    pub environment: Vec<(String, String)>,
}

/// A server, running or not.
#[derive(Debug)]
pub struct Server {
    spec: ServerSpec,
    dir: PathBuf,
    distribution: Distribution,
    process: Mutex<Option<Process>>,
}

impl Server {
    /// Prepares folder, data directory and configuration; fetches the server first if the cache lacks it. Not started.
    pub async fn create(spec: ServerSpec) -> Result<Self, SandboxError> {
        let kind = spec.kind;
        let dir = spec.parent.join(&spec.name);
        let target = dir.clone();
        let distribution = tokio::task::spawn_blocking(move || {
            let distribution = fetch::ensure(kind)?;
            let template = template::ensure(&distribution)?;
            copy_tree(&template, &target.join("data"))?;
            let tmp = target.join("tmp");
            fs::create_dir_all(&tmp).map_err(SandboxError::io("create", &tmp))?;
            Ok::<_, SandboxError>(distribution)
        })
        .await
        .map_err(|error| SandboxError::Io {
            action: "prepare",
            path: dir.clone(),
            source: std::io::Error::other(error),
        })??;
        let server = Self {
            spec,
            dir,
            distribution,
            process: Mutex::new(None),
        };
        let socket = server.socket();
        if socket.as_os_str().len() > SOCKET_PATH_LIMIT {
            return Err(SandboxError::SocketPath {
                path: socket,
                limit: SOCKET_PATH_LIMIT,
            });
        }
        server.write_config()?;
        Ok(server)
    }

    /// Replaces options and rewrites the configuration; holds from the next start on.
    pub fn reconfigure(
        &mut self,
        change: impl FnOnce(ServerOptions) -> ServerOptions,
    ) -> Result<(), SandboxError> {
        self.spec.options = change(std::mem::take(&mut self.spec.options));
        self.write_config()
    }

    fn write_config(&self) -> Result<(), SandboxError> {
        let path = |path: &Path| path.display().to_string();
        let mut fixed = vec![
            ("basedir", path(&self.distribution.basedir)),
            ("lc-messages-dir", path(&self.distribution.share)),
            ("datadir", path(&self.datadir())),
            ("tmpdir", path(&self.dir.join("tmp"))),
            ("socket", path(&self.socket())),
            ("pid-file", path(&self.dir.join("mysqld.pid"))),
            ("log-error", path(&self.error_log())),
            ("bind-address", self.spec.bind_address.to_string()),
            ("port", self.spec.port.to_string()),
            ("server-id", self.spec.server_id.to_string()),
            ("report-host", self.spec.address.to_string()),
            ("report-port", self.spec.port.to_string()),
        ];
        if let Some(plugins) = &self.distribution.plugin_dir {
            fixed.push(("plugin-dir", path(plugins)));
        }
        if Uid::effective().is_root() {
            // mysqld refuses to run as root unless it is told to.
            fixed.push(("user", "root".to_owned()));
        }
        let text = self.spec.options.render(self.spec.kind, &fixed);
        let file = self.config_file();
        fs::write(&file, text).map_err(SandboxError::io("write", &file))
    }

    /// Its line.
    pub fn kind(&self) -> ServerKind {
        self.spec.kind
    }

    /// Its short name: `db1`.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its `server_id`.
    pub fn server_id(&self) -> u32 {
        self.spec.server_id
    }

    /// The address it listens on.
    pub fn bind_address(&self) -> Ipv4Addr {
        self.spec.bind_address
    }

    /// The address that others know.
    pub fn address(&self) -> Ipv4Addr {
        self.spec.address
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.spec.port
    }

    /// `ADDRESS:PORT`.
    pub fn host_port(&self) -> String {
        format!("{}:{}", self.spec.address, self.spec.port)
    }

    /// Its folder, which holds the data directory and all else.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its data directory.
    pub fn datadir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Its unix socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("s")
    }

    /// Its error log.
    pub fn error_log(&self) -> PathBuf {
        self.dir.join("error.log")
    }

    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.dir.join("my.cnf")
    }

    /// Its options.
    pub fn options(&self) -> &ServerOptions {
        &self.spec.options
    }

    /// Folder and base name of the binary log: `DATADIR/mysql-bin`.
    pub fn binlog_base(&self) -> PathBuf {
        self.log_base("log-bin", "mysql-bin")
    }

    /// Folder and base name of the relay log: `DATADIR/relay-bin`.
    pub fn relay_base(&self) -> PathBuf {
        self.log_base("relay-log", "relay-bin")
    }

    fn log_base(&self, option: &str, default: &str) -> PathBuf {
        let value = self.spec.options.get(self.spec.kind, option);
        self.datadir().join(
            value
                .as_deref()
                .filter(|value| !value.is_empty())
                .unwrap_or(default),
        )
    }

    /// Starts the server and waits until it answers on its socket.
    pub async fn start(&self) -> Result<(), SandboxError> {
        self.start_with(&[]).await
    }

    /// Starts with further command line options, `--skip-slave-start` for one.
    pub async fn start_with(&self, options: &[&str]) -> Result<(), SandboxError> {
        self.launch(options)?;
        let started = Instant::now();
        loop {
            let failure = match self.admin_with(Duration::from_secs(5)).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if let Some(error) = self.ended_early()? {
                return Err(error);
            }
            if started.elapsed() > START_LIMIT {
                let what = format!(
                    "no answer on its socket within {START_LIMIT:?}: {}",
                    chain(&failure)
                );
                return Err(match self.slot().as_ref() {
                    Some(process) => process.not_ready(what),
                    None => SandboxError::NotRunning {
                        name: self.spec.name.clone(),
                    },
                });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Starts the process and does not wait.
    pub fn launch(&self, options: &[&str]) -> Result<(), SandboxError> {
        let mut slot = self.slot();
        if let Some(process) = slot.as_ref()
            && process.ended()?.is_none()
        {
            return Ok(());
        }
        let (program, mut arguments) = self.distribution.program();
        arguments.push(format!("--defaults-file={}", self.config_file().display()).into());
        let kind = self.spec.kind;
        arguments.extend(options.iter().map(|option| kind.option(option).into()));
        *slot = Some(Process::start(&Launch {
            name: self.spec.name.clone(),
            program,
            arguments,
            environment: [
                self.distribution.environment(),
                self.spec.environment.clone(),
            ]
            .concat(),
            log: self.error_log(),
        })?);
        Ok(())
    }

    fn ended_early(&self) -> Result<Option<SandboxError>, SandboxError> {
        let slot = self.slot();
        let Some(process) = slot.as_ref() else {
            return Ok(None);
        };
        Ok(process
            .ended()?
            .map(|status| process.not_ready(Process::describe(status))))
    }

    fn slot(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the process runs (a frozen one does).
    pub fn is_running(&self) -> bool {
        matches!(self.slot().as_ref().map(Process::ended), Some(Ok(None)))
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.slot()
            .as_ref()
            .filter(|process| matches!(process.ended(), Ok(None)))
            .map(Process::pid)
    }

    /// SIGTERM, and waits for the end. Fine for a server that is down.
    pub async fn stop(&self) -> Result<(), SandboxError> {
        let Some(process) = self.slot().take() else {
            return Ok(());
        };
        if process.ended()?.is_none() {
            process.signal(Signal::SIGTERM)?;
            process.wait(STOP_LIMIT).await?;
        }
        Ok(())
    }

    /// SIGKILL, and waits for the end of the process.
    pub fn kill(&self) -> Result<(), SandboxError> {
        match self.slot().take() {
            Some(process) => process.kill(),
            None => Ok(()),
        }
    }

    /// SIGSTOP: the server keeps its connections and answers nothing.
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
                name: self.spec.name.clone(),
            }),
        }
    }

    /// How `root` reaches the server through its socket.
    pub fn admin_login(&self) -> Login {
        Login {
            server: self.spec.name.clone(),
            target: Target::Socket(self.socket()),
            user: "root".to_owned(),
            password: None,
            database: None,
            limit: STATEMENT_LIMIT,
        }
    }

    /// How an account reaches the server by TCP.
    pub fn login(&self, user: &str, password: &str) -> Login {
        Login {
            target: Target::Tcp(self.spec.address, self.spec.port),
            user: user.to_owned(),
            password: Some(password.to_owned()),
            ..self.admin_login()
        }
    }

    /// A session of `root` through the socket.
    pub async fn admin(&self) -> Result<Client, SandboxError> {
        Client::connect(&self.admin_login()).await
    }

    async fn admin_with(&self, limit: Duration) -> Result<Client, SandboxError> {
        Client::connect(&Login {
            limit,
            ..self.admin_login()
        })
        .await
    }

    /// Runs one statement as `root` in a session of its own.
    pub async fn exec(&self, statement: &str) -> Result<(), SandboxError> {
        self.admin().await?.exec(statement).await
    }

    /// Runs statements as `root`, in one session of their own.
    pub async fn exec_all(&self, statements: &[&str]) -> Result<(), SandboxError> {
        let mut session = self.admin().await?;
        for statement in statements {
            session.exec(statement).await?;
        }
        Ok(())
    }

    /// Rows of one statement, as `root`.
    pub async fn rows(&self, statement: &str) -> Result<Vec<Record>, SandboxError> {
        self.admin().await?.rows(statement).await
    }

    /// The first row of one statement, as `root`.
    pub async fn row(&self, statement: &str) -> Result<Option<Record>, SandboxError> {
        self.admin().await?.row(statement).await
    }

    /// The first value of one statement, as `root`.
    pub async fn value(&self, statement: &str) -> Result<String, SandboxError> {
        self.admin().await?.value(statement).await
    }
}
