//! What is told of a cluster: the sentence for the operator, and the status that commands print. Decides nothing.

use std::collections::BTreeSet;

use super::{Phase, Task};
use crate::config::ClusterConfig;
use crate::daemon::state::{Heard, State, Status};
use crate::execute::unix_ms;
use crate::facts::Process;
use crate::guard;
use crate::verdict::Verdict;

pub(super) fn first_status(config: &ClusterConfig) -> Status {
    Status {
        cluster: config.cluster.clone(),
        state: State::Initializing,
        since_unix_ms: unix_ms(),
        primary: None,
        sentence: "looking for the primary".to_owned(),
        paused: false,
        blocked: None,
        deposed: BTreeSet::new(),
        servers: config
            .servers
            .iter()
            .map(|server| Heard {
                server: server.name.clone(),
                agent: false,
                process: Process::Unknown,
            })
            .collect(),
        binlog_servers: Vec::new(),
        lease: None,
    }
}

impl Task {
    /// A sentence for the operator, and the state that goes with it.
    pub(super) fn say(&self, state: State, verdict: Verdict, sentence: &str) {
        let cluster = &self.config.cluster;
        let state_name = state.name();
        match verdict {
            Verdict::Alive => {
                tracing::info!(%cluster, state = state_name, %verdict, "{sentence}");
            }
            _ => tracing::warn!(%cluster, state = state_name, %verdict, "{sentence}"),
        }
        self.show(state, Some(sentence));
    }

    pub(super) fn show(&self, state: State, sentence: Option<&str>) {
        let primary = match &self.phase {
            Phase::Looking { .. } => None,
            Phase::Watching(watching) => Some(watching.primary.name.clone()),
            Phase::Acting { dead, .. } => Some(dead.name.clone()),
        };
        let servers = self
            .config
            .servers
            .iter()
            .map(|server| Heard {
                server: server.name.clone(),
                agent: self.processes.contains_key(&server.name),
                process: self
                    .processes
                    .get(&server.name)
                    .copied()
                    .unwrap_or(Process::Unknown),
            })
            .collect();
        let explained = self.explanation.borrow().clone();
        let binlog_servers = explained.map(|explained| explained.binlog_servers);
        self.status.send_if_modified(|status| {
            let mut new = status.clone();
            if new.state != state {
                new.state = state;
                new.since_unix_ms = unix_ms();
            }
            if let Some(sentence) = sentence {
                sentence.clone_into(&mut new.sentence);
            }
            new.primary = primary;
            new.paused = self.standing.paused.is_some();
            new.blocked = self.blocked().map(|blocked| blocked.to_string());
            new.deposed = guard::deposed(&self.past);
            new.servers = servers;
            new.binlog_servers = binlog_servers.unwrap_or_default();
            new.lease = self.leases.status();
            let changed = !status.is_like(&new);
            *status = new;
            changed
        });
    }
}
