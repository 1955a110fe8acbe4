//! `FindRelayLogs`: where a primary position is in the relay logs.

use std::sync::Arc;

use binlog_core::BinlogPosition;
use proto::convert::{convert, optional};
use proto::status::AgentError;
use proto::v1::{ErrorKind, FindRelayLogsRequest, FindRelayLogsResponse, RelayPosition};
use tonic::{Request, Response};

use super::admit;
use super::failure::on_wire;
use crate::agent::Agent;
use crate::logs::LogsError;
use crate::logs::provider::RelayProvider;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<FindRelayLogsRequest>,
) -> Result<Response<FindRelayLogsResponse>, AgentError> {
    let caller = admit::caller(&request)?;
    let request = request.into_inner();
    let server = admit::read(agent, &caller, &request.cluster, &request.server)?;
    let target: BinlogPosition = convert(request.target, "target")?;
    let latest: Option<BinlogPosition> = optional(request.latest)?;
    let known = server.remembered();
    let located = agent
        .on_disk(move || {
            let logs = RelayProvider::open(known.as_ref(), &server.keeper, latest.as_ref())?;
            Ok(logs.locate(&target)?)
        })
        .await
        .ok_or_else(|| AgentError::new(ErrorKind::Io, "the search was abandoned"))?
        .map_err(|error: LogsError| on_wire(error).with_server(&request.server))?;
    Ok(Response::new(FindRelayLogsResponse {
        position: Some(RelayPosition::from(&located.position)),
        at_end: located.at_end,
    }))
}
