//! Streams of progress: they end with an outcome, an error, or because nothing moved for too long.

use std::time::Duration;

use binlog_core::BinlogPosition;
use proto::status::CallError;
use proto::v1;
use tokio::time::Instant;
use tonic::{Response, Status, Streaming};

use super::AgentCallError;
use super::convert::{self, BadAnswer};
use super::values::SegmentRef;
use crate::facts::LogEnd;

/// How much longer than the agent's own limit for lack of progress the manager waits: the agent knows better what
/// moved and its reason is the better one.
const GRACE: Duration = Duration::from_secs(2);

/// What a cut or a transfer brought.
#[derive(Debug, Clone)]
pub enum SegmentOutcome {
    /// A segment in the agent's store.
    Segment(Box<SegmentRef>),
    /// There was nothing to save.
    Nothing(NothingSaved),
}

/// The log holds no transaction after the start.
#[derive(Debug, Clone)]
pub struct NothingSaved {
    /// How the log ends.
    pub end: Option<LogEnd>,
    /// Where in the primary's stream.
    pub at: Option<BinlogPosition>,
    /// Why.
    pub reason: String,
}

/// Reads a stream of `T` until `step` returns an outcome. `step` also says whether the message was progress.
pub(super) async fn drive<T, O>(
    agent: &str,
    call: &'static str,
    limit: Duration,
    opening: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    mut step: impl FnMut(T) -> Result<Step<O>, BadAnswer>,
) -> Result<O, AgentCallError> {
    let limit = limit + GRACE;
    let timed_out = || AgentCallError::TimedOut {
        agent: agent.to_owned(),
        call,
        limit_ms: limit.as_millis(),
    };
    let lost = |status: &Status| AgentCallError::Call(CallError::from_status(agent, status));
    let mut stream = tokio::time::timeout(limit, opening)
        .await
        .map_err(|_| timed_out())?
        .map_err(|status| lost(&status))?
        .into_inner();
    let mut stalls_at = Instant::now() + limit;
    loop {
        let message = tokio::time::timeout_at(stalls_at, stream.message())
            .await
            .map_err(|_| timed_out())?
            .map_err(|status| lost(&status))?
            .ok_or_else(|| lost(&Status::unavailable("the stream ended without an outcome")))?;
        let step = step(message).map_err(|source| AgentCallError::Answer {
            agent: agent.to_owned(),
            call,
            source,
        })?;
        match step {
            Step::Done(outcome) => return Ok(outcome),
            Step::Moved => stalls_at = Instant::now() + limit,
            Step::Still => {}
        }
    }
}

/// What one message of a stream means.
pub(super) enum Step<O> {
    /// The outcome.
    Done(O),
    /// Something moved.
    Moved,
    /// Nothing moved.
    Still,
}

/// Reads a stream of `SegmentProgress`; bytes are the progress.
pub(super) fn segment_step()
-> impl FnMut(v1::SegmentProgress) -> Result<Step<SegmentOutcome>, BadAnswer> {
    let mut done_before = None;
    move |message| match message.event {
        Some(v1::segment_progress::Event::Progress(p)) => {
            let moved = done_before.is_none_or(|before| p.done > before);
            done_before = Some(p.done);
            Ok(if moved { Step::Moved } else { Step::Still })
        }
        Some(v1::segment_progress::Event::Done(info)) => {
            segment(info).map(|s| Step::Done(SegmentOutcome::Segment(Box::new(s))))
        }
        Some(v1::segment_progress::Event::Nothing(nothing)) => {
            Ok(Step::Done(SegmentOutcome::Nothing(NothingSaved {
                end: nothing.end.map(convert::log_end).transpose()?,
                at: convert::position("nothing.at", nothing.at)?,
                reason: nothing.reason,
            })))
        }
        None => Err(BadAnswer::new("event", "progress or an outcome", "nothing")),
    }
}

/// Id, digest and manifest are checked against each other by the conversion.
fn segment(info: v1::SegmentInfo) -> Result<SegmentRef, BadAnswer> {
    let checked = proto::convert::Segment::try_from(info.clone()).map_err(|e| {
        BadAnswer::new(
            "segment",
            "a segment that agrees with its manifest",
            e.to_string(),
        )
    })?;
    let manifest = checked.manifest;
    if manifest.size != info.size || manifest.sha256 != hex::encode(&info.sha256) {
        return Err(BadAnswer::new(
            "segment.manifest_json",
            "size and sha256 of the segment",
            format!("{} {}", manifest.size, manifest.sha256),
        ));
    }
    Ok(SegmentRef {
        id: info.id.clone(),
        manifest,
        wire: info,
    })
}
