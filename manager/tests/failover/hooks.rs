//! MHA's scripts in whole failovers: what they are told, in which order, and what their ends lead to.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use manager::exit_code::ExitCode;
use manager::hooks::{self, Hook as Script, HookCall, SecondaryCheck};
use manager::journal::{self, Hook, NoHook, Record, StepOutcome};
use manager::plan::Act;
use manager::report::Report;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::scenarios::{Cluster, code};
use super::world::lock;

/// Appends its name and arguments to `calls` as one line, then does what the file `do-HOOK-COMMAND` says, if there is one.
const RECORDER: &str = r#"#!/bin/bash
cd "$(dirname "$0")"
line=$MHA_HOOK
for argument in "$@"; do
    case $argument in
        --body=*) printf '%s' "${argument#--body=}" > body; line="$line --body" ;;
        *) line="$line $argument" ;;
    esac
done
echo "$line" >> calls
cat > "stdin-$MHA_HOOK-$MHA_COMMAND"
if [ -f "do-$MHA_HOOK-$MHA_COMMAND" ]; then . "./do-$MHA_HOOK-$MHA_COMMAND"; fi
exit 0
"#;

const IP: &str = "master_ip_failover_script";
const SHUTDOWN: &str = "shutdown_script";
const REPORT: &str = "report_script";
/// A limit that no script reaches by being slow on a busy machine, and one that a hang reaches soon.
const PLENTY: &str = "30s";
const SHORT: &str = "5s";

struct Story {
    cluster: Cluster,
    dir: tempfile::TempDir,
}

impl Story {
    /// All hooks of a failover are the recorder; `shutdown_script` says that it killed mysqld, as MHA's sample does.
    async fn start() -> Self {
        Self::with(PLENTY, "").await
    }

    async fn with(limit: &str, compat: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let recorder = dir.path().join("recorder");
        write_script(&recorder, RECORDER);
        let secret = dir.path().join("secret");
        fs::write(&secret, "it's; `s3cret` $1\n").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let script = recorder.display();
        let policy = format!(
            "failover: {{ call_timeout: 5s, connect_timeout: 3s, save_timeout: 10s, progress_timeout: 10s }}\nhooks:\n  timeout: {limit}\n  ssh: {{ user: mysql }}\n  \
             servers: {{ db1: {{ master_pid_file: /run/mysqld.pid }}, db2: {{ ip: 10.0.0.2 }}, db3: {{ ip: 10.0.0.3 }} }}\n  \
             {IP}: {script}\n  {SHUTDOWN}: {script}\n  {REPORT}: {script}\n  secondary_check_script: {script}\n{}",
            compat.replace("SECRET", &secret.display().to_string())
        );
        let cluster = Cluster::with(&policy, &["candidate: preferred", ""]).await;
        let story = Self { cluster, dir };
        story.script(SHUTDOWN, "stopssh", "exit 10");
        story
    }

    fn script(&self, hook: &str, command: &str, body: &str) {
        fs::write(self.dir.path().join(format!("do-{hook}-{command}")), body).unwrap();
    }

    fn unscript(&self, hook: &str, command: &str) {
        fs::remove_file(self.dir.path().join(format!("do-{hook}-{command}"))).unwrap();
    }

    fn recorder(&self) -> String {
        self.dir.path().join("recorder").display().to_string()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// Every call as one line, with the primary's port as PORT and the configuration as CONF.
    fn calls(&self) -> Vec<String> {
        let port = self.cluster.config.servers[0].address.port.to_string();
        let conf = self.cluster.config.file.display().to_string();
        self.read("calls")
            .lines()
            .map(|l| l.replace(&port, "PORT").replace(&conf, "CONF"))
            .collect()
    }

    /// `HOOK COMMAND` of every call.
    fn short_calls(&self) -> Vec<String> {
        self.calls()
            .iter()
            .map(|line| {
                let hook = line.split(' ').next().unwrap();
                let command = line
                    .split(' ')
                    .find_map(|w| w.strip_prefix("--command="))
                    .unwrap_or_default();
                format!("{hook} {command}").trim_end().to_owned()
            })
            .collect()
    }

    async fn run(&self) -> Report {
        self.cluster.run(&self.cluster.request()).await
    }

    fn records(&self) -> Vec<Record> {
        journal::read(self.cluster.journals().last().unwrap())
            .unwrap()
            .records
    }

    fn winner_is_open(&self) -> bool {
        !lock(&self.cluster.world).server("db2").read_only
    }
}

/// Written by another process: a file cannot be run while anybody has it open for writing, and a child that another
/// thread starts has all of ours open until it becomes its program.
fn write_script(path: &Path, text: &str) {
    let mut writer = Command::new("/bin/sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = writer.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    assert!(writer.wait().unwrap().success());
}

fn remarked(report: &Report, text: &str) -> bool {
    report.remarks.iter().any(|r| r.contains(text))
}

const STOPSSH: &str = "master_ip_failover_script --orig_master_host=127.0.0.1 --orig_master_ip=127.0.0.1 --orig_master_port=PORT --command=stopssh --ssh_user=mysql";
const SHUTDOWN_STOPSSH: &str = "shutdown_script --command=stopssh --ssh_user=mysql --host=127.0.0.1 --ip=127.0.0.1 --port=PORT --pid_file=/run/mysqld.pid";
const START: &str = "master_ip_failover_script --command=start --ssh_user=mysql --orig_master_host=127.0.0.1 --orig_master_ip=127.0.0.1 --orig_master_port=PORT --new_master_host=db2 --new_master_ip=10.0.0.2 --new_master_port=3306";
const TOLD: &str = "report_script --orig_master_host=127.0.0.1 --new_master_host=db2 --new_slave_hosts=db3 --conf=CONF --subject=app1: MySQL Master failover 127.0.0.1(127.0.0.1:PORT) to db2(10.0.0.2:3306) succeeded --body";

#[tokio::test]
async fn a_failover_calls_every_hook_once_with_mhas_arguments_in_mhas_order() {
    let story = Story::start().await;
    let report = story.run().await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert_eq!(story.calls(), [STOPSSH, SHUTDOWN_STOPSSH, START, TOLD]);
    let body = story.read("body");
    assert!(body.contains("db2 replaced db1 (done)"), "{body}");
    assert!(body.contains("Proof: PROVEN"), "{body}");

    let stdin: serde_json::Value =
        serde_json::from_str(&story.read("stdin-master_ip_failover_script-start")).unwrap();
    assert_eq!(stdin["hook"], IP);
    assert_eq!(stdin["new_master_host"], "db2");
    assert_eq!(stdin["cluster"], "app1");
    assert_eq!(stdin["epoch"], report.epoch);
    assert_eq!(stdin["operation"], report.operation.as_str());
    assert!(stdin.get("new_master_password").is_none());
}

#[tokio::test]
async fn hooks_stand_in_the_journal_between_the_acts_that_mha_has_them_between() {
    let story = Story::start().await;
    story.script(IP, "start", "echo up; echo and running >&2");
    story.run().await;
    let records = story.records();
    let place = |what: &str, wanted: &dyn Fn(&Record) -> bool| {
        records
            .iter()
            .position(wanted)
            .unwrap_or_else(|| panic!("no {what}"))
    };
    let started = |name: &'static str| {
        place(
            name,
            &|r| matches!(r, Record::Started { step, .. } if step.act.to_string().contains(name)),
        )
    };
    let done = |name: &'static str| {
        let Record::Started { stage, step, .. } = &records[started(name)] else {
            panic!("{name}")
        };
        place(
            name,
            &|r| matches!(r, Record::Done { stage: s, step: id, .. } if s == stage && *id == step.id),
        )
    };
    assert!(done("claim the cluster at agent db3") < started("--command=stopssh for db1"));
    assert!(
        done("master_ip_failover_script --command=stopssh")
            < started("shutdown_script --command=stopssh")
    );
    assert!(done("shutdown_script --command=stopssh") < started("save piece"));
    assert!(done("bring db2 to") < started("promote db2"));
    assert!(done("promote db2") < started("--command=start for db2"));
    assert!(done("--command=start for db2") < started("open db2 for writes"));
    assert!(done("open db2 for writes") < started("point db3 at db2"));
    assert!(done("release the cluster at agent db3") < started("report_script"));
    let output = records.iter().find_map(|r| match r {
        Record::Done { outcome, .. } => match &**outcome {
            StepOutcome::HookRan(ran) if !ran.output.lines.is_empty() => {
                Some(ran.output.lines.clone())
            }
            _ => None,
        },
        _ => None,
    });
    let mut output = output.unwrap();
    output.sort();
    assert_eq!(output, ["and running", "up"]);
}

#[tokio::test]
async fn without_an_answer_from_the_dead_host_the_scripts_get_stop() {
    let story = Story::start().await;
    story.cluster.agents[0].abort();
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
    story.cluster.agents[0].abort();
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
            .insert("ObserveServer", super::world::Fault::Silent);
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
const ALL_FOUR: &[&str] = &[
    "master_ip_failover_script stopssh",
    "shutdown_script stopssh",
    "master_ip_failover_script start",
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

#[tokio::test]
async fn a_dry_run_calls_no_hook() {
    let story = Story::start().await;
    let mut request = story.cluster.request();
    request.dry_run = true;
    let report = story.cluster.run(&request).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert_eq!(story.calls(), [""; 0]);
    let plan = report.plan.unwrap();
    assert!(plan.steps.iter().any(|s| matches!(
        &s.act,
        Act::RunHook {
            call: HookCall::BringAddressUp { .. }
        }
    )));
}

#[tokio::test]
async fn credentials_are_given_as_named_and_seen_nowhere_else() {
    let story = Story::with(
        PLENTY,
        "  mha_compat: { user: root, password_file: SECRET, hooks: [master_ip_failover_script] }\n",
    )
    .await;
    story.script(IP, "start", "echo \"args $*\"; exit 10");
    let report = story.run().await;
    assert_eq!(code(&report), ExitCode::DoneNeedsCare, "{}", report.summary);
    let calls = story.calls();
    assert_eq!(
        calls[2],
        format!("{START} --new_master_user=root --new_master_password=it's; `s3cret` $1")
    );
    for other in [&calls[0], &calls[1], &calls[3]] {
        assert!(!other.contains("s3cret"), "{other}");
    }
    let journal = fs::read_to_string(&story.cluster.journals()[0]).unwrap();
    assert!(
        journal.contains("--new_master_password=***"),
        "what the script printed, masked"
    );
    for (what, text) in [
        ("journal", journal),
        ("report", serde_json::to_string(&report).unwrap()),
        ("body", story.read("body")),
    ] {
        assert!(!text.contains("s3cret"), "{what}");
    }
}

#[tokio::test]
async fn status_is_asked_while_the_primary_lives() {
    let story = Story::with(SHORT, "").await;
    let primary = &story.cluster.config.servers[0];
    let config = &story.cluster.config;
    let good = hooks::check_status(config, primary, &|_| {}).await.unwrap();
    assert_eq!(
        good,
        [Script::MasterIpFailoverScript, Script::ShutdownScript]
    );
    assert_eq!(
        story.calls(),
        [
            "master_ip_failover_script --command=status --ssh_user=mysql --orig_master_host=127.0.0.1 --orig_master_ip=127.0.0.1 --orig_master_port=PORT",
            "shutdown_script --command=status --ssh_user=mysql --host=127.0.0.1 --ip=127.0.0.1",
        ]
    );
    for body in ["exit 10", "exit 1", "sleep 60"] {
        story.script(IP, "status", body);
        let error = hooks::check_status(config, primary, &|_| {})
            .await
            .unwrap_err();
        assert!(
            format!("{error:?}").contains("MasterIpFailoverScript"),
            "{body}: {error:?}"
        );
    }
}

#[tokio::test]
async fn the_secondary_check_is_read_as_mha_reads_it() {
    let table = [
        ("exit 0", SecondaryCheck::UnreachableFromAll),
        ("exit 2", SecondaryCheck::SecondaryUnreachable),
        ("exit 3", SecondaryCheck::Reachable),
        ("exit 1", SecondaryCheck::Unknown("exit code 1".into())),
    ];
    let story = Story::with(SHORT, "").await;
    let primary = &story.cluster.config.servers[0];
    for (body, expected) in table {
        story.script("secondary_check_script", "", body);
        let found = hooks::secondary_check(&story.cluster.config, primary, "SELECT", &|_| {}).await;
        assert_eq!(found, expected, "{body}");
    }
    assert_eq!(
        story.calls()[0],
        "secondary_check_script --user=mysql --master_host=127.0.0.1 --master_ip=127.0.0.1 --master_port=PORT --ping_type=SELECT"
    );
    story.script("secondary_check_script", "", "sleep 60");
    let began = Instant::now();
    let found = hooks::secondary_check(&story.cluster.config, primary, "SELECT", &|_| {}).await;
    assert!(
        matches!(&found, SecondaryCheck::Unknown(why) if why.contains("still running")),
        "{found:?}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "half of its sleep"
    );
}

/// Stops the run as a crash would at the n-th record that is about a hook.
struct KillAtHookRecord {
    at: u32,
    after: bool,
    count: AtomicU32,
}

impl KillAtHookRecord {
    fn is_about_a_hook(record: &Record) -> bool {
        match record {
            Record::Started { step, .. } => matches!(step.act, Act::RunHook { .. }),
            Record::Done { outcome, .. } => matches!(**outcome, StepOutcome::HookRan(_)),
            _ => false,
        }
    }
}

impl Hook for KillAtHookRecord {
    fn before(&self, record: &Record) -> bool {
        if !Self::is_about_a_hook(record) {
            return true;
        }
        let n = self.count.fetch_add(1, Ordering::SeqCst);
        n != self.at || self.after
    }

    fn after(&self, record: &Record) -> bool {
        let n = self.count.load(Ordering::SeqCst);
        !(Self::is_about_a_hook(record) && self.after && n == self.at + 1)
    }
}

#[tokio::test]
async fn a_manager_killed_around_any_hook_is_followed_by_one_that_finishes() {
    // Four hooks, a record before and one after each.
    for at in 0..8 {
        for after in [false, true] {
            let story = Story::start().await;
            let hook = Arc::new(KillAtHookRecord {
                at,
                after,
                count: AtomicU32::new(0),
            });
            let request = story.cluster.request();
            story.cluster.run_with(&request, hook.clone(), None).await;
            let name = format!("record {at}, after {after}");
            assert!(
                hook.count.load(Ordering::SeqCst) > at,
                "{name}: it came that far"
            );
            let report = story
                .cluster
                .run_with(&request, Arc::new(NoHook), None)
                .await;
            assert_eq!(code(&report), ExitCode::Done, "{name}: {}", report.summary);
            assert!(story.winner_is_open(), "{name}");
            assert_eq!(story.cluster.called("Promote"), 1, "{name}");
            let calls = story.short_calls();
            for wanted in ALL_FOUR {
                let times = calls.iter().filter(|c| c == wanted).count();
                assert!((1..=2).contains(&times), "{name}: {wanted} {times} times");
            }
        }
    }
}
