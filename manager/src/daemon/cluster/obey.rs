//! What stands in the way of a failover: the earlier operations of the cluster, and what operators say. What was said is
//! durable before it is answered.

use super::{Phase, Task};
use crate::daemon::Command;
use crate::execute::unix_ms;
use crate::guard::{self, Blocked, Origin, Past, Pause, Question, Standing};
use crate::observe::chain;

impl Task {
    pub(super) fn read_the_past(&mut self) -> Result<(), String> {
        let config = &self.config;
        self.past = guard::of_cluster(&config.state_dir, &config.cluster).map_err(|e| chain(&e))?;
        self.standing =
            Standing::load(&config.state_dir, &config.cluster).map_err(|e| chain(&e))?;
        self.returning.learn(config);
        Ok(())
    }

    /// Why a failover of the watched primary would be refused, from what was last read.
    pub(super) fn blocked(&self) -> Option<Blocked> {
        let Phase::Watching(watching) = &self.phase else {
            return None;
        };
        self.permit(&watching.primary.name, &self.past).err()
    }

    pub(super) fn permit(&self, dead: &str, fleet: &[Past]) -> Result<(), Blocked> {
        guard::permit(&Question {
            dead,
            origin: Origin::Daemon,
            ignore_last_failover: false,
            cluster: &self.past,
            fleet,
            standing: &self.standing,
            policy: &self.config.failover,
            now_unix_ms: unix_ms(),
        })
    }

    pub(super) fn obey(&mut self, command: Command) {
        // Whoever asked may be gone; what was done stays done.
        match command {
            Command::Pause { by, done } => {
                self.standing.paused = Some(Pause {
                    by: by.clone(),
                    unix_ms: unix_ms(),
                });
                let _ = done.send(self.keep(&format!("paused by {by}")));
            }
            Command::Resume { done } => {
                let was_paused = self.standing.paused.take().is_some();
                let _ = done.send(self.keep("no longer paused").map(|()| was_paused));
            }
            Command::Acknowledge { done } => {
                let read = self.read_the_past();
                let new: Vec<String> = self
                    .past
                    .iter()
                    .filter(|past| past.changed_something())
                    .map(|past| past.operation.clone())
                    .filter(|operation| !self.standing.acknowledged.contains(operation))
                    .collect();
                self.standing.acknowledged.extend(new.iter().cloned());
                let kept = read.and_then(|()| self.keep("earlier operations are acknowledged"));
                let _ = done.send(kept.map(|()| new));
            }
        }
    }

    /// Makes what was said durable, and thinks at once about what it changes.
    pub(super) fn keep(&mut self, sentence: &str) -> Result<(), String> {
        let kept = self
            .standing
            .save(&self.config.state_dir, &self.config.cluster)
            .map_err(|e| chain(&e));
        match &kept {
            Ok(()) => tracing::info!(cluster = %self.config.cluster, "{sentence}"),
            Err(why) => {
                tracing::error!(cluster = %self.config.cluster, %why, "not kept: {sentence}")
            }
        }
        let now = self.clock.now();
        if let Phase::Watching(watching) = &mut self.phase {
            if watching.again.is_some() {
                watching.again = Some(now);
            }
            watching.next_reading = now;
        }
        let state = self.status.borrow().state;
        self.show(state, None);
        kept
    }
}
