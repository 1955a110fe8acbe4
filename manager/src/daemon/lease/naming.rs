//! Naming a primary to all agents that are connected, by an epoch of its own.
//!
//! Guarantees: nobody is named whom a server that answers disputes; a lease is taken up before the others know of it, and given
//! up after they know; each call has a limit.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::CALL_LIMIT;
use crate::agents::{AgentClient, Claim, Context, Primary};
use crate::config::{AgentEndpoint, ClusterConfig, ServerConfig};
use crate::daemon::discover;
use crate::lease;
use crate::observe::{self, Agents, ServerView, chain};
use crate::record::TakeOver;
use crate::topology::{same_address, source_address};

/// Why a primary was not named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotNamed {
    /// Why.
    pub(crate) why: String,
    /// Agents may have granted the claim: they vouch for no older assignment any more.
    pub(crate) claimed: bool,
}

/// Naming a primary to all agents that are connected.
pub(crate) struct Naming {
    pub(crate) config: Arc<ClusterConfig>,
    pub(crate) primary: ServerConfig,
    pub(crate) agents: Agents,
    pub(crate) deposed: BTreeSet<String>,
    pub(crate) epoch: u64,
    pub(crate) take_over: TakeOver,
}

impl Naming {
    /// Names it; a sentence for the operator.
    ///
    /// # Errors
    /// [`NotNamed`].
    pub(crate) async fn run(self) -> Result<String, NotNamed> {
        let views = observe::observe_servers(&self.config, &self.agents).await;
        undisputed(&self.config, &views, &self.primary, &self.deposed).map_err(|why| NotNamed {
            why,
            claimed: false,
        })?;
        let context = Context {
            cluster: self.config.cluster.clone(),
            operation: format!("{}{}", lease::OPERATION, uuid::Uuid::new_v4().simple()),
            epoch: self.epoch,
        };
        let replaced = self.replaced(&views);
        let named = self.claim_and_name(&context, &replaced).await;
        let limit = self.limit();
        // Agents that do not answer keep it: it stands in nobody's way.
        join_all(self.agents.reachable().map(|c| c.release(&context, limit))).await;
        named.map_err(|why| NotNamed { why, claimed: true })
    }

    /// Servers that were replaced as primaries and are not known to follow the present one.
    fn replaced(&self, views: &[ServerView]) -> BTreeSet<&str> {
        self.deposed
            .iter()
            .filter(|server| {
                views
                    .iter()
                    .find(|view| view.server == **server)
                    .is_none_or(|view| !follows(views, &self.primary, view))
            })
            .map(String::as_str)
            .collect()
    }

    fn limit(&self) -> Duration {
        self.config.failover.call_timeout.min(CALL_LIMIT)
    }

    /// The first agent in configured order first: of two who claim, one gets it.
    async fn claim_and_name(
        &self,
        context: &Context,
        replaced: &BTreeSet<&str>,
    ) -> Result<String, String> {
        let claim = |client: &AgentClient| Claim {
            cluster: context.cluster.clone(),
            epoch: context.epoch,
            operation: context.operation.clone(),
            manager: self.config.manager_name.clone(),
            take_over: self.take_over.at(&client.endpoint().name),
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
            let claims = asked.iter().map(async |client| {
                let claim = claim(client);
                client.claim(&claim, self.limit()).await
            });
            let granted = join_all(claims).await;
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
        self.name(context, &know_leases, replaced).await
    }

    /// A lease is taken up before the others know of it, and given up after they know.
    async fn name(
        &self,
        context: &Context,
        know_leases: &[AgentEndpoint],
        replaced: &BTreeSet<&str>,
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
                let primary = Primary {
                    name: &self.primary.name,
                    replaced_called: replaced.contains(server.name.as_str()),
                };
                client
                    .assign_primary(&self.config, context, &server.name, &primary, self.limit())
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
        if !follows(views, primary, view) {
            return Err(format!("{} does not follow it", view.server));
        }
    }
    Ok(())
}

/// Whether a server that was seen is a replica of `primary`; one whose agent or mysqld does not answer is not.
fn follows(views: &[ServerView], primary: &ServerConfig, view: &ServerView) -> bool {
    let Some(replica) = view.facts.as_ref().ok().and_then(|f| f.replica.as_ref()) else {
        return false;
    };
    let uuid = views
        .iter()
        .find(|v| v.server == primary.name)
        .and_then(|v| v.facts.as_ref().ok()?.identity.as_ref())
        .map(|identity| identity.server_uuid.as_str());
    same_address(&source_address(replica), &primary.address)
        || !replica.source_uuid.is_empty() && uuid == Some(replica.source_uuid.as_str())
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
