//! `ProbeServer`: what this host sees of another server.

use std::sync::Arc;

use proto::probe::ProbeOrder;
use proto::status::AgentError;
use proto::v1::{ErrorKind, ProbeServerRequest, ProbeServerResponse};
use tonic::{Request, Response};

use super::admit;
use crate::agent::Agent;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<ProbeServerRequest>,
) -> Result<Response<ProbeServerResponse>, AgentError> {
    let caller = admit::caller(&request)?;
    caller.require(&request.get_ref().cluster)?;
    let order = ProbeOrder::try_from(request.into_inner())?;
    admit::read(agent, &caller, &order.cluster, &order.server)?;
    Err(AgentError::new(
        ErrorKind::Unsupported,
        "this build does not probe; it does not name the capability",
    ))
}
