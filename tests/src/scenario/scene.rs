//! A cluster, the program beside it, and a client: what every scenario starts from.

use crate::sandbox::slot::Slot;
use crate::sandbox::{Cluster, ClusterSpec};

use super::failure::Failure;
use super::lag::{self, Plan, Played};
use super::ledger::Ledger;
use super::renumber;

/// Servers with a client that has written nothing yet. Ends with the value.
#[derive(Debug)]
pub struct Scene {
    /// The client.
    pub ledger: Ledger,
    /// The servers.
    pub cluster: Cluster,
    _slot: Slot,
}

impl Scene {
    /// Waits for a place on this machine, starts the servers, and has the client's table replicated.
    pub async fn open(spec: ClusterSpec) -> Result<Self, Failure> {
        let slot = Slot::take().await?;
        let cluster = Cluster::start(spec.database("app")).await?;
        let ledger = Ledger::open(cluster.primary()).await?;
        cluster.wait_caught_up().await?;
        Ok(Self {
            ledger,
            cluster,
            _slot: slot,
        })
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
}
