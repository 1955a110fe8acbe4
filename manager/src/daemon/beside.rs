//! What others do beside this daemon: commands with the same state folder, and other managers.
//!
//! Nothing here decides who the primary is: that is asked of the servers. It is only seen that it is to be asked, from what
//! the agents' streams tell (who was named the primary, who holds the cluster) and from the journals. Guarantees: an
//! interrupted operation is finished once at most; a claim is given back only if it is this manager's and the journal of its
//! operation is here and nobody writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proto::lease::Assigned;

use super::watcher::Owned;
use crate::config::ClusterConfig;
use crate::execute;
use crate::guard::{Past, Standing};
use crate::lease::{self, Told};
use crate::monitor::At;
use crate::observe::Agents;

/// Pause after a look; it doubles for as long as there is something to look at.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest.
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// When there was a look last, and what is being done.
#[derive(Debug)]
pub(super) struct Beside {
    next: At,
    pause: Duration,
    finished: BTreeSet<String>,
    giving_back: Option<Owned>,
}

impl Default for Beside {
    fn default() -> Self {
        Self {
            next: At::ZERO,
            pause: FIRST_PAUSE,
            finished: BTreeSet::new(),
            giving_back: None,
        }
    }
}

impl Beside {
    /// Whether to look at what the agents tell of others.
    pub(super) fn is_due(&mut self, primary: &str, told: &BTreeMap<String, Told>, now: At) -> bool {
        if named(told).is_none_or(|named| named.primary == primary) && !is_held(told) {
            self.pause = FIRST_PAUSE;
            return false;
        }
        if now < self.next {
            return false;
        }
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(LAST_PAUSE);
        true
    }

    /// The operation of this manager that was interrupted and is to be finished.
    pub(super) fn unfinished<'p>(
        &mut self,
        past: &'p [Past],
        standing: &Standing,
    ) -> Option<&'p Past> {
        if standing.paused.is_some() {
            return None;
        }
        let last = interrupted(past, standing)?;
        self.finished.insert(last.operation.clone()).then_some(last)
    }

    /// Gives back what killed commands hold, beside everything else. What an interrupted failover holds waits for it.
    pub(super) fn give_back(
        &mut self,
        config: &Arc<ClusterConfig>,
        past: &[Past],
        standing: &Standing,
    ) {
        if interrupted(past, standing).is_some() {
            return;
        }
        let config = config.clone();
        self.giving_back = Some(Owned::spawn(async move {
            let agents = Agents::connect(&config).await;
            let mut claims = agents.claims(&config);
            // What names a primary only may be this daemon's own, and stands in nobody's way.
            claims.retain(|claim| {
                let names = |operation: &String| operation.starts_with(lease::OPERATION);
                claim
                    .holder
                    .as_ref()
                    .is_some_and(|(operation, _)| !names(operation))
            });
            let limit = config.failover.call_timeout;
            let held = claims.len();
            let kept = execute::release_stale(&config, &agents, &claims, limit).await;
            if kept.len() < held {
                tracing::info!(
                    cluster = %config.cluster,
                    "{} claims that a killed command had left are given back",
                    held - kept.len()
                );
            }
        }));
    }
}

/// The last operation that changed something, if its manager died in the middle and nobody has acknowledged that. One that
/// was refused after it, or undone, has not finished it.
fn interrupted<'p>(past: &'p [Past], standing: &Standing) -> Option<&'p Past> {
    let last = past.iter().rfind(|past| past.changed_something())?;
    (last.was_interrupted() && !standing.acknowledged.contains(&last.operation)).then_some(last)
}

/// Who was named the primary last, as far as agents are heard.
pub(super) fn named(told: &BTreeMap<String, Told>) -> Option<&Assigned> {
    told.values()
        .filter_map(|told| told.assignment.as_ref())
        .max_by_key(|assigned| assigned.epoch)
}

/// Whether an operation holds the cluster anywhere.
fn is_held(told: &BTreeMap<String, Told>) -> bool {
    told.values()
        .filter_map(|told| told.held_by.as_deref())
        .any(|operation| !operation.starts_with(lease::OPERATION))
}

/// The server that took the place of `primary`, by the journals.
pub(super) fn replacement<'p>(past: &'p [Past], primary: &str) -> Option<&'p str> {
    let last = past.iter().rfind(|past| past.changed_something())?;
    last.opened.as_deref().filter(|_| last.dead == primary)
}
