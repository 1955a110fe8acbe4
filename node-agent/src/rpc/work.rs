//! How a change is carried out: as a flight of its lane, in a task of its own, watched by the caller as long as he stays.

use std::future::Future;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use proto::convert::Context;
use proto::status::AgentError;
use proto::v1::ErrorKind;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};
use tracing::Instrument;

use super::admit::Admitted;
use super::failure::on_wire;
use crate::agent::{Agent, LocalServer};
use crate::mysqld::Deadline;
use crate::state::flight::{Flight, Lane, Owner};

/// The answer of a streaming change: progress, then the outcome.
pub(super) type Progressing<M> = ReceiverStream<Result<M, Status>>;

/// Progress messages that may wait for a slow caller; more are left out, since only the last one counts.
const WAITING_MESSAGES: usize = 8;

/// What a change works with.
pub(super) struct Work<S = Arc<LocalServer>> {
    /// The agent.
    pub(super) agent: Arc<Agent>,
    /// The server.
    pub(super) server: S,
    /// The call's context.
    pub(super) context: Context,
    /// When a caller of a single answer stops waiting.
    pub(super) deadline: Deadline,
}

/// Runs a change that has a single answer.
///
/// # Errors
/// The work's own; the lane is busy; a newer epoch took over; no end within the deadline, which says nothing about the
/// outcome.
pub(super) async fn run<T, F>(
    agent: &Arc<Agent>,
    admitted: Admitted,
    lane: Lane,
    call: &'static str,
    work: impl FnOnce(Work) -> F,
) -> Result<Response<T>, AgentError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, AgentError>> + Send + 'static,
{
    let deadline = Deadline::after(admitted.context.deadline);
    let server = admitted.context.server.clone();
    let (flight, admitted) = board(agent, admitted, lane, call).await?;
    let span = span(&admitted.context, call);
    let work = work(Work {
        agent: Arc::clone(agent),
        server: admitted.server,
        context: admitted.context,
        deadline,
    });
    let task = tokio::spawn(
        async move {
            let done = until_superseded(&flight, work).await;
            log_end(&done);
            done
        }
        .instrument(span),
    );
    match tokio::time::timeout(deadline.remaining(), task).await {
        Ok(Ok(done)) => done
            .map(Response::new)
            .map_err(|error| named(error, &server)),
        Ok(Err(_)) => Err(unknown(&server, "the work was abandoned")),
        Err(_) => Err(unknown(
            &server,
            "no end within the deadline; the work goes on",
        )),
    }
}

/// Who notices that nothing moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stall {
    /// The runner: without a change of the progress for the context's deadline the caller is told so, while the work goes
    /// on. For work on a disk, which cannot be interrupted.
    Watched,
    /// The work itself ends with an error.
    ByWork,
}

/// Runs a change that reports progress. The stream ends with `Ok(last message)` or the error.
///
/// # Errors
/// The lane is busy; a newer epoch took over.
pub(super) async fn run_streaming<M, F, S>(
    agent: &Arc<Agent>,
    admitted: Admitted<S>,
    lane: Lane,
    call: &'static str,
    stall: Stall,
    work: impl FnOnce(Work<S>, Progress<M>) -> F,
) -> Result<Response<Progressing<M>>, AgentError>
where
    M: PartialEq + Clone + Send + 'static,
    F: Future<Output = Result<M, AgentError>> + Send + 'static,
{
    let limit = admitted.context.deadline;
    let server = admitted.context.server.clone();
    let host = agent.config.name.clone();
    let (flight, admitted) = board(agent, admitted, lane, call).await?;
    let span = span(&admitted.context, call);
    let (sender, receiver) = mpsc::channel(WAITING_MESSAGES);
    let progress = Progress::new(sender.clone());
    let moved = progress.moved();
    let work = work(
        Work {
            agent: Arc::clone(agent),
            server: admitted.server,
            deadline: Deadline::after(limit),
            context: admitted.context,
        },
        progress,
    );
    let status = move |error: AgentError| Status::from(named(error, &server).with_host(host));
    tokio::spawn(
        async move {
            let work = until_superseded(&flight, work);
            tokio::pin!(work);
            let stalled = async {
                match stall {
                    Stall::Watched => stalled(moved, limit).await,
                    Stall::ByWork => std::future::pending().await,
                }
            };
            tokio::pin!(stalled);
            let done = tokio::select! {
                done = &mut work => done,
                () = &mut stalled => {
                    let error = AgentError::new(
                        ErrorKind::NoProgress,
                        format!("nothing moved for {limit:?}; the work goes on"),
                    );
                    tracing::warn!(%error, "caller told");
                    // The caller may be gone as well.
                    let _ = sender.try_send(Err(status(error)));
                    drop(sender);
                    // The lane stays taken until the work has ended.
                    log_end(&work.await);
                    return;
                }
            };
            log_end(&done);
            let last = done.map_err(status);
            // A caller that takes nothing for so long is gone; the lane must not wait for it.
            let _ = tokio::time::timeout(limit, sender.send(last)).await;
        }
        .instrument(span),
    );
    Ok(Response::new(ReceiverStream::new(receiver)))
}

/// Waits for the lane; then the epoch is checked again, since it may have changed meanwhile.
async fn board<S>(
    agent: &Arc<Agent>,
    admitted: Admitted<S>,
    lane: Lane,
    call: &'static str,
) -> Result<(Flight, Admitted<S>), AgentError> {
    let context = &admitted.context;
    let owner = Owner {
        cluster: context.cluster.clone(),
        epoch: context.epoch.get(),
        call,
    };
    let flight = agent
        .flights
        .enter(lane, owner, context.deadline)
        .await
        .map_err(|busy| named(on_wire(busy), &context.server))?;
    if admitted.claimed {
        agent.epochs.check(context).map_err(on_wire)?;
    }
    Ok((flight, admitted))
}

/// The work's result, unless a newer epoch takes the cluster over: then the work is dropped where it stands, which all
/// work here is written to bear.
async fn until_superseded<T>(
    flight: &Flight,
    work: impl Future<Output = Result<T, AgentError>>,
) -> Result<T, AgentError> {
    let cancelled = flight.cancelled();
    tokio::select! {
        biased;
        () = cancelled.cancelled() => Err(AgentError::new(
            ErrorKind::StaleEpoch,
            "a newer epoch took the cluster over while the work was in progress",
        )),
        done = work => done,
    }
}

fn named(error: AgentError, server: &str) -> AgentError {
    if error.server.is_empty() {
        error.with_server(server)
    } else {
        error
    }
}

fn unknown(server: &str, why: &str) -> AgentError {
    AgentError::new(ErrorKind::OutcomeUnknown, why).with_server(server)
}

fn span(context: &Context, call: &'static str) -> tracing::Span {
    tracing::info_span!(
        "call",
        call,
        server = context.server,
        operation = %context.operation,
        epoch = context.epoch
    )
}

fn log_end<T>(done: &Result<T, AgentError>) {
    match done {
        Ok(_) => tracing::info!("done"),
        Err(error) => tracing::warn!(%error, "failed"),
    }
}

/// Returns when nothing has moved for `limit`.
async fn stalled(moved: Arc<Mutex<Instant>>, limit: Duration) {
    loop {
        let last = *moved.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= limit {
            return;
        }
        sleep_until(last + limit).await;
    }
}

/// Reports progress: each change of it once.
#[derive(Debug)]
pub(super) struct Progress<M> {
    sender: mpsc::Sender<Result<M, Status>>,
    last: Option<M>,
    moved: Arc<Mutex<Instant>>,
}

impl<M: PartialEq + Clone> Progress<M> {
    fn new(sender: mpsc::Sender<Result<M, Status>>) -> Self {
        Self {
            sender,
            last: None,
            moved: Arc::new(Mutex::new(Instant::now())),
        }
    }

    fn moved(&self) -> Arc<Mutex<Instant>> {
        Arc::clone(&self.moved)
    }

    /// Sends `message` if it differs from the last one; leaves it out if the caller is slow or gone.
    pub(super) fn report(&mut self, message: M) {
        if self.last.as_ref() == Some(&message) {
            return;
        }
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        // One place stays free for the outcome.
        if self.sender.capacity() > 1 {
            let _ = self.sender.try_send(Ok(message.clone()));
        }
        self.last = Some(message);
    }
}
