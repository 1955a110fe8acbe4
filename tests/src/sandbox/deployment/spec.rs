//! What differs from a plain deployment.

use std::path::PathBuf;

use serde_json::Value;

/// What differs from a plain deployment.
#[derive(Debug, Clone, Default)]
pub struct DeploymentSpec {
    /// `candidate:` of servers, by number; `allowed` where nothing is said.
    pub candidates: Vec<(usize, &'static str)>,
    /// Further keys of servers in the manager's configuration.
    pub servers: Vec<(usize, &'static str, Value)>,
    /// Keys of `failover:` in the manager's configuration.
    pub failover: Vec<(&'static str, Value)>,
    /// `hooks:` in the manager's configuration.
    pub hooks: Option<Value>,
    /// Keys of `monitor:` in the manager's configuration.
    pub monitor: Vec<(&'static str, Value)>,
    /// Further sections of the manager's configuration.
    pub more: Vec<(&'static str, Value)>,
    /// Hosts without a server: the name of a binlog server and the directory of its copies.
    pub binlog_servers: Vec<(&'static str, PathBuf)>,
    /// So many of the last servers have no agent and are not in the manager's configuration.
    pub outside: usize,
}

impl DeploymentSpec {
    /// With these hooks.
    #[must_use]
    pub fn hooks(mut self, hooks: Value) -> Self {
        self.hooks = Some(hooks);
        self
    }

    /// With this candidate setting of a server.
    #[must_use]
    pub fn candidate(mut self, server: usize, setting: &'static str) -> Self {
        self.candidates.push((server, setting));
        self
    }

    /// With this key of `failover:`.
    #[must_use]
    pub fn failover(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.failover.push((key, value.into()));
        self
    }

    /// With this key of `monitor:`.
    #[must_use]
    pub fn monitor(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.monitor.push((key, value.into()));
        self
    }

    /// With this section of the manager's configuration.
    #[must_use]
    pub fn more(mut self, section: &'static str, value: Value) -> Self {
        self.more.push((section, value));
        self
    }

    /// Without the last so many servers.
    #[must_use]
    pub fn outside(mut self, servers: usize) -> Self {
        self.outside = servers;
        self
    }

    /// With an agent beside this directory of copies.
    #[must_use]
    pub fn binlog_server(mut self, name: &'static str, directory: PathBuf) -> Self {
        self.binlog_servers.push((name, directory));
        self
    }

    /// With this key of a server.
    #[must_use]
    pub fn server(mut self, server: usize, key: &'static str, value: impl Into<Value>) -> Self {
        self.servers.push((server, key, value.into()));
        self
    }
}
