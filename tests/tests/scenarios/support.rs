//! What several stories need.

use tests::sandbox::slot::Slot;
use tests::sandbox::{Cluster, ClusterSpec, SandboxError};

/// Result of a scenario: an error of the harness is a failure of the test.
pub(crate) type Outcome = Result<(), SandboxError>;

/// A cluster that counts towards the number of clusters that may run at a time.
pub(crate) struct Running {
    // Dropped in this order: the servers end before another test may start.
    pub(crate) cluster: Cluster,
    _slot: Slot,
}

impl std::ops::Deref for Running {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

/// Starts a cluster when a slot is free.
pub(crate) async fn start(spec: ClusterSpec) -> Result<Running, SandboxError> {
    let slot = Slot::take().await?;
    let cluster = Cluster::start(spec).await?;
    Ok(Running {
        cluster,
        _slot: slot,
    })
}
