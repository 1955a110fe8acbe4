//! `mha-manager run`: watches any number of clusters, decides, acts, and goes on with the new primary.
//!
//! One task per cluster ([`cluster`]) owns everything that is known of it; what it hears comes as values through one
//! queue, what it thinks is the pure [`crate::monitor`]. Guarantees: a failover that has begun is never broken off by the
//! end of the daemon; what one cluster does never waits for another.

mod act;
mod cluster;
mod discover;
mod readiness;
mod state;
mod watcher;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

pub use readiness::{Condition, Expected, Explanation, IfItDied, Part};
pub use state::{Heard, State, Status};

use crate::config::ClusterConfig;

/// What an operator tells a cluster's task.
#[derive(Debug)]
pub enum Command {
    /// No failover by the daemon.
    Pause {
        /// Who says so.
        by: String,
        /// What came of it.
        done: oneshot::Sender<Result<(), String>>,
    },
    /// Ends a pause; answers whether there was one.
    Resume {
        /// What came of it.
        done: oneshot::Sender<Result<bool, String>>,
    },
    /// Earlier operations were looked at; answers which.
    Acknowledge {
        /// What came of it.
        done: oneshot::Sender<Result<Vec<String>, String>>,
    },
}

/// A running cluster, as others see it.
#[derive(Debug, Clone)]
pub struct Handle {
    /// Its name.
    pub cluster: String,
    /// How it is.
    pub status: watch::Receiver<Status>,
    /// Everything a failover depends on, once it was read.
    pub explanation: watch::Receiver<Option<Explanation>>,
    /// Tells it something.
    pub commands: mpsc::Sender<Command>,
}

/// All clusters of a daemon.
#[derive(Debug)]
pub struct Daemon {
    /// By name.
    pub handles: Arc<Vec<Handle>>,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Daemon {
    /// Starts a task per cluster.
    #[must_use]
    pub fn start(configs: Vec<ClusterConfig>) -> Self {
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let mut handles = Vec::new();
        for config in configs {
            let (handle, task) = cluster::start(Arc::new(config), stopping.clone());
            handles.push(handle);
            tasks.spawn(task);
        }
        handles.sort_by(|a, b| a.cluster.cmp(&b.cluster));
        Self {
            handles: Arc::new(handles),
            tasks,
            stop,
        }
    }

    /// Tells all tasks to end and waits for them: a failover that runs is finished first.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        for handle in self.handles.iter() {
            let status = handle.status.borrow().clone();
            if status.state == State::FailoverRunning {
                tracing::warn!(cluster = %status.cluster, "a failover is under way: the manager ends after it");
            }
        }
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Where the daemon's socket is, unless told otherwise: `<state>/manager.sock`.
#[must_use]
pub fn default_socket(state_dir: &std::path::Path) -> PathBuf {
    state_dir.join("manager.sock")
}
