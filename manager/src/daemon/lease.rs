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

use futures::future::join_all;
use tokio::sync::{oneshot, watch};

use super::discover;
use super::watcher::{Connected, Owned};
use crate::agents::{AgentClient, Claim, Context, Word};
use crate::config::{ClusterConfig, ServerConfig};
use crate::failover::LeaseSeen;
use crate::lease::{self, Next, Question, Told};
use crate::monitor::Decision;
use crate::observe::{self, Agents, ServerView, chain};
use crate::topology::{same_address, source_address};

/// Longest time of a word for a lease: the next one follows with the next state.
const WORD_LIMIT: Duration = Duration::from_millis(500);
/// Longest time of each call that names the primary.
const CALL_LIMIT: Duration = Duration::from_secs(2);
/// How long agents that are silent are waited for before the primary is named without them.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause after the primary was named in vain; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
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
    assigning: Option<(oneshot::Receiver<Result<String, String>>, Owned)>,
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
        let speaker = speak(
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
                Err(oneshot::error::TryRecvError::Closed) => Err("its task broke".to_owned()),
            };
            keeping.assigning = None;
            match done {
                Ok(sentence) => tracing::info!(%cluster, "{sentence}"),
                Err(why) => {
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
        let why = match standing.next {
            Next::InOrder => {
                keeping.pause = FIRST_PAUSE;
                return;
            }
            Next::Wait { why } => {
                tracing::debug!(%cluster, "{} is not named now: {why}", keeping.primary.name);
                return;
            }
            Next::Assign { why } => why,
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
        };
        let (done, ended) = oneshot::channel();
        let task = async move {
            // Nobody waits any more: the primary is not watched any more.
            let _ = done.send(naming.run().await);
        };
        keeping.assigning = Some((ended, Owned::spawn(task)));
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

/// Gives the newest word, one at a time.
async fn speak(
    config: Arc<ClusterConfig>,
    primary: ServerConfig,
    connected: Connected,
    mut words: watch::Receiver<Option<Word>>,
) {
    let mut last_trouble = String::new();
    while words.changed().await.is_ok() {
        let Some(word) = words.borrow_and_update().clone() else {
            continue;
        };
        let agents = connected.agents();
        let Some(client) = agents.of(&primary) else {
            continue;
        };
        let said = client.renew_lease(&config, &primary.name, &word, WORD_LIMIT);
        let trouble = said.await.err().map(|e| chain(&e)).unwrap_or_default();
        if trouble != last_trouble {
            if !trouble.is_empty() {
                tracing::warn!(cluster = %config.cluster, server = %primary.name, error = trouble, "no word for its lease");
            }
            last_trouble = trouble;
        }
    }
}

/// Naming a primary to all agents that are connected.
struct Naming {
    config: Arc<ClusterConfig>,
    primary: ServerConfig,
    agents: Agents,
    deposed: BTreeSet<String>,
    epoch: u64,
}

impl Naming {
    async fn run(self) -> Result<String, String> {
        let views = observe::observe_servers(&self.config, &self.agents).await;
        undisputed(&self.config, &views, &self.primary, &self.deposed)?;
        let context = Context {
            cluster: self.config.cluster.clone(),
            operation: format!("{}{}", lease::OPERATION, uuid::Uuid::new_v4().simple()),
            epoch: self.epoch,
        };
        let named = self.claim_and_name(&context).await;
        let limit = self.limit();
        // Agents that do not answer keep it: it stands in nobody's way.
        join_all(self.agents.reachable().map(|c| c.release(&context, limit))).await;
        named
    }

    fn limit(&self) -> Duration {
        self.config.failover.call_timeout.min(CALL_LIMIT)
    }

    /// The first agent in configured order first: of two who claim, one gets it.
    async fn claim_and_name(&self, context: &Context) -> Result<String, String> {
        let claim = Claim {
            cluster: context.cluster.clone(),
            epoch: context.epoch,
            operation: context.operation.clone(),
            manager: self.config.manager_name.clone(),
        };
        let mut clients: Vec<&AgentClient> = Vec::new();
        for server in &self.config.servers {
            if let Some(client) = self.agents.of(server)
                && !clients.iter().any(|c| c.endpoint() == client.endpoint())
            {
                clients.push(client);
            }
        }
        let mut know_leases = Vec::new();
        for (number, part) in [clients.get(..1), clients.get(1..)].into_iter().enumerate() {
            let asked = part.unwrap_or_default();
            let granted = join_all(asked.iter().map(|c| c.claim(&claim, self.limit()))).await;
            for (client, granted) in asked.iter().zip(granted) {
                match granted {
                    Ok(granted) if granted.vouched_ago.is_some() => {
                        know_leases.push(client.endpoint().clone());
                    }
                    Ok(_) => {}
                    Err(error) if number > 0 && error.is_lost() => {}
                    Err(error) => return Err(chain(&error)),
                }
            }
        }
        let all = lease::agents(&self.config).len();
        if know_leases.len() * 2 <= all {
            return Err(format!(
                "{} of {all} agents granted it and know leases",
                know_leases.len()
            ));
        }
        if !know_leases.contains(&self.primary.agent) {
            return Err("its own agent did not grant it, or knows no leases".to_owned());
        }
        self.name(context, &know_leases).await
    }

    /// A lease is taken up before the others know of it, and given up after they know.
    async fn name(
        &self,
        context: &Context,
        know_leases: &[crate::config::AgentEndpoint],
    ) -> Result<String, String> {
        let servers = self.config.servers.iter();
        let (own, others): (Vec<&ServerConfig>, Vec<&ServerConfig>) = servers
            .filter(|server| know_leases.contains(&server.agent))
            .partition(|server| server.name == self.primary.name);
        let order = if lease::wanted(&self.config) {
            [own, others]
        } else {
            [others, own]
        };
        let mut has_lease = false;
        let mut told = 0;
        let mut trouble = Vec::new();
        for part in order {
            let calls = part.iter().map(async |server| {
                let client = self.agents.of(server).ok_or("it is not connected")?;
                let primary = &self.primary.name;
                client
                    .assign_primary(&self.config, context, &server.name, primary, self.limit())
                    .await
                    .map_err(|error| chain(&error))
            });
            for (server, named) in part.iter().zip(join_all(calls).await) {
                let is_primary = server.name == self.primary.name;
                match named {
                    Ok(lease) => {
                        told += 1;
                        has_lease |= is_primary && lease;
                    }
                    Err(why) if is_primary => return Err(why),
                    Err(why) => trouble.push(format!("{}: {why}", server.name)),
                }
            }
        }
        let lease = if has_lease {
            format!(
                "it holds a lease and is made read-only {:?} after neither this manager nor a majority of the agents was heard",
                lease::TTL
            )
        } else {
            "it holds no lease".to_owned()
        };
        let trouble = if trouble.is_empty() {
            String::new()
        } else {
            format!("; not told: {}", trouble.join(", "))
        };
        Ok(format!(
            "{} is the primary of epoch {}, as {told} servers' agents know; {lease}{trouble}",
            self.primary.name, context.epoch
        ))
    }
}

/// Every server that answers is its replica, or deposed. Pure.
fn undisputed(
    config: &ClusterConfig,
    views: &[ServerView],
    primary: &ServerConfig,
    deposed: &BTreeSet<String>,
) -> Result<(), String> {
    let found = discover::discover(config, views, deposed).map_err(|why| why.to_string())?;
    if found.name != primary.name {
        return Err(format!("the others follow {}", found.name));
    }
    for view in views.iter().filter(|view| view.server != primary.name) {
        let Ok(facts) = &view.facts else { continue };
        if !facts.sql_alive() || facts.unfinished_replay.is_some() || deposed.contains(&view.server)
        {
            continue;
        }
        let follows = facts.replica.as_ref().is_some_and(|replica| {
            let uuid = views
                .iter()
                .find(|v| v.server == primary.name)
                .and_then(|v| v.facts.as_ref().ok()?.identity.as_ref())
                .map(|identity| identity.server_uuid.as_str());
            same_address(&source_address(replica), &primary.address)
                || !replica.source_uuid.is_empty() && uuid == Some(replica.source_uuid.as_str())
        });
        if !follows {
            return Err(format!("{} does not follow it", view.server));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{config, snapshot};

    type Change = fn(&mut Vec<ServerView>);

    #[test]
    fn who_is_no_replica_of_it_disputes_a_primary() {
        let cases: &[(&str, Change, Result<(), &str>)] = &[
            ("as always", |_| {}, Ok(())),
            (
                "one was promoted by somebody, and the other is not repointed yet",
                |v| v[1].facts.as_mut().unwrap().replica = None,
                Err("db2 does not follow it"),
            ),
            (
                "mysqld of a replica is down",
                |v| {
                    let facts = v[1].facts.as_mut().unwrap();
                    facts.replica = None;
                    facts.sql_error = Some("no socket".to_owned());
                },
                Ok(()),
            ),
            (
                "one follows another",
                |v| {
                    let replica = v[2].facts.as_mut().unwrap().replica.as_mut().unwrap();
                    replica.source_host = "db2".to_owned();
                    replica.source_uuid = String::new();
                },
                Err("replicas follow different servers: db1, db2"),
            ),
            (
                "everybody follows another",
                |v| {
                    v[1].facts.as_mut().unwrap().replica = None;
                    let replica = v[2].facts.as_mut().unwrap().replica.as_mut().unwrap();
                    replica.source_host = "db2".to_owned();
                },
                Err("the others follow db2"),
            ),
        ];
        for (what, change, expected) in cases {
            let config = config(3);
            let mut views = snapshot(&[("1:452", "1:452"), ("1:880", "1:880")]).servers;
            change(&mut views);
            let primary = config.servers.first().unwrap();
            let found = undisputed(&config, &views, primary, &BTreeSet::new());
            match (expected, &found) {
                (Ok(()), Ok(())) => {}
                (Err(words), Err(why)) if why.contains(words) => {}
                _ => panic!("{what}: {found:?}"),
            }
        }
    }
}
