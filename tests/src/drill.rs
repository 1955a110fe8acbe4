//! A failover drill: three servers and agents, replicas at different points, kill -9, one command, and the clock.
//!
//! The command starts at the moment of the kill, as issue 2 measures it. Both the demo and the speed test run this.

use std::time::{Duration, Instant};

use manager::report::Report;

use crate::sandbox::accounts::APPLICATION;
use crate::sandbox::deployment::{Deployment, DeploymentSpec};
use crate::sandbox::first_write::{self, Watch};
use crate::sandbox::load::{self, Load, LoadSpec, Written};
use crate::sandbox::replica::{self, LogPlace};
use crate::sandbox::{Cluster, ClusterSpec, SandboxError, Server, ServerKind, compare};

/// How long the wait for the first write may be.
const FIRST_WRITE: Duration = Duration::from_secs(60);

/// Servers, agents and rows; replicas behind; the primary alive.
#[derive(Debug)]
pub struct Drill {
    /// Stops before the cluster does.
    pub deployment: Deployment,
    /// The servers.
    pub cluster: Cluster,
    /// What the client wrote.
    pub written: Written,
    /// Where the candidate `db2`, the other replica `db3` and the primary stand.
    pub places: [LogPlace; 3],
}

/// What a drill measured. Durations count from the kill.
#[derive(Debug, Clone)]
pub struct Measured {
    /// SIGKILL to the end of the process.
    pub died: Duration,
    /// The command was started.
    pub started: Duration,
    /// A survivor took a write.
    pub first_write: Duration,
    /// Which one.
    pub new_primary: String,
    /// The other survivor had that write.
    pub replicated: Duration,
    /// The command ended.
    pub ended: Duration,
    /// Its exit code.
    pub exit_code: Option<i32>,
    /// All that it printed on standard output: the report.
    pub text: String,
    /// What it printed while it worked.
    pub progress: String,
    /// The report.
    pub report: Option<Report>,
}

/// What the survivors hold afterwards.
#[derive(Debug, Clone)]
pub struct Aftermath {
    /// Tables compared; all have equal checksums on all survivors.
    pub tables: usize,
    /// Rows that the client saw acknowledged.
    pub acknowledged: usize,
}

impl Drill {
    /// Starts everything. `db2`, the preferred candidate, lacks the last two stretches of rows, `db3` the last one.
    pub async fn prepare(kind: ServerKind) -> Result<Self, SandboxError> {
        let cluster = Cluster::start(ClusterSpec::new(kind)).await?;
        first_write::prepare(cluster.primary()).await?;
        load::prepare(cluster.primary()).await?;
        cluster.wait_caught_up().await?;
        let spec = DeploymentSpec::default().candidate(1, "preferred");
        let deployment = Deployment::start(&cluster, &spec).await?;

        let mut written = Written::default();
        let login = cluster
            .primary()
            .login(APPLICATION.user, APPLICATION.password);
        let mut places = Vec::new();
        for (stretch, held) in [(0, Some(1)), (1, Some(2)), (2, None)] {
            let some = LoadSpec {
                sessions: 1,
                first_session: stretch,
                rows: 50,
                ..LoadSpec::default()
            };
            written.add(Load::start(&login, &some).finish_all().await);
            if let Some(number) = held {
                let place = cluster.hold_here(number).await?;
                replica::wait_executed(cluster.server(number), &place).await?;
            }
            places.push(replica::binlog_end(cluster.primary()).await?);
        }
        let places = places.try_into().map_err(|_| SandboxError::Wait {
            what: "three places".to_owned(),
            waited: Duration::ZERO,
            seen: "another number".to_owned(),
        })?;
        Ok(Self {
            deployment,
            cluster,
            written,
            places,
        })
    }

    /// The survivors.
    pub fn survivors(&self) -> [&Server; 2] {
        [self.cluster.server(1), self.cluster.server(2)]
    }

    /// Kills the primary, starts the command at once, and measures until it has ended.
    pub async fn run(&self) -> Result<Measured, SandboxError> {
        let watch = Watch::start(&self.survivors()).await?;
        let killed = Instant::now();
        self.cluster.crash(0)?;
        let died = killed.elapsed();
        let started = killed.elapsed();
        let (run, first, replicated) = tokio::join!(
            self.deployment.failover(self.cluster.primary(), &[]),
            watch.wait(FIRST_WRITE),
            self.replicated(killed),
        );
        let ended = killed.elapsed();
        let run = run?;
        let first = match first {
            Ok(first) => first,
            // What the command said explains why nobody took a write.
            Err(_) => {
                return Err(SandboxError::Tool {
                    command: "mha-manager failover".to_owned(),
                    status: format!(
                        "exit code {:?}, and no survivor takes writes",
                        run.finished.code
                    ),
                    output: run.text(),
                });
            }
        };
        Ok(Measured {
            died,
            started,
            first_write: first.at.duration_since(killed),
            new_primary: first.server,
            replicated: replicated?,
            ended,
            exit_code: run.finished.code,
            text: run.finished.stdout.clone(),
            progress: run.finished.stderr.clone(),
            report: run.report,
        })
    }

    /// When every survivor had the first new row.
    async fn replicated(&self, killed: Instant) -> Result<Duration, SandboxError> {
        for server in self.survivors() {
            let mut session = server.admin().await?;
            let started = Instant::now();
            while session
                .rows(&format!("SELECT id FROM {}", first_write::TABLE))
                .await?
                .is_empty()
            {
                if started.elapsed() > FIRST_WRITE {
                    return Err(SandboxError::Wait {
                        what: "the first write on every survivor".to_owned(),
                        waited: started.elapsed(),
                        seen: format!("nothing on {}", server.name()),
                    });
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        Ok(killed.elapsed())
    }

    /// Compares the survivors with each other and with what the client saw.
    pub async fn aftermath(&self) -> Result<Aftermath, SandboxError> {
        let survivors = self.survivors();
        let differs = |seen: String| SandboxError::Wait {
            what: "equal survivors with every acknowledged row".to_owned(),
            waited: Duration::ZERO,
            seen,
        };
        let tables = compare::all_equal(&survivors).await?.map_err(differs)?;
        for server in survivors {
            let rows = load::rows(server).await?;
            let lost = self.written.acknowledged.difference(&rows).count();
            if lost > 0 {
                return Err(differs(format!(
                    "{} lacks {lost} acknowledged rows",
                    server.name()
                )));
            }
        }
        Ok(Aftermath {
            tables: tables.len(),
            acknowledged: self.written.acknowledged.len(),
        })
    }
}
