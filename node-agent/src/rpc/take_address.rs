//! `TakeAddress`: the virtual IP comes up on this host.

use std::sync::Arc;

use proto::address::TakeOrder;
use proto::status::AgentError;
use proto::v1::{TakeAddressRequest, TakeAddressResponse};
use tonic::{Request, Response};

use super::failure::on_wire;
use super::{admit, work};
use crate::address;
use crate::agent::Agent;
use crate::state::flight::Lane;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<TakeAddressRequest>,
) -> Result<Response<TakeAddressResponse>, AgentError> {
    let admitted = admit::change(agent, &request, request.get_ref().context.clone())?;
    let order = TakeOrder::try_from(request.into_inner())?;
    let lane = Lane::Address(admitted.server.config.name.clone());
    work::run(agent, admitted, lane, "TakeAddress", |work| async move {
        let was_there = address::take(&work.server, &order).await.map_err(on_wire)?;
        Ok(TakeAddressResponse { was_there })
    })
    .await
}
