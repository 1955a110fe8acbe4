//! What the scripts are told, word by word, in MHA's order, and between which steps.

use std::fs;
use std::time::{Duration, Instant};

use manager::exit_code::ExitCode;
use manager::hooks::{self, Hook as Script, HookCall, SecondaryCheck};
use manager::journal::{Record, StepOutcome};
use manager::plan::Act;

use super::{IP, PLENTY, SHORT, Story};
use crate::cluster::code;

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
