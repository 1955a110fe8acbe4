//! The epoch store against a model, across restarts, with damaged files and with many claimers at once.

use std::fs;

use std::num::NonZeroU64;
use std::time::Duration;

use proto::convert::Context;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::epoch::*;

fn holder(operation: &str) -> Holder {
    Holder {
        operation: operation.to_owned(),
        manager: "m1".to_owned(),
    }
}

fn context(epoch: u64, operation: &str) -> Context {
    Context {
        cluster: "app1".to_owned(),
        server: "db1:3306".to_owned(),
        operation: operation.parse().unwrap(),
        epoch: NonZeroU64::new(epoch).unwrap(),
        deadline: Duration::from_secs(1),
    }
}

#[test]
fn the_rules_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = EpochStore::open(folder.path(), ["app1"]).unwrap();
    assert_eq!(store.stored("app1").unwrap(), StoredEpoch::default());

    assert_eq!(
        store
            .claim("app1", 3, holder("a"), false)
            .unwrap()
            .stored
            .epoch,
        3
    );
    // Equal with the same operation: granted again.
    assert!(store.claim("app1", 3, holder("a"), false).is_ok());
    // Equal with another one: held, and the holder is named.
    let Err(EpochError::Held { stored, .. }) = store.claim("app1", 3, holder("b"), false) else {
        panic!("granted twice");
    };
    assert_eq!(stored.holder, Some(holder("a")));
    // Lower: stale, whoever asks.
    for operation in ["a", "b"] {
        assert!(matches!(
            store.claim("app1", 2, holder(operation), false),
            Err(EpochError::Stale { .. })
        ));
    }
    // Greater: taken over.
    let grant = store.claim("app1", 4, holder("b"), false).unwrap();
    assert_eq!(grant.before.holder, Some(holder("a")));
    assert!(matches!(
        store.check(&context(3, "a")),
        Err(EpochError::Stale { .. })
    ));
    assert!(matches!(
        store.check(&context(4, "a")),
        Err(EpochError::Held { .. })
    ));
    store.check(&context(4, "b")).unwrap();

    // A release of what is not held does nothing.
    assert!(!store.release("app1", 4, "a").unwrap());
    assert!(!store.release("app1", 3, "b").unwrap());
    assert!(store.release("app1", 4, "b").unwrap());
    assert!(!store.release("app1", 4, "b").unwrap());
    assert!(matches!(
        store.check(&context(4, "b")),
        Err(EpochError::Stale { .. })
    ));
    // The epoch stays: the released operation needs a greater one.
    assert!(matches!(
        store.claim("app1", 4, holder("b"), false),
        Err(EpochError::Stale { .. })
    ));
    // Who comes too late learns from whom.
    let Err(EpochError::Stale { stored, .. }) = store.claim("app1", 4, holder("c"), false) else {
        panic!("granted a second time");
    };
    assert_eq!((stored.holder, stored.last), (None, Some(holder("b"))));
}

#[test]
fn a_cluster_is_the_managers_who_claimed_it_last_until_it_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let of = |manager: &str, operation: &str| Holder {
        manager: manager.to_owned(),
        ..holder(operation)
    };
    let store = EpochStore::open(folder.path(), ["app1"]).unwrap();
    store.claim("app1", 1, of("m1", "a"), false).unwrap();
    // Whether it is held or released, and after a restart.
    for released in [false, true] {
        if released {
            assert!(store.release("app1", 1, "a").unwrap());
        }
        let store = EpochStore::open(folder.path(), ["app1"]).unwrap();
        let before = store.stored("app1").unwrap();
        let Err(EpochError::OfAnother { of: record, .. }) =
            store.claim("app1", 2, of("m2", "b"), false)
        else {
            panic!("granted to another manager");
        };
        assert_eq!(record, "m1");
        assert_eq!(store.stored("app1").unwrap(), before);
        // A stale epoch takes nothing over.
        assert!(matches!(
            store.claim("app1", 1, of("m2", "b"), true),
            Err(EpochError::Held { .. } | EpochError::Stale { .. })
        ));
    }
    // Its own manager goes on with other operations.
    let grant = store.claim("app1", 2, of("m1", "c"), false).unwrap();
    assert_eq!(grant.taken_over_from(), None);
    let grant = store.claim("app1", 3, of("m2", "d"), true).unwrap();
    assert_eq!(grant.taken_over_from(), Some("m1"));
    assert!(matches!(
        store.claim("app1", 4, of("m1", "e"), false),
        Err(EpochError::OfAnother { .. })
    ));
}

#[test]
fn malformed_calls_are_refused_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = EpochStore::open(folder.path(), ["app1"]).unwrap();
    assert!(matches!(
        store.claim("app2", 1, holder("a"), false),
        Err(EpochError::UnknownCluster { .. })
    ));
    for (epoch, claimer) in [
        (0, holder("a")),
        (1, holder("")),
        (1, holder("../a")),
        (
            1,
            Holder {
                manager: String::new(),
                ..holder("a")
            },
        ),
    ] {
        assert!(matches!(
            store.claim("app1", epoch, claimer, false),
            Err(EpochError::BadField { .. })
        ));
    }
    assert_eq!(store.stored("app1").unwrap(), StoredEpoch::default());
}

#[test]
fn random_claims_and_releases_agree_with_a_model_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(0x0065_706f_6368);
    let mut store = EpochStore::open(folder.path(), ["app1"]).unwrap();
    let mut model = StoredEpoch::default();
    for step in 0..400 {
        let operation = ["a", "b", "c"][random.random_range(0..3)];
        let epoch = model.epoch.saturating_sub(2) + random.random_range(0..4);
        match random.random_range(0..8) {
            0..5 => {
                let held = model
                    .holder
                    .as_ref()
                    .is_some_and(|h| h.operation == operation);
                let granted = epoch > 0 && (epoch > model.epoch || (epoch == model.epoch && held));
                assert_eq!(
                    store.claim("app1", epoch, holder(operation), false).is_ok(),
                    granted,
                    "step {step}: claim {epoch} {operation} on {model:?}"
                );
                if granted {
                    model = StoredEpoch {
                        epoch,
                        holder: Some(holder(operation)),
                        last: None,
                    };
                }
            }
            5..7 => {
                let held = model.holder == Some(holder(operation)) && model.epoch == epoch;
                assert_eq!(store.release("app1", epoch, operation).unwrap(), held);
                if held {
                    model.last = model.holder.take();
                }
            }
            _ => store = EpochStore::open(folder.path(), ["app1"]).unwrap(),
        }
        assert_eq!(store.stored("app1").unwrap(), model, "step {step}");
    }
    assert!(model.epoch > 20, "the walk went somewhere: {model:?}");
}

#[test]
fn of_many_claimers_with_one_epoch_exactly_one_is_granted() {
    let folder = tempfile::tempdir().unwrap();
    let store = EpochStore::open(folder.path(), ["app1"]).unwrap();
    for epoch in 1..20 {
        let granted = std::thread::scope(|scope| {
            let claims: Vec<_> = (0..6)
                .map(|n| {
                    let store = &store;
                    scope.spawn(move || {
                        store
                            .claim("app1", epoch, holder(&format!("op{n}")), false)
                            .is_ok()
                    })
                })
                .collect();
            claims
                .into_iter()
                .filter_map(|c| c.join().ok())
                .filter(|g| *g)
                .count()
        });
        assert_eq!(granted, 1, "epoch {epoch}");
    }
}

#[test]
fn every_torn_form_of_the_file_closes_its_cluster_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = EpochStore::open(folder.path(), ["app1", "app2"]).unwrap();
    store.claim("app1", 7, holder("a"), false).unwrap();
    store.claim("app2", 1, holder("b"), false).unwrap();
    let path = folder.path().join("app1.json");
    let whole = fs::read(&path).unwrap();
    // The last byte is the line end, without which the file is still whole.
    for length in 0..whole.len() - 1 {
        fs::write(&path, &whole[..length]).unwrap();
        let store = EpochStore::open(folder.path(), ["app1", "app2"]).unwrap();
        assert!(
            matches!(
                store.claim("app1", 100, holder("x"), false),
                Err(EpochError::Unreadable { .. })
            ),
            "granted on {length} bytes"
        );
        assert!(matches!(
            store.check(&context(7, "a")),
            Err(EpochError::Unreadable { .. })
        ));
        assert!(store.claim("app2", 1, holder("b"), false).is_ok());
    }
    // What a crash in the middle of a write leaves is the old file and a temporary one.
    fs::write(&path, &whole).unwrap();
    fs::write(folder.path().join("app1.json.new"), b"{\"epoch\": 9").unwrap();
    let store = EpochStore::open(folder.path(), ["app1"]).unwrap();
    assert_eq!(store.stored("app1").unwrap().epoch, 7);
    store.claim("app1", 8, holder("c"), false).unwrap();
}

#[test]
fn a_grant_that_cannot_be_stored_is_no_grant() {
    let folder = tempfile::tempdir().unwrap();
    let epochs = folder.path().join("epochs");
    let store = EpochStore::open(&epochs, ["app1"]).unwrap();
    store.claim("app1", 1, holder("a"), false).unwrap();
    fs::remove_dir_all(&epochs).unwrap();
    assert!(matches!(
        store.claim("app1", 2, holder("b"), false),
        Err(EpochError::Store(_))
    ));
    assert!(matches!(
        store.release("app1", 1, "a"),
        Err(EpochError::Store(_))
    ));
    assert_eq!(store.stored("app1").unwrap().epoch, 1);
    store.check(&context(1, "a")).unwrap();
}
