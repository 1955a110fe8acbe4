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
    lease.begin_anew();
    assert!(matches!(lease.told(true).state, LeaseState::Held { .. }));
}
