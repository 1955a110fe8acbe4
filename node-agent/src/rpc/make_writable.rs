//! `MakeWritable`: `read_only=0`, the point of no return.

use std::sync::Arc;

use proto::status::AgentError;
use proto::v1::{ErrorKind, MakeWritableRequest, MakeWritableResponse};
use tonic::{Request, Response};

use super::failure::on_wire;
use super::{admit, replica, work};
use crate::address;
use crate::agent::Agent;
use crate::replication::{self, Waits};

pub(super) async fn handle(
    agent: &Arc<Agent>,
    mut request: Request<MakeWritableRequest>,
) -> Result<Response<MakeWritableResponse>, AgentError> {
    let context = request.get_mut().context.take();
    let admitted = admit::change(agent, &request, context)?;
    let wait_for_replicas = request.into_inner().wait_for_replicas;
    let lane = replica::lane(&admitted.server);
    work::run(agent, admitted, lane, "MakeWritable", |work| async move {
        let local = replica::local(&work)?;
        let epoch = work.context.epoch.get();
        let aside = work.server.guard.stand_aside(epoch).map_err(on_wire)?;
        let waits = replication::make_writable(&local, wait_for_replicas, work.deadline)
            .await
            .map_err(replica::failed)?;
        if !aside.for_good().await.map_err(on_wire)? {
            return Err(AgentError::new(
                ErrorKind::Conflict,
                "an order to keep the server read-only came while it was opened",
            ));
        }
        work.server.watch.is_read_only(false);
        work.server.lease.begin_anew();
        address::regain(&work.server, work.context.operation.as_str(), epoch);
        Ok(answer(waits))
    })
    .await
}

/// That it is open was read back: [`replication::make_writable`] fails otherwise.
fn answer(waits: Waits) -> MakeWritableResponse {
    let (waits_by, waits_not) = match waits {
        Waits::NotAsked => (String::new(), String::new()),
        Waits::By(variable) => (variable.to_owned(), String::new()),
        Waits::Not { why } => (String::new(), why),
    };
    MakeWritableResponse {
        read_only: false,
        waits_by,
        waits_not,
    }
}
