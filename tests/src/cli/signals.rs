//! What ends a command before its time.

use tokio::signal::unix::{SignalKind, signal};

use crate::sandbox::SandboxError;

/// SIGINT and SIGTERM.
pub(super) struct StopSignals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl StopSignals {
    pub(super) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

pub(super) fn stop_signals() -> Result<StopSignals, SandboxError> {
    let listen = |kind| {
        signal(kind).map_err(|source| SandboxError::Io {
            action: "listen for",
            path: "signals".into(),
            source,
        })
    };
    Ok(StopSignals {
        interrupt: listen(SignalKind::interrupt())?,
        terminate: listen(SignalKind::terminate())?,
    })
}
