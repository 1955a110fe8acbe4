//! The agent's part: its `ApplyLogs` as a library, and what it sees of a replica.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use binlog_core::BinlogPosition;
use node_agent::mysqld::{Dialect, Endpoint, ReplicaStatus, Session, status};
use node_agent::replication::{
    ApplyOutcome, ApplyRequest, Local, ProtectRelayLogs, ReplicationError, apply,
};
use node_agent::source::fault::FaultPlan;

use super::bench::LIMIT;
use super::{Bench, Trouble};
use crate::sandbox::SandboxError;

/// Notes which relay logs an apply wanted to have kept, and whether they were still there.
#[derive(Debug, Default)]
struct Kept(Mutex<Vec<PathBuf>>);

impl ProtectRelayLogs for Kept {
    fn protect(&self, files: &[PathBuf]) -> std::io::Result<()> {
        for file in files {
            std::fs::metadata(file)?;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(files);
        Ok(())
    }
}

/// What an apply of the agent did.
pub(super) struct Applied {
    pub(super) ended: Result<ApplyOutcome, ReplicationError>,
    pub(super) took: Duration,
    /// Relay logs that were kept aside before a CHANGE.
    pub(super) kept: usize,
}

impl Bench {
    /// Brings the replica to `until` by the agent's own `ApplyLogs`.
    pub(super) async fn apply(
        &self,
        segments: &[PathBuf],
        until: &BinlogPosition,
    ) -> Result<Applied, Trouble> {
        let state_folder = self.new_path("state");
        std::fs::create_dir(&state_folder).map_err(SandboxError::io("create", &state_folder))?;
        let kept = Arc::new(Kept::default());
        let local = Local {
            endpoint: self.endpoint(),
            state_folder,
            replication_user: None,
            replication_password: None,
            protect: Arc::clone(&kept) as Arc<dyn ProtectRelayLogs>,
        };
        let request = ApplyRequest {
            operation: "local-source".to_owned(),
            segments: segments.to_vec(),
            until: until.clone(),
            source: self.identity().await?,
            standing: None,
            stall: LIMIT,
            faults: FaultPlan::default(),
        };
        let began = Instant::now();
        let ended = apply(&local, &request, &mut |_| {}).await;
        let took = began.elapsed();
        let kept = kept.0.lock().unwrap_or_else(PoisonError::into_inner).len();
        Ok(Applied { ended, took, kept })
    }

    /// The replica's channel as its agent sees it.
    pub(super) async fn agent_status(&self) -> Result<ReplicaStatus, Trouble> {
        let lacks = |_| Trouble::lacks("an answer to the agent's questions");
        let mut session = Session::connect(&self.endpoint(), LIMIT)
            .await
            .map_err(lacks)?;
        let dialect = Dialect::new(session.version().clone());
        status::read(&mut session, &dialect, LIMIT)
            .await
            .map_err(lacks)?
            .ok_or_else(|| Trouble::lacks("a channel that the agent sees"))
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint {
            server: "db2".to_owned(),
            socket: self.replica().socket(),
            user: "root".to_owned(),
            password: None,
        }
    }
}
