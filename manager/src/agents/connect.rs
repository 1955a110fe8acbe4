//! Reaching an agent: up to three overlapping tries within one deadline, then `GetAgentInfo`.

use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use proto::channel::Target;
use proto::v1;
use tonic::transport::Channel;

use super::client::{AgentClient, unary};
use super::{AgentCallError, BadAnswer};
use crate::config::{AgentEndpoint, Security};

/// Tries before an agent counts as not answering.
const TRIES: u32 = 3;
/// Pause after a refused connection: an agent that restarts is back within it.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(100);

/// Why an agent cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AgentUnreachable {
    /// No connection in any try.
    #[error("{agent} at {address}: no answer after {tries} tries ({last})")]
    NoAnswer {
        /// Agent.
        agent: String,
        /// Address dialled.
        address: String,
        /// Number of tries.
        tries: u32,
        /// What the last try said.
        last: String,
    },
    /// Connected, but the first call failed.
    #[error("{agent}: first call")]
    FirstCall {
        /// Agent.
        agent: String,
        /// Why.
        #[source]
        source: AgentCallError,
    },
    /// Somebody else answered, or in a language of another age.
    #[error("{agent}: not the agent that was wanted")]
    Stranger {
        /// Agent wanted.
        agent: String,
        /// What differs.
        #[source]
        source: BadAnswer,
    },
}

/// A server as its agent knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAtAgent {
    /// Server name.
    pub name: String,
    /// Its cluster.
    pub cluster: String,
    /// Highest epoch stored for the cluster.
    pub stored_epoch: u64,
    /// Operation and manager that hold the cluster there.
    pub holder: Option<(String, String)>,
    /// Manager of record: the one that claimed the cluster there last.
    pub of_record: Option<String>,
}

/// Connects and asks who is there.
///
/// # Errors
/// [`AgentUnreachable`]; nothing was changed at the far end.
pub async fn connect(
    endpoint: &AgentEndpoint,
    security: &Security,
    limit: Duration,
) -> Result<AgentClient, AgentUnreachable> {
    let channel = dial(endpoint, security, limit).await?;
    let info = first_call(endpoint, channel.clone(), limit).await?;
    Ok(AgentClient::new(endpoint.clone(), channel, info))
}

/// The tries overlap: a lost SYN costs a third of the limit, not all of it.
async fn dial(
    endpoint: &AgentEndpoint,
    security: &Security,
    limit: Duration,
) -> Result<Channel, AgentUnreachable> {
    let target = Target {
        address: endpoint.address.clone(),
        tls: match security {
            Security::Tls(material) => Some((material.clone(), endpoint.dns_name.clone())),
            Security::Plaintext => None,
        },
    };
    let slot = limit / TRIES;
    let mut tries: FuturesUnordered<_> = FuturesUnordered::new();
    let mut last = String::new();
    for number in 0..TRIES {
        let remaining = limit.saturating_sub(slot * number);
        tries.push(proto::channel::connect(&target, remaining));
        let slot_over = tokio::time::sleep(slot);
        tokio::pin!(slot_over);
        loop {
            tokio::select! {
                result = tries.next(), if !tries.is_empty() => match result {
                    Some(Ok(channel)) => return Ok(channel),
                    Some(Err(error)) => last = chain(&error),
                    None => {}
                },
                () = &mut slot_over => break,
            }
            if tries.is_empty() {
                if number + 1 < TRIES {
                    tokio::time::sleep(PAUSE_AFTER_REFUSAL.min(slot)).await;
                }
                break;
            }
        }
    }
    while let Some(result) = tries.next().await {
        match result {
            Ok(channel) => return Ok(channel),
            Err(error) => last = chain(&error),
        }
    }
    Err(AgentUnreachable::NoAnswer {
        agent: endpoint.name.clone(),
        address: endpoint.address.clone(),
        tries: TRIES,
        last,
    })
}

async fn first_call(
    endpoint: &AgentEndpoint,
    channel: Channel,
    limit: Duration,
) -> Result<Vec<ServerAtAgent>, AgentUnreachable> {
    let agent = endpoint.name.as_str();
    let mut client = v1::agent_service_client::AgentServiceClient::new(channel);
    let request = v1::GetAgentInfoRequest {
        protocol_revision: proto::PROTOCOL_REVISION,
    };
    let info = unary(agent, "GetAgentInfo", limit, client.get_agent_info(request))
        .await
        .map_err(|source| AgentUnreachable::FirstCall {
            agent: agent.to_owned(),
            source,
        })?;
    let stranger = |source| AgentUnreachable::Stranger {
        agent: agent.to_owned(),
        source,
    };
    if info.name != endpoint.name {
        return Err(stranger(BadAnswer::new(
            "name",
            "the configured agent name",
            info.name,
        )));
    }
    if proto::PROTOCOL_REVISION.abs_diff(info.protocol_revision) > 1 {
        return Err(stranger(BadAnswer::new(
            "protocol_revision",
            "this revision or one beside it",
            info.protocol_revision.to_string(),
        )));
    }
    Ok(info
        .servers
        .into_iter()
        .map(|s| ServerAtAgent {
            name: s.name,
            cluster: s.cluster,
            stored_epoch: s.stored_epoch,
            holder: (!s.holder_operation.is_empty())
                .then_some((s.holder_operation, s.holder_manager)),
            of_record: Some(s.manager_of_record).filter(|name| !name.is_empty()),
        })
        .collect())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
