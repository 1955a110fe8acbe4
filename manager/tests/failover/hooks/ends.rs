//! What each end of each script leads to: its exit codes, a hang, and that it cannot be started.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use manager::exit_code::ExitCode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{ALL_FOUR, IP, PLENTY, REPORT, SHORT, SHUTDOWN, Story, remarked};
use crate::cluster::{Cluster, code};
use crate::world::lock;

/// What a failover came to after a hook did this.
struct Row {
    hook: &'static str,
    command: &'static str,
    body: &'static str,
    code: ExitCode,
    /// Calls, in order.
    calls: &'static [&'static str],
    open: bool,
    /// In the summary, the remarks, or the list of what needs care.
    says: &'static str,
}

const STOPPED_AT_ADDRESS: &[&str] = &["master_ip_failover_script stopssh", "report_script"];
const STOPPED_AT_SHUTDOWN: &[&str] = &[
    "master_ip_failover_script stopssh",
    "shutdown_script stopssh",
    "report_script",
];
#[tokio::test]
async fn every_end_of_every_hook_is_handled_as_documented() {
    let row = |hook, command, body, code, calls, open, says| Row {
        hook,
        command,
        body,
        code,
        calls,
        open,
        says,
    };
    let changed = ExitCode::FailedAfterChanges;
    let table = [
        row(
            IP,
            "stopssh",
            "echo no; exit 1",
            changed,
            STOPPED_AT_ADDRESS,
            false,
            "master_ip_failover_script ended with exit code 1; its last line: no",
        ),
        row(
            IP,
            "stopssh",
            "exit 255",
            changed,
            STOPPED_AT_ADDRESS,
            false,
            "ended with exit code 255",
        ),
        row(
            IP,
            "stopssh",
            "kill -9 $$",
            changed,
            STOPPED_AT_ADDRESS,
            false,
            "was ended by signal 9",
        ),
        row(
            IP,
            "stopssh",
            "sleep 600",
            changed,
            STOPPED_AT_ADDRESS,
            false,
            "was still running after 5.0 s",
        ),
        row(
            IP,
            "stopssh",
            "exit 10",
            ExitCode::Done,
            ALL_FOUR,
            true,
            "--command=stopssh for db1 ended with 10: the address may still be up at db1",
        ),
        row(
            SHUTDOWN,
            "stopssh",
            "exit 1",
            changed,
            STOPPED_AT_SHUTDOWN,
            false,
            "shutdown_script ended with exit code 1",
        ),
        row(
            SHUTDOWN,
            "stopssh",
            "sleep 600",
            changed,
            STOPPED_AT_SHUTDOWN,
            false,
            "shutdown_script was still running after 5.0 s",
        ),
        row(
            SHUTDOWN,
            "stopssh",
            "exit 10",
            ExitCode::Done,
            ALL_FOUR,
            true,
            "held down by its agent",
        ),
        row(
            IP,
            "start",
            "exit 1",
            changed,
            ALL_FOUR,
            false,
            "run master_ip_failover_script --command=start for db2: master_ip_failover_script ended with exit code 1",
        ),
        row(
            IP,
            "start",
            "sleep 600",
            ExitCode::OutcomeUnknown,
            ALL_FOUR,
            false,
            "was still running after 5.0 s",
        ),
        row(
            IP,
            "start",
            "exit 10",
            ExitCode::DoneNeedsCare,
            ALL_FOUR,
            true,
            "--command=start for db2 ended with 10: clients may not find the new primary",
        ),
        row(
            REPORT,
            "",
            "exit 1",
            ExitCode::Done,
            ALL_FOUR,
            true,
            "nobody was told by report_script: report_script ended with exit code 1",
        ),
        row(
            REPORT,
            "",
            "exit 10",
            ExitCode::Done,
            ALL_FOUR,
            true,
            "nobody was told by report_script: report_script ended with exit code 10",
        ),
        row(
            REPORT,
            "",
            "sleep 600",
            ExitCode::Done,
            ALL_FOUR,
            true,
            "report_script was still running after 5.0 s",
        ),
        row(
            IP,
            "start",
            "sleep 600 & echo $! > background; exit 0",
            ExitCode::Done,
            ALL_FOUR,
            true,
            "",
        ),
        row(
            IP,
            "start",
            "head -c 1000000 /dev/zero | tr '\\0' x | fold -w 50",
            ExitCode::Done,
            ALL_FOUR,
            true,
            "",
        ),
    ];
    for row in table {
        let limit = if row.body == "sleep 600" {
            SHORT
        } else {
            PLENTY
        };
        let story = Story::with(limit, "").await;
        story.script(row.hook, row.command, row.body);
        let report = story.run().await;
        let name = format!("{} {} {}", row.hook, row.command, row.body);
        if let Ok(background) = story.read("background").trim().parse() {
            // It is left running, as under MHA; only its author may end it.
            kill(Pid::from_raw(background), Signal::SIGKILL).expect("it still runs");
        }
        assert_eq!(code(&report), row.code, "{name}: {}", report.summary);
        assert_eq!(story.short_calls(), row.calls, "{name}");
        assert_eq!(story.winner_is_open(), row.open, "{name}");
        let care = report.care.iter().map(|c| c.why.clone());
        let said: Vec<String> = report
            .remarks
            .iter()
            .cloned()
            .chain(care)
            .chain([report.summary.clone()])
            .collect();
        assert!(
            said.iter().any(|s| s.contains(row.says)),
            "{name}: {said:#?}"
        );
        let world = lock(&story.cluster.world);
        for server in world.servers.values() {
            assert_eq!(server.holder, None, "{name}: {} is released", server.name);
        }
        if row.calls.len() < ALL_FOUR.len() {
            // Undone, but for what the script may have done.
            assert!(
                world.servers["db2"].receiver_running && world.servers["db3"].receiver_running,
                "{name}"
            );
            assert_eq!(world.servers["db1"].held_down_by, "", "{name}");
            assert!(remarked(&report, "what hooks did outside"), "{name}");
            assert!(!story.read("calls").contains("--new_master_host"), "{name}");
        }
        if row.code == changed && row.calls == ALL_FOUR {
            assert_eq!(
                world.servers["db3"].replicates_from, None,
                "{name}: as under MHA, nobody is moved"
            );
        }
    }
}

#[tokio::test]
async fn a_start_that_failed_is_finished_by_a_second_run() {
    let story = Story::start().await;
    story.script(IP, "start", "exit 1");
    let first = story.run().await;
    assert_eq!(
        code(&first),
        ExitCode::FailedAfterChanges,
        "{}",
        first.summary
    );
    assert!(
        story
            .read("calls")
            .contains("subject=app1: MySQL Master failover")
    );
    assert!(
        !story
            .read("calls")
            .contains("--new_master_host=db2 --new_slave_hosts")
    );
    story.unscript(IP, "start");
    let second = story.run().await;
    assert_eq!(code(&second), ExitCode::Done, "{}", second.summary);
    assert!(story.winner_is_open());
    assert_eq!(story.cluster.called("Promote"), 1);
    assert_eq!(story.short_calls(), [ALL_FOUR, ALL_FOUR].concat());
}

#[tokio::test]
async fn scripts_that_cannot_be_started_are_refused_before_anything_changes() {
    type Break = fn(&Path);
    let breaks: [(Break, &str); 2] = [
        (|p| fs::remove_file(p).unwrap(), "cannot be found"),
        (
            |p| fs::set_permissions(p, fs::Permissions::from_mode(0o644)).unwrap(),
            "may not be run",
        ),
    ];
    for (break_it, why) in breaks {
        let story = Story::start().await;
        break_it(Path::new(&story.recorder()));
        for dry_run in [true, false] {
            let mut request = story.cluster.request();
            request.dry_run = dry_run;
            let report = story.cluster.run(&request).await;
            assert_eq!(code(&report), ExitCode::Refused, "{}", report.summary);
            assert!(report.summary.contains(why), "{}", report.summary);
            assert!(
                report.summary.contains(&story.recorder()),
                "{}",
                report.summary
            );
        }
        assert_eq!(story.cluster.called("ClaimEpoch"), 0);
        story.cluster.assert_untouched(why);
    }
}

#[tokio::test]
async fn a_missing_report_script_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent");
    let policy = format!("hooks: {{ report_script: {} }}\n", absent.display());
    let cluster = Cluster::with(&policy, &["candidate: preferred", ""]).await;
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert!(
        remarked(&report, "nobody was told by report_script"),
        "{:?}",
        report.remarks
    );
}
