//! Looking at all servers: for the primary, for somebody else's failover, and for everything that a failover depends on.
//! Nothing is waited for while a primary is watched.

use std::time::Instant;

use super::{Phase, Task};
use crate::address;
use crate::daemon::beside;
use crate::daemon::binlog_servers;
use crate::daemon::discover;
use crate::daemon::readiness::{self, Known};
use crate::daemon::state::State;
use crate::daemon::watcher::{Owned, Seen};
use crate::execute::unix_ms;
use crate::guard;
use crate::monitor::At;
use crate::observe::{self, Agents};
use crate::verdict::Verdict;

impl Task {
    /// Looks for the primary.
    pub(super) async fn look(&mut self) {
        let agents = Agents::connect(&self.config).await;
        let views = observe::observe_servers(&self.config, &agents).await;
        let deposed = guard::deposed(&self.past);
        let named = beside::named(self.leases.told()).map(|named| named.primary.as_str());
        match discover::discover_or_named(&self.config, &views, &deposed, named) {
            Ok(primary) => {
                let primary = primary.clone();
                let sentence = format!("{} is the primary: watching it", primary.name);
                self.watch(primary);
                self.say(State::PingOk, Verdict::Alive, &sentence);
            }
            Err(why) => {
                let sentence = format!("no primary is known: {why}");
                let state = if why == discover::Undiscovered::Nobody {
                    State::Initializing
                } else {
                    State::ConfigError
                };
                if self.status.borrow().sentence != sentence {
                    self.say(state, Verdict::Unknown, &sentence);
                }
            }
        }
    }

    /// Somebody else may have replaced the primary, or left something unfinished.
    pub(super) fn look_beside(&mut self, now: At, reading: bool) {
        let Phase::Watching(watching) = &self.phase else {
            return;
        };
        // What it could not do itself is thought about again in a moment anyway.
        if watching.again.is_some() {
            return;
        }
        let primary = watching.primary.name.clone();
        let due = self.beside.is_due(&primary, self.leases.told(), now);
        if !due && !reading {
            return;
        }
        if let Err(why) = self.read_the_past() {
            tracing::error!(cluster = %self.config.cluster, %why, "the journals cannot be read");
            return;
        }
        self.finish_what_was_interrupted();
        if matches!(self.phase, Phase::Acting { .. }) {
            return;
        }
        if due {
            self.beside
                .give_back(&self.config, &self.past, &self.standing);
        }
        if due || beside::replacement(&self.past, &primary).is_some() {
            self.look_again();
        }
    }

    /// Somebody else may have replaced the primary: a failover was refused or did not succeed, or there are other signs.
    /// Asks beside everything else; what comes back decides whether it is thought about again.
    pub(super) fn look_again(&mut self) {
        let Phase::Watching(watching) = &self.phase else {
            return;
        };
        let (config, inbox) = (self.config.clone(), self.inbox.clone());
        let instead_of = watching.primary.name.clone();
        let agents = self.connected.agents();
        let deposed = guard::deposed(&self.past);
        let named = beside::named(self.leases.told()).map(|named| named.primary.clone());
        self.looking = Some(Owned::spawn(async move {
            let views = observe::observe_servers(&config, &agents).await;
            let found = discover::discover_or_named(&config, &views, &deposed, named.as_deref())
                .ok()
                .map(|primary| primary.name.clone());
            // Without an inbox there is nobody to think about it any more.
            let _ = inbox.send(Seen::Looked { instead_of, found }).await;
        }));
    }

    /// What [`Self::look_again`] has found.
    pub(super) fn looked(&mut self, instead_of: &str, found: Option<&str>) {
        let now = self.clock.now();
        let other = found
            .filter(|name| *name != instead_of)
            .and_then(|name| self.config.find(name))
            .cloned();
        let Phase::Watching(watching) = &mut self.phase else {
            return;
        };
        if watching.primary.name != instead_of {
            return;
        }
        match other {
            Some(new) => {
                let by = beside::named(self.leases.told())
                    .filter(|named| named.primary == new.name)
                    .map(|named| format!(" but by {} of {}", named.operation, named.manager))
                    .unwrap_or_default();
                let sentence = format!(
                    "{} is the primary now, and not by this daemon{by}: watching it instead of {instead_of}",
                    new.name
                );
                self.watch(new);
                self.say(State::PingOk, Verdict::Alive, &sentence);
            }
            None if watching.resting && watching.again.is_none() => {
                watching.resting = false;
                watching.monitor.resume(now);
            }
            None => {}
        }
    }

    /// Reads everything a failover depends on, beside everything else.
    pub(super) fn read_readiness(&mut self) {
        let Phase::Watching(watching) = &self.phase else {
            return;
        };
        let (config, primary) = (self.config.clone(), watching.primary.clone());
        let agents = self.connected.agents();
        let deposed: Vec<String> = guard::deposed(&self.past).into_iter().collect();
        let permit = self.permit(&primary.name, &self.past);
        let explanation = self.explanation.clone();
        let state = self.status.borrow().state;
        self.show(state, None);
        let past = self.past.clone();
        let (lease, of_another) = (self.leases.status(), self.leases.of_another());
        tokio::spawn(async move {
            let began = Instant::now();
            let read = async {
                let seen = futures::join!(
                    observe::observe_servers(&config, &agents),
                    address::look(&config, &agents)
                );
                (seen, began.elapsed())
            };
            // On a connection of its own: the one that pings all the time may have logged in when that was still possible.
            let (((views, addresses), reading), ping) =
                futures::join!(read, observe::ping(&primary.address, &config.monitor));
            let told = views.iter().find(|view| view.server == primary.name);
            let told = told.and_then(|view| view.facts.as_ref().ok());
            let id = told
                .and_then(|facts| facts.identity.as_ref())
                .map(|i| i.server_id);
            let written = told.and_then(|facts| facts.binlog.as_ref()?.position.as_ref());
            let copies = binlog_servers::look(&config, &agents, id, written).await;
            let explained = readiness::explain(&Known {
                past: &past,
                reading,
                config: &config,
                primary: &primary,
                views: &views,
                ping: &ping,
                addresses: &addresses,
                binlog_servers: &copies,
                deposed: &deposed,
                permit,
                lease,
                of_another,
                unix_ms: unix_ms(),
            });
            explanation.send_replace(Some(explained));
        });
    }
}
