//! A cluster, the program beside it, and a client: what every scenario starts from.

use std::path::PathBuf;
use std::time::Duration;

use crate::sandbox::deployment::{Deployment, DeploymentSpec};
use crate::sandbox::slot::Slot;
use crate::sandbox::wait::{self, Look};
use crate::sandbox::{Cluster, ClusterSpec, SandboxError};

use super::aftermath::{self, Expected};
use super::before::Before;
use super::ended::Ended;
use super::failure::Failure;
use super::files;
use super::lag::{self, Plan, Played};
use super::ledger::Ledger;
use super::renumber;

/// What the faults of an agent's local source begin with in its configuration, of which they are the end.
const FAULTS: &str = "testing:\n  replay_faults: ";

/// Servers with agents, and a client that has written nothing yet. Ends with the value.
#[derive(Debug)]
pub struct Scene {
    /// The client.
    pub ledger: Ledger,
    mha: Option<Deployment>,
    /// The servers.
    pub cluster: Cluster,
    _slot: Slot,
}

impl Scene {
    /// Waits for a place on this machine, starts the servers and their agents, and has the client's table replicated.
    pub async fn open(spec: ClusterSpec) -> Result<Self, Failure> {
        Self::open_with(spec, &DeploymentSpec::default()).await
    }

    /// The same with these settings of the manager.
    pub async fn open_with(spec: ClusterSpec, mha: &DeploymentSpec) -> Result<Self, Failure> {
        let mut scene = Self::without_agents(spec).await?;
        scene.start_agents(mha).await?;
        Ok(scene)
    }

    /// The same without the agents.
    pub async fn without_agents(spec: ClusterSpec) -> Result<Self, Failure> {
        let slot = Slot::take().await?;
        let cluster = Cluster::start(spec.database("app")).await?;
        settings_of_their_own(&cluster).await?;
        let ledger = Ledger::open(cluster.primary()).await?;
        cluster.wait_caught_up().await?;
        Ok(Self {
            ledger,
            mha: None,
            cluster,
            _slot: slot,
        })
    }

    /// Starts the agents, with these settings of the manager.
    pub async fn start_agents(&mut self, spec: &DeploymentSpec) -> Result<(), Failure> {
        self.mha = Some(Deployment::start(&self.cluster, spec).await?);
        Ok(())
    }

    /// Agents and the manager's configuration.
    pub fn mha(&self) -> Result<&Deployment, Failure> {
        self.mha.as_ref().ok_or_else(|| Failure::Unexpected {
            what: "the agents".to_owned(),
            expected: "started".to_owned(),
            found: "not started".to_owned(),
        })
    }

    /// Waits until the agent of this replica has the relay logs that are there in its keeping.
    pub async fn relay_logs_are_kept(&self, number: usize) -> Result<(), Failure> {
        let server = self.cluster.server(number);
        let base = server.relay_base();
        let folder = base.parent().unwrap_or(&base).to_owned();
        let what = format!("the agent of {} to keep relay logs", server.name());
        wait::until(&what, Duration::from_secs(60), || async {
            let present = files::numbered(&base)?;
            let kept = files::starting_with(&folder, "mha-kept-")?;
            let missing = present
                .iter()
                .find(|name| !kept.iter().any(|kept| kept.ends_with(name.as_str())));
            Ok(match missing {
                None => Look::Done(()),
                Some(name) => Look::NotYet(format!("{name} is not among {kept:?}")),
            })
        })
        .await?;
        Ok(())
    }

    /// The host of the primary falls silent, its agent with it: what only its disk holds is out of reach.
    pub fn host_of_the_primary_is_gone(&self) -> Result<(), Failure> {
        self.mha()?.agent(0).kill()?;
        Ok(())
    }

    /// Has the local source of this replica's agent strike with these faults, by the key that the shipped agent has for
    /// it, and restarts the agent.
    pub async fn inject(&self, number: usize, faults: &[String]) -> Result<(), Failure> {
        let agent = self.mha()?.agent(number);
        let more = format!("{FAULTS}[{}]\n", faults.join(", "));
        files::append(&self.agent_config(number)?, &more)?;
        agent.kill()?;
        agent.start().await?;
        Ok(())
    }

    /// Starts the agent of this replica, which was killed, without the faults that it had been given.
    pub async fn start_agent_without_faults(&self, number: usize) -> Result<(), Failure> {
        let config = self.agent_config(number)?;
        let text = String::from_utf8_lossy(&files::read(&config)?).into_owned();
        let own = text.split(FAULTS).next().unwrap_or_default();
        files::write(&config, own.as_bytes())?;
        self.mha()?.agent(number).start().await?;
        Ok(())
    }

    fn agent_config(&self, number: usize) -> Result<PathBuf, Failure> {
        let agent = self.mha()?.agent(number);
        let name = format!("{}.yaml", agent.name());
        Ok(self.cluster.dir().join("mha").join(name))
    }

    /// Has the primary go on with this file number; see [`renumber::renumber`].
    pub async fn renumber(&mut self, number: u32) -> Result<(), Failure> {
        renumber::renumber(&self.cluster, number).await?;
        self.ledger.reconnect(self.cluster.primary()).await?;
        Ok(())
    }

    /// Plays a plan; see [`lag::play`].
    pub async fn play(&mut self, plan: &Plan) -> Result<Played, Failure> {
        lag::play(&self.cluster, &mut self.ledger, plan).await
    }

    /// Kills the primary, fails over, and checks what must hold. Returns the run and the number of the new primary.
    pub async fn survives(&mut self, expected: &Expected) -> Result<(Ended, usize), Failure> {
        let before = Before::read(&self.cluster).await?;
        self.cluster.crash(0)?;
        let ended = self.fail_over(&[]).await?;
        let winner = self.check(&before, &ended, expected).await?;
        Ok((ended, winner))
    }

    /// Kills the primary and fails over: nothing is lost and nothing needs care.
    pub async fn loses_nothing(&mut self) -> Result<(), Failure> {
        self.survives(&Expected::all()).await?;
        Ok(())
    }

    /// The same, while the locks that hold appliers up are let go one by one as their replicas are frozen.
    pub async fn survives_while(
        &mut self,
        played: Played,
        expected: &Expected,
    ) -> Result<(Ended, usize), Failure> {
        let before = Before::read(&self.cluster).await?;
        self.cluster.crash(0)?;
        let (ended, released) = tokio::join!(
            self.fail_over(&[]),
            played.release_when_frozen(&self.cluster)
        );
        let ended = ended?;
        released?;
        let winner = self.check(&before, &ended, expected).await?;
        Ok((ended, winner))
    }

    /// Runs the manager once.
    pub async fn fail_over(&self, arguments: &[&str]) -> Result<Ended, Failure> {
        let run = self
            .mha()?
            .failover(self.cluster.primary(), arguments)
            .await?;
        match run.report {
            Some(report) => Ok(Ended {
                finished: run.finished,
                report,
            }),
            None => Err(Failure::NoReport {
                told: format!("{:?}", run.finished),
            }),
        }
    }

    /// What must hold after every failover; see [`aftermath::check`].
    pub async fn check(
        &self,
        before: &Before,
        ended: &Ended,
        expected: &Expected,
    ) -> Result<usize, Failure> {
        aftermath::check(&self.cluster, &self.ledger, before, ended, expected).await
    }
}

/// Settings of the channels that no program would choose by itself, so that it shows if they are not kept.
async fn settings_of_their_own(cluster: &Cluster) -> Result<(), SandboxError> {
    for server in cluster.replicas() {
        let words = |statement| server.kind().statement(statement);
        server
            .exec_all(&[
                &words("STOP SLAVE"),
                &words("CHANGE MASTER TO MASTER_CONNECT_RETRY=7, MASTER_HEARTBEAT_PERIOD=11"),
                &words("START SLAVE"),
            ])
            .await?;
    }
    cluster.wait_caught_up().await
}
