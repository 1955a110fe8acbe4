//! At most this many clusters at a time on one machine, over all test processes: servers that starve each other fail
//! tests for no reason.

use std::time::Duration;

use super::cache::{self, Lock};
use super::error::SandboxError;

/// How many clusters may run at a time.
pub const CLUSTERS: usize = 2;

/// The right to run a cluster, or to run alone; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    _locks: Vec<Lock>,
}

impl Slot {
    /// Waits until one more cluster may run, without limit: whoever holds a slot is itself limited.
    pub async fn take() -> Result<Self, SandboxError> {
        Self::gather(1).await
    }

    /// Waits until no other cluster runs, for measurements.
    pub async fn alone() -> Result<Self, SandboxError> {
        Self::gather(CLUSTERS).await
    }

    async fn gather(wanted: usize) -> Result<Self, SandboxError> {
        // Only one waits for slots at a time; else who wants all of them would wait for ever.
        let _turn = wait_for("cluster-turn").await?;
        let mut locks = Vec::new();
        loop {
            for number in 0..CLUSTERS {
                if locks.len() < wanted
                    && let Some(lock) = cache::try_lock(&format!("cluster-{number}"))?
                {
                    locks.push(lock);
                }
            }
            if locks.len() == wanted {
                return Ok(Self { _locks: locks });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn wait_for(name: &str) -> Result<Lock, SandboxError> {
    loop {
        if let Some(lock) = cache::try_lock(name)? {
            return Ok(lock);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
