//! The address that moves with the primary, outside a failover: where it is, and bringing it up at a living primary.
//!
//! Needed once, when a cluster gets its address, and when somebody has taken it down. Guarantees: the address goes to a server
//! that answers SQL, is no replica and is open for writes, or nowhere; its agent is claimed for this one act with an epoch above
//! all others, so that no failover can be under way there; a host that answers for the address keeps it.

use proto::address::VirtualAddress;

use crate::agents::{AddressFacts, AgentCallError, Claim, Context};
use crate::config::{ClusterConfig, ServerConfig};
use crate::execute;
use crate::observe::{Agents, StoredClaim, chain};

/// Why the address was not brought up.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// There is none.
    #[error("the configuration has no virtual_ip")]
    NotConfigured,
    /// The server's agent does not answer.
    #[error("the agent of {server} does not answer")]
    NoAgent {
        /// The server.
        server: String,
    },
    /// The server is no primary that takes writes.
    #[error("{server} does not get the address: {why}")]
    NotThePrimary {
        /// The server.
        server: String,
        /// What was seen.
        why: String,
    },
    /// An operation is under way.
    #[error("another operation holds the cluster at agent {}", .0.agent)]
    Held(StoredClaim),
    /// The agent refused, failed, or its answer was lost.
    #[error("the address of {server}")]
    Call {
        /// The server.
        server: String,
        /// Why.
        #[source]
        source: AgentCallError,
    },
}

/// What is seen at one server.
#[derive(Debug)]
pub struct SeenAt {
    /// The server.
    pub server: String,
    /// The address as it belongs there.
    pub address: VirtualAddress,
    /// What its agent says, or why it says nothing.
    pub seen: Result<AddressFacts, String>,
}

/// Asks all agents, at once. Empty if there is no virtual IP.
pub async fn look(config: &ClusterConfig, agents: &Agents) -> Vec<SeenAt> {
    let Some(virtual_ip) = &config.virtual_ip else {
        return Vec::new();
    };
    let limit = config.failover.call_timeout;
    let asked = config.servers.iter().filter_map(|server| {
        let address = virtual_ip.at(&server.name)?.clone();
        Some(async move {
            let seen = match agents.of(server) {
                None => Err("its agent does not answer".to_owned()),
                Some(client) => client
                    .get_address(&config.cluster, &server.name, &address, limit)
                    .await
                    .map_err(|error| chain(&error)),
            };
            SeenAt {
                server: server.name.clone(),
                address,
                seen,
            }
        })
    });
    futures::future::join_all(asked).await
}

/// Brings the address up at `server`; true if it was up there already.
///
/// # Errors
/// [`AddressError`].
pub async fn take(config: &ClusterConfig, server: &ServerConfig) -> Result<bool, AddressError> {
    let virtual_ip = config.virtual_ip.as_ref();
    let address = virtual_ip
        .and_then(|v| v.at(&server.name))
        .ok_or(AddressError::NotConfigured)?;
    let agents = Agents::connect(config).await;
    let client = agents.of(server).ok_or_else(|| AddressError::NoAgent {
        server: server.name.clone(),
    })?;
    let limit = config.failover.call_timeout;
    let call = |source| AddressError::Call {
        server: server.name.clone(),
        source,
    };
    let claims = agents.claims(config);
    let foreign = execute::release_stale(config, &agents, &claims, limit).await;
    if let Some(claim) = foreign.into_iter().next() {
        return Err(AddressError::Held(claim));
    }
    let highest = claims.iter().map(|c| c.epoch).max().unwrap_or(0);
    let context = Context {
        cluster: config.cluster.clone(),
        operation: format!("address-{}", uuid::Uuid::new_v4().simple()),
        epoch: highest.saturating_add(1),
    };
    let claim = Claim {
        cluster: context.cluster.clone(),
        epoch: context.epoch,
        operation: context.operation.clone(),
        manager: config.manager_name.clone(),
    };
    client.claim(&claim, limit).await.map_err(call)?;
    let taken = async {
        // Looked at under the claim: no failover replaces it from here on.
        let facts = client
            .observe(&config.cluster, &server.name, limit)
            .await
            .map_err(call)?;
        if let Some(why) = unfit(&facts) {
            return Err(AddressError::NotThePrimary {
                server: server.name.clone(),
                why,
            });
        }
        client
            .take_address(&context, &server.name, address, false, limit)
            .await
            .map_err(call)
    }
    .await;
    // Given back whatever came of it; an agent that is gone keeps it, and the next claim is above it.
    let _ = client.release(&context, limit).await;
    taken
}

/// Why a server is no primary that takes writes.
fn unfit(facts: &crate::facts::ServerFacts) -> Option<String> {
    if let Some(error) = &facts.sql_error {
        return Some(format!("it does not answer SQL: {error}"));
    }
    if let Some(replica) = &facts.replica {
        return Some(format!("it is a replica of {}", replica.source_host));
    }
    match &facts.settings {
        Some(settings) if !settings.read_only => None,
        Some(_) => Some("it is read-only".to_owned()),
        None => Some("its settings are not known".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::survivor_facts;

    #[test]
    fn only_a_server_that_takes_writes_gets_the_address() {
        let mut primary = survivor_facts(1, "1:4", "1:4");
        assert!(unfit(&primary).unwrap().contains("replica of db1"));
        primary.replica = None;
        assert!(unfit(&primary).unwrap().contains("read-only"));
        primary.settings.as_mut().unwrap().read_only = false;
        assert_eq!(unfit(&primary), None);
        primary.sql_error = Some("gone".to_owned());
        assert!(unfit(&primary).unwrap().contains("does not answer SQL"));
    }
}
