//! The caller's side, for the commands that talk to a running manager.

use std::path::Path;
use std::time::Duration;

use proto::v1;
use proto::v1::manager_service_client::ManagerServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Streaming};

use super::ApiError;

/// Longest time of a call; a little longer than the manager gives its own tasks.
const LIMIT: Duration = Duration::from_secs(12);

/// A connection to a running manager.
#[derive(Debug, Clone)]
pub struct Client(ManagerServiceClient<Channel>);

async fn bounded<T>(
    call: &'static str,
    answer: impl Future<Output = Result<Response<T>, tonic::Status>>,
) -> Result<T, ApiError> {
    let status = |status| ApiError::Call {
        call,
        status: Box::new(status),
    };
    match tokio::time::timeout(LIMIT, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(refused)) => Err(status(refused)),
        Err(_) => Err(status(tonic::Status::deadline_exceeded("no answer"))),
    }
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`ApiError::NotRunning`].
    pub async fn connect(socket: &Path) -> Result<Self, ApiError> {
        let not_running = |source| ApiError::NotRunning {
            socket: socket.to_owned(),
            source,
        };
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))
            .map_err(not_running)?
            .connect_timeout(LIMIT);
        let channel = endpoint.connect().await.map_err(not_running)?;
        Ok(Self(ManagerServiceClient::new(channel)))
    }

    /// How the clusters are; all if `cluster` is empty.
    ///
    /// # Errors
    /// [`ApiError::Call`].
    pub async fn status(&mut self, cluster: &str) -> Result<v1::GetStatusResponse, ApiError> {
        let request = v1::GetStatusRequest {
            cluster: cluster.to_owned(),
        };
        bounded("status", self.0.get_status(request)).await
    }

    /// The same, again after each change.
    ///
    /// # Errors
    /// [`ApiError::Call`].
    pub async fn watch(
        &mut self,
        cluster: &str,
    ) -> Result<Streaming<v1::GetStatusResponse>, ApiError> {
        let request = v1::GetStatusRequest {
            cluster: cluster.to_owned(),
        };
        bounded("status --watch", self.0.watch_status(request)).await
    }

    /// Ends the manager.
    ///
    /// # Errors
    /// [`ApiError::Call`], also while a failover runs.
    pub async fn stop(&mut self) -> Result<(), ApiError> {
        bounded("stop", self.0.stop(v1::StopRequest {}))
            .await
            .map(|_| ())
    }

    /// No failover by the daemon.
    ///
    /// # Errors
    /// [`ApiError::Call`].
    pub async fn pause(&mut self, cluster: &str, by: &str) -> Result<(), ApiError> {
        let request = v1::PauseRequest {
            cluster: cluster.to_owned(),
            by: by.to_owned(),
        };
        bounded("pause", self.0.pause(request)).await.map(|_| ())
    }

    /// Ends a pause; true if there was one.
    ///
    /// # Errors
    /// [`ApiError::Call`].
    pub async fn resume(&mut self, cluster: &str) -> Result<bool, ApiError> {
        let request = v1::ResumeRequest {
            cluster: cluster.to_owned(),
        };
        let answer = bounded("resume", self.0.resume(request)).await?;
        Ok(answer.was_paused)
    }

    /// Acknowledges earlier operations; returns those that were not acknowledged before.
    ///
    /// # Errors
    /// [`ApiError::Call`].
    pub async fn acknowledge(&mut self, cluster: &str) -> Result<Vec<String>, ApiError> {
        let request = v1::AcknowledgeRequest {
            cluster: cluster.to_owned(),
        };
        let answer = bounded("ack", self.0.acknowledge(request)).await?;
        Ok(answer.operations)
    }

    /// The explanation as the manager's JSON.
    ///
    /// # Errors
    /// [`ApiError::Call`].
    pub async fn explain(&mut self, cluster: &str) -> Result<Vec<u8>, ApiError> {
        let request = v1::ExplainRequest {
            cluster: cluster.to_owned(),
        };
        let answer = bounded("explain", self.0.explain(request)).await?;
        Ok(answer.explanation_json.into())
    }
}
