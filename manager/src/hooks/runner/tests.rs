//! Real scripts: how they end, hang, flood, fork.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::*;
use crate::config::Secret;
use crate::observe::chain;

struct Script {
    dir: tempfile::TempDir,
    command: HookCommand,
}

impl Script {
    fn new(body: &str, limit: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hook");
        write_program(
            &path,
            &format!("#!/bin/bash\ncd '{}'\n{body}\n", dir.path().display()),
        );
        let command = HookCommand {
            program: path.display().to_string(),
            arguments: vec!["own argument".into(), "$HOME `id`".into()],
            timeout: limit,
        };
        Self { dir, command }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn pid(&self, name: &str) -> i32 {
        std::fs::read_to_string(self.file(name))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }
}

/// Written by another process: a file cannot be run while anybody has it open for writing, and a child that another
/// thread starts has all of ours open until it becomes its program.
fn write_program(path: &Path, text: &str) {
    let mut writer = std::process::Command::new("/bin/sh")
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

const LONG: Duration = Duration::from_secs(60);
/// Enough for a script to begin, whatever else the machine does.
const SHORT: Duration = Duration::from_secs(2);

fn call() -> Call {
    Call::new(Hook::MasterIpFailoverScript)
        .argument("command", "stop")
        .fact("epoch", 7u64)
        .secret(
            "new_master_password",
            &Secret::new("s3cret'; rm -rf \"$HOME\""),
        )
}

async fn run_it(script: &Script) -> Ran {
    run(&script.command, &call(), &|_| {}).await.unwrap()
}

/// Neither running nor a zombie that nobody reaps.
fn is_gone(pid: i32) -> bool {
    match std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")) {
        Ok(stat) => stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('Z')),
        Err(_) => true,
    }
}

async fn wait_gone(pid: i32) {
    let deadline = Instant::now() + LONG;
    while !is_gone(pid) {
        assert!(Instant::now() < deadline, "{pid} still runs");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn arguments_environment_and_stdin_arrive_as_they_are() {
    let script = Script::new(
        "printf '%s\\n' \"$@\" > argv; env | grep ^MHA_ | sort > env; cat > stdin",
        LONG,
    );
    let ran = run_it(&script).await;
    assert_eq!(ran.end, End::Exited(0));
    let read = |name: &str| std::fs::read_to_string(script.file(name)).unwrap();
    assert_eq!(
        read("argv"),
        "own argument\n$HOME `id`\n--command=stop\n--new_master_password=s3cret'; rm -rf \"$HOME\"\n"
    );
    assert_eq!(
        read("env"),
        "MHA_COMMAND=stop\nMHA_EPOCH=7\nMHA_HOOK=master_ip_failover_script\nMHA_NEW_MASTER_PASSWORD=s3cret'; rm -rf \"$HOME\"\n"
    );
    assert_eq!(read("stdin").into_bytes(), call().json());
}

#[tokio::test]
async fn exit_codes_and_signals_are_told_apart() {
    for (body, expected) in [
        ("exit 0", End::Exited(0)),
        ("exit 10", End::Exited(10)),
        ("exit 255", End::Exited(255)),
        ("kill -9 $$", End::Signalled(9)),
        ("no-such-program-anywhere", End::Exited(127)),
    ] {
        let ran = run_it(&Script::new(body, LONG)).await;
        assert_eq!(ran.end, expected, "{body}");
    }
}

#[tokio::test]
async fn both_streams_are_kept_line_by_line_without_secrets() {
    let script = Script::new(
        "echo one; echo two >&2; echo \"got $MHA_NEW_MASTER_PASSWORD\"; printf tail",
        LONG,
    );
    let said = Mutex::new(Vec::new());
    let ran = run(&script.command, &call(), &|line| {
        said.lock().unwrap().push(line.to_owned())
    })
    .await
    .unwrap();
    let mut lines = ran.output.lines.clone();
    assert_eq!(&lines, &*said.lock().unwrap());
    lines.sort();
    assert_eq!(lines, ["got ***", "one", "tail", "two"]);
}

#[tokio::test]
async fn a_program_that_cannot_be_started_has_not_run() {
    let script = Script::new("", LONG);
    let mut closed = script.command.clone();
    std::fs::set_permissions(&closed.program, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut absent = script.command.clone();
    absent.program.push_str("-absent");
    closed.arguments.clear();
    for (command, why) in [(&absent, "No such file"), (&closed, "Permission denied")] {
        let error = run(command, &call(), &|_| {}).await.unwrap_err();
        assert!(!error.has_run() && !error.outcome_unknown());
        let text = chain(&error);
        assert!(
            text.contains(why) && text.contains(&command.program),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_hang_ends_at_its_limit_with_all_its_children() {
    let script = Script::new("sleep 600 & echo $! > child; echo waiting; wait", SHORT);
    let ran = run_it(&script).await;
    assert_eq!(ran.end, End::TimedOut { gone: true });
    assert_eq!(ran.output.lines, ["waiting"]);
    wait_gone(script.pid("child")).await;
    let error = ran.exit_code().unwrap_err();
    assert!(error.outcome_unknown() && error.has_run());
    assert_eq!(
        error.to_string(),
        "master_ip_failover_script was still running after 2.0 s and was ended with its process group; its last line: waiting"
    );
}

#[tokio::test]
async fn who_does_not_listen_to_sigterm_is_killed_a_second_later() {
    let script = Script::new(
        "trap '' TERM; (trap '' TERM; echo $BASHPID > child; while :; do sleep 1; done) & echo $$ > own; while :; do sleep 1; done",
        SHORT,
    );
    let began = Instant::now();
    let ran = run_it(&script).await;
    let took = began.elapsed();
    assert!(took > SHORT + GRACE && took < LONG, "{took:?}");
    assert_eq!(ran.end, End::TimedOut { gone: true });
    wait_gone(script.pid("own")).await;
    wait_gone(script.pid("child")).await;
}

#[tokio::test]
async fn a_process_left_in_the_background_is_neither_waited_for_nor_ended() {
    // It holds the pipes, and writes to them after the hook has ended.
    let script = Script::new(
        "(while [ ! -e go ]; do sleep 0.02; done; echo late; echo late >&2; echo alive > alive; sleep 600) & \
         echo $! > child; echo done",
        LONG,
    );
    let ran = run_it(&script).await;
    assert_eq!(
        (ran.end, ran.output.lines.as_slice()),
        (End::Exited(0), ["done".to_owned()].as_slice())
    );
    std::fs::write(script.file("go"), "").unwrap();
    let deadline = Instant::now() + LONG;
    while !script.file("alive").exists() {
        assert!(Instant::now() < deadline, "it was ended by a closed pipe");
        sleep(Duration::from_millis(10)).await;
    }
    nix::sys::signal::kill(Pid::from_raw(script.pid("child")), Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn a_flood_is_cut_and_does_not_slow_its_author() {
    let script = Script::new(
        "head -c 20000000 /dev/zero | tr '\\0' 'x' | fold -w 99; echo >&2 end",
        LONG,
    );
    let ran = run_it(&script).await;
    assert_eq!(ran.end, End::Exited(0));
    let kept: usize = ran.output.lines.iter().map(|l| l.len() + 1).sum();
    assert!(kept < 20_000, "{kept}");
    assert!(
        ran.output.dropped_bytes > 20_000_000,
        "{}",
        ran.output.dropped_bytes
    );
}

#[tokio::test]
async fn an_endless_flood_ends_at_the_limit() {
    let script = Script::new("yes", SHORT);
    let began = Instant::now();
    let ran = run_it(&script).await;
    assert_eq!(ran.end, End::TimedOut { gone: true });
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_script_that_reads_nothing_gets_a_body_larger_than_a_pipe() {
    let script = Script::new("exit 0", LONG);
    let call = Call::new(Hook::ReportScript).argument("body", "x".repeat(120_000).as_str());
    let ran = run(&script.command, &call, &|_| {}).await.unwrap();
    assert_eq!(ran.end, End::Exited(0));
}

#[tokio::test]
async fn a_dropped_call_kills_the_group() {
    let script = Script::new("sleep 600 & echo $! > child; echo $$ > own; wait", LONG);
    {
        let call = call();
        let running = run(&script.command, &call, &|_| {});
        tokio::pin!(running);
        let deadline = Instant::now() + LONG;
        while !script.file("own").exists() {
            assert!(Instant::now() < deadline);
            let _ = timeout(Duration::from_millis(10), &mut running).await;
        }
    }
    wait_gone(script.pid("own")).await;
    wait_gone(script.pid("child")).await;
}

#[tokio::test]
async fn it_can_be_called_from_code_that_is_not_asynchronous() {
    let script = Script::new("echo password=x; echo note >&2", LONG);
    let call = Call::new(Hook::InitConfLoadScript);
    let ran = run_blocking(&script.command, &call, &|_| {}).unwrap();
    assert_eq!(ran.answer, b"password=x\n", "the answer is stdout alone");
    assert_eq!(ran.output.lines, ["note"], "and is in no log");
}
