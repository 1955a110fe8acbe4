//! MHA's hook scripts: people's scripts run unchanged, with MHA's arguments, order and exit codes.
//!
//! One file per script says which arguments it gets and what its exit codes mean, without touching anything; the
//! `runner` starts it without a shell, in a process group of its own, and ends the group at its limit. What an
//! argument says is also in the environment (`MHA_NAME`) and in one JSON object on standard input, together with what
//! MHA had no argument for (cluster, operation, epoch).
//!
//! Guarantees: no value is ever interpreted by a shell; no hook holds a failover longer than its limit and two
//! seconds; credentials reach only the hooks that `hooks.mha_compat` names, and are hidden in logs, journals and
//! recorded output. Hooks are run *at least once*: a manager that dies while one runs, runs it again.

mod address;
mod call;
mod check;
pub mod init_conf_load;
pub mod master_ip_failover;
mod output;
mod perform;
pub mod report;
mod runner;
pub mod secondary_check;
mod settings;
pub mod shutdown;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use address::{Party, party};
pub use call::{Call, Fact, Value};
pub use check::{Unusable, check_programs, check_status};
pub use output::Output;
pub(crate) use perform::perform;
pub use perform::{HookCall, HookRan};
pub use runner::{End, Ran, run, run_blocking};
pub use secondary_check::{SecondaryCheck, secondary_check};
pub use settings::{CompatCredentials, HookCommand, HookServer, HookSettings, SshSettings};

/// Hears a line that an operator wants to see.
pub type Say<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// One of MHA's scripts, under MHA's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// Moves the address that clients use.
    MasterIpFailoverScript,
    /// Switches the dead primary's host off.
    ShutdownScript,
    /// Tells people how a failover ended.
    ReportScript,
    /// Asks from other hosts whether the primary can be reached.
    SecondaryCheckScript,
    /// Prints settings, passwords mostly.
    InitConfLoadScript,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::MasterIpFailoverScript,
        Self::ShutdownScript,
        Self::ReportScript,
        Self::SecondaryCheckScript,
        Self::InitConfLoadScript,
    ];

    /// MHA's parameter, which is also the key in `hooks:`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MasterIpFailoverScript => "master_ip_failover_script",
            Self::ShutdownScript => "shutdown_script",
            Self::ReportScript => "report_script",
            Self::SecondaryCheckScript => "secondary_check_script",
            Self::InitConfLoadScript => "init_conf_load_script",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a hook did not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// No such command is configured.
    #[error("{hook} is not configured")]
    NotConfigured {
        /// The hook.
        hook: Hook,
    },
    /// It could not be started: it has done nothing.
    #[error("{hook}: {program} cannot be started")]
    NotStarted {
        /// The hook.
        hook: Hook,
        /// Program of its command.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It ended with a code that stops the operation.
    #[error("{hook} ended with exit code {code}{}", last(.output))]
    Failed {
        /// The hook.
        hook: Hook,
        /// Its exit code.
        code: i32,
        /// What it printed.
        output: Output,
    },
    /// A signal that was not ours ended it: how far it came is not known.
    #[error("{hook} was ended by signal {signal}{}", last(.output))]
    Signalled {
        /// The hook.
        hook: Hook,
        /// The signal.
        signal: i32,
        /// What it printed.
        output: Output,
    },
    /// It ran into its limit and was ended with its process group: how far it came is not known.
    #[error(
        "{hook} was still running after {:.1} s and was ended with its process group{}{}",
        .limit.as_secs_f64(),
        if *.gone { "" } else { " (it is stuck in the kernel and could not be reaped)" },
        last(.output)
    )]
    TimedOut {
        /// The hook.
        hook: Hook,
        /// Its limit.
        limit: Duration,
        /// It is gone for sure.
        gone: bool,
        /// What it printed.
        output: Output,
    },
}

impl HookError {
    /// How far the hook came is not known.
    #[must_use]
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Signalled { .. } | Self::TimedOut { .. })
    }

    /// What it printed.
    #[must_use]
    pub fn output(&self) -> Option<&Output> {
        match self {
            Self::Failed { output, .. }
            | Self::Signalled { output, .. }
            | Self::TimedOut { output, .. } => Some(output),
            Self::NotConfigured { .. } | Self::NotStarted { .. } => None,
        }
    }

    /// It ran, so the world outside may have changed.
    #[must_use]
    pub fn has_run(&self) -> bool {
        !matches!(self, Self::NotConfigured { .. } | Self::NotStarted { .. })
    }
}

/// Its last line is usually the reason.
fn last(output: &Output) -> String {
    match output.lines.last() {
        Some(line) => format!("; its last line: {line}"),
        None => String::new(),
    }
}
