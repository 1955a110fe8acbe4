//! `mha-manager run`: watches any number of clusters, decides, acts, and goes on with the new primary.
//!
//! One task per cluster ([`cluster`]) owns everything that is known of it; what it hears comes as values through one
//! queue, what it thinks is the pure [`crate::monitor`]. Guarantees: a failover that has begun is never broken off by the
//! end of the daemon or by a new configuration; what one cluster does never waits for another; a cluster whose configuration
//! did not change does not notice that others' did.

mod act;
mod beside;
mod binlog_servers;
mod cluster;
pub(crate) mod discover;
pub(crate) mod lease;
mod readiness;
mod returned;
mod state;
mod supervise;
mod watcher;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use self::supervise::{Registry, Running};

pub use readiness::{Condition, Expected, Explanation, IfItDied, Part};
pub use state::{Heard, State, Status};

use crate::config::ClusterConfig;
use crate::journal::{Hook, NoHook};

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

/// The clusters that are watched, by name, as they come and go.
pub type Handles = watch::Receiver<Arc<Vec<Handle>>>;

/// All clusters of a daemon.
#[derive(Debug)]
pub struct Daemon {
    handles: Handles,
    registry: Registry,
    wanted: BTreeMap<String, watch::Sender<Option<Arc<ClusterConfig>>>>,
    tasks: JoinSet<()>,
}

/// What a new configuration changes; names of clusters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Watched from now on.
    pub added: Vec<String>,
    /// Watched no more, after the failover that runs.
    pub removed: Vec<String>,
    /// Watched with another configuration, after the failover that runs.
    pub changed: Vec<String>,
    /// As before.
    pub unchanged: Vec<String>,
}

impl Daemon {
    /// Starts a task per cluster.
    #[must_use]
    pub fn start(configs: Vec<ClusterConfig>) -> Self {
        Self::with_hook(configs, Arc::new(NoHook))
    }

    /// The same with a hook around the journal writes of all failovers.
    #[must_use]
    pub fn with_hook(configs: Vec<ClusterConfig>, hook: Arc<dyn Hook>) -> Self {
        let (registry, handles) = Registry::new(hook);
        let mut daemon = Self {
            handles,
            registry,
            wanted: BTreeMap::new(),
            tasks: JoinSet::new(),
        };
        daemon.reload(configs);
        daemon
    }

    /// The clusters that are watched.
    #[must_use]
    pub fn handles(&self) -> Handles {
        self.handles.clone()
    }

    /// Takes these configurations, of clusters with different names, instead of those it has.
    pub fn reload(&mut self, configs: Vec<ClusterConfig>) -> Reloaded {
        let mut reloaded = Reloaded::default();
        let mut kept = BTreeMap::new();
        for config in configs {
            let cluster = config.cluster.clone();
            let wanted = match self.wanted.remove(&cluster) {
                Some(wanted) => {
                    let same = wanted.borrow().as_deref() == Some(&config);
                    if same {
                        reloaded.unchanged.push(cluster.clone());
                    } else {
                        wanted.send_replace(Some(Arc::new(config)));
                        reloaded.changed.push(cluster.clone());
                    }
                    wanted
                }
                None => {
                    reloaded.added.push(cluster.clone());
                    self.begin(config)
                }
            };
            kept.insert(cluster, wanted);
        }
        for (cluster, wanted) in std::mem::replace(&mut self.wanted, kept) {
            wanted.send_replace(None);
            reloaded.removed.push(cluster);
        }
        // Those that have ended are not waited for at the end.
        while self.tasks.try_join_next().is_some() {}
        reloaded
    }

    fn begin(&mut self, config: ClusterConfig) -> watch::Sender<Option<Arc<ClusterConfig>>> {
        let config = Arc::new(config);
        let (sender, wanted) = watch::channel(Some(config.clone()));
        let cluster = config.cluster.clone();
        let registry = self.registry.clone();
        let running = Running::start(config, &registry);
        self.tasks
            .spawn(supervise::supervise(cluster, running, wanted, registry));
        sender
    }

    /// Tells all tasks to end and waits for them: a failover that runs is finished first.
    pub async fn stop(mut self) {
        for handle in self.handles.borrow().iter() {
            let status = handle.status.borrow().clone();
            if status.state == State::FailoverRunning {
                tracing::warn!(cluster = %status.cluster, "a failover is under way: the manager ends after it");
            }
        }
        for wanted in self.wanted.values() {
            wanted.send_replace(None);
        }
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Where the daemon's socket is, unless told otherwise: `<state>/manager.sock`.
#[must_use]
pub fn default_socket(state_dir: &std::path::Path) -> PathBuf {
    state_dir.join("manager.sock")
}
