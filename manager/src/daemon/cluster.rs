//! One cluster's task: hears, thinks with the pure monitor, acts, and goes on with the new primary.
//!
//! The task is the only owner of what is known. Everything that takes time runs in tasks of its own and comes back as a
//! value; a failover runs to its end even if the daemon is told to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use self::tell::first_status;
use super::act::Outcome;
use super::beside::Beside;
use super::lease::Leases;
use super::readiness::Explanation;
use super::returned::Returning;
use super::state::{State, Status};
use super::watcher::{self, Clock, Connected, Owned, Seen};
use super::{Command, Handle};
use crate::config::{ClusterConfig, ServerConfig};
use crate::facts::Process;
use crate::guard::{self, Past, Standing};
use crate::journal::Hook;
use crate::monitor::{At, Input, Limits, Monitor};
use crate::verdict::Verdict;

mod fail_over;
mod hear;
mod look;
mod obey;
mod tell;

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
}

/// Waits for the failover that runs; for ever if there is none. `None`: its task broke.
async fn ended(phase: &mut Phase) -> Option<Outcome> {
    match phase {
        Phase::Acting { running, .. } => running.await.ok(),
        _ => std::future::pending().await,
    }
}
