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
use crate::logs::provider::{RelayProvider, binary_logs};

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<SurveyLogsRequest>,
) -> Result<Response<SurveyLogsResponse>, AgentError> {
    let caller = admit::caller(&request)?;
    let request = request.into_inner();
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
