//! `mha-manager run` beside a deployment, steered as operators do: by signals and by the commands that talk to it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::deployment::{CLUSTER, Deployment, ManagerFiles};
use super::error::SandboxError;
use super::launch::{Launch, Process};
use super::tool::{self, Finished};
use super::wait::{self, Look};

/// How long the manager may take until it watches a primary, or to do something by itself.
const LIMIT: Duration = Duration::from_secs(120);
/// How long a command that talks to it may take.
const ANSWER: Duration = Duration::from_secs(60);

/// A running manager. Killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    program: PathBuf,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts it with the deployment's configuration; returns at once.
    pub fn launch(deployment: &Deployment) -> Result<Self, SandboxError> {
        Self::launch_with(deployment, &[])
    }

    /// The same with these environment variables.
    pub fn launch_with(
        deployment: &Deployment,
        environment: &[(String, String)],
    ) -> Result<Self, SandboxError> {
        let files = ManagerFiles {
            name: "m1".to_owned(),
            config: deployment.manager_config().to_owned(),
            state: deployment.manager_state(),
        };
        Self::launch_as(deployment, &files, environment)
    }

    /// The same as another manager.
    pub fn launch_as(
        deployment: &Deployment,
        files: &ManagerFiles,
        environment: &[(String, String)],
    ) -> Result<Self, SandboxError> {
        let config = &files.config;
        let log = config.with_extension("log");
        let socket = files.state.join("manager.sock");
        let program = deployment.binaries().manager.clone();
        let process = Process::start(&Launch {
            name: "mha-manager run".to_owned(),
            program: program.clone(),
            arguments: vec!["run".into(), "--config".into(), config.into()],
            environment: environment.to_vec(),
            log: log.clone(),
        })?;
        Ok(Self {
            process,
            program,
            socket,
            log,
        })
    }

    /// Starts it and waits until it watches a primary and hears all agents.
    pub async fn start(deployment: &Deployment) -> Result<Self, SandboxError> {
        Self::start_with(deployment, &[]).await
    }

    /// The same with these environment variables.
    pub async fn start_with(
        deployment: &Deployment,
        environment: &[(String, String)],
    ) -> Result<Self, SandboxError> {
        let daemon = Self::launch_with(deployment, environment)?;
        daemon.until_watching().await?;
        Ok(daemon)
    }

    /// Waits until it watches a primary and hears all agents.
    pub async fn until_watching(&self) -> Result<(), SandboxError> {
        self.until("state 0 with all agents heard", |status| {
            let servers = status["servers"].as_array();
            status["state"] == 0
                && servers.is_some_and(|all| all.iter().all(|s| s["agent_heard"] == true))
        })
        .await
        .map(drop)
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Whether its process has ended.
    pub fn has_ended(&self) -> Result<bool, SandboxError> {
        Ok(self.process.ended()?.is_some())
    }

    /// Runs a command that talks to it: `["pause", "app1"]`.
    pub async fn tell(&self, words: &[&str]) -> Result<Finished, SandboxError> {
        let mut command = Command::new(&self.program);
        command.args(words).arg("--server").arg(&self.socket);
        tokio::task::spawn_blocking(move || tool::finish(command, None, ANSWER))
            .await
            .map_err(|error| SandboxError::Io {
                action: "run",
                path: "a blocking task".into(),
                source: std::io::Error::other(error),
            })?
    }

    /// Exit status and JSON of `status`, the cluster's part of it; null while it does not answer.
    pub async fn status(&self) -> Result<(Option<i32>, Value), SandboxError> {
        let finished = self.tell(&["status", CLUSTER, "--format", "json"]).await?;
        let all: Value = serde_json::from_str(&finished.stdout).unwrap_or(Value::Null);
        Ok((finished.code, all["clusters"][0].clone()))
    }

    /// Waits until `status` says so.
    pub async fn until(
        &self,
        what: &str,
        test: impl Fn(&Value) -> bool,
    ) -> Result<Value, SandboxError> {
        let waited = wait::until(what, LIMIT, || async {
            if let Some(status) = self.process.ended()? {
                return Err(self.process.not_ready(Process::describe(status)));
            }
            let (_, status) = self.status().await?;
            Ok(if test(&status) {
                Look::Done(status)
            } else {
                Look::NotYet(status.to_string())
            })
        })
        .await;
        // What it logged explains why not.
        waited.map_err(|error| match error {
            SandboxError::Wait { what, waited, seen } => SandboxError::Wait {
                what,
                waited,
                seen: format!("{seen}\n{}", tool::tail(&self.log_text())),
            },
            other => other,
        })
    }

    /// Everything it logged.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGTERM, and waits for its end; the exit code.
    pub async fn terminate(self) -> Result<Option<i32>, SandboxError> {
        self.process.signal(nix::sys::signal::Signal::SIGTERM)?;
        Ok(self.process.wait(LIMIT).await?.code())
    }

    /// SIGSTOP.
    pub fn freeze(&self) -> Result<(), SandboxError> {
        self.process.freeze()
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<(), SandboxError> {
        self.process.thaw()
    }

    /// SIGKILL.
    pub fn kill(self) -> Result<(), SandboxError> {
        self.process.kill()
    }
}
