//! The virtual IP in a failover: down at the old primary, up at the new one, and what a failure of either means.

use manager::journal::{self, Record, StepOutcome};
use manager::plan::Act;
use manager::report::Report;
use proto::v1;
use proto::v1::ErrorKind;

use super::cluster::Cluster;
use super::world::{Fault, lock};

const POLICY: &str = "failover: { call_timeout: 500ms, connect_timeout: 600ms, save_timeout: 700ms, progress_timeout: 700ms }\n\
    virtual_ip: { address: 192.0.2.100/24, interface: eth0 }\n";

/// db1 is dead and has the address; db2 has it on another interface.
async fn cluster() -> Cluster {
    let preferred = "candidate: preferred, virtual_ip_interface: bond0";
    let cluster = Cluster::with(POLICY, &[preferred, ""]).await;
    lock(&cluster.world).server("db1").address = Some((at("eth0"), false));
    cluster
}

fn at(interface: &str) -> v1::VirtualAddress {
    v1::VirtualAddress {
        ip: "192.0.2.100".to_owned(),
        prefix: 24,
        interface: interface.to_owned(),
    }
}

fn address(cluster: &Cluster, server: &str) -> Option<(v1::VirtualAddress, bool)> {
    lock(&cluster.world).server(server).address.clone()
}

fn position(report: &Report, act: &str) -> Option<u64> {
    let step = report.timeline.iter().find(|t| t.act == act)?;
    Some(step.started_us)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_down_with_the_old_primary_and_up_behind_the_first_write() {
    let cluster = cluster().await;
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(report.exit_code, 0, "{}", report.summary);
    assert_eq!(address(&cluster, "db1"), None);
    assert_eq!(address(&cluster, "db2"), Some((at("bond0"), true)));
    assert_eq!(address(&cluster, "db3"), None);
    let down = position(&report, "take the virtual IP down at db1").unwrap();
    let open = report
        .timeline
        .iter()
        .find(|t| t.act == "open db2 for writes")
        .unwrap();
    let up = position(&report, "bring the virtual IP up at db2").unwrap();
    assert!(down < open.started_us && open.finished_us <= up);
    let records = journal::read(&cluster.journals()[0]).unwrap().records;
    let journalled = |wanted: fn(&Act) -> bool| {
        records
            .iter()
            .any(|r| matches!(r, Record::Started { step, .. } if wanted(&step.act)))
    };
    assert!(journalled(|a| matches!(a, Act::DropAddress { .. })));
    assert!(journalled(|a| matches!(a, Act::TakeAddress { .. })));
    assert!(
        records
            .iter()
            .any(|r| matches!(r, Record::Done { outcome, .. }
        if **outcome == StepOutcome::AddressTaken { was_there: false }))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_does_not_come_up_needs_care_and_is_no_way_back() {
    let cluster = cluster().await;
    let who = "somebody else answers for 192.0.2.100: 02:00:00:00:00:09, on bond0";
    cluster.set_fault("db2", "TakeAddress", Fault::Fails(ErrorKind::Conflict, who));
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(report.exit_code, 10, "{}", report.summary);
    assert!(!lock(&cluster.world).server("db2").read_only);
    assert_eq!(report.replicas, ["db3"], "repointed all the same");
    let care = &report.care[0];
    assert_eq!(care.server, "db2");
    for words in [who, "clients do not find the new primary", "--take db2"] {
        assert!(care.why.contains(words), "{}", care.why);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_asked_for_again() {
    let cluster = cluster().await;
    cluster.set_fault("db2", "TakeAddress", Fault::DiesOnce);
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(report.exit_code, 0, "{}", report.summary);
    assert_eq!(cluster.called("TakeAddress db2"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_stays_up_at_a_fenced_server_is_taken_with_a_remark() {
    let cluster = cluster().await;
    cluster.set_fault(
        "db1",
        "DropAddress",
        Fault::Fails(ErrorKind::Unsupported, "this agent lacks CAP_NET_ADMIN"),
    );
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(report.exit_code, 0, "{}", report.summary);
    assert_eq!(address(&cluster, "db2"), Some((at("bond0"), true)));
    assert!(
        report
            .remarks
            .iter()
            .any(|r| r.contains("lacks CAP_NET_ADMIN") && r.contains("may still be up there")),
        "{:?}",
        report.remarks
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_does_not_answer_is_not_taken_for_fenced() {
    let cluster = cluster().await;
    cluster.lose_agent(0).await;
    let report = cluster.run(&cluster.request()).await;
    assert!([0, 10].contains(&report.exit_code), "{}", report.summary);
    assert_eq!(cluster.called("DropAddress"), 0);
    assert_eq!(address(&cluster, "db2"), Some((at("bond0"), false)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_is_undone_gives_the_address_back() {
    let cluster = cluster().await;
    for server in ["db2", "db3"] {
        let broken = Fault::Fails(ErrorKind::Sql, "no");
        cluster.set_fault(server, "Promote", broken);
    }
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(report.exit_code, 1, "{}", report.summary);
    assert_eq!(address(&cluster, "db1"), Some((at("eth0"), true)));
    assert_eq!(address(&cluster, "db2"), None);
    let calls = lock(&cluster.world).calls.clone();
    let at = |call: &str| calls.iter().rposition(|c| c == call).unwrap();
    assert!(at("ReleaseHold db1") < at("TakeAddress db1"), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_virtual_ip_nobody_is_asked_for_one() {
    let cluster = Cluster::start().await;
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(report.exit_code, 0, "{}", report.summary);
    assert_eq!(cluster.called("TakeAddress"), 0);
    assert_eq!(cluster.called("DropAddress"), 0);
}
