//! The store's guards: names, clusters, space, age.

use super::*;

fn store(keep: Duration) -> (tempfile::TempDir, SegmentStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = SegmentStore::open(folder.path().join("segments"), keep).unwrap();
    (folder, store)
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let (_folder, store) = store(Duration::from_secs(60));
    for (operation, id) in [
        ("op-1", "../x"),
        ("op-1", ".operation.json"),
        ("op-1", "a/b"),
        ("op-1", "a.part"),
        ("op-1", "a.manifest.json"),
        ("..", "a"),
        ("", "a"),
        ("op-1", ""),
    ] {
        assert!(
            matches!(store.path(operation, id), Err(StoreError::BadName { .. })),
            "{operation}/{id}"
        );
    }
    assert!(store.path("op-1", "tail-b.000001-4").is_ok());
}

#[test]
fn an_operation_stays_with_its_cluster() {
    let (_folder, store) = store(Duration::from_secs(60));
    store.prepare("app1", "op-1").unwrap();
    store.prepare("app1", "op-1").unwrap();
    assert!(matches!(
        store.prepare("app2", "op-1"),
        Err(StoreError::OtherCluster { .. })
    ));
    assert!(matches!(
        store.get("app2", "op-1", "a"),
        Err(StoreError::OtherCluster { .. })
    ));
    assert!(matches!(
        store.get("app1", "op-1", "a"),
        Err(StoreError::Unknown { .. })
    ));
}

#[test]
fn segments_that_arrive_together_find_their_folder() {
    let (_folder, store) = store(Duration::from_secs(60));
    for round in 0..20 {
        let operation = format!("op-{round}");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| store.prepare("app1", &operation).unwrap());
            }
        });
    }
}

#[test]
fn more_than_the_disk_has_is_refused_with_both_numbers() {
    let (_folder, store) = store(Duration::from_secs(60));
    store.require_space(1).unwrap();
    let Err(StoreError::DiskFull {
        needed_bytes,
        free_bytes,
        ..
    }) = store.require_space(u64::MAX)
    else {
        panic!("no disk has that much");
    };
    assert_eq!(needed_bytes, u64::MAX);
    assert!(free_bytes > 0);
}

#[test]
fn old_operations_are_dropped_but_not_one_in_use() {
    let (_folder, store) = store(Duration::from_secs(3600));
    for operation in ["op-1", "op-2"] {
        store.prepare("app1", operation).unwrap();
    }
    let now = SystemTime::now();
    let none = store.age_out(now, |_| false).unwrap();
    assert!(none.is_empty());
    let later = now + Duration::from_secs(7200);
    let dropped = store
        .age_out(later, |operation| operation == "op-2")
        .unwrap();
    assert_eq!(dropped, ["op-1"]);
    assert!(matches!(
        store.get("app1", "op-1", "a"),
        Err(StoreError::Unknown { .. })
    ));
    assert!(
        store.prepare("app2", "op-1").is_ok(),
        "the name is free again"
    );
}
