//! The dead host does not answer, or is switched off by a script.

use std::time::Duration;

use manager::exit_code::ExitCode;

use super::{SHUTDOWN, Story, remarked};
use crate::cluster::code;
use crate::world::{Fault, lock};

#[tokio::test]
async fn without_an_answer_from_the_dead_host_the_scripts_get_stop() {
    let story = Story::start().await;
    story.cluster.lose_agent(0).await;
    let report = story.run().await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert_eq!(
        story.calls()[..2],
        [
            "master_ip_failover_script --orig_master_host=127.0.0.1 --orig_master_ip=127.0.0.1 --orig_master_port=PORT --command=stop",
            "shutdown_script --command=stop --host=127.0.0.1 --ip=127.0.0.1 --port=PORT --pid_file=/run/mysqld.pid",
        ]
    );
    // Exit code 0 of `stop`: the power is off, which is a fence.
    assert_eq!(report.fenced, Some(true));
    assert!(
        remarked(&report, "was switched off by shutdown_script"),
        "{:?}",
        report.remarks
    );
    assert!(!remarked(&report, "UNFENCED"));
}

#[tokio::test]
async fn mysqld_killed_at_an_unreachable_host_is_no_fence() {
    let story = Story::start().await;
    story.script(SHUTDOWN, "stop", "exit 10");
    story.cluster.lose_agent(0).await;
    let report = story.run().await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert_eq!(report.fenced, Some(false));
    assert!(remarked(&report, "UNFENCED"));
}

#[tokio::test]
async fn a_shutdown_that_says_off_too_easily_does_not_cost_the_tail() {
    let story = Story::start().await;
    story.unscript(SHUTDOWN, "stopssh");
    let report = story.run().await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert!(
        remarked(&report, "yet its agent answers"),
        "{:?}",
        report.remarks
    );
    assert_eq!(
        lock(&story.cluster.world).server("db3").executed,
        1308,
        "the tail too"
    );
}

#[tokio::test]
async fn a_host_that_is_switched_off_takes_its_tail_with_it_and_the_report_says_so() {
    let story = Story::start().await;
    story.unscript(SHUTDOWN, "stopssh");
    // As a host without power: its agent answers nothing from the moment the script has run.
    story.script(SHUTDOWN, "stopssh", "touch off; sleep 0.2; exit 0");
    let watch = story.dir.path().join("off");
    let dead = story.cluster.agents[0].abort_handle();
    let world = story.cluster.world.clone();
    let power = tokio::spawn(async move {
        while !watch.exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        dead.abort();
        lock(&world)
            .server("db1")
            .faults
            .insert("ObserveServer", Fault::Silent);
    });
    let report = story.run().await;
    power.await.unwrap();
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert_eq!(report.fenced, Some(true));
    assert!(
        report
            .lost
            .iter()
            .any(|l| l.contains("whatever db1 held beyond")),
        "{:?}",
        report.lost
    );
    assert_eq!(lock(&story.cluster.world).server("db3").executed, 880);
}
