//! What will be done to bring all survivors to the furthest known point: a pure function of what was found.
//!
//! The missing range is covered once, by [`cover`]; every survivor is served from that one set of pieces, from its own
//! position. The plan is a list of steps with the steps each one waits for; the executor does these and nothing else,
//! and a dry run prints them.
//!
//! Invariants: pieces are in stream order and meet exactly; where two providers meet, a comparison of the last event
//! both hold comes before any replay; nothing is promoted that has not executed everything known.

pub(crate) mod binlog_servers;
mod cover;
mod frontier;
mod semi_sync;
mod step;

use std::collections::{BTreeMap, BTreeSet};

use binlog_core::{BinlogPosition, StreamRange};
use serde::{Deserialize, Serialize};

pub use binlog_servers::{BinlogServerLog, BinlogServerLogs, Met, compare, meeting_points, reach};
pub use cover::{Piece, PieceId};
pub use frontier::{Frontier, Target};
pub use semi_sync::{SemiSync, SourceSide, semi_sync};
pub use step::{Act, Phase, Source, Step, StepId};

use crate::agents::{Logs, Promoted};
use crate::elect::Election;
use crate::facts::LogSurvey;
use crate::hooks::HookCall;
use crate::topology::{Standing, Topology, standing};

/// What is known of the dead primary's own log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "dead_log", rename_all = "snake_case")]
pub enum DeadLog {
    /// It was read.
    Read {
        /// What it holds.
        survey: Box<LogSurvey>,
    },
    /// Its host does not answer: what it holds beyond the survivors is unknown.
    Unreachable {
        /// What was seen.
        why: String,
    },
    /// It answers, the log cannot be read, and the operator accepts the loss.
    GivenUp {
        /// Why it cannot be read.
        why: String,
    },
}

impl DeadLog {
    /// What it holds, if it was read.
    pub fn survey(&self) -> Option<&LogSurvey> {
        match self {
            Self::Read { survey } => Some(survey),
            Self::Unreachable { .. } | Self::GivenUp { .. } => None,
        }
    }
}

/// What the providers hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holdings {
    /// Relay logs by survivor; absent if they could not be surveyed.
    pub relay: BTreeMap<String, LogSurvey>,
    /// The dead primary's log.
    pub dead: DeadLog,
    /// Copies of it at binlog servers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub binlog_servers: BinlogServerLogs,
}

/// Everything a plan is made of.
#[derive(Debug, Clone, Copy)]
pub struct Findings<'a> {
    /// Who is who.
    pub topology: &'a Topology,
    /// Who becomes the primary.
    pub election: &'a Election,
    /// Who holds what.
    pub holdings: &'a Holdings,
    /// Agent address by server: servers of one agent share a segment store.
    pub agents: &'a BTreeMap<String, String>,
    /// A server that an earlier run has promoted already.
    pub promoted: Option<&'a AlreadyPromoted>,
    /// A script brings the address up at the new primary, before it is opened for writes.
    pub address_script: bool,
    /// Nobody could hold the dead primary down, and its lease is waited out instead.
    pub await_lease: bool,
    /// Servers whose agents are told of the new primary.
    pub assign: &'a [String],
    /// The address that moves with the primary, if this program moves it.
    pub virtual_ip: Option<VirtualIpFinding>,
}

/// What is known of the virtual IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VirtualIpFinding {
    /// Whoever held it serves nothing any more.
    pub holder_fenced: bool,
}

/// The new primary of an interrupted operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlreadyPromoted {
    /// The server.
    pub server: String,
    /// What its promotion reported: the others start where its own log ended then. `None` if that answer is not in the
    /// journal: then the server is asked again.
    pub promoted: Option<Promoted>,
    /// The operation that did it.
    pub operation: String,
    /// How far everything known went then: the others must execute this much.
    pub end: BinlogPosition,
    /// What was decided of semi-synchronous replication then: a server that is no replica any more cannot tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub semi_sync: Option<SemiSync>,
}

/// Why no plan can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "plan_error", rename_all = "snake_case")]
#[non_exhaustive]
pub enum PlanError {
    /// A survivor stands at no known position.
    #[error("a survivor stands at no known position in the dead primary's log")]
    NoPosition,
    /// A part of the stream is known to exist and nobody holds it.
    #[error("no provider holds {range}, which {needed_by} lacks; held are: {held}")]
    NotHeld {
        /// The part.
        range: StreamRange,
        /// A survivor that lacks it.
        needed_by: String,
        /// Who holds what.
        held: String,
    },
    /// A survivor received events that nobody can read.
    #[error(
        "the relay log of {server} cannot be read, and it received up to {read}, beyond {end}, where everything that can be read ends (mend it, or stop {server} to go on without it)"
    )]
    Unread {
        /// The survivor.
        server: String,
        /// What it received.
        read: BinlogPosition,
        /// End of everything that can be read.
        end: BinlogPosition,
    },
}

/// What will be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// New primary.
    pub winner: String,
    /// How far everything known goes, and who lacks what.
    pub frontier: Frontier,
    /// Pieces of the missing range, in stream order.
    pub pieces: Vec<Piece>,
    /// Steps; each after those it waits for.
    pub steps: Vec<Step>,
    /// What becomes of semi-synchronous replication; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub semi_sync: Option<SemiSync>,
}

impl Plan {
    /// The piece with this id.
    pub fn piece(&self, id: PieceId) -> Option<&Piece> {
        self.pieces.iter().find(|p| p.id == id)
    }
}

/// Makes the plan.
///
/// # Errors
/// [`PlanError`]: nothing may be done then.
pub fn make(findings: Findings<'_>) -> Result<Plan, PlanError> {
    let least = findings.promoted.map(|p| &p.end);
    let frontier =
        frontier::find(findings.topology, findings.holdings, least).ok_or(PlanError::NoPosition)?;
    // After a promotion there is no way back, and nothing to be saved by stopping.
    if findings.promoted.is_none()
        && let Some((server, read)) =
            frontier::unread(findings.topology, findings.holdings, &frontier.end)
    {
        let end = frontier.end;
        return Err(PlanError::Unread { server, read, end });
    }
    if standing::unplaced(findings.topology).next().is_some() {
        return Err(PlanError::NoPosition);
    }
    let pieces = cover::cover(findings.topology, findings.holdings, &frontier)?;
    let semi_sync = match findings.promoted {
        Some(earlier) => earlier.semi_sync.clone(),
        None => semi_sync(findings.topology, &findings.election.winner),
    };
    let steps = Builder {
        findings,
        frontier: &frontier,
        pieces: &pieces,
        wait_for_replicas: semi_sync.as_ref().is_some_and(SemiSync::is_asked_for),
        steps: Vec::new(),
    }
    .build();
    Ok(Plan {
        winner: findings.election.winner.clone(),
        frontier,
        pieces,
        steps,
        semi_sync,
    })
}

struct Builder<'a> {
    findings: Findings<'a>,
    frontier: &'a Frontier,
    pieces: &'a [Piece],
    /// The commits of the new primary are to wait for replicas.
    wait_for_replicas: bool,
    steps: Vec<Step>,
}

impl Builder<'_> {
    fn add(&mut self, act: Act, after: Vec<StepId>) -> StepId {
        let id = StepId(u32::try_from(self.steps.len()).unwrap_or(u32::MAX));
        self.steps.push(Step { id, act, after });
        id
    }

    fn build(mut self) -> Vec<Step> {
        let compared = self.comparisons();
        let cut = self.cuts();
        let mut applied = BTreeMap::new();
        for target in &self.frontier.targets {
            let step = self.apply(target, &compared, &cut);
            applied.insert(target.server.clone(), step);
        }
        let winner = self.findings.election.winner.clone();
        // From the first moment on: the rest goes on meanwhile.
        let lease = self.findings.await_lease.then(|| {
            let server = self.findings.topology.dead.clone();
            self.add(Act::AwaitLease { server }, vec![])
        });
        let writable = match self.findings.promoted {
            // Opening it again is harmless; an earlier run may not have come to it.
            Some(earlier) if earlier.promoted.is_some() => {
                self.open(&winner, lease.into_iter().collect())
            }
            Some(earlier) => {
                let again = self.add(
                    Act::Promote {
                        server: winner.clone(),
                        executed_at_least: earlier.end.clone(),
                        continues: Some(earlier.operation.clone()),
                    },
                    vec![],
                );
                self.open(&winner, lease.into_iter().chain([again]).collect())
            }
            None => self.promote(&winner, applied.get(&winner).copied(), lease),
        };
        self.assign(&winner, writable);
        self.start_followers(&winner, writable);
        for target in self.frontier.targets.iter().filter(|t| t.server != winner) {
            let mut after = vec![writable];
            after.extend(applied.get(&target.server));
            self.add(
                Act::Repoint {
                    server: target.server.clone(),
                    to: winner.clone(),
                    executed_at_least: self.frontier.end.clone(),
                },
                after,
            );
        }
        self.steps
    }

    /// First the new primary's agent: what the others know of its lease is true from the first moment on.
    fn assign(&mut self, winner: &str, writable: StepId) {
        let told = self.findings.assign;
        let mut after = writable;
        let (first, others): (Vec<&String>, Vec<&String>) =
            told.iter().partition(|server| *server == winner);
        for (servers, is_first) in [(first, true), (others, false)] {
            for server in servers {
                let act = Act::AssignPrimary {
                    server: server.clone(),
                    primary: winner.to_owned(),
                };
                let step = self.add(act, vec![after]);
                if is_first {
                    after = step;
                }
            }
        }
    }

    /// Replicas that an interrupted run had pointed at the new primary and not started.
    fn start_followers(&mut self, winner: &str, writable: StepId) {
        let Some(earlier) = self.findings.promoted else {
            return;
        };
        for server in &self.findings.topology.standing_still {
            self.add(
                Act::Repoint {
                    server: server.clone(),
                    to: winner.to_owned(),
                    executed_at_least: earlier.end.clone(),
                },
                vec![writable],
            );
        }
    }

    fn promote(&mut self, winner: &str, applied: Option<StepId>, lease: Option<StepId>) -> StepId {
        let promoted = self.add(
            Act::Promote {
                server: winner.to_owned(),
                executed_at_least: self.frontier.end.clone(),
                continues: None,
            },
            applied.into_iter().collect(),
        );
        self.open(winner, [promoted].into_iter().chain(lease).collect())
    }

    /// First the address by script, then the writes: MHA's order, in which a script may refuse. The address that agents move
    /// comes after the writes: clients that find it find a server that takes them.
    fn open(&mut self, winner: &str, mut after: Vec<StepId>) -> StepId {
        if self.findings.address_script {
            let call = HookCall::BringAddressUp {
                server: winner.to_owned(),
                instead_of: self.findings.topology.dead.clone(),
            };
            after = vec![self.add(Act::RunHook { call }, after)];
        }
        let writable = self.add(
            Act::MakeWritable {
                server: winner.to_owned(),
                wait_for_replicas: self.wait_for_replicas,
            },
            after,
        );
        if let Some(virtual_ip) = self.findings.virtual_ip {
            let take = Act::TakeAddress {
                server: winner.to_owned(),
                holder_fenced: virtual_ip.holder_fenced,
            };
            self.add(take, vec![writable]);
        }
        writable
    }

    fn cuts(&mut self) -> BTreeMap<PieceId, StepId> {
        let mut cut = BTreeMap::new();
        for piece in self.pieces {
            let act = match piece.logs {
                Logs::Binary => Act::SaveBinaryLogs {
                    piece: piece.id,
                    server: piece.provider.clone(),
                    from: piece.range.from.clone(),
                    expected_end: piece.range.to.clone(),
                },
                Logs::Relay => Act::GenerateDiff {
                    piece: piece.id,
                    server: piece.provider.clone(),
                    range: piece.range.clone(),
                },
                Logs::BinlogServer => Act::SaveCopies {
                    piece: piece.id,
                    server: piece.provider.clone(),
                    range: piece.range.clone(),
                },
            };
            let step = self.add(act, vec![]);
            cut.insert(piece.id, step);
            // What survivors never received.
            if piece.logs != Logs::Relay {
                self.add(
                    Act::KeepCopy {
                        piece: piece.id,
                        server: piece.provider.clone(),
                    },
                    vec![step],
                );
            }
        }
        cut
    }

    fn apply(
        &mut self,
        target: &Target,
        compared: &[StepId],
        cut: &BTreeMap<PieceId, StepId>,
    ) -> StepId {
        let mut after = Vec::new();
        let needed: Vec<&Piece> = self
            .pieces
            .iter()
            .filter(|p| target.lacks && p.range.to > target.base)
            .collect();
        if !needed.is_empty() {
            after.extend_from_slice(compared);
            if target.executed < target.base {
                // The applier works through what it has while the rest is cut and shipped.
                after.push(self.add(
                    Act::Drain {
                        server: target.server.clone(),
                        until: target.base.clone(),
                    },
                    vec![],
                ));
            }
        }
        let store = |server: &str| self.findings.agents.get(server).cloned();
        let own_store = store(&target.server);
        let mut pulls = Vec::new();
        for piece in &needed {
            let Some(step) = cut.get(&piece.id) else {
                continue;
            };
            if store(&piece.provider) == own_store {
                after.push(*step);
            } else {
                pulls.push((piece.id, piece.provider.clone(), *step));
            }
        }
        let pieces = needed.iter().map(|p| p.id).collect();
        for (piece, from, step) in pulls {
            after.push(self.add(
                Act::Pull {
                    piece,
                    server: target.server.clone(),
                    from,
                },
                vec![step],
            ));
        }
        self.add(
            Act::Apply {
                server: target.server.clone(),
                pieces,
                until: self.frontier.end.clone(),
                standing: self.standing(&target.server),
            },
            after,
        )
    }

    fn standing(&self, server: &str) -> Option<Standing> {
        let mut survivors = self.findings.topology.survivors.iter();
        survivors.find(|s| s.server == server)?.standing.clone()
    }

    /// Every meeting point of two providers: neighbouring pieces, and a survivor's own relay log with what follows it.
    fn comparisons(&mut self) -> Vec<StepId> {
        let mut wanted: BTreeSet<(BinlogPosition, Source, Source)> = BTreeSet::new();
        let source = |piece: &Piece| Source {
            server: piece.provider.clone(),
            logs: piece.logs,
        };
        for pair in self.pieces.windows(2) {
            // Where one of them begins to hold anything, there is nothing to compare: continuity alone.
            if let [one, next] = pair
                && source(one) != source(next)
                && self.holds_before(&source(one), &next.range.from)
                && self.holds_before(&source(next), &next.range.from)
            {
                wanted.insert((next.range.from.clone(), source(one), source(next)));
            }
        }
        for target in self.frontier.targets.iter().filter(|t| t.lacks) {
            let own = Source {
                server: target.server.clone(),
                logs: Logs::Relay,
            };
            let next = self
                .pieces
                .iter()
                .find(|p| p.range.from <= target.base && target.base < p.range.to);
            if let Some(next) = next
                && source(next) != own
                && self.holds_before(&own, &target.base)
                && self.holds_before(&source(next), &target.base)
            {
                wanted.insert((target.base.clone(), own, source(next)));
            }
        }
        self.compare_with_dead(&mut wanted);
        wanted
            .into_iter()
            .map(|(at, left, right)| self.add(Act::Compare { at, left, right }, vec![]))
            .collect()
    }

    /// This log holds what stands right before `at`.
    fn holds_before(&self, source: &Source, at: &BinlogPosition) -> bool {
        let holdings = self.findings.holdings;
        let survey = match source.logs {
            Logs::Relay => holdings.relay.get(&source.server),
            Logs::Binary => holdings.dead.survey(),
            Logs::BinlogServer => holdings
                .binlog_servers
                .get(&source.server)
                .and_then(BinlogServerLog::survey),
        };
        survey.is_some_and(|s| s.ranges.iter().any(|r| r.from < *at && *at <= r.to))
    }

    /// The dead disk was read and nothing is taken from it: still the same history must stand there.
    fn compare_with_dead(&self, wanted: &mut BTreeSet<(BinlogPosition, Source, Source)>) {
        let holdings = self.findings.holdings;
        if holdings.dead.survey().is_none() || self.pieces.iter().any(|p| p.logs == Logs::Binary) {
            return;
        }
        let dead = Source {
            server: self.findings.topology.dead.clone(),
            logs: Logs::Binary,
        };
        let newest = holdings
            .relay
            .iter()
            .filter_map(|(server, s)| Some((s.last_transaction.as_ref()?.end.clone(), server)))
            .map(|(at, server)| {
                let own = Source {
                    server: server.clone(),
                    logs: Logs::Relay,
                };
                (at, own)
            })
            .filter(|(at, own)| self.holds_before(&dead, at) && self.holds_before(own, at))
            .max();
        if let Some((at, own)) = newest {
            wanted.insert((at, own, dead));
        }
    }
}

#[cfg(test)]
mod tests;
