//! SIGHUP: the running program reads its configurations again.

#![allow(clippy::unwrap_used, clippy::panic)] // a helper that fails fails its test

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use manager::api::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LIMIT: Duration = Duration::from_secs(60);

/// The program, and what it logs.
struct Program {
    child: Child,
    log: PathBuf,
    socket: PathBuf,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    fn start(folder: &Path) -> Self {
        let log = folder.join("log");
        let socket = folder.join("manager.sock");
        let child = Command::new(env!("CARGO_BIN_EXE_mha-manager"))
            .arg("run")
            .arg("--config")
            .arg(folder.join("clusters"))
            .arg("--socket")
            .arg(&socket)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log, socket }
    }

    fn hang_up(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGHUP).unwrap();
    }

    async fn until_clusters(&mut self, wanted: &[&str]) {
        let started = Instant::now();
        loop {
            let shown = match Client::connect(&self.socket).await {
                Ok(mut client) => client.status("").await.ok(),
                Err(_) => None,
            };
            let found: Vec<String> = shown
                .map(|all| all.clusters.into_iter().map(|c| c.cluster).collect())
                .unwrap_or_default();
            if found == wanted {
                return;
            }
            self.wait(started, &format!("{wanted:?}, found {found:?}"))
                .await;
        }
    }

    /// Waits until the log says this so many times.
    async fn until_logged(&mut self, text: &str, times: usize) {
        let started = Instant::now();
        while std::fs::read_to_string(&self.log)
            .unwrap()
            .matches(text)
            .count()
            < times
        {
            self.wait(started, text).await;
        }
    }

    async fn wait(&mut self, started: Instant, what: &str) {
        let log = || std::fs::read_to_string(&self.log).unwrap();
        assert!(started.elapsed() < LIMIT, "no {what}\n{}", log());
        assert_eq!(self.child.try_wait().unwrap(), None, "{}", log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn write(folder: &Path, cluster: &str, more: &str) {
    // Nobody listens at port 1.
    let text = format!(
        "cluster: {cluster}\nplaintext: true\nstate_dir: ../state\nservers:\n\
         \x20 - {{ name: db1, host: 127.0.0.1, port: 1, agent: '127.0.0.1:1' }}\n\
         \x20 - {{ name: db2, host: 127.0.0.2, port: 1, agent: '127.0.0.2:1' }}\n{more}"
    );
    let clusters = folder.join("clusters");
    std::fs::create_dir_all(&clusters).unwrap();
    std::fs::write(clusters.join(format!("{cluster}.yaml")), text).unwrap();
}

#[tokio::test]
async fn clusters_come_and_go_with_their_files_and_an_error_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, "app1", "");
    let mut program = Program::start(folder);
    program.until_clusters(&["app1"]).await;

    write(folder, "app2", "");
    program.hang_up();
    program.until_clusters(&["app1", "app2"]).await;
    program.until_logged("unchanged=1", 1).await;

    // One of them would go, but the other one's file is wrong: nothing happens, and why is said.
    std::fs::remove_file(folder.join("clusters/app1.yaml")).unwrap();
    write(folder, "app2", "monitr: {}\n");
    program.hang_up();
    program
        .until_logged("is refused, all goes on as before", 1)
        .await;
    program.until_logged("did you mean `monitor`?", 1).await;
    program.until_clusters(&["app1", "app2"]).await;

    write(folder, "app2", "monitor: { ping_failures: 3 }\n");
    program.hang_up();
    program.until_clusters(&["app2"]).await;
    program.until_logged("changed=\"app2\"", 1).await;
}
