//! The process of a mysqld: found, then awaited through its pidfd.
//!
//! A start has no event that an unprivileged process could see; it is looked for in small intervals, and at once when the
//! socket's folder tells of a change.

use std::sync::Arc;
use std::time::Duration;

use proto::watch::{Exit, Process};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Facts, clock};
use crate::agent::LocalServer;
use crate::mysqld::process;

/// How often a process is looked for while none runs.
const LOOK: Duration = Duration::from_millis(100);

pub(super) async fn run(server: Arc<LocalServer>, stop: CancellationToken) {
    loop {
        let found = match server.datadir() {
            None => Err("the data directory is not known yet".to_owned()),
            Some(datadir) => process::find(&datadir, server.pid_file().as_deref())
                .map_err(|error| crate::error::chain(&error)),
        };
        match found {
            Ok(Some(mysqld)) => {
                let since = clock::now();
                let pid = mysqld.pid();
                became(&server, Process::Running { pid, since });
                let ended = tokio::select! {
                    () = stop.cancelled() => return,
                    ended = mysqld.ended() => ended,
                };
                if let Err(error) = ended {
                    // Without its event the end is looked for.
                    tracing::warn!(server = server.config.name, %error, "mysqld is not watched");
                    sleep(LOOK).await;
                    continue;
                }
                let how = mysqld.exit_status().map(exit);
                let since = clock::now();
                tracing::warn!(server = server.config.name, pid, ?how, "mysqld ended");
                became(&server, Process::Exited { pid, since, how });
                // It may have been replaced already.
                continue;
            }
            Ok(None) => none_runs(&server),
            Err(reason) => unknown(&server, reason),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = server.watch.look_now.notified() => {}
            () = sleep(LOOK) => {}
        }
    }
}

fn exit(status: process::ExitStatus) -> Exit {
    match status {
        process::ExitStatus::Code(code) => Exit::Code(code),
        process::ExitStatus::Signal(signal) => Exit::Signal(signal),
    }
}

fn became(server: &LocalServer, process: Process) {
    server.watch.update(|facts| {
        facts.process = process;
        // What another process said of itself.
        (facts.read_only, facts.super_read_only) = (None, None);
        true
    });
    server.watch.ping_now.notify_one();
}

/// One that was seen to end stays so: it says more than that none is there.
fn none_runs(server: &LocalServer) {
    server.watch.update(|facts: &mut Facts| {
        let news = matches!(
            facts.process,
            Process::Unknown { .. } | Process::Running { .. }
        );
        if news {
            let since = clock::now();
            facts.process = Process::NotRunning { since };
        }
        news
    });
}

fn unknown(server: &LocalServer, why: String) {
    server.watch.update(|facts| {
        let news = !matches!(&facts.process, Process::Unknown { reason, .. } if *reason == why);
        if news {
            let since = clock::now();
            facts.process = Process::Unknown { since, reason: why };
        }
        news
    });
}
