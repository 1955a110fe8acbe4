//! Runs of `mha-manager failover` against a deployment, and what they left.

use std::fs;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use manager::report::Report;

use super::{Deployment, blocking};
use crate::sandbox::error::SandboxError;
use crate::sandbox::launch::{Launch, Process};
use crate::sandbox::server::Server;
use crate::sandbox::tool::{self, Finished};

/// How long a run of the manager may take: longer than any of its own limits in the scenarios.
const MANAGER: Duration = Duration::from_secs(240);

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
