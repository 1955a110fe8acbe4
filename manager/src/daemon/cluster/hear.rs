//! What is heard goes to those who know what to make of it: leases, status, and the monitor, whose actions are carried out.

use super::{Phase, Task};
use crate::daemon::state::State;
use crate::daemon::watcher::{self, Seen};
use crate::monitor::{Action, At, Input};
use crate::verdict::Verdict;

impl Task {
    pub(super) fn hear(&mut self, seen: Seen) {
        let now = self.clock.now();
        if let Seen::Agent { server, state } = &seen {
            let told = state.as_ref().ok().map(|state| state.1.clone());
            self.leases.hear(server, told);
            let changed = match state.as_ref().map(|state| &state.0) {
                Ok(state) => {
                    self.processes.insert(server.clone(), state.process) != Some(state.process)
                }
                Err(why) => {
                    let heard = self.processes.remove(server).is_some();
                    if heard {
                        tracing::warn!(cluster = %self.config.cluster, %server, %why, "the stream of its agent ended");
                    }
                    heard
                }
            };
            // Its agent also tells how its lease is.
            let is_primary = matches!(&self.phase, Phase::Watching(w) if w.primary.name == *server);
            if changed || is_primary {
                let state = self.status.borrow().state;
                self.show(state, None);
            }
        }
        if let Seen::Looked { instead_of, found } = &seen {
            return self.looked(instead_of, found.as_deref());
        }
        let Phase::Watching(watching) = &self.phase else {
            return;
        };
        let primary = &watching.primary.name;
        let input = match seen {
            Seen::Ping {
                server,
                begun,
                ping,
            } if server == *primary => Input::Ping { begun, ping },
            Seen::Agent {
                server,
                state: Ok(state),
            } if server == *primary => {
                let (state, _) = *state;
                if let Some(ended) = &state.ended {
                    tracing::debug!(cluster = %self.config.cluster, %server, "{ended}");
                }
                Input::Agent(state)
            }
            Seen::Agent { server, .. } if server == *primary => Input::AgentLost,
            Seen::Ports {
                server,
                asked,
                replicas,
            } if server == *primary => Input::Ports { asked, replicas },
            _ => return,
        };
        self.think(now, input);
    }

    pub(super) fn think(&mut self, now: At, input: Input) {
        let Phase::Watching(watching) = &mut self.phase else {
            return;
        };
        let was_known = watching.monitor.last_ping().is_some();
        let actions = watching.monitor.step(now, input);
        let suspicious = watching.monitor.is_suspicious();
        let quiet = watching.again.is_none() && was_known;
        let mut decided = None;
        for action in actions {
            match action {
                Action::Ask => self.ask(),
                Action::Say(said) => {
                    let state = if said.verdict == Verdict::Alive {
                        State::PingOk
                    } else {
                        State::PingFailing
                    };
                    self.say(state, said.verdict, &said.sentence);
                }
                Action::FailOver(decision) => decided = Some(decision),
            }
        }
        if let Some(decision) = decided {
            self.decide(&decision);
        } else if quiet {
            let state = if suspicious {
                State::PingFailing
            } else {
                State::PingOk
            };
            if self.status.borrow().state != state {
                self.show(state, None);
            }
        }
    }

    pub(super) fn ask(&mut self) {
        let Phase::Watching(watching) = &self.phase else {
            return;
        };
        let questions = watcher::ask(
            &self.config,
            &watching.primary,
            &self.connected,
            self.clock,
            &self.inbox,
        );
        // Questions of the round before the last are given up.
        if self.asking.len() > 2 {
            self.asking.drain(..2);
        }
        self.asking.extend(questions);
    }
}
