//! Who vouches for whom, and what of a lease survives a restart.

use super::*;
use crate::state::epoch::Holder;

fn assignment(primary: &str, epoch: u64, agents: usize) -> Assignment {
    Assignment {
        primary: primary.to_owned(),
        operation: format!("op-{epoch}"),
        epoch,
        agents: ["db1", "db2", "db3", "db4"]
            .into_iter()
            .take(agents)
            .map(|name| AgentAddress {
                name: name.to_owned(),
                address: format!("{name}:7306"),
            })
            .collect(),
        manager: "m1".to_owned(),
        lease: true,
        seen: None,
    }
}

#[test]
fn an_agent_vouches_only_as_long_as_it_knows_nothing_newer() {
    let stored = |epoch, held: bool| StoredEpoch {
        epoch,
        holder: held.then(|| Holder {
            operation: "op".to_owned(),
            manager: "m1".to_owned(),
        }),
        last: None,
    };
    let here = |epoch| Some(assignment("db1:3306", epoch, 3));
    let there = |epoch| Some(assignment("db2:3306", epoch, 3));
    // db1:3306 asks, by its assignment of epoch 5.
    let cases = [
        ("nothing known", stored(0, false), None, true),
        ("the same", stored(5, true), here(5), true),
        ("the same, released", stored(5, false), here(5), true),
        ("an older one", stored(5, false), there(4), true),
        ("a newer claim", stored(6, true), here(5), false),
        ("a newer claim, released", stored(6, false), here(5), false),
        ("another primary", stored(5, false), there(5), false),
        ("a newer primary", stored(5, false), there(6), false),
        ("itself, newer", stored(5, false), here(6), false),
    ];
    for (what, stored, known, expected) in cases {
        let answer = vouches(&stored, known.as_ref(), "db1:3306", 5);
        assert_eq!(answer.is_ok(), expected, "{what}: {answer:?}");
    }
}

#[tokio::test]
async fn the_primary_of_at_least_three_agents_has_a_lease_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Arc::new(ServerLease::open(folder.path(), "db1:3306", "db1").unwrap());
    let lease = open();
    assert!(!lease.is_active());
    assert_eq!(lease.told(true).state, LeaseState::Off);
    for (primary, agents, active) in [
        ("db1:3306", 2, false),
        ("db2:3306", 3, false),
        ("db1:3306", 3, true),
    ] {
        lease.assign(assignment(primary, 5, agents)).await.unwrap();
        assert_eq!(lease.is_active(), active, "{primary} of {agents}");
        assert_eq!(open().is_active(), active, "{primary} of {agents}");
    }
    let told = lease.told(true);
    assert!(matches!(told.state, LeaseState::Held { .. }), "{told:?}");
    assert_eq!((told.vouching, told.agents), (1, 3));
    // As it is told to managers, and switched off by the configuration.
    let told = lease.assignment().unwrap().told().unwrap();
    assert_eq!(
        (told.epoch.get(), told.lease, told.agents.len()),
        (5, true, 3)
    );
    let off = Assignment {
        lease: false,
        ..assignment("db1:3306", 5, 3)
    };
    lease.assign(off).await.unwrap();
    assert!(!lease.is_active() && !open().is_active());
    lease.assign(assignment("db1:3306", 5, 3)).await.unwrap();
    // What was heard for an earlier lease does not count for the next.
    let generation = lease.lock().generation;
    lease.begin_anew();
    lease.peer_heard(generation, "db2", clock::boottime());
    assert_eq!(lease.told(true).vouching, 1);
    lease.peer_heard(generation + 1, "db2", clock::boottime());
    assert_eq!(lease.told(true).vouching, 2);
    let before = lease.assign(assignment("db2:3306", 6, 3)).await.unwrap();
    assert_eq!(before.unwrap().primary, "db1:3306");
    assert!(!lease.is_active());
    std::fs::write(folder.path().join("primary.json"), b"{").unwrap();
    assert!(ServerLease::open(folder.path(), "db1:3306", "db1").is_err());
}

#[tokio::test]
async fn the_end_of_a_lease_is_news_once() {
    let folder = tempfile::tempdir().unwrap();
    let lease = Arc::new(ServerLease::open(folder.path(), "db1:3306", "db1").unwrap());
    lease.assign(assignment("db1:3306", 5, 3)).await.unwrap();
    assert_eq!(lease.ended(true), None);
    // A lease that began long ago and heard nobody.
    lease.lock().active.as_mut().unwrap().machine =
        Machine::new(["db2".to_owned(), "db3".to_owned()], Duration::ZERO);
    assert_eq!(lease.ended(true).unwrap().epoch, 5);
    assert_eq!(lease.ended(true), None);
    lease.manager_heard(clock::boottime());
    let told = lease.told(true);
    assert!(matches!(told.state, LeaseState::Lost { .. }), "{told:?}");
    assert!(told.manager_heard);
    assert_eq!(lease.regained(true), None);
    let generation = lease.lock().generation;
    tokio::time::sleep(Duration::from_millis(5)).await;
    lease.peer_heard(generation, "db2", clock::boottime());
    assert_eq!(lease.regained(true).unwrap().epoch, 5);
    assert_eq!(lease.regained(true), None, "news once");
    assert!(matches!(lease.told(true).state, LeaseState::Held { .. }));
    lease.begin_anew();
    assert!(matches!(lease.told(true).state, LeaseState::Held { .. }));
}

#[tokio::test]
async fn what_was_seen_of_its_process_stays_with_the_primary_and_not_with_a_former_one() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Arc::new(ServerLease::open(folder.path(), "db1:3306", "db1").unwrap());
    let lease = open();
    let seen = SeenProcess {
        process: reopen::ProcessId::of("b", std::process::id()).unwrap(),
        open: true,
    };
    lease.assign(assignment("db1:3306", 5, 3)).await.unwrap();
    // Of an assignment that is over meanwhile.
    lease.note(4, seen.clone()).await.unwrap();
    assert_eq!(lease.assignment().unwrap().seen, None);
    lease.note(5, seen.clone()).await.unwrap();
    assert_eq!(open().assignment().unwrap().seen, Some(seen.clone()));
    lease.assign(assignment("db1:3306", 6, 3)).await.unwrap();
    assert_eq!(open().assignment().unwrap().seen, Some(seen));
    lease.assign(assignment("db2:3306", 7, 3)).await.unwrap();
    lease.assign(assignment("db1:3306", 8, 3)).await.unwrap();
    assert_eq!(open().assignment().unwrap().seen, None);
}
