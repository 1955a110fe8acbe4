//! Keeps each cluster's task in line with the configuration that is wanted of it.
//!
//! Guarantees: a cluster has at most one task at any time; a task whose configuration changes or goes away ends by itself,
//! after the failover that runs, and only then the next one begins; clusters do not wait for each other.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Handle, cluster};
use crate::config::ClusterConfig;
use crate::journal::Hook;

/// Pause before a task that broke is started anew.
const AGAIN: Duration = Duration::from_secs(1);

/// What is wanted of a cluster; `None`: that it is watched no more.
pub(super) type Wanted = watch::Receiver<Option<Arc<ClusterConfig>>>;

/// Handles of all clusters that are watched, by name, and what stands around their journals' writes.
#[derive(Clone)]
pub(super) struct Registry {
    handles: Arc<watch::Sender<Arc<Vec<Handle>>>>,
    hook: Arc<dyn Hook>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("handles", &self.handles)
            .finish_non_exhaustive()
    }
}

impl Registry {
    pub(super) fn new(hook: Arc<dyn Hook>) -> (Self, watch::Receiver<Arc<Vec<Handle>>>) {
        let (sender, receiver) = watch::channel(Arc::default());
        let handles = Arc::new(sender);
        (Self { handles, hook }, receiver)
    }

    /// Adds a handle, or replaces the one of the same cluster.
    fn put(&self, handle: Handle) {
        self.change(|handles| {
            handles.retain(|known| known.cluster != handle.cluster);
            handles.push(handle);
            handles.sort_by(|a, b| a.cluster.cmp(&b.cluster));
        });
    }

    fn remove(&self, cluster: &str) {
        self.change(|handles| handles.retain(|known| known.cluster != cluster));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Handle>)) {
        self.handles
            .send_modify(|handles| change(Arc::make_mut(handles)));
    }
}

/// A cluster's task that runs; it ends with its owner.
pub(super) struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    /// Starts it and makes it known.
    pub(super) fn start(config: Arc<ClusterConfig>, registry: &Registry) -> Self {
        let (stop, stopping) = watch::channel(false);
        let (handle, task) = cluster::start(config, registry.hook.clone(), stopping);
        registry.put(handle);
        Self {
            stop,
            task: tokio::spawn(task),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs a cluster's task as wanted; ends when the cluster is wanted no more and its task has ended.
pub(super) async fn supervise(
    cluster: String,
    mut running: Running,
    mut wanted: Wanted,
    registry: Registry,
) {
    loop {
        let mut told = false;
        let ended = loop {
            tokio::select! {
                ended = &mut running.task => break ended,
                // A sender that is gone wants the end, too.
                _ = wanted.changed(), if !told => {
                    told = true;
                    running.stop.send_replace(true);
                }
            }
        };
        if let Err(error) = ended {
            tracing::error!(%cluster, %error, "the task of this cluster broke and is started anew");
            tokio::time::sleep(AGAIN).await;
        }
        let next = if wanted.has_changed().is_err() {
            None
        } else {
            wanted.borrow_and_update().clone()
        };
        let Some(config) = next else {
            registry.remove(&cluster);
            return;
        };
        running = Running::start(config, &registry);
    }
}
