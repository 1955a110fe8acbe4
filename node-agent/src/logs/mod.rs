//! Binary logs, relay logs and the segments cut from them: found, cut, stored and shipped.
//!
//! All disk work runs in blocking tasks; nothing here knows SQL. What the bytes mean is binlog-core's business.

use binlog_core::LogError;

use crate::mysqld::process::ProcessError;

pub mod chunks;
pub mod copies;
pub mod cut;
pub mod keep;
mod part;
pub mod provider;
pub mod pull;
pub mod store;

pub use part::PartError;

/// Why logs of a local server could not be read or cut.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogsError {
    /// The server never answered this agent, so it is not known where its logs are.
    #[error(
        "the place of the server's {what} was never learnt: it has not answered since this agent was installed"
    )]
    NeverLearnt {
        /// Which logs.
        what: &'static str,
    },
    /// The server writes no binary log.
    #[error("the server writes no binary log")]
    NoBinaryLog,
    /// The binary log must not be read now: the server writes it, or its recovery may truncate it.
    #[error("mysqld runs with pid {pid}")]
    MysqldRunning {
        /// Its pid.
        pid: u32,
    },
    /// The log cannot serve what was asked.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The relay logs cannot be listed.
    #[error(transparent)]
    Keep(#[from] keep::KeepError),
    /// The segment store refused.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// mysqld's process could not be looked for.
    #[error(transparent)]
    Process(#[from] ProcessError),
}
