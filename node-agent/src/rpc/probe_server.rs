//! `ProbeServer`: what this host sees of another server.

use std::sync::Arc;

use proto::probe::{ProbeOrder, Probed};
use proto::status::AgentError;
use proto::v1::{ProbeServerRequest, ProbeServerResponse};
use tonic::{Request, Response};

use super::admit;
use crate::agent::Agent;
use crate::mysqld::Deadline;
use crate::watch::{port, receiver};

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<ProbeServerRequest>,
) -> Result<Response<ProbeServerResponse>, AgentError> {
    let caller = admit::caller(&request)?;
    caller.require(&request.get_ref().cluster)?;
    let order = ProbeOrder::try_from(request.into_inner())?;
    let server = admit::read(agent, &caller, &order.cluster, &order.server)?;
    let (port, receiver) = tokio::join!(
        port::probe(&order.host, order.port, order.deadline),
        receiver::ask(&server, Deadline::after(order.deadline)),
    );
    Ok(Response::new((&Probed { port, receiver }).into()))
}
