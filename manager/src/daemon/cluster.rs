//! One cluster's task: hears, thinks with the pure monitor, acts, and goes on with the new primary.
//!
//! The task is the only owner of what is known. Everything that takes time runs in tasks of its own and comes back as a
//! value; a failover runs to its end even if the daemon is told to stop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::act::{self, Outcome};
use super::beside::{self, Beside};
use super::lease::Leases;
use super::readiness::{self, Explanation, Known};
use super::returned::Returning;
use super::state::{Heard, State, Status};
use super::watcher::{self, Clock, Connected, Owned, Seen};
use super::{Command, Handle, discover};
use crate::address;
use crate::config::{ClusterConfig, ServerConfig};
use crate::execute::unix_ms;
use crate::facts::Process;
use crate::guard::{self, Blocked, Origin, Past, Pause, Question, Standing};
use crate::journal::Hook;
use crate::monitor::{Action, At, Decision, Input, Limits, Monitor};
use crate::observe::{self, Agents, chain};
use crate::verdict::Verdict;

/// How often time itself is an input.
const TICK: Duration = Duration::from_millis(50);
/// Pause between two looks for a primary, and before a refused failover is thought about again.
const AGAIN: Duration = Duration::from_secs(5);
/// Values that wait for the task; more than it can have in flight.
const INBOX: usize = 256;

/// Makes the task and its handle.
pub(super) fn start(
    config: Arc<ClusterConfig>,
    hook: Arc<dyn Hook>,
    stop: watch::Receiver<bool>,
) -> (Handle, impl Future<Output = ()> + Send) {
    let (status, status_seen) = watch::channel(first_status(&config));
    let (explanation, explanation_seen) = watch::channel(None);
    let (commands, told) = mpsc::channel(16);
    let handle = Handle {
        cluster: config.cluster.clone(),
        status: status_seen,
        explanation: explanation_seen,
        commands,
    };
    let (inbox, heard) = mpsc::channel(INBOX);
    let connected = Connected::default();
    let watchers = config
        .servers
        .iter()
        .map(|server| {
            Owned::spawn(watcher::watch(
                config.clone(),
                server.clone(),
                connected.clone(),
                inbox.clone(),
            ))
        })
        .collect();
    let task = Task {
        clock: Clock::start(),
        processes: BTreeMap::new(),
        past: Vec::new(),
        standing: Standing::default(),
        phase: Phase::Looking { next: At::ZERO },
        asking: Vec::new(),
        looking: None,
        returning: Returning::default(),
        beside: Beside::default(),
        status,
        explanation,
        inbox,
        leases: Leases::new(config.clone(), connected.clone()),
        connected,
        _watchers: watchers,
        hook,
        config,
    };
    (handle, task.run(heard, told, stop))
}

fn first_status(config: &ClusterConfig) -> Status {
    Status {
        cluster: config.cluster.clone(),
        state: State::Initializing,
        since_unix_ms: unix_ms(),
        primary: None,
        sentence: "looking for the primary".to_owned(),
        paused: false,
        blocked: None,
        deposed: BTreeSet::new(),
        servers: config
            .servers
            .iter()
            .map(|server| Heard {
                server: server.name.clone(),
                agent: false,
                process: Process::Unknown,
            })
            .collect(),
    }
}

/// What the task is about.
enum Phase {
    /// No primary is known yet.
    Looking { next: At },
    /// A primary is watched.
    Watching(Box<Watching>),
    /// A failover runs.
    Acting {
        dead: ServerConfig,
        running: JoinHandle<Outcome>,
    },
}

struct Watching {
    primary: ServerConfig,
    monitor: Monitor,
    /// A failover was refused; it is thought about again then.
    again: Option<At>,
    /// The monitor decides nothing until it is known who the primary is.
    resting: bool,
    next_reading: At,
    _pinger: Owned,
}

struct Task {
    config: Arc<ClusterConfig>,
    hook: Arc<dyn Hook>,
    clock: Clock,
    connected: Connected,
    inbox: mpsc::Sender<Seen>,
    status: watch::Sender<Status>,
    explanation: watch::Sender<Option<Explanation>>,
    processes: BTreeMap<String, Process>,
    past: Vec<Past>,
    standing: Standing,
    phase: Phase,
    asking: Vec<Owned>,
    leases: Leases,
    looking: Option<Owned>,
    returning: Returning,
    beside: Beside,
    _watchers: Vec<Owned>,
}

impl Task {
    async fn run(
        mut self,
        mut heard: mpsc::Receiver<Seen>,
        mut told: mpsc::Receiver<Command>,
        mut stop: watch::Receiver<bool>,
    ) {
        if let Err(why) = self.read_the_past() {
            self.say(State::ConfigError, Verdict::Unknown, &why);
        }
        self.finish_what_was_interrupted();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut stopping = false;
        loop {
            if stopping && !matches!(self.phase, Phase::Acting { .. }) {
                self.leases.farewell();
                return;
            }
            tokio::select! {
                Some(seen) = heard.recv() => self.hear(seen),
                Some(command) = told.recv() => self.obey(command),
                outcome = ended(&mut self.phase) => self.acted(outcome),
                _ = ticks.tick() => self.tick().await,
                changed = stop.changed(), if !stopping => {
                    // A sender that is gone wants the end, too.
                    stopping = changed.is_err() || *stop.borrow();
                }
            }
        }
    }

    /// A sentence for the operator, and the state that goes with it.
    fn say(&self, state: State, verdict: Verdict, sentence: &str) {
        let cluster = &self.config.cluster;
        let state_name = state.name();
        match verdict {
            Verdict::Alive => {
                tracing::info!(%cluster, state = state_name, %verdict, "{sentence}");
            }
            _ => tracing::warn!(%cluster, state = state_name, %verdict, "{sentence}"),
        }
        self.show(state, Some(sentence));
    }

    fn show(&self, state: State, sentence: Option<&str>) {
        let primary = match &self.phase {
            Phase::Looking { .. } => None,
            Phase::Watching(watching) => Some(watching.primary.name.clone()),
            Phase::Acting { dead, .. } => Some(dead.name.clone()),
        };
        let servers = self
            .config
            .servers
            .iter()
            .map(|server| Heard {
                server: server.name.clone(),
                agent: self.processes.contains_key(&server.name),
                process: self
                    .processes
                    .get(&server.name)
                    .copied()
                    .unwrap_or(Process::Unknown),
            })
            .collect();
        self.status.send_if_modified(|status| {
            let mut new = status.clone();
            if new.state != state {
                new.state = state;
                new.since_unix_ms = unix_ms();
            }
            if let Some(sentence) = sentence {
                sentence.clone_into(&mut new.sentence);
            }
            new.primary = primary;
            new.paused = self.standing.paused.is_some();
            new.blocked = self.blocked().map(|blocked| blocked.to_string());
            new.deposed = guard::deposed(&self.past);
            new.servers = servers;
            let changed = *status != new;
            *status = new;
            changed
        });
    }

    fn read_the_past(&mut self) -> Result<(), String> {
        let config = &self.config;
        self.past = guard::of_cluster(&config.state_dir, &config.cluster).map_err(|e| chain(&e))?;
        self.standing =
            Standing::load(&config.state_dir, &config.cluster).map_err(|e| chain(&e))?;
        self.returning.learn(config);
        Ok(())
    }

    /// Why a failover of the watched primary would be refused, from what was last read.
    fn blocked(&self) -> Option<Blocked> {
        let Phase::Watching(watching) = &self.phase else {
            return None;
        };
        self.permit(&watching.primary.name, &self.past).err()
    }

    fn permit(&self, dead: &str, fleet: &[Past]) -> Result<(), Blocked> {
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

    /// A manager that died in the middle of a failover: this one goes on with it, after it has read the facts again.
    fn finish_what_was_interrupted(&mut self) {
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

    fn act(
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

    fn hear(&mut self, seen: Seen) {
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
            if changed {
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

    fn think(&mut self, now: At, input: Input) {
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

    fn ask(&mut self) {
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

    fn decide(&mut self, decision: &Decision) {
        let Phase::Watching(watching) = &self.phase else {
            return;
        };
        let verdict = decision.reason.verdict();
        let primary = watching.primary.clone();
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
        let later = self.clock.now() + AGAIN;
        if let Phase::Watching(watching) = &mut self.phase {
            watching.again = Some(later);
            watching.resting = true;
            watching.monitor.rest();
        }
    }

    /// A failover ended.
    fn acted(&mut self, outcome: Option<Outcome>) {
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
    fn not_replaced(&mut self, dead: ServerConfig, state: State, sentence: &str) {
        self.watch(dead);
        self.say(state, Verdict::Unknown, sentence);
        self.think_again_later();
    }

    fn watch(&mut self, primary: ServerConfig) {
        let now = self.clock.now();
        let pinger = Owned::spawn(watcher::ping(
            self.config.clone(),
            primary.clone(),
            self.clock,
            self.inbox.clone(),
        ));
        self.asking.clear();
        self.leases.keep(&primary);
        self.looking = None;
        self.phase = Phase::Watching(Box::new(Watching {
            monitor: Monitor::new(&primary.name, Limits::of(&self.config.monitor), now),
            primary,
            again: None,
            resting: false,
            next_reading: now,
            _pinger: pinger,
        }));
    }

    async fn tick(&mut self) {
        let now = self.clock.now();
        match &mut self.phase {
            Phase::Looking { next } if now >= *next => {
                *next = now + AGAIN;
                self.look().await;
            }
            Phase::Looking { .. } | Phase::Acting { .. } => {}
            Phase::Watching(watching) => {
                let reading = now >= watching.next_reading;
                if reading {
                    watching.next_reading = now + self.config.monitor.readiness_interval;
                }
                if watching.again.is_some_and(|again| now >= again) {
                    watching.again = None;
                    self.look_again();
                }
                if reading {
                    self.read_readiness();
                }
                self.look_beside(now, reading);
                self.leases.look(&guard::deposed(&self.past));
                self.returning.look(&self.config, &self.connected, now);
                self.think(now, Input::Tick);
            }
        }
    }

    /// Looks for the primary.
    async fn look(&mut self) {
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
    fn look_beside(&mut self, now: At, reading: bool) {
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
    fn look_again(&mut self) {
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
    fn looked(&mut self, instead_of: &str, found: Option<&str>) {
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
    fn read_readiness(&mut self) {
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
        tokio::spawn(async move {
            let began = Instant::now();
            let (views, addresses) = futures::join!(
                observe::observe_servers(&config, &agents),
                address::look(&config, &agents)
            );
            let explained = readiness::explain(&Known {
                past: &past,
                reading: began.elapsed(),
                config: &config,
                primary: &primary,
                views: &views,
                addresses: &addresses,
                deposed: &deposed,
                permit,
                unix_ms: unix_ms(),
            });
            explanation.send_replace(Some(explained));
        });
    }

    fn obey(&mut self, command: Command) {
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
    fn keep(&mut self, sentence: &str) -> Result<(), String> {
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

/// Waits for the failover that runs; for ever if there is none. `None`: its task broke.
async fn ended(phase: &mut Phase) -> Option<Outcome> {
    match phase {
        Phase::Acting { running, .. } => running.await.ok(),
        _ => std::future::pending().await,
    }
}
