//! What a run of steps brought to the report: pieces, positions, who follows whom, what failed, and the evidence for the proof.

use std::collections::BTreeMap;

use binlog_core::{BinlogPosition, Manifest, StreamRange};

use super::{Recovered, Report};
use crate::agents::Waits;
use crate::elect;
use crate::execute::{Run, StepResult, StepResults};
use crate::hooks::HookCall;
use crate::journal::StepOutcome;
use crate::observe::chain;
use crate::plan::{Act, Holdings, Plan};
use crate::proof::{self, Evidence, PieceEvidence, SurvivorEvidence};
use crate::topology::Topology;

impl Report {
    /// What a run of steps brought.
    pub(crate) fn recovered(
        &mut self,
        run: &Run,
        topology: &Topology,
        holdings: &Holdings,
        plan: &Plan,
        results: &StepResults,
    ) {
        self.recovered.clear();
        self.replicas.clear();
        let mut seen = Seen::default();
        for (act, result) in results.iter() {
            match result {
                StepResult::Done(outcome) => self.outcome(run, plan, act, outcome, &mut seen),
                StepResult::Failed(error) => self.failure(plan, act, &chain(error)),
                StepResult::Skipped { .. } => {}
            }
        }
        if self.new_primary.is_some() {
            let evidence = seen.evidence(topology, holdings, plan);
            for survivor in &evidence.survivors {
                let positions = self.positions.entry(survivor.server.clone()).or_default();
                positions.executed_after.clone_from(&survivor.executed);
                positions.gtid_after.clone_from(&survivor.gtid);
            }
            self.proof = Some(proof::prove(&evidence));
        }
    }

    fn outcome(
        &mut self,
        run: &Run,
        plan: &Plan,
        act: &Act,
        outcome: &StepOutcome,
        seen: &mut Seen,
    ) {
        match (act, outcome) {
            (
                Act::SaveBinaryLogs { piece, .. }
                | Act::SaveCopies { piece, .. }
                | Act::GenerateDiff { piece, .. },
                StepOutcome::Cut { segment, manifest },
            ) => {
                if let Some(piece) = plan.piece(*piece) {
                    self.recovered.push(Recovered {
                        what: piece.to_string(),
                        segment: segment.clone(),
                        transactions: manifest.transactions,
                        bytes: manifest.size,
                        dropped_bytes: manifest.dropped_bytes,
                        copy: None,
                    });
                    seen.pieces.push(PieceEvidence {
                        piece: piece.clone(),
                        manifest: manifest.clone(),
                    });
                }
            }
            (
                _,
                StepOutcome::Copied {
                    path,
                    range,
                    walked,
                },
            ) => {
                seen.copies.push((range.clone(), walked.clone()));
                if let Some(recovered) = self
                    .recovered
                    .iter_mut()
                    .find(|r| path.ends_with(&format!("/{}", r.segment)))
                {
                    recovered.copy = Some(path.clone());
                }
            }
            (Act::Pull { server, .. }, StepOutcome::Pulled { manifest, .. }) => {
                seen.received
                    .entry(server.clone())
                    .or_default()
                    .push(manifest.clone());
            }
            (_, StepOutcome::Compared { event }) => match event {
                Some(_) => seen.compared.0 += 1,
                None => seen.compared.1 += 1,
            },
            (Act::Apply { server, .. }, StepOutcome::Applied(applied)) => {
                let at = (
                    applied.executed_after.clone(),
                    applied.gtid_executed.clone(),
                );
                seen.executed.entry(server.clone()).or_insert(at);
                for table in &applied.maybe_twice {
                    self.needs_care(
                        server,
                        format!(
                            "half a transaction had already changed non-transactional table {table}; these changes may be there twice, or alone if nobody holds the transaction in full"
                        ),
                    );
                }
            }
            (Act::Promote { server, .. }, StepOutcome::Promoted(promoted)) => {
                let at = (
                    promoted.executed.clone(),
                    promoted.gtid_before_reset.clone(),
                );
                seen.executed.insert(server.clone(), at);
            }
            (Act::MakeWritable { server, .. }, StepOutcome::Writable { waits }) => {
                if let Some(Waits::Not { why }) = waits {
                    self.needs_care(
                        server,
                        format!(
                            "its commits wait for no replica, as those of {} did: {why}",
                            self.dead_primary
                        ),
                    );
                }
                if let Some(semi_sync) = plan.semi_sync.as_ref().filter(|s| !s.is_asked_for()) {
                    self.needs_care(server, semi_sync.to_string());
                }
                self.new_primary = Some(server.clone());
                self.writable_after_us = run
                    .timeline()
                    .iter()
                    .rfind(|t| t.act == act.to_string())
                    .map(|t| t.finished_us);
            }
            (
                Act::RunHook {
                    call: call @ HookCall::BringAddressUp { server, .. },
                },
                StepOutcome::HookRan(ran),
            ) if ran.exit_code != 0 => {
                self.needs_care(
                    server,
                    format!(
                        "{call} ended with {}: clients may not find the new primary",
                        ran.exit_code
                    ),
                );
            }
            (Act::Repoint { server, .. }, StepOutcome::Repointed(repointed)) => {
                self.replicas.push(server.clone());
                if let Some(executed) = &repointed.executed_before {
                    let at = (executed.clone(), repointed.gtid_before.clone());
                    seen.executed.insert(server.clone(), at);
                }
            }
            _ => {}
        }
    }

    fn failure(&mut self, plan: &Plan, act: &Act, why: &str) {
        match act {
            Act::TakeAddress { server, .. } => self.needs_care(
                server,
                format!(
                    "{act}: {why}; clients do not find the new primary until it is up: mend that, then mha-manager address --config FILE --take {server}"
                ),
            ),
            Act::KeepCopy { .. } | Act::AssignPrimary { .. } => {
                self.remarks.push(format!("{act}: {why}"));
            }
            Act::Repoint { server, .. }
            | Act::Apply { server, .. }
            | Act::Drain { server, .. }
            | Act::Pull { server, .. }
                if *server != plan.winner =>
            {
                self.needs_care(
                    server,
                    format!("{act}: {why}; it is left stopped, pointing where it was"),
                );
            }
            _ => {}
        }
    }
}

/// What the steps showed, on the way to the proof.
#[derive(Debug, Default)]
struct Seen {
    pieces: Vec<PieceEvidence>,
    received: BTreeMap<String, Vec<Manifest>>,
    executed: BTreeMap<String, (BinlogPosition, String)>,
    compared: (usize, usize),
    copies: Vec<(StreamRange, Result<BinlogPosition, String>)>,
}

impl Seen {
    fn evidence(self, topology: &Topology, holdings: &Holdings, plan: &Plan) -> Evidence {
        let Self {
            mut pieces,
            mut received,
            executed,
            compared,
            copies,
        } = self;
        pieces.sort_by_key(|p| p.piece.id);
        let survivors = plan
            .frontier
            .targets
            .iter()
            .map(|target| {
                let at = executed.get(&target.server);
                let mut survivors = topology.survivors.iter();
                let survivor = survivors.find(|s| s.server == target.server);
                SurvivorEvidence {
                    server: target.server.clone(),
                    executed: at.map(|(position, _)| position.clone()),
                    gtid: at.map(|(_, gtid)| gtid.clone()).unwrap_or_default(),
                    own_uuid: survivor
                        .and_then(|s| s.facts.identity.as_ref())
                        .map(|i| i.server_uuid.clone())
                        .unwrap_or_default(),
                    errant: survivor
                        .map(|s| elect::errant_gtids(s, topology))
                        .unwrap_or_default(),
                    received: received.remove(&target.server).unwrap_or_default(),
                }
            })
            .collect();
        Evidence {
            flavor: topology.identity.flavor,
            end: plan.frontier.end.clone(),
            last: plan.frontier.last.clone(),
            survivors,
            pieces,
            copies,
            dead: holdings.dead.clone(),
            binlog_servers: holdings.binlog_servers.clone(),
            compared,
        }
    }
}
