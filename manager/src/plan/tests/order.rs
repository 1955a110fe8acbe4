//! What waits for what around the promotion: the lease, the script, the virtual IP.

use super::*;

#[test]
fn nothing_is_opened_before_the_lease_is_over_and_the_new_primary_is_told_first() {
    let story = Story::new(
        &[("1:452", "1:452"), ("1:880", "1:880")],
        &[
            (&["1:120 1:452"], Some("1:452")),
            (&["1:120 1:880"], Some("1:880")),
        ],
        None,
    );
    let election = elect::elect(&config(3), &story.topology, Some("db2")).unwrap();
    let told = ["db1".to_owned(), "db2".to_owned(), "db3".to_owned()];
    let steps = make(Findings {
        topology: &story.topology,
        election: &election,
        holdings: &story.holdings,
        agents: &agents(3),
        promoted: None,
        address_script: true,
        await_lease: true,
        assign: &told,
        virtual_ip: None,
    })
    .unwrap()
    .steps;
    let at = |words: &str| {
        let found: Vec<_> = steps
            .iter()
            .filter(|s| s.act.to_string().contains(words))
            .collect();
        assert_eq!(found.len(), 1, "{words}");
        found[0]
    };
    let wait = at("wait for the end of the lease of db1");
    // The rest goes on meanwhile.
    assert!(wait.after.is_empty());
    assert!(!at("promote db2").after.contains(&wait.id));
    assert!(at("run master_ip_failover_script").after.contains(&wait.id));
    let open = at("open db2 for writes");
    let first = at("tell the agent of db2 that db2 is the primary");
    assert_eq!(first.after, [open.id]);
    for other in ["db1", "db3"] {
        let step = at(&format!("tell the agent of {other} that db2"));
        assert_eq!(step.after, [first.id]);
    }
}

#[test]
fn a_script_brings_the_address_up_between_promotion_and_writes() {
    let story = Story::new(
        &[("1:452", "1:452"), ("1:880", "1:880")],
        &[
            (&["1:120 1:452"], Some("1:452")),
            (&["1:120 1:880"], Some("1:880")),
        ],
        None,
    );
    let election = elect::elect(&config(3), &story.topology, Some("db2")).unwrap();
    let plan_with = |address_script| {
        make(Findings {
            topology: &story.topology,
            election: &election,
            holdings: &story.holdings,
            agents: &agents(3),
            promoted: None,
            address_script,
            await_lease: false,
            assign: &[],
            virtual_ip: None,
        })
        .unwrap()
        .steps
    };
    let without: Vec<Act> = plan_with(false).into_iter().map(|s| s.act).collect();
    let steps = plan_with(true);
    let at = |wanted: fn(&Act) -> bool| steps.iter().find(|s| wanted(&s.act)).unwrap();
    let promote = at(|a| matches!(a, Act::Promote { .. }));
    let hook = at(|a| matches!(a, Act::RunHook { .. }));
    let open = at(|a| matches!(a, Act::MakeWritable { .. }));
    assert_eq!(
        hook.act.to_string(),
        "run master_ip_failover_script --command=start for db2"
    );
    assert_eq!(hook.after, [promote.id]);
    assert_eq!(open.after, [hook.id]);
    let with: Vec<Act> = steps
        .iter()
        .map(|s| s.act.clone())
        .filter(|a| !matches!(a, Act::RunHook { .. }))
        .collect();
    assert_eq!(with, without, "nothing else changes");
}

#[test]
fn the_virtual_ip_comes_up_after_the_writes_and_nothing_waits_for_it() {
    let story = Story::new(
        &[("1:452", "1:452"), ("1:880", "1:880")],
        &[
            (&["1:120 1:452"], Some("1:452")),
            (&["1:120 1:880"], Some("1:880")),
        ],
        None,
    );
    let election = elect::elect(&config(3), &story.topology, Some("db2")).unwrap();
    for holder_fenced in [true, false] {
        let plan = make(Findings {
            topology: &story.topology,
            election: &election,
            holdings: &story.holdings,
            agents: &agents(3),
            promoted: None,
            address_script: false,
            await_lease: false,
            assign: &[],
            virtual_ip: Some(VirtualIpFinding { holder_fenced }),
        })
        .unwrap();
        let open = plan
            .steps
            .iter()
            .find(|s| matches!(s.act, Act::MakeWritable { .. }))
            .unwrap();
        let take = plan
            .steps
            .iter()
            .find(|s| matches!(s.act, Act::TakeAddress { .. }))
            .unwrap();
        let expected = Act::TakeAddress {
            server: "db2".to_owned(),
            holder_fenced,
        };
        assert_eq!(
            (&take.act, take.after.as_slice()),
            (&expected, &[open.id][..])
        );
        assert!(plan.steps.iter().all(|s| !s.after.contains(&take.id)));
        let mut without = plan.steps.clone();
        without.retain(|s| s.id != take.id);
        let acts: Vec<&Act> = without.iter().map(|s| &s.act).collect();
        let plain = story.plan().unwrap();
        assert_eq!(acts, plain.steps.iter().map(|s| &s.act).collect::<Vec<_>>());
    }
}
