//! Properties of every plan.

use proptest::prelude::*;

use super::*;

proptest! {
    /// Whatever stands anywhere: a plan serves every survivor everything known, or names what is missing.
    #[test]
    fn every_plan_is_sound(
        replicas in proptest::collection::vec((0u64..20, 0u64..20, 0u64..20), 1..5),
        dead in proptest::option::of((0u64..20, 0u64..30)),
        copies in proptest::collection::vec((0u64..20, 0u64..40, any::<bool>()), 0..3),
    ) {
        let offset = |n: u64| format!("1:{}", 120 + n * 10);
        let mut specs = Vec::new();
        let mut relay = Vec::new();
        for (a, b, c) in &replicas {
            let (executed, received) = (*a.min(b), *a.max(b));
            let from = *c.min(&received);
            specs.push((offset(received), offset(executed)));
            relay.push((format!("{} {}", offset(from), offset(received)), from < received, offset(received)));
        }
        let specs: Vec<(&str, &str)> = specs.iter().map(|(r, e)| (r.as_str(), e.as_str())).collect();
        let mut story = Story::new(&specs, &[], None);
        for ((range, any, last), n) in relay.iter().zip(2..) {
            let survey = if *any { holds(&[range], Some(last)) } else { holds(&[], None) };
            story.holdings.relay.insert(format!("db{n}"), survey);
        }
        if let Some((from, to)) = dead.filter(|(from, to)| from < to) {
            let range = format!("{} {}", offset(from), offset(to));
            story.holdings.dead = DeadLog::Read { survey: Box::new(holds(&[&range], Some(&offset(to)))) };
        }
        for ((from, to, verified), n) in copies.iter().filter(|(from, to, _)| from < to).zip(1..) {
            let range = format!("{} {}", offset(*from), offset(*to));
            let survey = holds(&[&range], Some(&offset(*to)));
            let log = if *verified { copies::verified(survey) } else { copies::unusable() };
            story.holdings.binlog_servers.insert(format!("binlog{n}"), log);
        }
        let mut furthest = story.topology.survivors.iter().map(|s| s.replica.executed.clone().unwrap()).max().unwrap();
        let copied = || story.holdings.binlog_servers.values().filter_map(BinlogServerLog::survey);
        for survey in story.holdings.relay.values().chain(story.holdings.dead.survey()).chain(copied()) {
            if let Some(last) = &survey.last_transaction {
                furthest = furthest.max(last.end.clone());
            }
        }
        match story.plan() {
            Ok(plan) => {
                check(&plan);
                prop_assert_eq!(&plan.frontier.end, &furthest);
                for target in &plan.frontier.targets {
                    prop_assert_eq!(target.lacks, target.base < furthest);
                    // Every byte from its base to the end is in a piece, and held by its provider.
                    let mut at = target.base.clone();
                    for piece in plan.pieces.iter().filter(|p| p.range.to > target.base) {
                        prop_assert!(piece.range.from <= at);
                        let survey = match piece.logs {
                            Logs::Relay => story.holdings.relay.get(&piece.provider).unwrap(),
                            Logs::Binary => story.holdings.dead.survey().unwrap(),
                            Logs::BinlogServer => story.holdings.binlog_servers.get(&piece.provider).unwrap().survey().unwrap(),
                        };
                        prop_assert!(survey.ranges.iter().any(|r| r.from <= piece.range.from && piece.range.to <= r.to));
                        at = piece.range.to.clone();
                    }
                    prop_assert!(at >= furthest);
                }
            }
            Err(PlanError::NotHeld { range, .. }) => {
                // Nobody holds the first byte of what is said to be missing.
                let held = story.holdings.relay.values().chain(story.holdings.dead.survey()).chain(copied())
                    .any(|s| s.ranges.iter().any(|r| r.from <= range.from && range.from < r.to)
                        && s.last_transaction.as_ref().is_some_and(|t| t.end > range.from));
                prop_assert!(!held, "{range}");
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
