//! When a primary is opened again by its own agent: pure decisions, and the one effect.
//!
//! Two things close a primary that nobody replaced: the end of its lease, and a restart of its mysqld, whose configuration
//! says `read_only=1` so that a deposed server never takes a write. Both are undone here, by an agent whose stored epoch is
//! that of its assignment, and only while somebody who counts holds this server for the primary: the manager, or a majority
//! of the agents, heard since the process began. What somebody else closed while the process ran stays closed: a process is
//! opened only if it was open before, or is new.

use std::sync::Arc;
use std::time::Duration;

use proto::watch::Process;
use serde::{Deserialize, Serialize};

use super::Assignment;
use crate::agent::LocalServer;
use crate::error::chain;
use crate::guard::{Cause, Deposed};
use crate::mysqld::{Deadline, process};
use crate::replication::{self, ReplicationError};
use crate::watch::clock;

/// Longest time for opening.
const LIMIT: Duration = Duration::from_secs(5);

/// One process, across restarts of the agent and the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProcessId {
    boot_id: String,
    pid: u32,
    /// Clock ticks from the boot to its start.
    started: u64,
}

impl ProcessId {
    /// The process that runs with this number; `None` if it has ended.
    pub(super) fn of(boot_id: &str, pid: u32) -> Option<Self> {
        Some(Self {
            boot_id: boot_id.to_owned(),
            pid,
            started: process::started(pid)?,
        })
    }
}

/// The primary's process as it was seen last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SeenProcess {
    /// Which.
    pub(super) process: ProcessId,
    /// It took writes; what the end of a lease did to it aside.
    pub(super) open: bool,
}

/// What a decision depends on.
#[derive(Debug, Clone)]
pub(super) struct Known<'a> {
    /// Name of this server.
    pub(super) server: &'a str,
    /// Who the primary is.
    pub(super) assignment: Option<&'a Assignment>,
    /// No newer epoch is stored here.
    pub(super) current: bool,
    /// It has no lease, or holds it.
    pub(super) lease_stands: bool,
    /// When somebody who counts last held this server for the primary.
    pub(super) evidence: Option<Duration>,
    /// The order to keep it read-only, and whether it has been carried out.
    pub(super) order: Option<(&'a Deposed, bool)>,
    /// mysqld is held down.
    pub(super) held_down: bool,
    /// The process that runs, and since when.
    pub(super) process: Option<(&'a ProcessId, Duration)>,
    /// What it says of itself.
    pub(super) read_only: Option<bool>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing.
    Nothing,
    /// Remember this.
    Note(SeenProcess),
    /// Open it.
    Open,
    /// Lift the order, and leave the server as it is.
    Lift,
}

/// Decides.
pub(super) fn next(known: &Known<'_>) -> Next {
    let Some(made) = known.assignment.filter(|a| a.primary == known.server) else {
        return Next::Nothing;
    };
    let Some((process, since)) = known.process else {
        return Next::Nothing;
    };
    if !known.current || known.held_down {
        return Next::Nothing;
    }
    let note = |open| {
        Next::Note(SeenProcess {
            process: process.clone(),
            open,
        })
    };
    let seen = made.seen.as_ref();
    let same = seen.filter(|seen| seen.process == *process);
    let believed = known.lease_stands && known.evidence.is_some_and(|at| at > since);
    if let Some((order, carried_out)) = known.order {
        // Other orders are lifted by `MakeWritable` only.
        let ours = order.cause == Cause::LeaseLost && order.epoch <= made.epoch;
        return match same {
            _ if !ours || !carried_out || !known.lease_stands => Next::Nothing,
            Some(seen) if seen.open => Next::Open,
            Some(_) => Next::Lift,
            None if seen.is_some() && believed => Next::Open,
            None => Next::Nothing,
        };
    }
    match (known.read_only, same) {
        (None, _) => Next::Nothing,
        (Some(read_only), Some(seen)) if seen.open == read_only => note(!read_only),
        (Some(_), Some(_)) => Next::Nothing,
        (Some(false), None) => note(true),
        // The first one that this agent sees of its primary was made so by somebody.
        (Some(true), None) if seen.is_none() => note(false),
        (Some(true), None) if believed => Next::Open,
        (Some(true), None) => Next::Nothing,
    }
}

/// How opening went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// It takes writes.
    Yes,
    /// It was left as it is, and its order is lifted.
    Lifted,
    /// It must not be: it is a replica.
    Never,
    /// Not yet.
    NotYet,
}

/// Opens the server and lifts the order in force, if there is one; or only lifts it.
pub(super) async fn carry_out(server: &Arc<LocalServer>, made: &Assignment, open: bool) -> Opened {
    let failed = |error: &dyn std::error::Error| {
        tracing::warn!(
            server = server.config.name,
            error = chain(error),
            "the primary cannot be opened yet"
        );
        Opened::NotYet
    };
    let aside = match server.guard.stand_aside(made.epoch) {
        Ok(aside) => aside,
        Err(error) => return failed(&error),
    };
    if open {
        let local = match server.local() {
            Ok(local) => local,
            Err(error) => return failed(&error),
        };
        // It was the primary before: whether its commits wait is as it was, or as its configuration has it.
        match replication::make_writable(&local, false, Deadline::after(LIMIT)).await {
            Ok(_) => {}
            Err(error @ ReplicationError::StillAReplica { .. }) => {
                tracing::error!(
                    server = server.config.name,
                    error = chain(&error),
                    "this server is the primary by its assignment; it stays read-only"
                );
                return Opened::Never;
            }
            Err(error) => return failed(&error),
        }
    }
    // An order that came meanwhile stays, and is carried out; the same one given again is one that came.
    match aside.for_good().await {
        Ok(true) => {}
        Ok(false) => {
            tracing::warn!(
                server = server.config.name,
                epoch = made.epoch,
                "the primary is closed again: its lease was lost anew while it was opened"
            );
            return Opened::NotYet;
        }
        Err(error) => return failed(&error),
    }
    if !open {
        return Opened::Lifted;
    }
    server.watch.is_read_only(false);
    tracing::warn!(
        server = server.config.name,
        epoch = made.epoch,
        "the primary is open for writes again: no newer epoch is stored here, and it is still held for the primary"
    );
    Opened::Yes
}

/// The process that runs, by its durable name; looked up once per process.
#[derive(Debug, Default)]
pub(super) struct Lookup(Option<(u32, Duration, ProcessId)>);

impl Lookup {
    pub(super) fn of(&mut self, boot_id: &str, process: &Process) -> Option<(ProcessId, Duration)> {
        let Process::Running { pid, since } = process else {
            self.0 = None;
            return None;
        };
        let key = (*pid, since.boottime);
        if self.0.as_ref().map(|(pid, since, _)| (*pid, *since)) != Some(key) {
            let id = ProcessId::of(boot_id, *pid)?;
            self.0 = Some((key.0, key.1, id));
        }
        self.0.as_ref().map(|(_, since, id)| (id.clone(), *since))
    }
}

/// A moment long enough after a failed try.
pub(super) fn again(after: Duration, tried: Option<Duration>) -> bool {
    tried.is_none_or(|at| clock::boottime() >= at + after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(pid: u32) -> ProcessId {
        ProcessId {
            boot_id: "b".to_owned(),
            pid,
            started: 77,
        }
    }

    fn made(primary: &str, seen: Option<(u32, bool)>) -> Assignment {
        Assignment {
            primary: primary.to_owned(),
            operation: "op-5".to_owned(),
            epoch: 5,
            agents: vec![],
            manager: "m1".to_owned(),
            lease: true,
            seen: seen.map(|(pid, open)| SeenProcess {
                process: id(pid),
                open,
            }),
        }
    }

    fn order(cause: Cause, epoch: u64) -> Deposed {
        Deposed {
            operation: format!("op-{epoch}"),
            epoch,
            cause,
            earlier: None,
        }
    }

    /// A primary whose process 7 began at 100, open, with a lease that stands, all of it known.
    struct Case {
        what: &'static str,
        primary: &'static str,
        seen: Option<(u32, bool)>,
        current: bool,
        lease_stands: bool,
        evidence: Option<u64>,
        order: Option<(Cause, u64, bool)>,
        held_down: bool,
        process: Option<u32>,
        read_only: Option<bool>,
        next: Next,
    }

    fn note(pid: u32, open: bool) -> Next {
        Next::Note(SeenProcess {
            process: id(pid),
            open,
        })
    }

    #[test]
    fn only_what_was_open_or_is_new_is_opened_and_only_while_it_is_the_primary() {
        let plain = || Case {
            what: "as always",
            primary: "db1",
            seen: Some((7, true)),
            current: true,
            lease_stands: true,
            evidence: Some(200),
            order: None,
            held_down: false,
            process: Some(7),
            read_only: Some(false),
            next: Next::Nothing,
        };
        let restarted = || Case {
            what: "restarted with read_only=1",
            process: Some(8),
            read_only: Some(true),
            next: Next::Open,
            ..plain()
        };
        let lost = || Case {
            what: "its lease was lost and is held again",
            order: Some((Cause::LeaseLost, 5, true)),
            read_only: Some(true),
            next: Next::Open,
            ..plain()
        };
        let shut = |case: Case, what| Case {
            what,
            next: Next::Nothing,
            ..case
        };
        let cases = [
            plain(),
            Case {
                what: "never seen, open",
                seen: None,
                next: note(7, true),
                ..plain()
            },
            Case {
                what: "never seen, closed: by whom is not known",
                seen: None,
                read_only: Some(true),
                next: note(7, false),
                ..plain()
            },
            Case {
                what: "closed by an operator",
                read_only: Some(true),
                next: note(7, false),
                ..plain()
            },
            Case {
                what: "opened by an operator",
                seen: Some((7, false)),
                next: note(7, true),
                ..plain()
            },
            Case {
                what: "left closed by an operator",
                seen: Some((7, false)),
                read_only: Some(true),
                ..plain()
            },
            restarted(),
            Case {
                what: "restarted after an operator had closed it: its configuration decides no more than that",
                seen: Some((7, false)),
                ..restarted()
            },
            Case {
                what: "restarted with read_only=0",
                read_only: Some(false),
                next: note(8, true),
                ..restarted()
            },
            shut(
                Case {
                    read_only: None,
                    ..restarted()
                },
                "restarted, not asked yet",
            ),
            shut(
                Case {
                    evidence: Some(100),
                    ..restarted()
                },
                "restarted, nobody heard since",
            ),
            shut(
                Case {
                    evidence: None,
                    ..restarted()
                },
                "restarted, nobody heard",
            ),
            shut(
                Case {
                    lease_stands: false,
                    ..restarted()
                },
                "restarted, its lease is lost",
            ),
            shut(
                Case {
                    current: false,
                    ..restarted()
                },
                "restarted, a newer epoch is stored",
            ),
            shut(
                Case {
                    held_down: true,
                    ..restarted()
                },
                "restarted while it is held down",
            ),
            shut(
                Case {
                    primary: "db2",
                    ..restarted()
                },
                "restarted, another one is the primary",
            ),
            shut(
                Case {
                    process: None,
                    ..restarted()
                },
                "not running",
            ),
            shut(
                Case {
                    order: Some((Cause::HeldDown, 5, true)),
                    ..restarted()
                },
                "deposed by a hold",
            ),
            shut(
                Case {
                    order: Some((Cause::Succeeded, 4, true)),
                    ..restarted()
                },
                "deposed by a successor",
            ),
            lost(),
            Case {
                what: "its lease was lost, a newer assignment of it is in force",
                order: Some((Cause::LeaseLost, 4, true)),
                ..lost()
            },
            Case {
                what: "its lease was lost and it was closed before",
                seen: Some((7, false)),
                next: Next::Lift,
                ..lost()
            },
            Case {
                what: "its lease was lost and it was restarted",
                process: Some(8),
                ..lost()
            },
            shut(
                Case {
                    process: Some(8),
                    evidence: Some(90),
                    ..lost()
                },
                "its lease was lost and it was restarted, nobody heard since",
            ),
            shut(
                Case {
                    seen: None,
                    ..lost()
                },
                "its lease was lost, what it was is not known",
            ),
            shut(
                Case {
                    order: Some((Cause::LeaseLost, 5, false)),
                    ..lost()
                },
                "not closed yet",
            ),
            shut(
                Case {
                    order: Some((Cause::LeaseLost, 6, true)),
                    ..lost()
                },
                "a newer lease was lost",
            ),
            shut(
                Case {
                    lease_stands: false,
                    ..lost()
                },
                "lost still",
            ),
            shut(
                Case {
                    current: false,
                    ..lost()
                },
                "lost, and a newer epoch is stored",
            ),
        ];
        for case in cases {
            let made = made(case.primary, case.seen);
            let order = case
                .order
                .map(|(cause, epoch, done)| (order(cause, epoch), done));
            let process = case.process.map(id);
            let known = Known {
                server: "db1",
                assignment: Some(&made),
                current: case.current,
                lease_stands: case.lease_stands,
                evidence: case.evidence.map(Duration::from_millis),
                order: order.as_ref().map(|(order, done)| (order, *done)),
                held_down: case.held_down,
                process: process.as_ref().map(|p| (p, Duration::from_millis(100))),
                read_only: case.read_only,
            };
            assert_eq!(next(&known), case.next, "{}", case.what);
            let nobody = Known {
                assignment: None,
                ..known
            };
            assert_eq!(next(&nobody), Next::Nothing, "{}, not assigned", case.what);
        }
    }
}
