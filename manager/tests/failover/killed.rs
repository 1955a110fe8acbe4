//! Manager and agents killed at every journal hook point, the last record torn at every byte: scripted agents, so that
//! all points are tried in every run of the tests. The suite `kill-every-step` does the same with real servers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use futures::StreamExt;
use manager::exit_code::ExitCode;
use manager::journal::{self, Hook, NoHook, Record};
use manager::plan::Act;
use proto::v1::ErrorKind;

use super::cluster::{Cluster, code};
use super::daemon::Watched;
use super::world::{Fault, Shared, lock};

/// What happens at a hook point.
enum Deed {
    Nothing,
    /// The manager dies: this write is not done, and nothing after it.
    Kill,
    /// The agent of this server dies and is restarted at once: connections break.
    Break(Shared, &'static str),
}

/// Does it at this point; points are counted from 0, two for each record.
struct At {
    point: u32,
    deed: Deed,
    reached: AtomicU32,
    killed: AtomicBool,
}

impl At {
    fn new(point: u32, deed: Deed) -> Arc<Self> {
        Arc::new(Self {
            point,
            deed,
            reached: AtomicU32::new(0),
            killed: AtomicBool::new(false),
        })
    }

    fn reach(&self) -> bool {
        if self.killed.load(Ordering::SeqCst) {
            return false;
        }
        if self.reached.fetch_add(1, Ordering::SeqCst) == self.point {
            match &self.deed {
                Deed::Nothing => {}
                Deed::Kill => {
                    self.killed.store(true, Ordering::SeqCst);
                    return false;
                }
                Deed::Break(world, server) => lock(world).server(server).breaks = 2,
            }
        }
        true
    }
}

impl Hook for At {
    fn before(&self, _: &Record) -> bool {
        self.reach()
    }

    fn after(&self, _: &Record) -> bool {
        self.reach()
    }
}

/// Hook points of a run without a fault.
async fn points() -> u32 {
    let cluster = Cluster::patient().await;
    let counter = At::new(u32::MAX, Deed::Nothing);
    let report = cluster
        .run_with(&cluster.request(), counter.clone(), None)
        .await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    let points = counter.reached.load(Ordering::SeqCst);
    assert!(points > 60, "{points} hook points");
    points
}

/// db2 is the one primary, db3 has everything and follows it, db1 stays down, and no journal is left open.
fn assert_done(cluster: &Cluster, story: &str) {
    let mut world = lock(&cluster.world);
    assert!(!world.server("db2").read_only, "{story}");
    assert!(world.server("db3").read_only, "{story}");
    for name in ["db2", "db3"] {
        assert_eq!(world.server(name).executed, 1308, "{story}: {name}");
    }
    assert_eq!(
        world.server("db3").replicates_from,
        Some(("db2".to_owned(), 3306)),
        "{story}"
    );
    assert!(!world.server("db1").held_down_by.is_empty(), "{story}");
    for server in world.servers.values() {
        assert_eq!(server.holder, None, "{story}: {}", server.name);
    }
    drop(world);
    let mut journals: Vec<_> = cluster
        .journals()
        .iter()
        .map(|path| journal::read(path).unwrap())
        // One that never began is nobody's.
        .filter(|read| !read.records.is_empty())
        .collect();
    let newest = journals.pop().unwrap();
    let end = newest.records.last();
    assert!(matches!(end, Some(Record::End { .. })), "{story}: {end:?}");
    for read in journals {
        assert_eq!(read.torn_at, None, "{story}");
        let end = read.records.last();
        assert!(
            matches!(end, Some(Record::End { .. } | Record::TakenUp { .. })),
            "{story}: {end:?}"
        );
    }
}

/// Cuts the last record of the newest journal that has one off; `byte` chooses where. A manager whose hook was killed may have
/// made another journal since, in which it can write nothing.
fn tear(cluster: &Cluster, byte: usize) -> PathBuf {
    let mut journals = cluster.journals().into_iter().rev();
    let (path, bytes) = journals
        .find_map(|path| {
            let bytes = std::fs::read(&path).unwrap();
            (!bytes.is_empty()).then_some((path, bytes))
        })
        .unwrap();
    let ends: Vec<usize> = ends(&bytes);
    let start = ends.iter().rev().nth(1).copied().unwrap_or(0);
    let cut = start + byte % (bytes.len() - start);
    std::fs::write(&path, &bytes[..cut]).unwrap();
    path
}

/// Where each record ends.
fn ends(bytes: &[u8]) -> Vec<usize> {
    (1..=bytes.len())
        .filter(|n| bytes[n - 1] == b'\n')
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_killed_at_any_hook_point_is_finished_by_the_next() {
    let points = points().await;
    futures::stream::iter(0..points)
        .for_each_concurrent(8, |point| async move {
            for torn in [false, true] {
                // After a write there is a record that can be torn.
                if torn && point % 2 == 0 {
                    continue;
                }
                let story = format!("killed at {point}, torn: {torn}");
                let cluster = Cluster::patient().await;
                let hook = At::new(point, Deed::Kill);
                cluster
                    .run_with(&cluster.request(), hook.clone(), None)
                    .await;
                assert!(hook.killed.load(Ordering::SeqCst), "{story}");
                if torn {
                    tear(&cluster, 7919 * point as usize);
                }
                let report = cluster.run(&cluster.request()).await;
                assert_eq!(code(&report), ExitCode::Done, "{story}: {}", report.summary);
                assert_done(&cluster, &story);
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_at_any_hook_point_finishes_when_it_is_started_again() {
    let points = points().await;
    futures::stream::iter(0..points)
        .for_each_concurrent(8, |point| async move {
            let story = format!("killed at {point}");
            let hook = At::new(point, Deed::Kill);
            let mut watched = Watched::of(Cluster::patient().await, hook.clone()).await;
            watched.kill();
            watched
                .until("kill", |_| hook.killed.load(Ordering::SeqCst))
                .await;
            watched.end();
            watched.cluster.until_unlocked().await;
            if point % 4 == 1 {
                tear(&watched.cluster, 7919 * point as usize);
            }
            watched.begin();
            watched
                .until("new primary", |s| s.primary.as_deref() == Some("db2"))
                .await;
            assert_done(&watched.cluster, &story);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_at_any_hook_point_is_asked_again() {
    let points = points().await;
    let cases = (0..points).flat_map(|point| ["db1", "db2", "db3"].map(|server| (point, server)));
    futures::stream::iter(cases)
        .for_each_concurrent(8, |(point, server)| async move {
            let story = format!("agent of {server} killed at {point}");
            let cluster = Cluster::patient().await;
            let hook = At::new(point, Deed::Break(cluster.world.clone(), server));
            let report = cluster.run_with(&cluster.request(), hook, None).await;
            assert_eq!(code(&report), ExitCode::Done, "{story}: {}", report.summary);
            lock(&cluster.world).server(server).breaks = 0;
            assert_done(&cluster, &story);
        })
        .await;
}

/// The journal of a whole run, byte by byte.
async fn real_journal() -> Vec<u8> {
    let cluster = Cluster::start().await;
    cluster.run(&cluster.request()).await;
    std::fs::read(cluster.journals().pop().unwrap()).unwrap()
}

fn write(dir: &Path, bytes: &[u8]) -> PathBuf {
    let path = dir.join("torn.journal");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[tokio::test]
async fn a_last_record_torn_at_any_byte_counts_as_absent() {
    let bytes = real_journal().await;
    let dir = tempfile::tempdir().unwrap();
    let ends = ends(&bytes);
    let begin = &bytes[..ends[0]];
    let mut records = 0;
    for (start, end) in std::iter::once(0)
        .chain(ends.iter().copied())
        .zip(ends.iter().copied())
    {
        // The records in between change nothing about how the last one is read.
        let before: &[u8] = if start == 0 { &[] } else { begin };
        for cut in 0..=end - start {
            let file = [before, &bytes[start..start + cut]].concat();
            let read = journal::read(&write(dir.path(), &file)).unwrap();
            let whole = usize::from(start > 0) + usize::from(cut == end - start);
            assert_eq!(read.records.len(), whole, "[{start}, {end}) cut at {cut}");
            let torn = cut > 0 && cut < end - start;
            assert_eq!(read.torn_at, torn.then_some(before.len() as u64));
        }
        records += 1;
    }
    assert!(records > 30, "{records} records");
}

#[tokio::test]
async fn a_torn_journal_is_mended_before_anything_is_added() {
    let bytes = real_journal().await;
    let dir = tempfile::tempdir().unwrap();
    let ends = ends(&bytes);
    let added = Record::TakenUp {
        unix_ms: 1,
        by: "the next".to_owned(),
    };
    let last = ends[ends.len() - 2];
    for cut in last..=bytes.len() {
        let path = write(dir.path(), &bytes[..cut]);
        let before = journal::read(&path).unwrap().records;
        {
            let journal = journal::reopen(&path, Arc::new(NoHook)).unwrap();
            assert!(journal::reopen(&path, Arc::new(NoHook)).is_err(), "locked");
            journal.append(&added).await.unwrap();
        }
        let after = journal::read(&path).unwrap();
        assert_eq!(after.torn_at, None, "cut at {cut}");
        assert_eq!(
            after.records.split_last(),
            Some((&added, before.as_slice()))
        );
        while journal::is_running(&path).unwrap() {
            tokio::task::yield_now().await;
        }
    }
    // Damage elsewhere is not mended.
    let mut damaged = bytes.clone();
    damaged[ends[0] + 30] ^= 1;
    let path = write(dir.path(), &damaged);
    assert!(journal::reopen(&path, Arc::new(NoHook)).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
}

#[tokio::test]
async fn a_copy_that_cannot_be_kept_hides_no_other_failure() {
    let cluster = Cluster::start().await;
    let broken = |text| Fault::Fails(ErrorKind::Io, text);
    cluster.set_fault("db1", "ReadSegment", broken("the disk is slow to tell"));
    cluster.set_fault("db2", "ApplyLogs", broken("it cannot apply"));
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(
        report.new_primary.as_deref(),
        Some("db3"),
        "{}",
        report.summary
    );

    let cluster = Cluster::start().await;
    cluster.set_fault("db1", "ReadSegment", broken("the disk is slow to tell"));
    cluster.set_fault("db2", "MakeWritable", Fault::Dies);
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(
        code(&report),
        ExitCode::OutcomeUnknown,
        "{}",
        report.summary
    );
    assert!(
        report.summary.contains("open db2 for writes"),
        "{}",
        report.summary
    );
}

#[tokio::test]
async fn a_second_run_that_cannot_go_on_never_lets_go_of_the_old_primary() {
    let cluster = Cluster::patient().await;
    // Dies after db2 is open and before db3 is pointed at it.
    cluster.set_fault("db3", "Repoint", Fault::Fails(ErrorKind::Io, "not now"));
    let first = cluster.run(&cluster.request()).await;
    assert_eq!(code(&first), ExitCode::DoneNeedsCare, "{}", first.summary);
    cluster.set_fault(
        "db3",
        "StopReceiver",
        Fault::Fails(ErrorKind::Io, "not now"),
    );
    let second = cluster.run(&cluster.request()).await;
    assert_eq!(
        code(&second),
        ExitCode::FailedAfterChanges,
        "{}",
        second.summary
    );
    assert_eq!(cluster.called("ReleaseHold"), 0);
    assert!(!lock(&cluster.world).server("db1").held_down_by.is_empty());
    lock(&cluster.world).server("db3").faults.clear();
    let third = cluster.run(&cluster.request()).await;
    assert_eq!(code(&third), ExitCode::Done, "{}", third.summary);
    assert_done(&cluster, "third run");
}

/// The manager dies when it has written that it is about to promote somebody.
#[derive(Default)]
struct BeforePromotion(AtomicBool);

impl Hook for BeforePromotion {
    fn before(&self, _: &Record) -> bool {
        !self.0.load(Ordering::SeqCst)
    }

    fn after(&self, record: &Record) -> bool {
        if matches!(record, Record::Started { step, .. } if matches!(step.act, Act::Promote { .. }))
        {
            self.0.store(true, Ordering::SeqCst);
        }
        !self.0.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_server_that_somebody_else_made_a_primary_is_not_opened() {
    let cluster = Cluster::patient().await;
    let hook = Arc::new(BeforePromotion::default());
    cluster.run_with(&cluster.request(), hook, None).await;
    assert_eq!(cluster.called("Promote "), 0);
    {
        let mut world = lock(&cluster.world);
        world.server("db2").replica = false;
        world.server("db2").promoted_by = Some("by hand".to_owned());
    }
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(
        code(&report),
        ExitCode::FailedAfterChanges,
        "{}",
        report.summary
    );
    assert_eq!(cluster.called("Promote "), 1);
    assert_eq!(cluster.called("MakeWritable"), 0);
    assert!(lock(&cluster.world).server("db2").read_only);
}
