//! `ObserveServer`: everything election and plan need to know about one server.

use std::sync::Arc;
use std::time::Duration;

use proto::status::AgentError;
use proto::v1::{ErrorKind, ObserveServerRequest, ServerState};
use tonic::{Request, Response};

use super::admit;
use super::failure::on_wire;
use crate::agent::{Agent, LocalServer};
use crate::error::chain;
use crate::mysqld::wire::{AgentFacts, server_state};
use crate::mysqld::{Alive, Session};
use crate::replication::{credentials, unfinished_replay};

/// Longest wait for each answer of the server. The caller's own deadline may be shorter: then the call is dropped, and the
/// connection with it.
const LIMIT: Duration = Duration::from_secs(3);

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<ObserveServerRequest>,
) -> Result<Response<ServerState>, AgentError> {
    let caller = admit::caller(&request)?;
    let request = request.into_inner();
    let server = admit::read(agent, &caller, &request.cluster, &request.server)?;
    let observed = server.observe(LIMIT).await.map_err(|error| {
        AgentError::new(ErrorKind::NoCredentials, chain(&error)).with_server(&request.server)
    })?;
    let held_down_by = server.fence.hold().map(|hold| hold.operation);
    let unfinished_replay = unfinished_replay(&server.config.state_dir)
        .map_err(|error| on_wire(error).with_server(&request.server))?;
    let credentials_source = match &observed.sql {
        Ok(alive) => credentials_source(&server, alive).await,
        Err(_) => None,
    };
    let facts = AgentFacts {
        held_down_by: held_down_by.unwrap_or_default(),
        unfinished_replay: unfinished_replay.unwrap_or_default(),
        credentials_source: credentials_source.unwrap_or_default().to_owned(),
    };
    Ok(Response::new(server_state(
        &request.server,
        &observed,
        facts,
    )))
}

/// Where the channel's replication account was found; `None` for a server that is no replica, or if nowhere, with the
/// reason in the log.
async fn credentials_source(server: &LocalServer, alive: &Alive) -> Option<&'static str> {
    let status = alive.replica.as_ref()?;
    let found = async {
        let local = server.local().map_err(|error| chain(&error))?;
        let mut session = Session::connect(&local.endpoint, LIMIT)
            .await
            .map_err(|error| chain(&error))?;
        let found = credentials::find(
            &local,
            &mut session,
            status,
            &alive.variables,
            &alive.remembered,
            LIMIT,
        )
        .await
        .map_err(|error| chain(&error));
        session.close(LIMIT).await;
        found
    };
    match found.await {
        Ok(credentials) => Some(credentials.found_in.as_str()),
        Err(error) => {
            tracing::warn!(
                server = server.config.name,
                error,
                "no replication credentials"
            );
            None
        }
    }
}
