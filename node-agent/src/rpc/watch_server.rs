//! `WatchServer`: the state of one server as it changes.

use std::sync::Arc;

use proto::status::AgentError;
use proto::v1::{ErrorKind, WatchServerRequest, WatchedState};
use proto::watch::WatchOrder;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::admit;
use crate::agent::Agent;

/// States in order, until the caller goes away.
pub(super) type States = ReceiverStream<Result<WatchedState, Status>>;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<WatchServerRequest>,
) -> Result<Response<States>, AgentError> {
    let caller = admit::caller(&request)?;
    caller.require(&request.get_ref().cluster)?;
    let order = WatchOrder::try_from(request.into_inner())?;
    admit::read(agent, &caller, &order.cluster, &order.server)?;
    Err(AgentError::new(
        ErrorKind::Unsupported,
        "this build does not watch; it does not name the capability",
    ))
}
