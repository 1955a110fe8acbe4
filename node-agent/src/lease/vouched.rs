//! When this agent last vouched for a primary: what a manager that claims the cluster may count a lease's end from.
//!
//! Invariant: a question that was answered with yes is remembered before the stored epoch is looked at. So whoever has made a
//! newer epoch visible and reads the moment afterwards knows of every yes that can still come.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::watch::clock;

/// Of all clusters of this agent.
#[derive(Debug)]
pub struct Vouched {
    /// What an earlier run of the agent answered is not known: as if it had vouched until now.
    began: Duration,
    last: Mutex<BTreeMap<String, Duration>>,
}

impl Default for Vouched {
    fn default() -> Self {
        Self {
            began: clock::boottime(),
            last: Mutex::default(),
        }
    }
}

impl Vouched {
    /// This agent is about to look whether it vouches.
    pub fn asked(&self, cluster: &str) {
        let now = clock::boottime();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.get_mut(cluster) {
            Some(at) => *at = now.max(*at),
            None => {
                last.insert(cluster.to_owned(), now);
            }
        }
    }

    /// How long ago it last can have vouched, at most.
    pub fn ago(&self, cluster: &str) -> Duration {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let at = last.get(cluster).copied().unwrap_or_default();
        clock::boottime().saturating_sub(at.max(self.began))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_began_just_now_may_have_vouched_until_then() {
        let vouched = Vouched {
            began: Duration::ZERO,
            last: Mutex::default(),
        };
        let now = clock::boottime();
        assert!(vouched.ago("app1") >= now);
        vouched.asked("app1");
        assert!(vouched.ago("app1") < now + Duration::from_secs(60) - now);
        assert!(vouched.ago("app2") >= now, "clusters are told apart");
        let fresh = Vouched::default();
        assert!(fresh.ago("app1") < Duration::from_secs(60));
    }
}
