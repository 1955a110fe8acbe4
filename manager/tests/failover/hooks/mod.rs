//! MHA's scripts in whole failovers: what they are told, in which order, and what their ends lead to.
//!
//! | module | story |
//! |---|---|
//! | `told` | what each script is told, and when |
//! | `dead_host` | the dead host does not answer, or is switched off |
//! | `ends` | what each end of a script leads to |
//! | `killed` | a manager killed around a script |

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use manager::journal::{self, Record};
use manager::report::Report;

use crate::cluster::Cluster;
use crate::world::lock;

mod dead_host;
mod ends;
mod killed;
mod told;

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

/// All calls of a failover, in their order.
const ALL_FOUR: &[&str] = &[
    "master_ip_failover_script stopssh",
    "shutdown_script stopssh",
    "master_ip_failover_script start",
    "report_script",
];

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
