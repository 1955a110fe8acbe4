//! `ObserveBinlogServer`: how far the copies of a primary's binary logs have come, by names and sizes.

use std::sync::Arc;

use binlog_core::LogDirectory;
use proto::status::AgentError;
use proto::v1::{ErrorKind, ObserveBinlogServerRequest, ObserveBinlogServerResponse};
use tonic::{Request, Response};

use super::admit;
use super::failure::on_wire;
use crate::agent::Agent;
use crate::logs::copies;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<ObserveBinlogServerRequest>,
) -> Result<Response<ObserveBinlogServerResponse>, AgentError> {
    let caller = admit::caller(&request)?;
    let request = request.into_inner();
    let binlog_server = admit::binlog_server(agent, &caller, &request.cluster, &request.server)?
        .ok_or_else(|| {
            AgentError::new(
                ErrorKind::UnknownServer,
                "this agent has no such binlog server",
            )
            .with_server(&request.server)
        })?;
    let primary = copies::primary(request.primary_server_id)?;
    let directory = binlog_server.directory.display().to_string();
    let newest = agent
        .on_disk(move || LogDirectory::open(&binlog_server.directory)?.newest(primary))
        .await
        .ok_or_else(|| AgentError::new(ErrorKind::Io, "the look was abandoned"))?
        .map_err(|error| on_wire(error).with_server(&request.server))?;
    Ok(Response::new(ObserveBinlogServerResponse {
        directory,
        newest: Some((&newest).into()),
    }))
}
