//! Why the program as a whole ends without success, and with which exit code.

use std::net::SocketAddr;
use std::process::ExitCode;

use crate::config::ConfigError;
use crate::state::durable::DurableError;

/// Exit codes of `mha-node-agent`; part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed; nothing was changed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// There was nothing to do (tools).
    NothingToDo = 10,
    /// A log file is corrupt before its last whole transaction (tools).
    CorruptLog = 15,
}

impl Exit {
    /// The number the shell sees.
    pub fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NothingToDo => 10,
            Self::CorruptLog => 15,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

/// Why the program ends without success.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot be bound.
    #[error("listen on {address}")]
    Listen {
        /// Configured address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The certificates cannot be used.
    #[error("certificates")]
    Tls(#[from] proto::tls::TlsError),
    /// The gRPC server ended.
    #[error("gRPC server")]
    Serve(#[source] tonic::transport::Error),
    /// The descriptors for reflection are damaged: a broken build.
    #[error("gRPC reflection")]
    Reflection(#[source] tonic_reflection::server::Error),
    /// The state directory cannot be used.
    #[error("state directory")]
    State(#[from] DurableError),
    /// Another process acts on the state directory.
    #[error("state directory")]
    Locked(#[from] crate::state::lock::LockError),
    /// A signal handler could not be installed, or the runtime could not be started.
    #[error("set up {what}")]
    Setup {
        /// What was set up.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// The exit code this error ends the program with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Tls(_) => Exit::Usage,
            Self::Listen { .. }
            | Self::Serve(_)
            | Self::Reflection(_)
            | Self::State(_)
            | Self::Locked(_)
            | Self::Setup { .. } => Exit::Failed,
        }
    }
}

/// The whole chain of an error in one line: what, why, why.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        // Some errors repeat their source in their own text.
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_numbers() {
        let table = [
            (Exit::Done, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::NothingToDo, 10),
            (Exit::CorruptLog, 15),
        ];
        for (exit, number) in table {
            assert_eq!(exit.number(), number);
            assert_eq!(exit as u8, number);
        }
    }

    #[test]
    fn a_chain_names_every_cause_once() {
        let error = Error::Listen {
            address: SocketAddr::from(([127, 0, 0, 1], 7306)),
            source: std::io::Error::other("taken"),
        };
        assert_eq!(chain(&error), "listen on 127.0.0.1:7306: taken");
    }
}
