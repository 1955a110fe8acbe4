//! Not acting: when a failover must not start although the primary is dead.
//!
//! As in MHA, per cluster: none within a window after the last one, none after one that was broken off until somebody
//! has acknowledged it, whoever asks. Besides: none by the daemon while the cluster is paused, and no more than a few of
//! all clusters within a short time. The facts are in the journals and in one file beside them ([`Standing`]), so they
//! survive a restart of the manager. [`permit`] is pure.
//!
//! Differs from MHA: an operator may finish what a broken-off run left for the same dead primary without any flag, since
//! that is no further failover; and the acknowledgement is a command, not the removal of a file.

mod past;
mod standing;

use serde::{Deserialize, Serialize};

pub use past::{Past, deposed, of_all, of_cluster};
pub use standing::{Pause, Standing, StandingError};

use crate::config::FailoverPolicy;
use crate::exit_code::ExitCode;

/// Who asks for a failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A person, by a command.
    #[default]
    Operator,
    /// The daemon.
    Daemon,
}

/// Why a failover may not start now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "blocked", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Blocked {
    /// Somebody paused the cluster.
    #[error("the cluster is paused since {since} by {by} (mha-manager resume ends that)")]
    Paused {
        /// Who.
        by: String,
        /// When.
        since: String,
    },
    /// The last failover was broken off.
    #[error(
        "the last failover {operation}, of {dead}, was broken off{how}: look at it, then acknowledge it (mha-manager ack), or say --ignore-last-failover"
    )]
    Aborted {
        /// Which.
        operation: String,
        /// Its dead primary.
        dead: String,
        /// How it ended, if it did.
        how: String,
    },
    /// The last failover was a short while ago.
    #[error(
        "the last failover {operation}, of {dead}, ended {ago} ago, and none may follow within {window}: a second death so soon has a cause that a failover does not cure (mha-manager ack ends the wait, --ignore-last-failover overrides it)"
    )]
    TooSoon {
        /// Which.
        operation: String,
        /// Its dead primary.
        dead: String,
        /// How long ago it ended.
        ago: String,
        /// The window.
        window: String,
    },
    /// Too many failovers of all clusters.
    #[error(
        "{seen} failovers of all clusters began within {window}, and {limit} is the limit: the trouble is elsewhere (--ignore-last-failover overrides it)"
    )]
    Fleet {
        /// How many.
        seen: usize,
        /// How many may be.
        limit: u32,
        /// Within which time.
        window: String,
    },
    /// What happened before cannot be read.
    #[error("what happened before cannot be read, so nothing is done: {why}")]
    Unreadable {
        /// Why.
        why: String,
    },
}

/// Everything the decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The primary that is to be replaced.
    pub dead: &'a str,
    /// Who asks.
    pub origin: Origin,
    /// The override.
    pub ignore_last_failover: bool,
    /// Earlier operations of this cluster, oldest first.
    pub cluster: &'a [Past],
    /// Earlier operations of all clusters.
    pub fleet: &'a [Past],
    /// What operators have said.
    pub standing: &'a Standing,
    /// The limits.
    pub policy: &'a FailoverPolicy,
    /// Now, milliseconds since the Unix epoch.
    pub now_unix_ms: u64,
}

/// Whether a failover may start.
///
/// # Errors
/// The first [`Blocked`] that holds.
pub fn permit(question: &Question<'_>) -> Result<(), Blocked> {
    if question.origin == Origin::Daemon
        && let Some(pause) = &question.standing.paused
    {
        return Err(Blocked::Paused {
            by: pause.by.clone(),
            since: moment(pause.unix_ms),
        });
    }
    if question.ignore_last_failover {
        return Ok(());
    }
    if let Some(last) = question
        .cluster
        .iter()
        .rfind(|past| past.changed_something())
        && !question.standing.acknowledged.contains(&last.operation)
    {
        not_after(question, last)?;
    }
    let window = question.policy.fleet_window;
    let seen = question
        .fleet
        .iter()
        .filter(|past| past.changed_something())
        .filter(|past| since(question.now_unix_ms, past.begun_unix_ms) < window)
        .count();
    if u32::try_from(seen).unwrap_or(u32::MAX) >= question.policy.fleet_limit {
        return Err(Blocked::Fleet {
            seen,
            limit: question.policy.fleet_limit,
            window: span(window),
        });
    }
    Ok(())
}

fn not_after(question: &Question<'_>, last: &Past) -> Result<(), Blocked> {
    let same = last.dead == question.dead;
    match last.ended {
        Some((ended, code))
            if [ExitCode::Done, ExitCode::DoneNeedsCare]
                .iter()
                .any(|c| c.number() == code) =>
        {
            let ago = since(question.now_unix_ms, ended);
            if ago < question.policy.last_failover_window {
                return Err(Blocked::TooSoon {
                    operation: last.operation.clone(),
                    dead: last.dead.clone(),
                    ago: span(ago),
                    window: span(question.policy.last_failover_window),
                });
            }
            Ok(())
        }
        // A person who comes back to the same dead primary finishes what was begun.
        _ if same && question.origin == Origin::Operator => Ok(()),
        // The manager died in the middle: the next one goes on, after it has read the facts again.
        None if same => Ok(()),
        ended => Err(Blocked::Aborted {
            operation: last.operation.clone(),
            dead: last.dead.clone(),
            how: ended.map_or_else(
                || " when its manager died".to_owned(),
                |(_, code)| format!(" with exit code {code}"),
            ),
        }),
    }
}

fn since(now: u64, then: u64) -> std::time::Duration {
    std::time::Duration::from_millis(now.saturating_sub(then))
}

/// `2h 5m`, `12m 3s`, `4s`.
pub(crate) fn span(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let parts = [(hours, "h"), (minutes, "m"), (rest, "s")];
    let shown: Vec<String> = parts
        .iter()
        .filter(|(n, _)| *n > 0)
        .take(2)
        .map(|(n, unit)| format!("{n}{unit}"))
        .collect();
    if shown.is_empty() {
        "0s".to_owned()
    } else {
        shown.join(" ")
    }
}

/// A wall clock's moment as people write it.
pub(crate) fn moment(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    time::OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|t| {
            t.format(&time::format_description::well_known::Rfc3339)
                .ok()
        })
        .unwrap_or_else(|| format!("{unix_ms} ms after 1970"))
}

#[cfg(test)]
mod tests;
