//! One agent as a process: started, frozen, killed; it ends with the value.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::net::TcpStream;

use super::files;
use super::server_name;
use crate::sandbox::error::SandboxError;
use crate::sandbox::launch::{Launch, Process};
use crate::sandbox::server::Server;
use crate::sandbox::wait::{self, Look};

/// How long an agent may take until it listens.
const AGENT_START: Duration = Duration::from_secs(90);

/// One agent of one server's host, or of a binlog server's.
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

impl Agent {
    /// Writes its files and notes how it is run: `program` listening at `listen`, with this environment.
    pub(super) fn configure(
        dir: &Path,
        server: &Server,
        listen: SocketAddr,
        program: &Path,
        environment: Vec<(String, String)>,
    ) -> Result<Self, SandboxError> {
        let name = server.name().to_owned();
        let state_dir = dir.join(format!("{name}-state"));
        let config = files::of_agent(dir, server, listen, &state_dir)?;
        let log = dir.join(format!("{name}.log"));
        Ok(Self {
            name,
            server: server_name(server),
            address: SocketAddr::from((server.address(), listen.port())),
            listen,
            config,
            state_dir,
            log,
            program: program.to_owned(),
            environment,
            process: Mutex::new(None),
        })
    }

    /// The same beside a directory of copies, without a server.
    pub(super) fn of_binlog_server(
        dir: &Path,
        name: &str,
        copies: &Path,
        listen: SocketAddr,
        program: &Path,
    ) -> Result<Self, SandboxError> {
        let state_dir = dir.join(format!("{name}-state"));
        let config = files::of_binlog_server(dir, name, copies, listen, &state_dir)?;
        Ok(Self {
            name: name.to_owned(),
            server: name.to_owned(),
            address: listen,
            listen,
            config,
            state_dir,
            log: dir.join(format!("{name}.log")),
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
    pub(super) async fn wait_acquainted(&self) -> Result<(), SandboxError> {
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
