//! The server side: hands questions to the clusters' tasks.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use proto::v1;
use proto::v1::manager_service_server::{ManagerService, ManagerServiceServer};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status};

use super::{ApiError, wire};
use crate::daemon::{Command, Handle, Handles, State};

/// Longest time for a cluster's task to answer; it never waits for anything that takes longer, but a journal's disk.
const ANSWER: Duration = Duration::from_secs(10);

/// Makes the socket: mode 0600 before anybody can connect. A socket that a dead manager left is replaced, one that a
/// living manager serves is not.
///
/// # Errors
/// [`ApiError::Taken`], [`ApiError::Bind`].
pub fn bind(socket: &Path) -> Result<UnixListener, ApiError> {
    let failed = |source| ApiError::Bind {
        socket: socket.to_owned(),
        source,
    };
    match UnixStream::connect(socket) {
        Ok(_) => {
            return Err(ApiError::Taken {
                socket: socket.to_owned(),
            });
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(socket).map_err(failed)?;
        }
        Err(e) => return Err(failed(e)),
    }
    // Made in a private folder beside it and moved: it is never there with other permissions.
    let parent = socket.parent().unwrap_or(Path::new("."));
    let private = parent.join(format!(".socket-{}", std::process::id()));
    std::fs::create_dir_all(&private).map_err(failed)?;
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    let temporary = private.join("s");
    let made = UnixListener::bind(&temporary).and_then(|listener| {
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&temporary, socket)?;
        Ok(listener)
    });
    // An empty folder that stays does no harm.
    let _ = std::fs::remove_dir_all(&private);
    made.map_err(failed)
}

/// Serves until `stopped` ends; `stop` hears when a caller asks for the end.
///
/// # Errors
/// The transport's.
pub async fn serve(
    listener: UnixListener,
    handles: Handles,
    stop: mpsc::Sender<()>,
    stopped: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let service = ManagerServiceServer::new(Service { handles, stop });
    proto::channel::configure_server(tonic::transport::Server::builder())
        .add_service(service)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stopped)
        .await
}

struct Service {
    handles: Handles,
    stop: mpsc::Sender<()>,
}

impl Service {
    fn handle(&self, cluster: &str) -> Result<Handle, Status> {
        let handles = self.handles.borrow();
        let found = handles.iter().find(|h| h.cluster == cluster).cloned();
        found.ok_or_else(|| Status::not_found(format!("{cluster} is no cluster of this manager")))
    }

    async fn tell<T>(
        &self,
        cluster: &str,
        command: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Command,
    ) -> Result<T, Status> {
        let handle = self.handle(cluster)?;
        let gone = || Status::unavailable("the manager is about to end");
        let (done, answer) = oneshot::channel();
        handle
            .commands
            .send(command(done))
            .await
            .map_err(|_| gone())?;
        tokio::time::timeout(ANSWER, answer)
            .await
            .map_err(|_| Status::deadline_exceeded("the cluster's task does not answer"))?
            .map_err(|_| gone())?
            .map_err(Status::internal)
    }

    fn statuses(&self, cluster: &str) -> Result<v1::GetStatusResponse, Status> {
        if !cluster.is_empty() {
            self.handle(cluster)?;
        }
        Ok(response(&self.handles.borrow(), cluster))
    }
}

fn response(handles: &[Handle], cluster: &str) -> v1::GetStatusResponse {
    v1::GetStatusResponse {
        clusters: handles
            .iter()
            .filter(|h| cluster.is_empty() || h.cluster == cluster)
            .map(|h| wire(&h.status.borrow(), h.explanation.borrow().as_ref()))
            .collect(),
        pid: std::process::id(),
    }
}

/// Sends the state at once and after each change, until nobody reads, the daemon ends, or the only cluster that was asked for
/// is watched no more.
async fn follow(
    mut all: Handles,
    cluster: String,
    sender: mpsc::Sender<Result<v1::GetStatusResponse, Status>>,
) {
    loop {
        let mut handles: Vec<Handle> = all
            .borrow_and_update()
            .iter()
            .filter(|h| cluster.is_empty() || h.cluster == cluster)
            .cloned()
            .collect();
        for handle in &mut handles {
            handle.status.mark_unchanged();
        }
        if handles.is_empty() && !cluster.is_empty() {
            return;
        }
        if sender.send(Ok(response(&handles, ""))).await.is_err() {
            return;
        }
        let any = async {
            let changes = handles
                .iter_mut()
                .map(|handle| Box::pin(handle.status.changed()));
            if changes.len() == 0 {
                return std::future::pending().await;
            }
            // A task that has ended tells so by the list of clusters.
            if futures::future::select_all(changes).await.0.is_err() {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = any => {}
            // The daemon ends.
            changed = all.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
        }
    }
}

#[tonic::async_trait]
impl ManagerService for Service {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        self.statuses(&request.get_ref().cluster).map(Response::new)
    }

    type WatchStatusStream =
        Pin<Box<dyn Stream<Item = Result<v1::GetStatusResponse, Status>> + Send>>;

    async fn watch_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let cluster = request.into_inner().cluster;
        self.statuses(&cluster)?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(follow(self.handles.clone(), cluster, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn stop(
        &self,
        _: Request<v1::StopRequest>,
    ) -> Result<Response<v1::StopResponse>, Status> {
        let acting = self
            .handles
            .borrow()
            .iter()
            .find(|h| h.status.borrow().state == State::FailoverRunning)
            .cloned();
        if let Some(acting) = acting {
            return Err(Status::failed_precondition(format!(
                "a failover of {} runs; SIGTERM ends the manager after it",
                acting.cluster
            )));
        }
        // A second request changes nothing.
        let _ = self.stop.try_send(());
        Ok(Response::new(v1::StopResponse {}))
    }

    async fn pause(
        &self,
        request: Request<v1::PauseRequest>,
    ) -> Result<Response<v1::PauseResponse>, Status> {
        let v1::PauseRequest { cluster, by } = request.into_inner();
        let by = if by.is_empty() {
            "somebody".to_owned()
        } else {
            by
        };
        self.tell(&cluster, |done| Command::Pause { by, done })
            .await?;
        Ok(Response::new(v1::PauseResponse {}))
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeRequest>,
    ) -> Result<Response<v1::ResumeResponse>, Status> {
        let cluster = &request.get_ref().cluster;
        let was_paused = self.tell(cluster, |done| Command::Resume { done }).await?;
        Ok(Response::new(v1::ResumeResponse { was_paused }))
    }

    async fn acknowledge(
        &self,
        request: Request<v1::AcknowledgeRequest>,
    ) -> Result<Response<v1::AcknowledgeResponse>, Status> {
        let cluster = &request.get_ref().cluster;
        let operations = self
            .tell(cluster, |done| Command::Acknowledge { done })
            .await?;
        Ok(Response::new(v1::AcknowledgeResponse { operations }))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let handle = self.handle(&request.get_ref().cluster)?;
        let explanation = handle.explanation.borrow().clone();
        let explanation = explanation
            .ok_or_else(|| Status::unavailable("nothing was read yet: no primary is known"))?;
        let json = serde_json::to_vec(&explanation).map_err(|e| Status::internal(e.to_string()))?;
        Ok(Response::new(v1::ExplainResponse {
            explanation_json: json.into(),
        }))
    }
}
