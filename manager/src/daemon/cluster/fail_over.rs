//! From a decision to a failover and back to watching. A failover that was begun runs to its end in a task of its own; one that
//! is refused, or does not replace the primary, is thought about again after a pause.

use std::time::Duration;

use super::{AGAIN, Phase, Task};
use crate::config::ServerConfig;
use crate::daemon::act::{self, Outcome};
use crate::daemon::state::State;
use crate::guard::{self, Blocked};
use crate::monitor::Decision;
use crate::observe::chain;
use crate::verdict::{AgentEvidence, Verdict};

/// Shortest pause before a decision that came too early is thought about again.
const LEAST_WAIT: Duration = Duration::from_millis(100);

impl Task {
    /// A manager that died in the middle of a failover: this one goes on with it, after it has read the facts again.
    pub(super) fn finish_what_was_interrupted(&mut self) {
        let Some(last) = self.beside.unfinished(&self.past, &self.standing) else {
            return;
        };
        let Some(dead) = self.config.find(&last.dead).cloned() else {
            return;
        };
        let sentence = format!(
            "the failover {} of {} was interrupted when its manager died: going on with it",
            last.operation, dead.name
        );
        self.act(dead, None, &sentence, Verdict::Unknown);
    }

    pub(super) fn act(
        &mut self,
        dead: ServerConfig,
        decision: Option<&Decision>,
        sentence: &str,
        verdict: Verdict,
    ) {
        let lease = self.leases.let_go(decision);
        let request = act::request(&dead.name, decision, lease);
        let running = tokio::spawn(act::fail_over(
            self.config.clone(),
            request,
            self.hook.clone(),
        ));
        self.phase = Phase::Acting { dead, running };
        self.say(State::FailoverRunning, verdict, sentence);
    }

    pub(super) fn decide(&mut self, decision: &Decision) {
        let Phase::Watching(watching) = &self.phase else {
            return;
        };
        let verdict = decision.reason.verdict();
        let primary = watching.primary.clone();
        // Its agent would hold mysqld down; without it only a lease ends the writing.
        if matches!(decision.evidence.agent, AgentEvidence::NoAnswer)
            && let Some((wait, why)) = self.leases.not_yet()
        {
            let sentence = format!(
                "{}; no failover before {} ms have passed: {why}",
                decision.sentence,
                wait.as_millis()
            );
            self.say(State::PingFailing, verdict, &sentence);
            return self.think_again_in(wait.max(LEAST_WAIT));
        }
        let permitted = self
            .read_the_past()
            .map_err(|why| Blocked::Unreadable { why })
            .and_then(|()| {
                guard::of_all(&self.config.state_dir)
                    .map_err(|e| Blocked::Unreadable { why: chain(&e) })
            })
            .and_then(|fleet| self.permit(&primary.name, &fleet));
        match permitted {
            Ok(()) => {
                let sentence = format!(
                    "{}; failing over, {} ms after the last sign of life",
                    decision.sentence,
                    decision.silent_for.as_millis()
                );
                self.act(primary, Some(decision), &sentence, verdict);
            }
            Err(blocked) => {
                let sentence = format!("{}; no failover: {blocked}", decision.sentence);
                // Said once, not every few seconds for as long as it lasts.
                if self.status.borrow().sentence == sentence {
                    self.show(State::FailoverError, None);
                } else {
                    self.say(State::FailoverError, verdict, &sentence);
                }
                self.think_again_later();
            }
        }
    }

    fn think_again_later(&mut self) {
        self.think_again_in(AGAIN);
    }

    fn think_again_in(&mut self, wait: Duration) {
        let later = self.clock.now() + wait;
        if let Phase::Watching(watching) = &mut self.phase {
            watching.again = Some(later);
            watching.resting = true;
            watching.monitor.rest();
        }
    }

    /// A failover ended.
    pub(super) fn acted(&mut self, outcome: Option<Outcome>) {
        let Phase::Acting { dead, .. } = &self.phase else {
            return;
        };
        let dead = dead.clone();
        if let Err(why) = self.read_the_past() {
            tracing::error!(cluster = %self.config.cluster, %why, "the journals cannot be read");
        }
        let report = match outcome {
            Some(Outcome::Ended(report)) => report,
            Some(Outcome::Vetoed(why)) => {
                let sentence = format!("no failover of {}: {why}", dead.name);
                return self.not_replaced(dead, State::Retrying, &sentence);
            }
            None => {
                let sentence = format!("the failover of {} ended without a report", dead.name);
                return self.not_replaced(dead, State::FailoverError, &sentence);
            }
        };
        let new = report
            .new_primary
            .as_deref()
            .filter(|_| act::succeeded(&report))
            .and_then(|name| self.config.find(name))
            .cloned();
        match new {
            Some(new) => {
                let sentence = format!(
                    "{} is the primary instead of {}, which is deposed (operation {}, exit code {})",
                    new.name, dead.name, report.operation, report.exit_code
                );
                self.watch(new);
                self.say(State::PingOk, Verdict::Alive, &sentence);
            }
            None => {
                let sentence = format!(
                    "the failover of {} ended with exit code {}: {}",
                    dead.name, report.exit_code, report.summary
                );
                self.not_replaced(dead, State::FailoverError, &sentence);
            }
        }
    }

    /// The primary is still the one that was dead: watching goes on, with a pause before it is thought about again.
    pub(super) fn not_replaced(&mut self, dead: ServerConfig, state: State, sentence: &str) {
        self.watch(dead);
        self.say(state, Verdict::Unknown, sentence);
        self.think_again_later();
    }
}
