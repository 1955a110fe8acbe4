//! The address that moves with the primary, outside a failover: where it is, and bringing it up at a living primary.
//!
//! Needed once, when a cluster gets its address, and when somebody has taken it down. Guarantees: the address goes to a server
//! that answers SQL, is no replica and is open for writes, or nowhere; its agent is claimed for this one act with an epoch above
//! all others, so that no failover can be under way there; a host that answers for the address keeps it.

use std::sync::Arc;

use proto::address::VirtualAddress;

use crate::agents::{AddressFacts, AgentCallError};
use crate::config::{ClusterConfig, ServerConfig};
use crate::execute::{Alone, NotBegun};
use crate::exit_code::ExitCode;
use crate::journal::{NoHook, StepOutcome};
use crate::observe::{Agents, chain};
use crate::plan::Act;

/// How ids of such operations begin.
const KIND: &str = "address";

/// Why the address was not brought up.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// There is none.
    #[error("the configuration has no virtual_ip")]
    NotConfigured,
    /// The server is no primary that takes writes.
    #[error("{server} does not get the address: {why}")]
    NotThePrimary {
        /// The server.
        server: String,
        /// What was seen.
        why: String,
    },
    /// It did not begin.
    #[error("the address is not touched")]
    NotBegun(#[from] NotBegun),
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

impl AddressError {
    /// The command's exit code.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::NotBegun(source) => source.exit_code(),
            Self::NotThePrimary { .. } => ExitCode::Refused,
            Self::Call { source, .. } if source.is_lost() => ExitCode::OutcomeUnknown,
            Self::NotConfigured | Self::Call { .. } => ExitCode::Failed,
        }
    }
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
    let act = Act::TakeAddress {
        server: server.name.clone(),
        holder_fenced: false,
    };
    let alone = Alone::begin(config, server, KIND, act, Arc::new(NoHook)).await?;
    let taken = look_and_take(config, server, address, &alone).await;
    let outcome = match &taken {
        Ok(was_there) => Ok(StepOutcome::AddressTaken {
            was_there: *was_there,
        }),
        Err(error) => Err((error.exit_code(), chain(error))),
    };
    alone.end(config, outcome).await;
    taken
}

async fn look_and_take(
    config: &ClusterConfig,
    server: &ServerConfig,
    address: &VirtualAddress,
    alone: &Alone,
) -> Result<bool, AddressError> {
    let limit = config.failover.call_timeout;
    let call = |source| AddressError::Call {
        server: server.name.clone(),
        source,
    };
    // Looked at under the claim: no failover replaces it from here on.
    let facts = alone
        .client
        .observe(&config.cluster, &server.name, limit)
        .await
        .map_err(call)?;
    if let Some(why) = unfit(&facts) {
        return Err(AddressError::NotThePrimary {
            server: server.name.clone(),
            why,
        });
    }
    alone
        .client
        .take_address(&alone.context, &server.name, address, false, limit)
        .await
        .map_err(call)
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
