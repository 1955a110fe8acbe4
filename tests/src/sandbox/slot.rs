//! At most this many clusters at a time on one machine, over all test processes: servers that starve each other fail
//! tests for no reason.

use std::time::Duration;

use super::cache::{self, Lock};
use super::error::SandboxError;

/// How many clusters may run at a time.
pub const CLUSTERS: u8 = 2;

/// The right to run a cluster; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    _lock: Lock,
}

impl Slot {
    /// Waits for a free slot, without limit: whoever holds one is itself limited.
    pub async fn take() -> Result<Self, SandboxError> {
        loop {
            for number in 0..CLUSTERS {
                if let Some(lock) = cache::try_lock(&format!("cluster-{number}"))? {
                    return Ok(Self { _lock: lock });
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
