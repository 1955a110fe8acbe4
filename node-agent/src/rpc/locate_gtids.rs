//! `LocateGtids`: where a server stands in the primary's stream by its GTIDs.

use std::sync::Arc;

use binlog_core::{BinlogPosition, GtidState};
use proto::convert::{ConvertError, optional};
use proto::status::AgentError;
use proto::v1::{ErrorKind, LocateGtidsRequest, LocateGtidsResponse, LogKind};
use tonic::{Request, Response};

use super::admit;
use super::failure::on_wire;
use crate::agent::Agent;
use crate::logs::LogsError;
use crate::logs::provider::{RelayProvider, binary_logs};

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<LocateGtidsRequest>,
) -> Result<Response<LocateGtidsResponse>, AgentError> {
    let caller = admit::caller(&request)?;
    let request = request.into_inner();
    let server = admit::read(agent, &caller, &request.cluster, &request.server)?;
    let kind = request.kind();
    if kind == LogKind::Unspecified {
        return Err(ConvertError::new("kind", "missing").into());
    }
    let latest: Option<BinlogPosition> = optional(request.latest)?;
    let known = server.remembered();
    let mariadb = known
        .as_ref()
        .is_some_and(|known| known.identity.version.is_mariadb());
    let state = |field: &'static str, text: &str| {
        GtidState::parse(text, mariadb).map_err(|error| ConvertError::new(field, error.to_string()))
    };
    let held = state("held", &request.held)?;
    let owner = state("owner", &request.owner)?;
    let (place, ever_held) = agent
        .on_disk(move || {
            Ok(match kind {
                LogKind::Unspecified | LogKind::Binary => {
                    let logs = binary_logs(known.as_ref())?;
                    let ever_held = if mariadb {
                        None
                    } else {
                        logs.gtids_ever_held()?
                    };
                    (logs.place_of(&held)?, ever_held)
                }
                LogKind::Relay => {
                    let logs =
                        RelayProvider::open(known.as_ref(), &server.keeper, latest.as_ref())?;
                    (logs.place_of(&held, &owner)?, None)
                }
            })
        })
        .await
        .ok_or_else(|| AgentError::new(ErrorKind::Io, "the search was abandoned"))?
        .map_err(|error: LogsError| on_wire(error).with_server(&request.server))?;
    Ok(Response::new(LocateGtidsResponse {
        place: place.as_ref().map(Into::into),
        ever_held: ever_held.map(|set| set.to_string()),
    }))
}
