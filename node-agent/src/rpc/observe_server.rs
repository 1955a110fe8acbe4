//! `ObserveServer`: everything election and plan need to know about one server.

use std::sync::Arc;
use std::time::Duration;

use proto::status::AgentError;
use proto::v1::{ErrorKind, ObserveServerRequest, ServerState};
use tonic::{Request, Response};

use super::admit;
use crate::agent::Agent;
use crate::error::chain;
use crate::mysqld::wire::{AgentFacts, server_state};

/// Longest wait for each answer of the server. The caller's own deadline may be shorter: then the call is dropped, and the
/// connection with it.
const LIMIT: Duration = Duration::from_secs(3);
/// The same for a server that has hung for a while already.
const ONCE_MORE: Duration = Duration::from_millis(300);

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<ObserveServerRequest>,
) -> Result<Response<ServerState>, AgentError> {
    let caller = admit::caller(&request)?;
    let request = request.into_inner();
    let server = admit::read(agent, &caller, &request.cluster, &request.server)?;
    let limit = if server.watch.hangs() {
        ONCE_MORE
    } else {
        LIMIT
    };
    let (observed, channel) = server.observe(limit).await.map_err(|error| {
        AgentError::new(ErrorKind::NoCredentials, chain(&error)).with_server(&request.server)
    })?;
    let configured = server.configured_read_only().await;
    let held_down_by = server.fence.hold().map(|hold| hold.operation);
    let facts = AgentFacts {
        held_down_by: held_down_by.unwrap_or_default(),
        unfinished_replay: channel.unfinished_replay,
        credentials_source: channel.credentials_source,
        configured_read_only: configured,
    };
    Ok(Response::new(server_state(
        &request.server,
        &observed,
        facts,
    )))
}
