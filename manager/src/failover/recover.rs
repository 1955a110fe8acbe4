//! From the granted claim to the new primary: freeze, survey, elect and plan on final facts, execute, and start over
//! with another provider or another winner where that is safe.

use std::collections::BTreeSet;

use super::{
    FailoverError, Prepared, Request, StopReason, freeze, make_plan, places, survey, undo,
};
use crate::agents::Logs;
use crate::config::{ServerConfig, UnreachableLog};
use crate::elect::{self, Election};
use crate::execute::{Claimed, Run, StepError, StepResult, StepResults, unix_ms};
use crate::exit_code::ExitCode;
use crate::journal::{Record, StepOutcome};
use crate::lease::{self, NoLease};
use crate::observe::chain;
use crate::plan::{
    self, Act, AlreadyPromoted, BinlogServerLog, DeadLog, Holdings, Phase, Plan, binlog_servers,
};
use crate::report::{Fence, Report};
use crate::topology::{LeftAside, Refusal, Topology};

/// What is to be done after a run of steps.
enum Next {
    /// There is a new primary.
    Promoted,
    /// Plan again without this provider.
    WithoutProvider(String, StopReason),
    /// Elect again without this survivor.
    WithoutWinner(String, String, StopReason),
    /// Stop and undo.
    Undo(StopReason),
    /// The new primary is promoted, but not open; whether it is not known if it was opened.
    NotOpen(StopReason, bool),
}

impl Next {
    /// Of several, the one that counts: an unknown outcome is worse than a known one, divergence stops everything, and a
    /// provider that is missing explains why a winner failed.
    fn weight(&self) -> u8 {
        match self {
            Self::Promoted => 0,
            Self::WithoutWinner(..) => 1,
            Self::WithoutProvider(..) => 2,
            Self::Undo(_) => 3,
            Self::NotOpen(_, false) => 4,
            Self::NotOpen(_, true) => 5,
        }
    }
}

pub(super) async fn recover(
    run: &Run,
    dead: &ServerConfig,
    forced: Option<&str>,
    request: &Request,
    prepared: Prepared,
    (claimed, granting): (&Claimed, usize),
    report: &mut Report,
) -> Result<ExitCode, FailoverError> {
    (run.narrator)(Phase::DeadPrimaryShutdown.heading());
    if let Some(promoted) = prepared.promoted.as_ref().and_then(|p| p.promoted.as_ref()) {
        run.set_promoted(promoted.clone());
    }
    let before = prepared.topology.clone();
    let promoted = prepared.promoted.is_some();
    let frozen = match freeze::freeze(run, dead, claimed.dead, prepared.topology).await? {
        Ok(frozen) => frozen,
        Err(not) => return stop(run, &before, not.held, promoted, not.reason).await,
    };
    let assign = who_is_told(
        run,
        dead,
        claimed,
        &frozen.topology,
        prepared.promoted.as_ref(),
    );
    let no_lease = say_fence(run, dead, request, claimed, &frozen, report);
    report.remarks(frozen.remarks);
    let held = frozen.dead_answers;
    let mut topology = frozen.topology;
    if frozen.fence == Fence::Unconfirmed {
        if let Err(refusal) = freeze::majority(&run.config, dead, granting, request) {
            return stop(run, &topology, held, promoted, refusal.into()).await;
        }
        if let Some(NoLease::AnotherManager { manager }) = no_lease {
            let refusal = Refusal::HeldUpByAnother {
                dead: dead.name.clone(),
                manager,
            };
            return stop(run, &topology, held, promoted, refusal.into()).await;
        }
        if held && !request.primary_is_off {
            let reason = StopReason::NotHeldDown {
                server: dead.name.clone(),
                how: frozen.how.unwrap_or_default(),
            };
            return stop(run, &topology, held, promoted, reason).await;
        }
    }
    (run.narrator)(Phase::LatestReplicas.heading());
    if let Err(refusal) = places::find(&run.config, &run.agents, &mut topology).await {
        return stop(run, &topology, held, promoted, refusal.into()).await;
    }
    let surveyed = survey::survey(
        &run.config,
        &run.agents,
        &topology,
        request.accept_loss,
        &claimed.refused_beside,
    )
    .await;
    let holdings = match surveyed {
        Ok(holdings) => holdings,
        Err(reason) => return stop(run, &topology, held, promoted, reason).await,
    };
    if let DeadLog::Unreachable { why } = &holdings.dead
        && run.config.failover.on_unreachable_log == UnreachableLog::Stop
        && !request.accept_loss
    {
        let refusal = Refusal::LogUnreachable {
            dead: dead.name.clone(),
            why: why.clone(),
        };
        return stop(run, &topology, held, promoted, refusal.into()).await;
    }
    places::move_on(&run.config, &run.agents, &mut topology, &holdings).await;
    for survivor in &topology.survivors {
        if let Some(standing) = &survivor.standing {
            report.remarks(vec![format!("{}: {standing}", survivor.server)]);
        }
    }
    let mut attempt = Attempt {
        run,
        forced,
        request,
        topology,
        holdings,
        held,
        first_choice: prepared.election.winner,
        promoted: prepared.promoted,
        assign,
        fenced: frozen.fence != Fence::Unconfirmed || request.primary_is_off,
    };
    attempt.until_promoted(report).await
}

/// How sure it is that the old primary takes no more writes. One that could not be held down may have a lease, whose end
/// is waited for from here on; why there is none that could be waited for.
fn say_fence(
    run: &Run,
    dead: &ServerConfig,
    request: &Request,
    claimed: &Claimed,
    frozen: &freeze::Frozen,
    report: &mut Report,
) -> Option<NoLease> {
    let (mut fence, mut how, mut no_lease) = (frozen.fence, frozen.how.clone(), None);
    if fence == Fence::Unconfirmed && !request.primary_is_off {
        let ending = lease::ending(
            &dead.name,
            &run.config.manager_name,
            &claimed.granted,
            request.lease.as_ref().map(|seen| seen.last_word),
            request.take_over,
            run.config.failover.lease_kill_time,
        );
        let doubt = request.lease.as_ref().and_then(|seen| seen.doubt.clone());
        match (ending, doubt) {
            (Ok(_), Some(why)) => no_lease = Some(NoLease::Doubtful { why }),
            (Ok(at), None) => {
                run.set_lease_end(at);
                fence = Fence::LeaseOver;
                how = Some(if request.take_over {
                    "its lease is waited out; that no other manager runs was stated with --take-over"
                        .to_owned()
                } else {
                    "its lease is waited out".to_owned()
                });
            }
            (Err(why), _) => no_lease = Some(why),
        }
    }
    let said = no_lease.as_ref().map(ToString::to_string);
    report.frozen(fence, how, said, &frozen.topology);
    no_lease
}

/// Servers whose agents know leases and are claimed.
fn who_is_told(
    run: &Run,
    dead: &ServerConfig,
    claimed: &Claimed,
    topology: &Topology,
    promoted: Option<&AlreadyPromoted>,
) -> Vec<String> {
    let knows = |server: &ServerConfig| {
        claimed
            .granted
            .iter()
            .any(|g| g.agent == server.agent.name && g.vouched_ago.is_some())
    };
    let takes_part = |name: &String| {
        topology.survivors.iter().any(|s| s.server == *name)
            || topology.following.contains(name)
            || promoted.is_some_and(|p| p.server == *name)
            || claimed.dead && *name == dead.name
    };
    let servers = run.config.servers.iter();
    servers
        .filter(|server| takes_part(&server.name) && knows(server))
        .map(|server| server.name.clone())
        .collect()
}

/// Undoes, unless an earlier run or this one has promoted somebody, and reports why.
async fn stop(
    run: &Run,
    topology: &Topology,
    held: bool,
    promoted: bool,
    reason: StopReason,
) -> Result<ExitCode, FailoverError> {
    // There is a new primary, or there may be one: the old one must never come back, and the others not follow it again.
    if promoted || run.promoted().is_some() {
        return Err(FailoverError::AfterChanges(reason));
    }
    // A script may have moved an address or cut the power: only its author knows the way back.
    if undo(run, topology, held).await? && !run.hooks_ran() {
        Err(FailoverError::Undone(reason))
    } else {
        Err(FailoverError::NotUndone(reason))
    }
}

struct Attempt<'a> {
    run: &'a Run,
    forced: Option<&'a str>,
    request: &'a Request,
    topology: Topology,
    holdings: Holdings,
    held: bool,
    first_choice: String,
    promoted: Option<AlreadyPromoted>,
    /// Servers whose agents are told of the new primary.
    assign: Vec<String>,
    /// The dead primary takes no more writes, for sure.
    fenced: bool,
}

impl Attempt<'_> {
    async fn until_promoted(&mut self, report: &mut Report) -> Result<ExitCode, FailoverError> {
        let mut given_up: BTreeSet<String> = BTreeSet::new();
        loop {
            let (election, plan) = match self.decide() {
                Ok(decided) => decided,
                Err(reason) => return self.give_up(&given_up, reason).await,
            };
            self.announce(&election, &plan, report).await?;
            let results = self.run.steps(&plan.steps).await?;
            report.recovered(self.run, &self.topology, &self.holdings, &plan, &results);
            match judge(&plan, results) {
                Next::Promoted => return Ok(report.code_after_promotion()),
                Next::Undo(reason) => return self.give_up(&given_up, reason).await,
                Next::NotOpen(reason, true) => return Err(FailoverError::Unknown(reason)),
                Next::NotOpen(reason, false) => return Err(FailoverError::AfterChanges(reason)),
                Next::WithoutProvider(provider, reason) => {
                    if !self.drop_provider(&provider, &reason, &mut given_up) {
                        return self.give_up(&given_up, reason).await;
                    }
                }
                Next::WithoutWinner(server, why, reason) => {
                    if !given_up.insert(server.clone()) || self.forced.is_some() {
                        return self.give_up(&given_up, reason).await;
                    }
                    report.winner_failed(&server, &why);
                    self.topology.survivors.retain(|s| s.server != server);
                    self.topology.left_aside.push(LeftAside {
                        server,
                        why,
                        deposed: false,
                    });
                    if self.topology.survivors.is_empty() {
                        return self.give_up(&given_up, reason).await;
                    }
                }
            }
            self.run.forget_segments();
        }
    }

    fn decide(&self) -> Result<(Election, Plan), StopReason> {
        let config = &self.run.config;
        let promoted = self.promoted.as_ref();
        let election = match promoted {
            Some(earlier) => elect::decided_before(&earlier.server),
            None => elect::elect(config, &self.topology, self.forced)?,
        };
        let lease = (self.run.awaits_lease(), self.assign.as_slice());
        let plan = make_plan(
            config,
            &self.topology,
            &election,
            &self.holdings,
            promoted,
            lease,
            self.fenced,
        )?;
        Ok((election, plan))
    }

    async fn announce(
        &self,
        election: &Election,
        plan: &Plan,
        report: &mut Report,
    ) -> Result<(), FailoverError> {
        let journal = &self.run.journal;
        journal
            .append(&Record::Facts {
                unix_ms: unix_ms(),
                topology: Box::new(self.topology.clone()),
                election: Box::new(election.clone()),
            })
            .await?;
        journal
            .append(&Record::Plan {
                unix_ms: unix_ms(),
                holdings: Box::new(self.holdings.clone()),
                plan: Box::new(plan.clone()),
            })
            .await?;
        let say = &self.run.narrator;
        say(Phase::NewPrimary.heading());
        say(&format!("  {} ({})", election.winner, election.rule));
        for (server, lost) in &election.losers {
            say(&format!("  not {server}: {lost}"));
        }
        if election.winner != self.first_choice {
            say(&format!(
                "  at first it was {}; the final facts decide",
                self.first_choice
            ));
        }
        for (server, log) in &self.holdings.binlog_servers {
            say(&format!("  binlog server {server} {log}"));
        }
        for piece in &plan.pieces {
            say(&format!("  {piece}"));
        }
        say(Phase::LogApply.heading());
        report.elected(&self.first_choice, election);
        report.planned(&self.holdings, plan);
        Ok(())
    }

    /// Whether the run may go on without this provider.
    fn drop_provider(
        &mut self,
        provider: &str,
        reason: &StopReason,
        given_up: &mut BTreeSet<String>,
    ) -> bool {
        if !given_up.insert(format!("logs of {provider}")) {
            return false;
        }
        if provider == self.topology.dead {
            // What was surveyed is known to be there: only a stated acceptance may leave it behind.
            if !self.request.accept_loss {
                return false;
            }
            self.holdings.dead = DeadLog::GivenUp { why: chain(reason) };
        } else if let Some(log) = self.holdings.binlog_servers.get(provider) {
            let up_to = log.survey().and_then(plan::reach).cloned();
            let of_another_history = matches!(
                reason,
                StopReason::Step {
                    source: StepError::Divergence { .. },
                    ..
                }
            );
            let alone = binlog_servers::holds_alone(&self.holdings, provider);
            // What it was seen to hold is known to be there, too.
            if alone && !of_another_history && !self.request.accept_loss {
                return false;
            }
            let why = chain(reason);
            let log = BinlogServerLog::Unusable { why, up_to };
            self.holdings
                .binlog_servers
                .insert(provider.to_owned(), log);
        } else {
            self.holdings.relay.remove(provider);
        }
        (self.run.narrator)(&format!(
            "  planning again without the logs of {provider}: {}",
            chain(reason)
        ));
        true
    }

    async fn give_up(
        &self,
        given_up: &BTreeSet<String>,
        reason: StopReason,
    ) -> Result<ExitCode, FailoverError> {
        // A survivor whose apply failed is not touched again: its state is what an operator must see.
        let mut topology = self.topology.clone();
        topology.survivors.retain(|s| !given_up.contains(&s.server));
        let promoted = self.promoted.is_some();
        stop(self.run, &topology, self.held, promoted, reason).await
    }
}

fn judge(plan: &Plan, results: StepResults) -> Next {
    let mut writable = false;
    let mut promoted = false;
    for (act, outcome) in results.done() {
        match (act, outcome) {
            (Act::MakeWritable { .. }, _) => writable = true,
            (Act::Promote { .. }, StepOutcome::Promoted(_)) => promoted = true,
            _ => {}
        }
    }
    if writable {
        return Next::Promoted;
    }
    let skipped_winner = results.iter().any(|(act, result)| {
        matches!(act, Act::Promote { .. }) && matches!(result, StepResult::Skipped { .. })
    });
    let found = results
        .into_failed()
        .filter_map(|(act, error)| after_failure(plan, act, error, promoted));
    // The first of those that weigh most.
    let worst = found.reduce(|worst, next| {
        if next.weight() > worst.weight() {
            next
        } else {
            worst
        }
    });
    worst.unwrap_or_else(|| {
        Next::Undo(StopReason::NobodyEqual {
            why: if skipped_winner {
                "the promotion was skipped".to_owned()
            } else {
                "nothing failed, nothing was promoted".to_owned()
            },
        })
    })
}

/// What a failed step means for the run; `None` if it is not what kept the winner from being opened.
fn after_failure(plan: &Plan, act: Act, error: StepError, promoted: bool) -> Option<Next> {
    let unknown = error.outcome_unknown();
    let why = chain(&error);
    let reason = StopReason::Step {
        act: act.to_string(),
        source: error,
    };
    Some(match act {
        // The copy on the manager is for people; what it could not be is in the report.
        Act::KeepCopy { .. } => return None,
        // The script that brings the address up may have opened it.
        Act::MakeWritable { .. } | Act::RunHook { .. } => Next::NotOpen(reason, unknown),
        _ if promoted => Next::NotOpen(reason, false),
        // A server that an earlier run had promoted has no second choice beside it.
        Act::Promote {
            continues: Some(_), ..
        } => Next::NotOpen(reason, unknown),
        Act::Compare { left, right, .. } => match &reason {
            StopReason::Step {
                source: StepError::Divergence { .. },
                ..
            } => match [left, right]
                .into_iter()
                .find(|s| s.logs == Logs::BinlogServer)
            {
                // Of two histories that are there the servers' own counts.
                Some(copies) => Next::WithoutProvider(copies.server, reason),
                None => Next::Undo(reason),
            },
            // One of them could not say; the one that is not needed for it is the other's problem.
            _ => {
                let server = if plan.pieces.iter().any(|p| p.provider == right.server) {
                    right.server
                } else {
                    left.server
                };
                Next::WithoutProvider(server, reason)
            }
        },
        Act::SaveBinaryLogs { server, .. }
        | Act::SaveCopies { server, .. }
        | Act::GenerateDiff { server, .. } => Next::WithoutProvider(server, reason),
        Act::Pull { ref server, .. }
        | Act::Drain { ref server, .. }
        | Act::Apply { ref server, .. }
        | Act::Promote { ref server, .. }
            if *server == plan.winner =>
        {
            Next::WithoutWinner(server.clone(), why, reason)
        }
        // Another survivor is behind, and is listed; it waits for nobody and nobody waits for it.
        Act::Pull { .. } | Act::Drain { .. } | Act::Apply { .. } | Act::Repoint { .. } => {
            return None;
        }
        _ => Next::Undo(reason),
    })
}
