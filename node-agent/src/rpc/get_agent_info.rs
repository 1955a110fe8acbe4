//! `GetAgentInfo`: who answers, and for which servers; only those of clusters the caller's certificate is for.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use proto::status::AgentError;
use proto::v1::{AgentServer, ErrorKind, GetAgentInfoRequest, GetAgentInfoResponse};
use proto::{PROTOCOL_REVISION, capability};
use tonic::{Request, Response};

use super::admit;
use crate::agent::Agent;

/// Optional abilities of this build.
const CAPABILITIES: [&str; 8] = [
    "local-source",
    "relay-keeping",
    "segment-transfer",
    "hold-down",
    capability::WATCH,
    capability::PROBE,
    capability::LEASE,
    capability::VIRTUAL_IP,
];

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<GetAgentInfoRequest>,
) -> Result<Response<GetAgentInfoResponse>, AgentError> {
    let caller = admit::caller(&request)?;
    let theirs = request.get_ref().protocol_revision;
    // Revisions N and N-1 work together.
    if theirs.abs_diff(PROTOCOL_REVISION) > 1 {
        return Err(
            AgentError::new(ErrorKind::Unsupported, "protocol revisions do not fit").with_found(
                format!("{PROTOCOL_REVISION} or a neighbour"),
                theirs.to_string(),
            ),
        );
    }
    let of_servers = agent.config.servers.iter().map(|s| (&s.name, &s.cluster));
    let directories = agent.config.binlog_servers.iter();
    let servers = of_servers
        .chain(directories.map(|b| (&b.name, &b.cluster)))
        .filter(|(_, cluster)| caller.covers(cluster))
        .map(|(name, cluster)| {
            // An unreadable epoch is told to whoever claims; here the cluster just has none.
            let stored = agent.epochs.stored(cluster).unwrap_or_default();
            let manager_of_record = stored
                .of_record()
                .map(|record| record.manager.clone())
                .unwrap_or_default();
            let (operation, manager) = stored
                .holder
                .map(|holder| (holder.operation, holder.manager))
                .unwrap_or_default();
            AgentServer {
                name: name.clone(),
                cluster: cluster.clone(),
                stored_epoch: stored.epoch,
                holder_operation: operation,
                holder_manager: manager,
                manager_of_record,
            }
        })
        .collect();
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok(Response::new(GetAgentInfoResponse {
        name: agent.config.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol_revision: PROTOCOL_REVISION,
        capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
        clock_unix_ms: i64::try_from(clock.as_millis()).unwrap_or(i64::MAX),
        boot_id: agent.boot_id.clone(),
        servers,
    }))
}
