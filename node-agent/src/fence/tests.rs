//! Holding down a false mysqld: a copy of a small program under that name, in a private data directory.

use std::os::unix::fs::symlink;
use std::process::{Child, Command};
use std::time::Instant;

use super::*;

struct Host {
    folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["data", "other", "state"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        // Not copies: a program cannot be run while a child of another thread still has it open for writing.
        symlink("/bin/sleep", folder.path().join("mysqld")).unwrap();
        symlink("/bin/sh", folder.path().join("mariadbd")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, datadir: &str) -> Child {
        Command::new(self.path("mysqld"))
            .arg("600")
            .current_dir(self.path(datadir))
            .spawn()
            .unwrap()
    }

    /// One that does this on SIGTERM, as soon as it has started.
    fn start_unawaited(&self, datadir: &str, on_sigterm: &str) -> Child {
        let script = format!("trap '{on_sigterm}' TERM; : > ready; while :; do sleep 0.05; done");
        Command::new(self.path("mariadbd"))
            .args(["-c", &script])
            .current_dir(self.path(datadir))
            .spawn()
            .unwrap()
    }

    /// The same; returns when it would.
    fn start_with(&self, datadir: &str, on_sigterm: &str) -> Child {
        let mut child = self.start_unawaited(datadir, on_sigterm);
        let mark = self.path(datadir).join("ready");
        let began = Instant::now();
        while began.elapsed() < SOON {
            if mark.exists() {
                return child;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("the process did not start");
    }

    fn fence(&self) -> Arc<Fence> {
        Arc::new(Fence::open("db1:3306".to_owned(), &self.path("state")).unwrap())
    }

    fn hold(&self) -> Hold {
        Hold {
            operation: "op-1".to_owned(),
            epoch: 3,
            datadir: self.path("data"),
            pid_file: None,
        }
    }
}

/// Longest wait for what should come at once, on a machine that does much else.
const SOON: Duration = Duration::from_secs(60);

fn soon() -> Deadline {
    Deadline::after(SOON * 2)
}

async fn wait_for_end(mut child: Child) {
    let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
    tokio::time::timeout(SOON, ended)
        .await
        .expect("the process was stopped")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_mysqld_of_the_data_directory_is_stopped() {
    let host = Host::new();
    let ours = host.start("data");
    let mut neighbour = host.start("other");
    let mut visitor = Command::new("/bin/sleep")
        .arg("600")
        .current_dir(host.path("data"))
        .spawn()
        .unwrap();
    let fence = host.fence();
    let held = fence.stop(host.hold(), SOON, soon()).await.unwrap();
    assert_eq!(
        held,
        Held {
            was_running: true,
            how: Ended::Sigterm
        }
    );
    wait_for_end(ours).await;
    let stop = CancellationToken::new();
    let enforcing = tokio::spawn(Arc::clone(&fence).enforce(stop.clone()));
    tokio::time::sleep(LOOK * 4).await;
    for child in [&mut neighbour, &mut visitor] {
        assert_eq!(child.try_wait().unwrap(), None, "an innocent was stopped");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    stop.cancel();
    enforcing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ignores_sigterm_is_killed_within_the_deadline() {
    let host = Host::new();
    let deaf = host.start_with("data", "");
    let deadline = soon();
    let held = host.fence().hold_down(host.hold(), deadline).await.unwrap();
    assert_eq!(held.how, Ended::Sigkill);
    assert!(!deadline.has_passed());
    wait_for_end(deaf).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_takes_its_time_to_obey_is_left_to_the_call_that_stops_it() {
    let host = Host::new();
    let fence = host.fence();
    let stop = CancellationToken::new();
    tokio::spawn(Arc::clone(&fence).enforce(stop.clone()));
    // The loop looks several times meanwhile.
    let obeys = "sleep 0.5; : > clean; exit 0";
    let clean = host.path("data").join("clean");
    let slow = host.start_with("data", obeys);
    let held = fence.stop(host.hold(), SOON, soon()).await.unwrap();
    assert_eq!(held.how, Ended::Sigterm);
    assert!(clean.exists(), "it was killed");
    wait_for_end(slow).await;
    // One that is started now is given no time.
    std::fs::remove_file(&clean).unwrap();
    wait_for_end(host.start_unawaited("data", obeys)).await;
    assert!(!clean.exists(), "it was not killed");
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_survives_a_restart_of_the_agent_and_is_enforced_again() {
    let host = Host::new();
    let held = host.fence().hold_down(host.hold(), soon()).await.unwrap();
    assert_eq!(held.how, Ended::NotRunning);
    // Another process of the agent: nothing but the file connects them.
    let fence = host.fence();
    assert_eq!(fence.hold(), Some(host.hold()));
    let stop = CancellationToken::new();
    tokio::spawn(Arc::clone(&fence).enforce(stop.clone()));
    for _ in 0..3 {
        wait_for_end(host.start("data")).await;
    }
    assert!(fence.release().await.unwrap());
    assert!(!fence.release().await.unwrap());
    let mut free = host.start("data");
    tokio::time::sleep(LOOK * 4).await;
    assert_eq!(free.try_wait().unwrap(), None);
    free.kill().unwrap();
    free.wait().unwrap();
    assert_eq!(host.fence().hold(), None);
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_cannot_be_stored_stops_nothing() {
    let host = Host::new();
    let mut child = host.start("data");
    let fence = host.fence();
    std::fs::remove_dir_all(host.path("state")).unwrap();
    let error = fence.hold_down(host.hold(), soon()).await.unwrap_err();
    assert!(matches!(error, FenceError::Store(_)), "{error}");
    assert_eq!(fence.hold(), None);
    assert_eq!(child.try_wait().unwrap(), None);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_torn_hold_is_not_forgotten() {
    let host = Host::new();
    std::fs::write(host.path("state").join("hold.json"), b"{\"operation\":\"o").unwrap();
    assert!(Fence::open("db1:3306".to_owned(), &host.path("state")).is_err());
}
