//! The suite `local-source`: what servers of every line do with what the local source sends them.
//!
//! The design rests on experiments with three servers. Here each is repeated on every line that can be had, with the
//! product's own local source, which serves segments cut from real binary logs, and where halting and changing a
//! channel are part of it with the agent's own `apply`. A row says what was recorded of it, what was seen now, and what
//! that means: `ok`; `differs`, where nothing of the product rests on it; `DOES NOT HOLD`, which fails the suite.

mod agent;
pub mod bench;
mod channels;
mod connection;
mod created;
mod encrypted;
mod experiments;
mod formats;
mod halting;
mod kept;
mod positions;
mod tamper;
mod watching;

use futures::StreamExt;
use futures::stream;
use node_agent::replication::ReplicationError;
use node_agent::source::{SourceError, feed::FeedError};

use crate::sandbox::error::chain;
use crate::sandbox::{SandboxError, ServerKind};

pub use bench::Bench;
pub use experiments::{ALL, Experiment};

/// What is played.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Lines of servers.
    pub kinds: Vec<ServerKind>,
    /// Only experiments whose names begin with one of these; all if empty.
    pub only: Vec<String>,
    /// Lines at the same time.
    pub jobs: usize,
}

/// What an experiment showed.
#[derive(Debug)]
pub struct Seen {
    verdict: Verdict,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    AsRecorded,
    Differs,
    Broken,
    NotHere,
}

impl Seen {
    /// Of something that the product relies on.
    fn relied(holds: bool, text: impl Into<String>) -> Self {
        let verdict = if holds {
            Verdict::AsRecorded
        } else {
            Verdict::Broken
        };
        let text = text.into();
        Self { verdict, text }
    }

    /// Of something that the record says and the product does not rely on.
    fn recorded(holds: bool, text: impl Into<String>) -> Self {
        let verdict = if holds {
            Verdict::AsRecorded
        } else {
            Verdict::Differs
        };
        let text = text.into();
        Self { verdict, text }
    }

    /// Both servers must be equal; `text` says what was seen beside that.
    async fn equal(bench: &Bench, text: impl Into<String>) -> Result<Self, Trouble> {
        let text = text.into();
        Ok(match bench.difference().await? {
            None => Self::relied(true, text),
            Some(difference) => Self::relied(false, format!("{text}; NOT EQUAL: {difference}")),
        })
    }

    /// A further condition that the product relies on.
    fn and(self, holds: bool, otherwise: &str) -> Self {
        if holds {
            return self;
        }
        Self::relied(false, format!("{}; {otherwise}", self.text))
    }

    /// Whether nothing that the product relies on failed.
    pub fn holds(&self) -> bool {
        self.verdict != Verdict::Broken
    }

    fn word(&self) -> &'static str {
        match self.verdict {
            Verdict::AsRecorded => "ok",
            Verdict::Differs => "differs",
            Verdict::Broken => "DOES NOT HOLD",
            Verdict::NotHere => "not here",
        }
    }
}

/// Why an experiment came to no end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// The sandbox could not do its part.
    #[error("the sandbox failed")]
    Sandbox(#[from] SandboxError),
    /// The local source did not start.
    #[error("the local source did not start")]
    Source(#[from] SourceError),
    /// Segments could not be opened.
    #[error("segments could not be opened")]
    Feed(#[from] FeedError),
    /// A segment could not be cut.
    #[error("the primary's log could not be cut")]
    Log(#[from] binlog_core::LogError),
    /// The agent's apply failed.
    #[error("the agent's apply failed")]
    Apply(#[from] ReplicationError),
    /// A replica stopped, or did not come to a state.
    #[error("waiting for {what}: {seen}")]
    Stopped {
        /// What was waited for.
        what: String,
        /// What was there.
        seen: String,
    },
    /// Something that must be there is not.
    #[error("lacking {what}")]
    Lacks {
        /// What.
        what: String,
    },
}

impl Trouble {
    fn lacks(what: impl Into<String>) -> Self {
        Self::Lacks { what: what.into() }
    }
}

/// Plays these experiments on one bench, one after the other; returns what those showed that do not hold.
///
/// # Errors
/// If one comes to no end, or has no such name on this line.
pub async fn play(kind: ServerKind, gtid: bool, names: &[&str]) -> Result<Vec<String>, Trouble> {
    let mut bench = None;
    let mut failed = Vec::new();
    for name in names {
        let plays = |experiment: &&Experiment| {
            experiment.name == *name
                && experiment.gtid == gtid
                && (experiment.lacks)(kind).is_none()
        };
        let experiment = ALL
            .iter()
            .find(plays)
            .ok_or_else(|| Trouble::lacks(format!("an experiment {name} on {kind}")))?;
        let seen = on(&mut bench, kind, gtid, experiment).await?;
        if !seen.holds() {
            failed.push(format!("{kind} {name}: {}", seen.text));
        }
    }
    Ok(failed)
}

/// Plays the plan; `say` prints lines of a table. Returns how many experiments were played, and how many failed.
///
/// # Errors
/// Those of `say`, and names that no experiment has; what befalls an experiment is a line of the table.
pub async fn run(
    plan: &Plan,
    say: impl Fn(&str) -> Result<(), SandboxError>,
) -> Result<(usize, usize), SandboxError> {
    let named = |experiment: &&Experiment| {
        plan.only.is_empty()
            || plan
                .only
                .iter()
                .any(|only| experiment.name.starts_with(only))
    };
    let chosen: Vec<&'static Experiment> = ALL.iter().filter(named).collect();
    if chosen.is_empty() {
        return Err(SandboxError::Wait {
            what: "experiments to play".to_owned(),
            waited: std::time::Duration::ZERO,
            seen: format!("none begins with {}", plan.only.join(" or ")),
        });
    }
    say("| server | experiment | recorded | seen | |\n|---|---|---|---|---|")?;
    let mut benches = Vec::new();
    for kind in &plan.kinds {
        for gtid in [false, true] {
            let mine: Vec<&'static Experiment> = chosen
                .iter()
                .copied()
                .filter(|experiment| experiment.gtid == gtid)
                .collect();
            benches.push((*kind, gtid, mine));
        }
    }
    let say = &say;
    let mut running = stream::iter(benches)
        .map(|(kind, gtid, mine)| async move { on_one_bench(kind, gtid, &mine, say).await })
        .buffer_unordered(plan.jobs.max(1));
    let (mut played, mut failed) = (0, 0);
    while let Some(counts) = running.next().await {
        let (more, bad) = counts?;
        played += more;
        failed += bad;
    }
    say(&format!("\n{played} experiments played, {failed} failed"))?;
    Ok((played, failed))
}

async fn on_one_bench(
    kind: ServerKind,
    gtid: bool,
    experiments: &[&'static Experiment],
    say: &impl Fn(&str) -> Result<(), SandboxError>,
) -> Result<(usize, usize), SandboxError> {
    let (mut played, mut failed) = (0, 0);
    let mut bench = None;
    for experiment in experiments {
        let line = |seen: &Seen| {
            let (name, recorded) = (experiment.name, experiment.recorded);
            let text = seen.text.replace('\n', " ").replace('|', "/");
            say(&format!(
                "| {kind} | {name} | {recorded} | {text} | {} |",
                seen.word()
            ))
        };
        if let Some(reason) = (experiment.lacks)(kind) {
            if !reason.is_empty() {
                line(&Seen {
                    verdict: Verdict::NotHere,
                    text: reason.to_owned(),
                })?;
            }
            continue;
        }
        played += 1;
        let ended = on(&mut bench, kind, gtid, experiment).await;
        let seen = ended.unwrap_or_else(|trouble| {
            // Nobody knows in which state it left the servers.
            bench = None;
            Seen::relied(false, chain(&trouble))
        });
        failed += usize::from(!seen.holds());
        line(&seen)?;
    }
    Ok((played, failed))
}

async fn on(
    bench: &mut Option<Bench>,
    kind: ServerKind,
    gtid: bool,
    experiment: &Experiment,
) -> Result<Seen, Trouble> {
    let bench = match bench {
        Some(bench) => {
            bench.fresh().await?;
            bench
        }
        None => bench.insert(Bench::start(kind, gtid).await?),
    };
    (experiment.play)(bench).await
}
