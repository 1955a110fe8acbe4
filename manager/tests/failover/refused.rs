//! Runs that must not begin: nothing is changed anywhere, and the reason is named.

use std::sync::Arc;

use manager::exit_code::ExitCode;
use manager::failover::Request;
use manager::journal::NoHook;
use manager::prompt::Operator;
use proto::v1::ErrorKind;

use super::cluster::{Cluster, code};
use super::world::{Fault, lock};

#[tokio::test]
async fn refusals_change_nothing() {
    type Prepare = fn(&Cluster, &mut Request);
    let stories: [(&str, Prepare, ExitCode, &str); 12] = [
        (
            "the primary is alive behind its agent",
            |c, _| lock(&c.world).server("db1").alive = true,
            ExitCode::Refused,
            "db1 is isolated",
        ),
        (
            "another server is named",
            |_, r| r.dead_primary = "db3:3306".into(),
            ExitCode::Refused,
            "db3 is a replica of 127.0.0.1:",
        ),
        (
            "an unknown server is named",
            |_, r| r.dead_primary = "db9:3306".into(),
            ExitCode::Usage,
            "no server of the configuration",
        ),
        (
            "a survivor replicates from elsewhere",
            |c, _| {
                let mut world = lock(&c.world);
                world.server("db3").source_port = 9;
            },
            ExitCode::Refused,
            "",
        ),
        (
            "a survivor cannot be observed",
            |c, _| c.set_fault("db3", "ObserveServer", Fault::Dies),
            ExitCode::Refused,
            "db3 cannot be observed",
        ),
        (
            "a survivor is no replica",
            |c, _| lock(&c.world).server("db3").replica = false,
            ExitCode::Refused,
            "db3 is alive and no replica",
        ),
        (
            "nobody is fit",
            |c, _| {
                let mut world = lock(&c.world);
                world.server("db2").log_bin = false;
                world.server("db3").log_bin = false;
            },
            ExitCode::Refused,
            "binary log is off",
        ),
        (
            "the forced server is unfit",
            |c, r| {
                lock(&c.world).server("db3").log_bin = false;
                r.new_primary = Some("db3:3306".into());
            },
            ExitCode::Refused,
            "db3 cannot become the primary: its binary log is off",
        ),
        (
            "the dead one is forced",
            |c, r| r.new_primary = Some(c.dead.clone()),
            ExitCode::Refused,
            "db1 cannot become the primary",
        ),
        (
            "nobody can be asked",
            |_, r| r.yes = false,
            ExitCode::Refused,
            "nobody can be asked",
        ),
        (
            "several channels",
            |c, _| lock(&c.world).server("db2").channels = 2,
            ExitCode::Refused,
            "2 replication channels",
        ),
        (
            "no fence and no majority",
            |c, _| {
                c.agents[0].abort();
                c.set_fault("db3", "GetAgentInfo", Fault::Dies);
            },
            ExitCode::Refused,
            "db3 cannot be observed",
        ),
    ];
    for (story, prepare, expected, text) in stories {
        let cluster = Cluster::start().await;
        // By uuid a replica may know its primary under another address.
        if story == "a survivor replicates from elsewhere" {
            lock(&cluster.world)
                .server("db1")
                .faults
                .insert("ObserveServer", Fault::Dies);
        }
        let mut request = cluster.request();
        prepare(&cluster, &mut request);
        let report = cluster.run(&request).await;
        assert_eq!(code(&report), expected, "{story}: {}", report.summary);
        assert!(report.summary.contains(text), "{story}: {}", report.summary);
        assert!(cluster.journals().is_empty(), "{story}");
        assert_eq!(cluster.called("ClaimEpoch"), 0, "{story}");
        cluster.assert_untouched(story);
    }
}

#[tokio::test]
async fn a_cluster_held_by_another_operation_is_left_alone() {
    let cluster = Cluster::start().await;
    {
        let mut world = lock(&cluster.world);
        for name in ["db1", "db2", "db3"] {
            let server = world.server(name);
            server.epoch = 7;
            server.holder = Some(("op-of-another".into(), "m2".into()));
        }
    }
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Held, "{}", report.summary);
    assert!(
        report.summary.contains("op-of-another of manager m2"),
        "{}",
        report.summary
    );
    assert_eq!(cluster.called("ClaimEpoch"), 0);
    assert_eq!(cluster.called("StopReceiver"), 0);
}

/// Everybody knows the cluster as another manager's, which holds nothing any more.
fn of_another(cluster: &Cluster, servers: &[&str], epoch: u64) {
    let mut world = lock(&cluster.world);
    for name in servers {
        let server = world.server(name);
        (server.epoch, server.of_record) = (epoch, Some("m2".to_owned()));
    }
}

#[tokio::test]
async fn a_cluster_of_another_manager_is_left_alone_until_it_is_taken_over() {
    let cluster = Cluster::start().await;
    of_another(&cluster, &["db1", "db2", "db3"], 7);
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Held, "{}", report.summary);
    assert!(
        report.summary.contains("of manager m2") && report.summary.contains("epoch 7"),
        "{}",
        report.summary
    );
    assert_eq!(cluster.called("ClaimEpoch"), 0);
    cluster.assert_untouched("of another manager");

    let request = Request {
        take_over: true,
        ..cluster.request()
    };
    let report = cluster.run(&request).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    for server in lock(&cluster.world).servers.values() {
        assert_eq!(server.of_record.as_deref(), Some("m1"), "{}", server.name);
    }
}

#[tokio::test]
async fn an_operation_that_another_manager_left_is_taken_over_with_its_cluster() {
    let cluster = Cluster::start().await;
    of_another(&cluster, &["db1", "db2", "db3"], 7);
    for name in ["db2", "db3"] {
        lock(&cluster.world).server(name).holder =
            Some(("failover-of-m2".to_owned(), "m2".to_owned()));
    }
    let request = Request {
        take_over: true,
        ..cluster.request()
    };
    let report = cluster.run(&request).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
}

#[tokio::test]
async fn an_agent_that_slept_through_a_take_over_is_taken_over_by_itself() {
    let cluster = Cluster::start().await;
    of_another(&cluster, &["db3"], 7);
    for name in ["db1", "db2"] {
        let mut world = lock(&cluster.world);
        let server = world.server(name);
        (server.epoch, server.of_record) = (8, Some("m1".to_owned()));
    }
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    let of_record = lock(&cluster.world).server("db3").of_record.clone();
    assert_eq!(of_record.as_deref(), Some("m1"));
}

#[tokio::test]
async fn what_an_earlier_run_left_when_it_named_a_primary_stands_in_nobodys_way() {
    let cluster = Cluster::start().await;
    {
        let mut world = lock(&cluster.world);
        for name in ["db1", "db3"] {
            let server = world.server(name);
            server.epoch = 7;
            server.holder = Some(("assign-1".into(), "m1".into()));
        }
    }
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    for server in lock(&cluster.world).servers.values() {
        assert_eq!(
            (server.epoch, &server.holder),
            (8, &None),
            "{}",
            server.name
        );
    }
}

#[tokio::test]
async fn a_refused_claim_gives_back_what_was_granted() {
    let cluster = Cluster::start().await;
    cluster.set_fault(
        "db3",
        "ClaimEpoch",
        Fault::Fails(ErrorKind::Held, "another was faster"),
    );
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Held, "{}", report.summary);
    assert!(
        report.summary.contains("another was faster"),
        "{}",
        report.summary
    );
    lock(&cluster.world).server("db3").faults.clear();
    cluster.assert_untouched("refused claim");
    assert_eq!(cluster.called("StopReceiver"), 0);
}

struct Answers(Vec<&'static str>);

impl Operator for Answers {
    fn confirm(&mut self, question: &str) -> bool {
        self.line(question).starts_with('y')
    }

    fn line(&mut self, _: &str) -> String {
        if self.0.is_empty() {
            String::new()
        } else {
            self.0.remove(0).to_owned()
        }
    }
}

#[tokio::test]
async fn no_leaves_no_trace_and_another_server_may_be_named() {
    let cluster = Cluster::start().await;
    let mut request = cluster.request();
    request.yes = false;
    for answers in [
        vec!["no"],
        vec!["y", "n"],
        vec!["y", "n", "y", "db3:3306", "n"],
    ] {
        let mut operator = Answers(answers.clone());
        let report = cluster
            .run_with(&request, Arc::new(NoHook), Some(&mut operator))
            .await;
        assert_eq!(code(&report), ExitCode::Failed, "{answers:?}");
        assert!(report.summary.contains("declined"), "{}", report.summary);
        assert!(cluster.journals().is_empty());
        assert_eq!(cluster.called("ClaimEpoch"), 0);
        assert!(!cluster.config.state_dir.exists(), "not even a folder");
    }
    let mut operator = Answers(vec!["y", "n", "y", "db3:3306", "y"]);
    let report = cluster
        .run_with(&request, Arc::new(NoHook), Some(&mut operator))
        .await;
    assert_eq!(
        report.new_primary.as_deref(),
        Some("db3"),
        "{}",
        report.summary
    );
}
