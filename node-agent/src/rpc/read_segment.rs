//! `ReadSegment`: hands out a stored segment, chunk by chunk.

use std::sync::Arc;

use proto::convert::{OperationId, SegmentId};
use proto::status::AgentError;
use proto::v1::{ErrorKind, ReadSegmentRequest, SegmentChunk};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::admit;
use super::failure::on_wire;
use crate::agent::Agent;
use crate::logs::chunks::read;

/// Chunks in order, then the end or an error.
pub(super) type Chunks =
    std::pin::Pin<Box<dyn Stream<Item = Result<SegmentChunk, Status>> + Send + 'static>>;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<ReadSegmentRequest>,
) -> Result<Response<Chunks>, AgentError> {
    let caller = admit::caller(&request)?;
    let request = request.into_inner();
    if admit::binlog_server(agent, &caller, &request.cluster, &request.server)?.is_none() {
        admit::read(agent, &caller, &request.cluster, &request.server)?;
    }
    let operation: OperationId = request.operation.parse()?;
    let id: SegmentId = request.segment_id.parse()?;
    let store = agent.segments.clone();
    let stored = agent
        .on_disk(move || store.get(&request.cluster, operation.as_str(), id.as_str()))
        .await
        .ok_or_else(|| AgentError::new(ErrorKind::Io, "the read was abandoned"))?
        .map_err(on_wire)?;
    let chunks = read(&stored, request.offset).map_err(on_wire)?;
    let host = agent.config.name.clone();
    let chunks = ReceiverStream::new(chunks)
        .map(move |chunk| chunk.map_err(|error| on_wire(error).with_host(&host).into()));
    Ok(Response::new(Box::pin(chunks)))
}
