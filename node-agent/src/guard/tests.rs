//! When the guard acts, and what it remembers.

use super::*;

fn deposed(operation: &str, epoch: u64) -> Deposed {
    Deposed {
        operation: operation.to_owned(),
        epoch,
        cause: Cause::HeldDown,
        earlier: None,
    }
}

fn running(pid: u32) -> Process {
    Process::Running {
        pid,
        since: clock::now(),
    }
}

#[test]
fn each_process_is_made_read_only_once_and_again_if_it_is_writable() {
    let since = clock::now();
    let ordered = State {
        order: Some(deposed("op-1", 1)),
        since,
        suspended: false,
        confirmed: None,
        given: 1,
    };
    let confirmed = State {
        confirmed: Some((7, since)),
        ..ordered.clone()
    };
    let suspended = State {
        suspended: true,
        ..ordered.clone()
    };
    let free = State {
        order: None,
        ..ordered.clone()
    };
    let gone = Process::NotRunning { since };
    let cases = [
        ("new", &ordered, running(7), None, Some(7)),
        ("new, read-only", &ordered, running(7), Some(true), Some(7)),
        ("done", &confirmed, running(7), Some(true), None),
        ("done, not asked yet", &confirmed, running(7), None, None),
        (
            "made writable",
            &confirmed,
            running(7),
            Some(false),
            Some(7),
        ),
        ("restarted", &confirmed, running(8), None, Some(8)),
        ("not running", &ordered, gone.clone(), None, None),
        ("ended", &confirmed, gone, None, None),
        (
            "being made writable",
            &suspended,
            running(7),
            Some(false),
            None,
        ),
        ("not deposed", &free, running(7), Some(false), None),
    ];
    for (what, state, process, read_only, expected) in cases {
        assert_eq!(state.due(&process, read_only), expected, "{what}");
    }
    assert_eq!(free.told(Some(7)), watch::Guard::None);
    assert!(matches!(
        confirmed.told(Some(7)),
        watch::Guard::ReadOnly { .. }
    ));
    for running in [None, Some(8)] {
        let told = confirmed.told(running);
        assert!(matches!(told, watch::Guard::Enforcing { .. }), "{told:?}");
    }
}

#[tokio::test]
async fn an_order_survives_a_restart_and_the_present_epoch_lifts_it() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Arc::new(Guard::open(folder.path(), None).unwrap());
    let guard = open();
    assert_eq!(guard.order(), None);
    guard.depose(deposed("op-2", 2)).await.unwrap();
    // An older one does not replace it.
    guard.depose(deposed("op-1", 1)).await.unwrap();
    let guard = open();
    assert_eq!(guard.order(), Some(deposed("op-2", 2)));
    assert!(matches!(
        guard.stand_aside(1),
        Err(GuardError::Newer {
            deposed: 2,
            asked: 1
        })
    ));
    // A call that fails leaves it in force.
    drop(guard.stand_aside(3).unwrap());
    assert_eq!(
        guard.lock().due(&running(7), None),
        Some(7),
        "in force again"
    );
    let aside = guard.stand_aside(3).unwrap();
    assert_eq!(guard.lock().due(&running(7), None), None);
    assert!(aside.for_good().await.unwrap());
    assert_eq!(guard.order(), None);
    assert_eq!(open().order(), None);
    // An order that comes while the server is opened is not lifted with the one before.
    guard.depose(deposed("op-4", 4)).await.unwrap();
    let aside = guard.stand_aside(4).unwrap();
    guard.depose(deposed("op-5", 5)).await.unwrap();
    assert!(!aside.for_good().await.unwrap());
    let kept = guard.order().unwrap();
    assert_eq!((kept.operation.as_str(), kept.epoch), ("op-5", 5));
    assert_eq!(open().order(), Some(kept));
    assert_eq!(
        guard.lock().due(&running(7), None),
        Some(7),
        "in force again"
    );
}

#[tokio::test]
async fn a_lease_that_is_lost_anew_while_its_server_is_opened_keeps_it_closed() {
    let folder = tempfile::tempdir().unwrap();
    let guard = Arc::new(Guard::open(folder.path(), None).unwrap());
    let lost = Deposed {
        cause: Cause::LeaseLost,
        ..deposed("op-2", 2)
    };
    guard.depose(lost.clone()).await.unwrap();
    guard.lock().confirmed = Some((7, clock::now()));
    // Lost twice without having been held in between: nothing new.
    guard.depose(lost.clone()).await.unwrap();
    assert!(guard.is_carried_out(&running(7)));

    let aside = guard.stand_aside(2).unwrap();
    guard.depose(lost.clone()).await.unwrap();
    assert!(!aside.for_good().await.unwrap());
    assert_eq!(guard.order(), Some(lost));
    assert!(!guard.is_carried_out(&running(7)), "it may be open");
    assert_eq!(guard.lock().due(&running(7), Some(true)), Some(7));
}

#[tokio::test]
async fn what_a_later_operation_undoes_is_only_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Arc::new(Guard::open(folder.path(), None).unwrap());
    let guard = open();
    // A failover replaced it; a later one holds it down once more, repeats that, finds nothing to do and lets go.
    guard.depose(deposed("failover-1", 1)).await.unwrap();
    for _ in 0..2 {
        guard.depose(deposed("failover-2", 2)).await.unwrap();
    }
    assert_eq!(guard.order().unwrap().operation, "failover-2");
    assert!(!guard.pardon("failover-1").await.unwrap());
    assert!(guard.pardon("failover-2").await.unwrap());
    assert_eq!(guard.order(), Some(deposed("failover-1", 1)));
    assert_eq!(open().order(), Some(deposed("failover-1", 1)));
    // The loss of a lease, which comes and goes, does not stand in for an order that stays.
    let lost = Deposed {
        cause: Cause::LeaseLost,
        ..deposed("op-3", 3)
    };
    guard.depose(lost).await.unwrap();
    assert_eq!(guard.order(), Some(deposed("failover-1", 1)));
    // Who was named its successor is not undone by a release.
    let succeeded = Deposed {
        cause: Cause::Succeeded,
        ..deposed("failover-1", 1)
    };
    guard.depose(succeeded.clone()).await.unwrap();
    assert!(!guard.pardon("failover-1").await.unwrap());
    assert_eq!(guard.order(), Some(succeeded));
}

#[tokio::test]
async fn an_order_is_carried_out_for_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let guard = Arc::new(Guard::open(folder.path(), None).unwrap());
    assert!(!guard.is_carried_out(&running(7)));
    guard.depose(deposed("op-1", 1)).await.unwrap();
    assert!(!guard.is_carried_out(&running(7)));
    guard.lock().confirmed = Some((7, clock::now()));
    assert!(guard.is_carried_out(&running(7)));
    assert!(!guard.is_carried_out(&running(8)));
    guard.depose(deposed("op-2", 2)).await.unwrap();
    assert!(!guard.is_carried_out(&running(7)), "a new order");
}

#[tokio::test]
async fn only_the_operation_that_deposed_may_undo_it() {
    let folder = tempfile::tempdir().unwrap();
    let guard = Arc::new(Guard::open(folder.path(), None).unwrap());
    assert!(!guard.pardon("op-1").await.unwrap());
    guard.depose(deposed("op-1", 1)).await.unwrap();
    assert!(!guard.pardon("release-1").await.unwrap());
    assert_eq!(guard.order(), Some(deposed("op-1", 1)));
    assert!(guard.pardon("op-1").await.unwrap());
    assert_eq!(guard.order(), None);
    // A lease that was lost is not undone by a release.
    let lost = Deposed {
        cause: Cause::LeaseLost,
        ..deposed("op-2", 2)
    };
    guard.depose(lost.clone()).await.unwrap();
    assert!(!guard.pardon("op-2").await.unwrap());
    assert_eq!(guard.order(), Some(lost));
}

#[test]
fn a_hold_without_an_order_is_one_and_a_torn_order_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let hold = Hold {
        operation: "op-5".to_owned(),
        epoch: 5,
        datadir: "/data".into(),
        pid_file: None,
    };
    let guard = Guard::open(folder.path(), Some(&hold)).unwrap();
    assert_eq!(guard.order(), Some(deposed("op-5", 5)));
    std::fs::write(folder.path().join("deposed.json"), b"{\"operation\"").unwrap();
    assert!(Guard::open(folder.path(), Some(&hold)).is_err());
}
