//! What holds for every plan, and the stories that are told of it.

mod copies;
mod order;
mod pieces;
mod sound;

use super::*;
use crate::elect;
use crate::testing::{agents, config, holds, topology};

struct Story {
    topology: Topology,
    holdings: Holdings,
}

impl Story {
    /// Replicas (received, executed), their relay logs, the dead log.
    fn new(
        replicas: &[(&str, &str)],
        relay: &[(&[&str], Option<&str>)],
        dead: Option<(&[&str], Option<&str>)>,
    ) -> Self {
        Self {
            topology: topology(replicas),
            holdings: Holdings {
                relay: relay
                    .iter()
                    .zip(2..)
                    .map(|((ranges, last), n)| (format!("db{n}"), holds(ranges, *last)))
                    .collect(),
                dead: match dead {
                    Some((ranges, last)) => DeadLog::Read {
                        survey: Box::new(holds(ranges, last)),
                    },
                    None => DeadLog::Unreachable { why: "gone".into() },
                },
                binlog_servers: BinlogServerLogs::new(),
            },
        }
    }

    fn plan(&self) -> Result<Plan, PlanError> {
        let servers = self.topology.survivors.len() + 1;
        let election = elect::elect(&config(servers), &self.topology, Some("db2")).unwrap();
        make(Findings {
            topology: &self.topology,
            election: &election,
            holdings: &self.holdings,
            agents: &agents(servers),
            promoted: None,
            address_script: false,
            await_lease: false,
            assign: &[],
            virtual_ip: None,
        })
    }

    fn pieces(&self) -> Vec<String> {
        let plan = self.plan().unwrap();
        check(&plan);
        plan.pieces
            .iter()
            .map(|p| {
                let logs = match p.logs {
                    Logs::Binary => "tail",
                    Logs::Relay => "diff",
                    Logs::BinlogServer => "copies",
                };
                let short = |p: &BinlogPosition| format!("{}:{}", p.file.sequence(), p.offset);
                format!(
                    "{} {logs} {} {}",
                    p.provider,
                    short(&p.range.from),
                    short(&p.range.to)
                )
            })
            .collect()
    }
}

/// What holds for every plan.
fn check(plan: &Plan) {
    for pair in plan.pieces.windows(2) {
        let [one, next] = pair else { unreachable!() };
        assert_eq!(one.range.to, next.range.from, "pieces meet");
    }
    for piece in &plan.pieces {
        assert!(piece.range.from < piece.range.to, "{piece}");
    }
    if let (Some(first), Some(last)) = (plan.pieces.first(), plan.pieces.last()) {
        assert_eq!(last.range.to, plan.frontier.end);
        let lowest = plan
            .frontier
            .targets
            .iter()
            .filter(|t| t.lacks)
            .map(|t| &t.base)
            .min();
        assert_eq!(Some(&first.range.from), lowest);
    }
    let position =
        |wanted: &dyn Fn(&Act) -> bool| plan.steps.iter().find(|s| wanted(&s.act)).map(|s| s.id);
    let promote = position(&|a| matches!(a, Act::Promote { .. })).unwrap();
    let writable = position(&|a| matches!(a, Act::MakeWritable { .. })).unwrap();
    for step in &plan.steps {
        for before in &step.after {
            assert!(before < &step.id, "steps come after what they wait for");
        }
        match &step.act {
            Act::Repoint { server, .. } => {
                assert!(
                    step.after.contains(&writable),
                    "no repoint before the new primary is open"
                );
                let apply = position(&|a| matches!(a, Act::Apply { server: s, .. } if s == server));
                assert!(step.after.contains(&apply.unwrap()));
            }
            Act::MakeWritable { .. } => assert!(step.after.contains(&promote)),
            Act::Apply { server, pieces, .. } => {
                for piece in pieces {
                    let piece = plan.piece(*piece).unwrap();
                    let served = step.after.iter().any(|id| {
                        let act = &plan.steps.iter().find(|s| s.id == *id).unwrap().act;
                        match act {
                            Act::Pull {
                                piece: p,
                                server: s,
                                ..
                            } => *p == piece.id && s == server,
                            Act::GenerateDiff { piece: p, .. }
                            | Act::SaveBinaryLogs { piece: p, .. }
                            | Act::SaveCopies { piece: p, .. } => {
                                *p == piece.id && piece.provider == *server
                            }
                            _ => false,
                        }
                    });
                    assert!(served, "{server} waits for {piece}");
                }
                let compares = plan
                    .steps
                    .iter()
                    .filter(|s| matches!(s.act, Act::Compare { .. }));
                for compare in compares.filter(|_| !pieces.is_empty()) {
                    assert!(
                        step.after.contains(&compare.id),
                        "no replay before the comparison"
                    );
                }
            }
            _ => {}
        }
    }
}
