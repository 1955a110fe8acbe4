//! The state machine: from a first doubt to a verdict, or back.

use std::time::Duration;

use super::{Action, AgentState, At, Decision, Input, Limits, LocalSql, Said};
use crate::facts::Process;
use crate::verdict::{
    self, AgentEvidence, Evidence, Ping, Reason, ReplicaEvidence, Verdict, sentence, weigh,
};

/// The last ping that ended.
#[derive(Debug, Clone)]
struct LastPing {
    begun: At,
    ping: Ping,
}

/// The stream of the primary's agent.
#[derive(Debug, Clone)]
enum Stream {
    /// Never heard, or its stream ended then.
    Lost { at: Option<At> },
    /// Its last message.
    Heard { at: At, state: AgentState },
}

/// A doubt.
#[derive(Debug, Clone)]
struct Suspicion {
    since: At,
    /// Last round of questions.
    asked: At,
    /// What came of a round that began after `since`.
    ports: Option<(At, Vec<ReplicaEvidence>)>,
}

/// Watches one primary.
#[derive(Debug, Clone)]
pub struct Monitor {
    primary: String,
    limits: Limits,
    ping: Option<LastPing>,
    failures: u32,
    stream: Stream,
    suspicion: Option<Suspicion>,
    /// Process gone, as first heard.
    gone: Option<At>,
    /// Last proof that SQL is answered, to whomever.
    sql_alive: At,
    /// Last sign that the server lives, seen from outside or by its agent.
    server_alive: At,
    /// Last sign that the host lives.
    host_alive: At,
    decided: bool,
    said: Option<Reason>,
    /// The error by which it proves its life, as told to the operator; 0 for one that has no number.
    said_error: Option<u16>,
}

impl Monitor {
    /// Begins to watch. A primary that is dead already is found so after the same limits.
    #[must_use]
    pub fn new(primary: &str, limits: Limits, at: At) -> Self {
        Self {
            primary: primary.to_owned(),
            limits,
            ping: None,
            failures: 0,
            stream: Stream::Lost { at: None },
            suspicion: None,
            gone: None,
            sql_alive: at,
            server_alive: at,
            host_alive: at,
            decided: false,
            said: None,
            said_error: None,
        }
    }

    /// The watched primary.
    #[must_use]
    pub fn primary(&self) -> &str {
        &self.primary
    }

    /// There is a doubt.
    #[must_use]
    pub fn is_suspicious(&self) -> bool {
        self.suspicion.is_some()
    }

    /// A failover was asked for.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.decided
    }

    /// The last ping that ended.
    #[must_use]
    pub fn last_ping(&self) -> Option<&Ping> {
        self.ping.as_ref().map(|p| &p.ping)
    }

    /// Decides nothing until [`Self::resume`]: a failover did not succeed, and is not tried again at once.
    pub fn rest(&mut self) {
        self.decided = true;
    }

    /// Goes on after the caller has acted, or was not allowed to: everything is seen afresh.
    pub fn resume(&mut self, at: At) {
        let stream = std::mem::replace(&mut self.stream, Stream::Lost { at: None });
        let (said, said_error) = (self.said, self.said_error);
        *self = Self::new(&self.primary.clone(), self.limits, at);
        self.stream = stream;
        self.said = said;
        self.said_error = said_error;
        if let Stream::Heard { state, .. } = &self.stream
            && state.process == Process::NotRunning
        {
            self.gone = Some(at);
        }
    }

    /// Takes an input and says what to do.
    pub fn step(&mut self, at: At, input: Input) -> Vec<Action> {
        self.take(at, input);
        if self.decided {
            return Vec::new();
        }
        let mut actions: Vec<Action> = self.tell_of_errors(at).into_iter().collect();
        match (self.doubtful(at), self.suspicion.is_some()) {
            (true, false) => {
                self.suspicion = Some(Suspicion {
                    since: at,
                    asked: at,
                    ports: None,
                });
                actions.push(Action::Ask);
            }
            (false, true) => {
                self.suspicion = None;
                if self.said.take().is_some() {
                    actions.push(Action::Say(Said {
                        verdict: Verdict::Alive,
                        sentence: format!("{} is alive: it answers again", self.primary),
                    }));
                }
            }
            (true, true) => actions.extend(self.ask_again(at)),
            (false, false) => {}
        }
        if self.suspicion.is_some() {
            actions.extend(self.judge(at));
        }
        actions
    }

    /// A server that answers by an error only is alive, but somebody must mend what it says; told once.
    fn tell_of_errors(&mut self, at: At) -> Option<Action> {
        let ping = &self.ping.as_ref()?.ping;
        let now = match ping {
            Ping::AnsweredError { errno, .. } => Some(*errno),
            Ping::AnsweredQuery { .. } => Some(0),
            Ping::Answered => None,
            _ => return None,
        };
        if now == self.said_error {
            return None;
        }
        self.said_error = now;
        let evidence = Evidence {
            ping: ping.clone(),
            agent: self.heard(at).map_or(AgentEvidence::NoAnswer, |state| {
                state.evidence(self.limits.hang)
            }),
            replicas: Vec::new(),
        };
        (weigh(&evidence) == Reason::AnswersManager).then(|| {
            Action::Say(Said {
                verdict: Verdict::Alive,
                sentence: sentence(&self.primary, &evidence),
            })
        })
    }

    fn take(&mut self, at: At, input: Input) {
        match input {
            Input::Ping { begun, ping } => {
                // Pings overlap while there is a doubt; an older one that ends later tells nothing new.
                if self.ping.as_ref().is_some_and(|last| last.begun > begun) {
                    return;
                }
                if ping.is_alive() {
                    self.failures = 0;
                    self.sql_alive = at;
                    self.server_alive = at;
                    self.host_alive = at;
                } else {
                    self.failures = self.failures.saturating_add(1);
                }
                self.ping = Some(LastPing { begun, ping });
            }
            Input::Agent(state) => {
                self.host_alive = at;
                if state.sql == LocalSql::Alive && state.process != Process::NotRunning {
                    self.sql_alive = at;
                    self.server_alive = at;
                }
                match state.process {
                    Process::NotRunning => self.gone = self.gone.or(Some(at)),
                    Process::Running | Process::Unknown => self.gone = None,
                }
                self.stream = Stream::Heard { at, state };
            }
            Input::AgentLost => {
                if matches!(self.stream, Stream::Heard { .. }) {
                    self.stream = Stream::Lost { at: Some(at) };
                }
            }
            Input::Ports { asked, replicas } => {
                if replicas
                    .iter()
                    .any(|r| r.port == Some(verdict::Port::Answered))
                {
                    self.server_alive = self.server_alive.max(asked);
                    self.host_alive = self.host_alive.max(asked);
                }
                if let Some(suspicion) = &mut self.suspicion
                    && asked >= suspicion.since
                    && suspicion.ports.as_ref().is_none_or(|(a, _)| *a <= asked)
                {
                    suspicion.ports = Some((asked, replicas));
                }
            }
            Input::Tick => {}
        }
    }

    /// What the agent said, unless it has fallen silent since.
    fn heard(&self, at: At) -> Option<&AgentState> {
        match &self.stream {
            Stream::Heard { at: heard, state }
                if at.saturating_sub(*heard) <= self.limits.agent_silence =>
            {
                Some(state)
            }
            _ => None,
        }
    }

    /// Anything wrong at all. A silent agent alone is doubtful only until a ping that began afterwards is answered.
    fn doubtful(&self, at: At) -> bool {
        let Some(last) = &self.ping else {
            // Nothing is known before the first ping has ended, unless the agent speaks first.
            return self.gone.is_some();
        };
        if !last.ping.is_alive() {
            return true;
        }
        let heard = self.heard(at);
        if self.gone.is_some_and(|gone| last.begun < gone) {
            return true;
        }
        if heard.is_some_and(|state| state.stalled(self.limits.hang).is_some()) {
            return true;
        }
        match (&self.stream, heard) {
            (Stream::Heard { at: heard_at, .. }, None) => {
                last.begun < *heard_at + self.limits.agent_silence
            }
            (Stream::Lost { at: Some(lost_at) }, _) => last.begun < *lost_at,
            _ => false,
        }
    }

    fn ask_again(&mut self, at: At) -> Option<Action> {
        let limits = self.limits;
        let suspicion = self.suspicion.as_mut()?;
        let waited = at.saturating_sub(suspicion.asked);
        let answered = suspicion
            .ports
            .as_ref()
            .is_some_and(|(asked, _)| *asked >= suspicion.asked);
        let due = if answered {
            waited >= limits.ask_interval
        } else {
            waited >= limits.ask_timeout
        };
        due.then(|| {
            suspicion.asked = at;
            Action::Ask
        })
    }

    /// The evidence, if it is complete enough for a judgement: everything in it was gathered after the doubt began.
    fn evidence(&self, at: At) -> Option<(Evidence, bool)> {
        let suspicion = self.suspicion.as_ref()?;
        let stalled = self
            .heard(at)
            .is_some_and(|s| s.stalled(self.limits.hang).is_some());
        let ping = self
            .ping
            .as_ref()
            .filter(|p| stalled || p.begun >= self.gone.unwrap_or(suspicion.since))?;
        let agent = self.heard(at).map_or(AgentEvidence::NoAnswer, |state| {
            state.evidence(self.limits.hang)
        });
        let evidence = Evidence {
            ping: ping.ping.clone(),
            agent,
            replicas: suspicion
                .ports
                .as_ref()
                .map(|(_, replicas)| replicas.clone())
                .unwrap_or_default(),
        };
        Some((evidence, suspicion.ports.is_some()))
    }

    fn judge(&mut self, at: At) -> Vec<Action> {
        let Some((evidence, asked)) = self.evidence(at) else {
            return Vec::new();
        };
        let reason = weigh(&evidence);
        if needs_replicas(&evidence) && !asked {
            return Vec::new();
        }
        let quiet = self.quiet(reason, at);
        if reason.verdict().allows_failover() {
            let Some(silent_for) = quiet else {
                return Vec::new();
            };
            self.decided = true;
            self.said = Some(reason);
            return vec![Action::FailOver(Decision {
                reason,
                sentence: sentence(&self.primary, &evidence),
                evidence,
                silent_for,
            })];
        }
        if self.said == Some(reason) {
            return Vec::new();
        }
        self.said = Some(reason);
        vec![Action::Say(Said {
            verdict: reason.verdict(),
            sentence: sentence(&self.primary, &evidence),
        })]
    }

    /// For how long it has been so, if that is long enough for a verdict with this reason.
    fn quiet(&self, reason: Reason, at: At) -> Option<Duration> {
        let (last_life, limit, failures) = match reason {
            // Seen by the agent through the process handle: a fact, not a guess.
            Reason::ProcessGone => (self.server_alive, Duration::ZERO, 1),
            // The limit is in the evidence.
            Reason::DiskStalled => (at.saturating_sub(self.limits.hang), self.limits.hang, 0),
            Reason::ProcessSilent => (self.sql_alive, self.limits.hang, self.limits.ping_failures),
            Reason::PortClosed => (
                self.server_alive,
                self.limits.host,
                self.limits.ping_failures,
            ),
            Reason::NobodyReaches => (
                self.server_alive.max(self.host_alive),
                self.limits.host,
                self.limits.ping_failures,
            ),
            _ => return None,
        };
        let suspicion = self.suspicion.as_ref()?;
        let ports_are_fresh = match reason {
            Reason::PortClosed | Reason::NobodyReaches => suspicion
                .ports
                .as_ref()
                .is_some_and(|(asked, _)| *asked >= last_life),
            _ => true,
        };
        let silent_for = at.saturating_sub(last_life);
        (silent_for >= limit && self.failures >= failures && ports_are_fresh).then_some(silent_for)
    }
}

/// Where nobody on the host can tell, the replicas must have been asked.
fn needs_replicas(evidence: &Evidence) -> bool {
    if evidence.ping.is_alive() {
        return false;
    }
    match &evidence.agent {
        AgentEvidence::NoAnswer => true,
        AgentEvidence::Answered { process, .. } => *process == Process::Unknown,
    }
}
