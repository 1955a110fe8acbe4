//! `DescribeEvent`: the event that ends nearest before a position, to compare two providers.

use std::sync::Arc;

use binlog_core::BinlogPosition;
use proto::convert::{ConvertError, convert, optional};
use proto::status::AgentError;
use proto::v1::{DescribeEventRequest, DescribeEventResponse, ErrorKind, LogKind};
use tonic::{Request, Response};

use super::failure::on_wire;
use super::{admit, wire};
use crate::agent::Agent;
use crate::config::BinlogServerConfig;
use crate::logs::provider::{RelayProvider, binary_logs};
use crate::logs::{LogsError, copies};

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<DescribeEventRequest>,
) -> Result<Response<DescribeEventResponse>, AgentError> {
    let caller = admit::caller(&request)?;
    let request = request.into_inner();
    let copies = admit::binlog_server(agent, &caller, &request.cluster, &request.server)?;
    if let Some(copies) = copies {
        return of_copies(agent, copies, request).await;
    }
    let server = admit::read(agent, &caller, &request.cluster, &request.server)?;
    let kind = request.kind();
    let before: BinlogPosition = convert(request.before, "before")?;
    let latest: Option<BinlogPosition> = optional(request.latest)?;
    if kind == LogKind::Unspecified {
        return Err(ConvertError::new("kind", "missing").into());
    }
    let known = server.remembered();
    let found = agent
        .on_disk(move || match kind {
            LogKind::Unspecified | LogKind::Binary => {
                Ok(binary_logs(known.as_ref())?.event_before(&before)?)
            }
            LogKind::Relay => {
                let logs = RelayProvider::open(known.as_ref(), &server.keeper, latest.as_ref())?;
                Ok(logs.event_before(&before)?)
            }
        })
        .await
        .ok_or_else(|| AgentError::new(ErrorKind::Io, "the search was abandoned"))?
        .map_err(|error: LogsError| on_wire(error).with_server(&request.server))?;
    Ok(Response::new(DescribeEventResponse {
        event: found.map(wire::event_digest),
    }))
}

async fn of_copies(
    agent: &Arc<Agent>,
    binlog_server: BinlogServerConfig,
    request: DescribeEventRequest,
) -> Result<Response<DescribeEventResponse>, AgentError> {
    if request.kind() != LogKind::Binary {
        return Err(ConvertError::new("kind", "a binlog server has binary logs only").into());
    }
    let primary = copies::primary(request.primary_server_id)?;
    let before: BinlogPosition = convert(request.before, "before")?;
    let found = agent
        .on_disk(move || {
            copies::open(&binlog_server, primary, Some(&before))?.event_before(&before)
        })
        .await
        .ok_or_else(|| AgentError::new(ErrorKind::Io, "the search was abandoned"))?
        .map_err(|error| on_wire(error).with_server(&request.server))?;
    Ok(Response::new(DescribeEventResponse {
        event: found.map(wire::event_digest),
    }))
}
