//! `SurveyLogs`: what a provider holds.

use std::sync::Arc;

use binlog_core::BinlogPosition;
use proto::convert::{ConvertError, optional};
use proto::status::AgentError;
use proto::v1::{ErrorKind, LogKind, SurveyLogsRequest, SurveyLogsResponse};
use tonic::{Request, Response};

use super::failure::on_wire;
use super::{admit, wire};
use crate::agent::Agent;
use crate::config::BinlogServerConfig;
use crate::logs::copies;
use crate::logs::provider::{RelayProvider, binary_logs};

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<SurveyLogsRequest>,
) -> Result<Response<SurveyLogsResponse>, AgentError> {
    let caller = admit::caller(&request)?;
    let request = request.into_inner();
    let copies = admit::binlog_server(agent, &caller, &request.cluster, &request.server)?;
    if let Some(copies) = copies {
        return of_copies(agent, copies, request).await;
    }
    let server = admit::read(agent, &caller, &request.cluster, &request.server)?;
    let kind = request.kind();
    let from: Option<BinlogPosition> = optional(request.from)?;
    let latest: Option<BinlogPosition> = optional(request.latest)?;
    if kind == LogKind::Unspecified {
        return Err(ConvertError::new("kind", "missing").into());
    }
    let known = server.remembered();
    let surveyed = agent
        .on_disk(move || match kind {
            LogKind::Unspecified | LogKind::Binary => {
                Ok(binary_logs(known.as_ref())?.survey(from.as_ref())?)
            }
            LogKind::Relay => {
                let logs = RelayProvider::open(known.as_ref(), &server.keeper, latest.as_ref())?;
                Ok(logs.survey()?)
            }
        })
        .await
        .ok_or_else(|| AgentError::new(ErrorKind::Io, "the survey was abandoned"))?
        .map_err(|error: crate::logs::LogsError| on_wire(error).with_server(&request.server))?;
    Ok(Response::new(wire::survey(surveyed)))
}

/// Copies are of binary logs, whatever else is asked of them.
async fn of_copies(
    agent: &Arc<Agent>,
    binlog_server: BinlogServerConfig,
    request: SurveyLogsRequest,
) -> Result<Response<SurveyLogsResponse>, AgentError> {
    if request.kind() != LogKind::Binary {
        return Err(ConvertError::new("kind", "a binlog server has binary logs only").into());
    }
    let primary = copies::primary(request.primary_server_id)?;
    let from: Option<BinlogPosition> = optional(request.from)?;
    let surveyed = agent
        .on_disk(move || {
            copies::open(&binlog_server, primary, from.as_ref())?.survey(from.as_ref())
        })
        .await
        .ok_or_else(|| AgentError::new(ErrorKind::Io, "the survey was abandoned"))?
        .map_err(|error| on_wire(error).with_server(&request.server))?;
    Ok(Response::new(wire::survey(surveyed)))
}
