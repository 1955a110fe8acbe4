//! `WatchServer`: the state of one server as it changes.

use std::sync::Arc;
use std::time::Duration;

use proto::status::AgentError;
use proto::v1::{WatchServerRequest, WatchedState};
use proto::watch::{Cause, WatchOrder, Watched};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::admit;
use crate::agent::{Agent, LocalServer};

/// States in order, until the caller goes away.
pub(super) type States = ReceiverStream<Result<WatchedState, Status>>;

/// A caller that takes nothing for so long is gone.
const UNREAD_LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<WatchServerRequest>,
) -> Result<Response<States>, AgentError> {
    let caller = admit::caller(&request)?;
    caller.require(&request.get_ref().cluster)?;
    let order = WatchOrder::try_from(request.into_inner())?;
    let server = admit::read(agent, &caller, &order.cluster, &order.server)?;
    // One place: a slow caller gets the newest state, not a queue of old ones.
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(stream(Arc::clone(agent), server, order.heartbeat, sender));
    Ok(Response::new(ReceiverStream::new(receiver)))
}

async fn stream(
    agent: Arc<Agent>,
    server: Arc<LocalServer>,
    heartbeat: Duration,
    caller: mpsc::Sender<Result<WatchedState, Status>>,
) {
    let mut news = server.watch.subscribe();
    let mut last = agent.watched(&server, Cause::Present);
    loop {
        if !send(&caller, &last).await {
            return;
        }
        let due = Instant::now() + heartbeat;
        last = loop {
            let cause = tokio::select! {
                () = agent.stopping.cancelled() => return,
                () = caller.closed() => return,
                changed = news.changed() => match changed {
                    Ok(()) => Cause::Change,
                    Err(_) => return,
                },
                () = sleep_until(due) => Cause::Heartbeat,
            };
            let now = agent.watched(&server, cause);
            if cause == Cause::Heartbeat || !now.same_facts(&last) {
                break now;
            }
        };
    }
}

async fn send(caller: &mpsc::Sender<Result<WatchedState, Status>>, state: &Watched) -> bool {
    matches!(
        timeout(UNREAD_LIMIT, caller.send(Ok(state.into()))).await,
        Ok(Ok(()))
    )
}
