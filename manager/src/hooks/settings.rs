//! The section `hooks:`, checked: what exists here is usable.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Hook;
use crate::config::Secret;

/// The command of one hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookCommand {
    /// Program.
    pub program: String,
    /// Its own arguments, before those of MHA.
    pub arguments: Vec<String>,
    /// Longest time of a run.
    pub timeout: Duration,
}

/// What scripts are told about ssh; this program itself uses none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSettings {
    /// User (MHA: `ssh_user`).
    pub user: String,
    /// Port (MHA: `ssh_port`).
    pub port: u16,
    /// Options, passed on only if there are any (MHA: `ssh_options`).
    pub options: Option<String>,
}

/// What scripts are told about one server beyond host and port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookServer {
    /// Address, instead of what the resolver says (MHA: `ip`).
    pub ip: Option<String>,
    /// ssh user of this server.
    pub ssh_user: Option<String>,
    /// ssh name (MHA: `ssh_host`).
    pub ssh_host: Option<String>,
    /// ssh address (MHA: `ssh_ip`).
    pub ssh_ip: Option<String>,
    /// ssh port of this server.
    pub ssh_port: Option<u16>,
    /// MHA's `master_pid_file`.
    pub master_pid_file: Option<String>,
}

/// Credentials on command lines, as MHA's scripts expect them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompatCredentials {
    /// MySQL user.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// Hooks that get them; nobody else does.
    pub hooks: BTreeSet<Hook>,
}

/// The section `hooks:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookSettings {
    /// Commands of the hooks that are used.
    pub commands: BTreeMap<Hook, HookCommand>,
    /// ssh defaults.
    pub ssh: SshSettings,
    /// Servers by configured name.
    pub servers: BTreeMap<String, HookServer>,
    /// Credentials, if any hook gets them.
    pub mha_compat: Option<CompatCredentials>,
}

impl HookSettings {
    /// No hooks at all.
    #[must_use]
    pub fn none() -> Self {
        Self {
            commands: BTreeMap::new(),
            ssh: SshSettings {
                user: String::new(),
                port: DEFAULT_SSH_PORT,
                options: None,
            },
            servers: BTreeMap::new(),
            mha_compat: None,
        }
    }

    /// The command of a hook, if it is used.
    #[must_use]
    pub fn command(&self, hook: Hook) -> Option<&HookCommand> {
        self.commands.get(&hook)
    }

    /// Whether a hook is used.
    #[must_use]
    pub fn has(&self, hook: Hook) -> bool {
        self.commands.contains_key(&hook)
    }

    /// The credentials that this hook gets.
    #[must_use]
    pub fn credentials(&self, hook: Hook) -> Option<&CompatCredentials> {
        self.mha_compat.as_ref().filter(|c| c.hooks.contains(&hook))
    }
}

/// The port that scripts assume where they are told none.
pub(crate) const DEFAULT_SSH_PORT: u16 = 22;
