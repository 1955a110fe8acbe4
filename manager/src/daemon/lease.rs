//! Keeping the lease of the watched primary: naming it to all agents, and answering the states of its agent.
//!
//! Guarantees: nothing here is waited for by whoever decides; a word for a lease answers a state that was heard, in a task of
//! its own, with a limit; once [`Leases::let_go`] was called no further word begins. The primary is named only after the
//! servers were asked again and none disputes it.
//!
//! A manager that ends does nothing about a lease: a majority of the agents holds it up without it.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use self::naming::{Naming, NotNamed};
use super::watcher::{Connected, Owned};
use crate::agents::Word;
use crate::config::{ClusterConfig, ServerConfig};
use crate::failover::LeaseSeen;
use crate::lease::{self, LeaseStatus, Next, Question, Told};
use crate::monitor::Decision;
use crate::record::Another;

pub(crate) mod naming;
mod speak;

/// Longest time of each call that names the primary.
const CALL_LIMIT: Duration = Duration::from_secs(2);
/// How long agents that are silent are waited for before the primary is named without them.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause after the primary was named in vain; it doubles, unless agents were claimed for it: until it is named, nobody but
/// this manager holds its lease up.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Pause after that.
const CLAIMED_PAUSE: Duration = Duration::from_secs(1);
/// The longest.
const LAST_PAUSE: Duration = Duration::from_secs(600);

/// What is known of leases, and what is being done.
pub(super) struct Leases {
    config: Arc<ClusterConfig>,
    connected: Connected,
    told: BTreeMap<String, Told>,
    /// Nobody of this name has given a word after this moment: an earlier run of the manager had ended by its beginning.
    last_word: Instant,
    keeping: Option<Keeping>,
}

/// Of one primary.
struct Keeping {
    primary: ServerConfig,
    since: Instant,
    /// When its agent was heard last.
    heard: Option<Instant>,
    words: watch::Sender<Option<Word>>,
    _speaker: Owned,
    assigning: Option<(oneshot::Receiver<Result<String, NotNamed>>, Owned)>,
    /// When the last naming ended, which may have reached the primary's agent whatever it said.
    named: Option<Instant>,
    again: Instant,
    pause: Duration,
    said: String,
}

impl Leases {
    pub(super) fn new(config: Arc<ClusterConfig>, connected: Connected) -> Self {
        Self {
            config,
            connected,
            told: BTreeMap::new(),
            last_word: Instant::now(),
            keeping: None,
        }
    }

    /// An agent told something, or fell silent.
    pub(super) fn hear(&mut self, server: &str, told: Option<Told>) {
        let Some(told) = told else {
            self.told.remove(server);
            return;
        };
        let (boot_id, sent) = (told.boot_id.clone(), told.sent);
        self.told.insert(server.to_owned(), told);
        let Some(keeping) = self.keeping.as_mut().filter(|k| k.primary.name == server) else {
            return;
        };
        let now = Instant::now();
        keeping.heard = Some(now);
        let standing = lease::standing(&Question {
            config: &self.config,
            primary: &keeping.primary,
            told: &self.told,
            waited: false,
        });
        if let (Some(epoch), Some(seen)) = (standing.renew.and_then(NonZeroU64::new), sent) {
            // Before it is given: what it says is as old as the state.
            self.last_word = now;
            keeping.words.send_replace(Some(Word {
                epoch,
                boot_id,
                seen,
            }));
        }
    }

    /// What the agents whose streams are open told last, by server.
    pub(super) fn told(&self) -> &BTreeMap<String, Told> {
        &self.told
    }

    /// This server is the primary.
    pub(super) fn keep(&mut self, primary: &ServerConfig) {
        let now = Instant::now();
        let (words, spoken) = watch::channel(None);
        let speaker = speak::speak(
            self.config.clone(),
            primary.clone(),
            self.connected.clone(),
            spoken,
        );
        self.keeping = Some(Keeping {
            primary: primary.clone(),
            since: now,
            heard: None,
            words,
            _speaker: Owned::spawn(speaker),
            assigning: None,
            named: None,
            again: now,
            pause: FIRST_PAUSE,
            said: String::new(),
        });
    }

    /// No word for any lease from now on. What a failover has to know of it.
    pub(super) fn let_go(&mut self, decision: Option<&Decision>) -> LeaseSeen {
        let doubt = self
            .keeping
            .take()
            .and_then(|keeping| doubt(&self.config, &keeping, decision?));
        LeaseSeen {
            last_word: self.last_word,
            doubt,
        }
    }

    /// Looks whether the primary is to be named.
    pub(super) fn look(&mut self, deposed: &BTreeSet<String>) {
        let Some(keeping) = &mut self.keeping else {
            return;
        };
        let now = Instant::now();
        let cluster = &self.config.cluster;
        if let Some((ended, _)) = &mut keeping.assigning {
            let done = match ended.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => return,
                Ok(done) => done,
                Err(oneshot::error::TryRecvError::Closed) => Err(NotNamed {
                    why: "its task broke".to_owned(),
                    claimed: true,
                }),
            };
            keeping.assigning = None;
            keeping.named = Some(now);
            match done {
                Ok(sentence) => tracing::info!(%cluster, "{sentence}"),
                Err(NotNamed { why, claimed }) => {
                    if claimed {
                        keeping.pause = FIRST_PAUSE;
                        keeping.again = now + CLAIMED_PAUSE;
                    }
                    let sentence = format!("{} could not be named: {why}", keeping.primary.name);
                    if keeping.said != sentence {
                        tracing::warn!(%cluster, "{sentence}");
                        keeping.said = sentence;
                    }
                }
            }
            return;
        }
        let standing = lease::standing(&Question {
            config: &self.config,
            primary: &keeping.primary,
            told: &self.told,
            waited: now.duration_since(keeping.since) >= PATIENCE,
        });
        let (why, take_over) = match standing.next {
            Next::InOrder => {
                keeping.pause = FIRST_PAUSE;
                return;
            }
            Next::Wait { why } => {
                tracing::debug!(%cluster, "{} is not named now: {why}", keeping.primary.name);
                return;
            }
            Next::Assign { why, take_over } => (why, take_over),
        };
        if now < keeping.again {
            return;
        }
        keeping.again = now + keeping.pause;
        keeping.pause = (keeping.pause * 2).min(LAST_PAUSE);
        tracing::info!(%cluster, "naming {} to all agents: {why}", keeping.primary.name);
        let highest = self.told.values().map(|told| told.epoch).max();
        let naming = Naming {
            config: self.config.clone(),
            primary: keeping.primary.clone(),
            agents: self.connected.agents(),
            deposed: deposed.clone(),
            epoch: highest.unwrap_or(0).saturating_add(1),
            take_over,
        };
        let (done, ended) = oneshot::channel();
        let task = async move {
            // Nobody waits any more: the primary is not watched any more.
            let _ = done.send(naming.run().await);
        };
        keeping.assigning = Some((ended, Owned::spawn(task)));
    }

    /// How the lease of the watched primary is.
    pub(super) fn status(&self) -> Option<LeaseStatus> {
        let keeping = self.keeping.as_ref()?;
        Some(lease::status(
            &self.config,
            &keeping.primary,
            self.told.get(&keeping.primary.name),
        ))
    }

    /// Whose the cluster is, if it is another manager's.
    pub(super) fn of_another(&self) -> Option<Another> {
        lease::of_record(&self.config, &self.told).err()
    }

    /// How long the silence of the primary's host is not acted on yet, and why.
    pub(super) fn not_yet(&self) -> Option<(Duration, String)> {
        let keeping = self.keeping.as_ref()?;
        lease::not_yet(&lease::FirstLook {
            config: &self.config,
            primary: &keeping.primary,
            told: &self.told,
            watched: keeping.since.elapsed(),
            named_ago: if keeping.assigning.is_some() {
                Some(Duration::ZERO)
            } else {
                keeping.named.map(|named| named.elapsed())
            },
        })
    }

    /// The manager ends: says so if the primary's lease depends on it.
    pub(super) fn farewell(&self) {
        let Some(keeping) = &self.keeping else { return };
        let agents = lease::agents(&self.config).len();
        let Some(told) = self.told.get(&keeping.primary.name) else {
            return;
        };
        let has_lease = told.assignment.as_ref().is_some_and(|a| a.lease);
        let vouching = usize::try_from(told.vouching).unwrap_or(0);
        if has_lease && lease::wanted(&self.config) && vouching * 2 <= agents {
            tracing::warn!(
                cluster = %self.config.cluster,
                "{} is held up by this manager alone ({vouching} of {agents} agents vouch): it will be read-only in {:?}, until a majority of the agents is back",
                keeping.primary.name,
                lease::TTL
            );
        }
    }
}

/// Why the agent that has to end the lease may not run: the host lived on after it had fallen silent.
fn doubt(config: &ClusterConfig, keeping: &Keeping, decision: &Decision) -> Option<String> {
    let slack = config.monitor.agent_silence() * 2;
    let silent = match keeping.heard {
        Some(heard) => heard.elapsed(),
        None => keeping.since.elapsed(),
    };
    let lived_on = silent.checked_sub(decision.silent_for)?;
    (lived_on > slack).then(|| {
        format!(
            "it was silent for {} ms before the last sign of life of its host",
            lived_on.as_millis()
        )
    })
}
