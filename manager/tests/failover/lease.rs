//! The lease of a primary: who is told, who speaks for it, and what waits for its end.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use manager::exit_code::ExitCode;
use manager::failover::LeaseSeen;
use manager::journal::{self, Hook, Record, StepOutcome};
use manager::lease::{KILL_TIME, LeaseStatus, TTL};
use manager::plan::Act;
use manager::report::Report;
use proto::status::AgentError;
use proto::v1::{self, ErrorKind};
use tonic::{Request, Response, Status};

use super::cluster::{Cluster, POLICY, code};
use super::daemon::Watched;
use super::fake::FakeAgent;
use super::watching::BOOT;
use super::world::{Fault, lock};

const LIMIT: Duration = Duration::from_secs(60);

#[tonic::async_trait]
impl v1::lease_service_server::LeaseService for FakeAgent {
    async fn assign_primary(
        &self,
        request: Request<v1::AssignPrimaryRequest>,
    ) -> Result<Response<v1::AssignPrimaryResponse>, Status> {
        self.fault("AssignPrimary").await?;
        let request = request.into_inner();
        self.check(&request.context)?;
        let context = request.context.unwrap();
        let lease = !request.without_lease;
        let own = request.primary == self.server;
        self.change(|s| {
            s.assignment = Some(v1::Assignment {
                primary: request.primary,
                epoch: context.epoch,
                operation: context.operation,
                manager: request.manager,
                lease,
                agents: request.agents,
            });
        });
        Ok(Response::new(v1::AssignPrimaryResponse {
            lease: lease && own,
        }))
    }

    async fn renew_lease(
        &self,
        request: Request<v1::RenewLeaseRequest>,
    ) -> Result<Response<v1::RenewLeaseResponse>, Status> {
        self.fault("RenewLease").await?;
        let request = request.into_inner();
        assert_eq!(
            (request.boot_id.as_str(), request.manager.as_str()),
            (BOOT, "m1")
        );
        self.change(|s| {
            if s.assignment.as_ref().map(|a| a.epoch) != Some(request.epoch) {
                return Err(AgentError::new(ErrorKind::StaleEpoch, "another epoch").into());
            }
            s.words.push((request.epoch, request.seen_boottime_ms));
            Ok(Response::new(v1::RenewLeaseResponse::default()))
        })
    }

    async fn vouch(
        &self,
        _: Request<v1::VouchRequest>,
    ) -> Result<Response<v1::VouchResponse>, Status> {
        Err(Status::unimplemented("not asked by a manager"))
    }
}

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < LIMIT, "no {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Watched {
    /// Everybody knows this primary by the same assignment, and nobody holds the cluster: its epoch.
    pub(crate) async fn named(&self, primary: &str, above: u64) -> u64 {
        until(&format!("assignment of {primary} above {above}"), || {
            let world = lock(&self.cluster.world);
            let mut epochs: Vec<u64> = world
                .servers
                .values()
                .filter(|s| s.holder.is_none())
                .filter_map(|s| s.assignment.as_ref())
                .filter(|a| a.primary == primary && a.agents.len() == 3 && a.manager == "m1")
                .map(|a| a.epoch)
                .collect();
            epochs.dedup();
            (world.servers.values().all(|s| s.assignment.is_some()) && epochs.len() == 1)
                .then(|| epochs[0])
                .filter(|epoch| *epoch > above)
        })
        .await
    }

    /// The manager speaks for the lease of this server in this epoch, again and again, and each time of a newer state.
    async fn spoken_for(&self, server: &str, epoch: u64) {
        let from = lock(&self.cluster.world).server(server).words.len();
        let words = until("word", || {
            let words = lock(&self.cluster.world).server(server).words.clone();
            let new: Vec<_> = words
                .into_iter()
                .skip(from)
                .filter(|w| w.0 == epoch)
                .collect();
            (new.len() > 3).then_some(new)
        })
        .await;
        // They may overtake one another.
        let states: BTreeSet<u64> = words.iter().map(|word| word.1).collect();
        assert_eq!(states.len(), words.len(), "{words:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_is_named_spoken_for_and_named_anew_after_a_claim_was_given_back() {
    let mut watched = Watched::start().await;
    let first = watched.named("db1", 0).await;
    watched.spoken_for("db1", first).await;
    watched
        .until(
            "held lease",
            |s| matches!(&s.lease, Some(LeaseStatus::Held { by, .. }) if by.epoch == first),
        )
        .await;
    assert!(
        lock(&watched.cluster.world)
            .server("db1")
            .assignment
            .as_ref()
            .unwrap()
            .lease
    );

    // Somebody claimed two agents and gave it back: they vouch no more for what they knew.
    for server in ["db2", "db3"] {
        lock(&watched.cluster.world).server(server).epoch = first + 1;
    }
    let second = watched.named("db1", first).await;
    watched.spoken_for("db1", second).await;

    // A manager that stops gives nothing back, and one that starts goes on.
    watched.stop().await;
    assert_eq!(watched.named("db1", first).await, second);
    watched.run().await;
    watched.spoken_for("db1", second).await;
    assert_eq!(watched.named("db1", first).await, second);

    // While an operation of somebody holds the others, it is not spoken for.
    for server in ["db2", "db3"] {
        let mut world = lock(&watched.cluster.world);
        world.server(server).epoch = second + 1;
        world.server(server).holder = Some(("failover-x".to_owned(), "m2".to_owned()));
    }
    let told = |watched: &Watched| lock(&watched.cluster.world).server("db1").words.len();
    // What was under way ends.
    let mut before = told(&watched);
    until("silence", || {
        let now = told(&watched);
        std::mem::replace(&mut before, now).eq(&now).then_some(())
    })
    .await;
    tokio::time::sleep(TTL).await;
    assert!(
        told(&watched) <= before + 1,
        "{} words",
        told(&watched) - before
    );
    assert_eq!(watched.cluster.called("AssignPrimary") % 3, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_primary_takes_over_the_lease() {
    let mut watched = Watched::start().await;
    let first = watched.named("db1", 0).await;
    watched.kill();
    watched
        .until("new primary", |s| s.primary.as_deref() == Some("db2"))
        .await;
    let second = watched.named("db2", first).await;
    watched.spoken_for("db2", second).await;
    // mysqld was held down for sure: nothing was waited for.
    let journal = journal::read(&watched.cluster.journals()[0]).unwrap();
    for record in &journal.records {
        if let Record::Started { step, .. } = record {
            assert!(!matches!(step.act, Act::AwaitLease { .. }));
        }
    }
    let Some(Record::Begin(begin)) = journal.records.first() else {
        panic!("no head")
    };
    assert_eq!(begin.epoch, second, "the failover itself named it");
}

/// db1's host is gone; the others know of its lease of epoch 5, or of none.
async fn lose_host(vouched_ms_ago: u64, lease: bool) -> Cluster {
    let cluster = Cluster::start().await;
    cluster.lose_agent(0).await;
    {
        let mut world = lock(&cluster.world);
        for server in ["db2", "db3"] {
            let server = world.server(server);
            server.epoch = 5;
            server.vouched_ms_ago = Some(vouched_ms_ago);
            server.assignment = Some(v1::Assignment {
                primary: "db1".into(),
                epoch: 5,
                operation: "assign-5".into(),
                manager: "m1".into(),
                lease,
                agents: ["db1", "db2", "db3"]
                    .map(|name| v1::LeaseAgent {
                        name: name.into(),
                        address: format!("{name}:7306"),
                    })
                    .to_vec(),
            });
        }
    }
    cluster
}

async fn lost_host(vouched_ms_ago: u64, lease: bool) -> (Cluster, Report) {
    let cluster = lose_host(vouched_ms_ago, lease).await;
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    (cluster, report)
}

fn waited(cluster: &Cluster) -> Option<u64> {
    waited_in(&cluster.journals()[0])
}

fn waited_in(path: &Path) -> Option<u64> {
    let records = journal::read(path).unwrap().records;
    records.iter().find_map(|record| match record {
        Record::Done { outcome, .. } => match **outcome {
            StepOutcome::LeaseOver { waited_ms } => Some(waited_ms),
            _ => None,
        },
        _ => None,
    })
}

fn remark(report: &Report, words: &str) -> bool {
    report.remarks.iter().any(|r| r.contains(words))
}

#[tokio::test]
async fn a_lost_host_is_fenced_by_its_lease_and_nothing_is_opened_before_its_end() {
    let (cluster, report) = lost_host(0, true).await;
    assert_eq!(report.fenced, Some(true));
    assert!(
        remark(&report, "fenced by its lease"),
        "{:?}",
        report.remarks
    );
    assert!(!remark(&report, "UNFENCED"));
    let claimed = report
        .timeline
        .iter()
        .filter(|t| t.act.starts_with("claim"))
        .map(|t| t.finished_us)
        .max()
        .unwrap();
    let least = u64::try_from((TTL + KILL_TIME).as_micros()).unwrap();
    // The answer is here a moment before its journal record.
    let slack = 200_000;
    assert!(report.writable_after_us.unwrap() + slack >= claimed + least);
    assert!(waited(&cluster).unwrap() > 1000, "{:?}", waited(&cluster));
    // What needs no lease went on meanwhile.
    let promoted = report
        .timeline
        .iter()
        .find(|t| t.act == "promote db2")
        .unwrap();
    assert!(promoted.finished_us < report.writable_after_us.unwrap());
    let mut world = lock(&cluster.world);
    for server in ["db2", "db3"] {
        let known = world.server(server).assignment.clone().unwrap();
        assert_eq!((known.primary.as_str(), known.epoch), ("db2", 6));
    }
}

#[tokio::test]
async fn a_lease_that_was_given_none_or_never_is_not_waited_for() {
    let (cluster, report) = lost_host(0, false).await;
    assert_eq!((report.fenced, waited(&cluster)), (Some(false), None));
    assert!(remark(&report, "UNFENCED") && remark(&report, "it was given none"));

    let cluster = Cluster::start().await;
    cluster.lose_agent(0).await;
    for server in ["db2", "db3"] {
        lock(&cluster.world).server(server).vouched_ms_ago = None;
    }
    let report = cluster.run(&cluster.request()).await;
    assert_eq!((report.fenced, waited(&cluster)), (Some(false), None));
    assert!(remark(&report, "no agent knows of a lease"));
    assert_eq!(
        cluster.called("AssignPrimary"),
        0,
        "agents that know no leases"
    );
}

#[tokio::test]
async fn a_manager_that_knows_its_own_last_word_waits_for_nothing_that_is_over() {
    // By the command: another process may have spoken for it until the claims.
    let (cluster, report) = lost_host(60_000, true).await;
    assert!(waited(&cluster).unwrap() > 1000);
    assert_eq!(report.fenced, Some(true));

    let cluster = lose_host(60_000, true).await;
    let mut request = cluster.request();
    let lease = |doubt: Option<&str>| {
        Some(LeaseSeen {
            last_word: Instant::now() - Duration::from_secs(10),
            doubt: doubt.map(str::to_owned),
        })
    };
    request.lease = lease(None);
    let report = cluster.run(&request).await;
    assert_eq!(report.fenced, Some(true));
    assert!(waited(&cluster).unwrap() < 1000, "{:?}", waited(&cluster));

    // Who may have nobody to end it is not fenced by it.
    let cluster = lose_host(60_000, true).await;
    request = cluster.request();
    request.lease = lease(Some("it was silent before"));
    let report = cluster.run(&request).await;
    assert_eq!((report.fenced, waited(&cluster)), (Some(false), None));
    assert!(remark(&report, "may not be running: it was silent before"));
}

/// Dies when it has waited for the end of a lease, before that is on disk.
struct DiesWaiting;

impl Hook for DiesWaiting {
    fn before(&self, record: &Record) -> bool {
        !matches!(record, Record::Done { outcome, .. } if matches!(**outcome, StepOutcome::LeaseOver { .. }))
    }

    fn after(&self, _: &Record) -> bool {
        true
    }
}

#[tokio::test]
async fn a_manager_that_dies_while_it_waits_waits_again() {
    let cluster = lose_host(0, true).await;
    cluster
        .run_with(&cluster.request(), Arc::new(DiesWaiting), None)
        .await;
    assert!(lock(&cluster.world).server("db2").read_only);
    assert_eq!(waited(&cluster), None);
    let mut request = cluster.request();
    request.ignore_last_failover = true;
    let report = cluster.run(&request).await;
    assert_eq!(
        report.new_primary.as_deref(),
        Some("db2"),
        "{}",
        report.summary
    );
    assert_eq!(report.fenced, Some(true));
    let again = cluster.journals().last().and_then(|path| waited_in(path));
    assert!(again.unwrap() > 1000, "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_replaces_a_lost_host_without_waiting_for_what_is_over() {
    let mut watched = Watched::start().await;
    let first = watched.named("db1", 0).await;
    watched.spoken_for("db1", first).await;
    // Not a byte comes back from there.
    watched.cluster.lose_agent(0).await;
    lock(&watched.cluster.world).server("db1").silent = true;
    watched.kill();
    watched
        .until("new primary", |s| s.primary.as_deref() == Some("db2"))
        .await;
    assert!(waited(&watched.cluster).is_some(), "a lease was known");
    watched.named_at_survivors("db2", first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_falls_silent_before_anybody_knows_of_its_lease_is_not_replaced_at_once() {
    let cluster = Cluster::start().await;
    // It cannot be named.
    cluster.set_fault(
        "db1",
        "ClaimEpoch",
        Fault::Fails(ErrorKind::Io, "its disk is full"),
    );
    let began = Instant::now();
    let mut watched = Watched::with(cluster).await;
    watched
        .until("lease", |s| {
            let lease = s.lease.as_ref().map(ToString::to_string);
            lease.is_some_and(|lease| lease.contains("db1 was not named the primary yet"))
        })
        .await;
    watched.cluster.lose_agent(0).await;
    lock(&watched.cluster.world).server("db1").silent = true;
    watched.kill();
    watched
        .until("why nothing is done", |s| {
            s.sentence
                .contains("whether db1 holds a lease is not known")
        })
        .await;
    assert!(watched.cluster.journals().is_empty());
    assert!(lock(&watched.cluster.world).server("db2").read_only);
    // The wait is bounded: it may be dead after all.
    watched
        .until("new primary", |s| s.primary.as_deref() == Some("db2"))
        .await;
    let waited_for = began.elapsed();
    assert!(waited_for >= Duration::from_secs(10), "{waited_for:?}");
    assert_eq!(waited(&watched.cluster), None, "nobody knew of a lease");
}

impl Watched {
    async fn named_at_survivors(&self, primary: &str, above: u64) {
        until("assignment at the survivors", || {
            let mut world = lock(&self.cluster.world);
            ["db2", "db3"]
                .into_iter()
                .all(|server| {
                    let known = world.server(server).assignment.clone();
                    known.is_some_and(|a| a.primary == primary && a.epoch > above)
                })
                .then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_switched_off_is_given_up_in_order() {
    let cluster = Cluster::with(
        &format!("{POLICY}lease: off\n"),
        &["candidate: preferred", ""],
    )
    .await;
    let mut watched = Watched::with(cluster).await;
    let first = watched.named("db1", 0).await;
    let lease = |watched: &Watched| {
        let mut world = lock(&watched.cluster.world);
        world.server("db1").assignment.clone().unwrap().lease
    };
    assert!(!lease(&watched));
    // The manager's word still says who the primary is.
    watched.spoken_for("db1", first).await;
    watched.stop().await;

    // As an earlier configuration had it.
    for server in ["db1", "db2", "db3"] {
        let mut world = lock(&watched.cluster.world);
        world.server(server).assignment.as_mut().unwrap().lease = true;
        world.calls.clear();
    }
    watched.run().await;
    let second = watched.named("db1", first).await;
    assert!(second > first && !lease(&watched));
    let calls = lock(&watched.cluster.world).calls.clone();
    let told: Vec<&String> = calls
        .iter()
        .filter(|c| c.starts_with("AssignPrimary"))
        .collect();
    assert_eq!(
        told.last().unwrap().as_str(),
        "AssignPrimary db1",
        "{told:?}"
    );
}

/// An earlier run promoted db2; the next one cannot even freeze. It must not let the old primary go.
#[tokio::test]
async fn what_follows_a_promotion_undoes_nothing() {
    let cluster = Cluster::start().await;
    cluster.set_fault(
        "db2",
        "MakeWritable",
        Fault::Fails(ErrorKind::Replication, "it broke"),
    );
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(
        code(&report),
        ExitCode::FailedAfterChanges,
        "{}",
        report.summary
    );
    assert!(!lock(&cluster.world).server("db1").held_down_by.is_empty());
    cluster.set_fault(
        "db3",
        "StopReceiver",
        Fault::Fails(ErrorKind::Replication, "it broke"),
    );
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(
        code(&report),
        ExitCode::FailedAfterChanges,
        "{}",
        report.summary
    );
    assert!(!lock(&cluster.world).server("db1").held_down_by.is_empty());
    assert_eq!(cluster.called("ReleaseHold"), 0);
    assert_eq!(cluster.called("ResumeReplication"), 0);
}
