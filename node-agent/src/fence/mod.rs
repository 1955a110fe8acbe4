//! Keeping a deposed primary from taking writes: mysqld is stopped, and stopped again on sight, until released.
//!
//! Guarantees: a hold is on disk before the first signal is sent, so that a restart of the agent takes it up again; no
//! process is ever signalled but a mysqld whose working directory is the data directory of the configured server
//! (`mysqld::process`); a SIGKILL that is pending on a process stuck in the kernel counts as confirmed, since that
//! process runs no more of its own code.
//!
//! On sight means SIGKILL at once: whoever restarts mysqld during a hold (a supervisor, most often) starts a crash
//! recovery that may truncate the very tail that is to be saved. The process that a call is stopping is left to that
//! call, which gives it time to obey SIGTERM.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::mysqld::Deadline;
use crate::mysqld::process::{self, Ended, ProcessError};
use crate::state::durable::{self, DurableError};

#[cfg(test)]
mod tests;

/// How often a held server's process is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// Longest time a mysqld gets to obey SIGTERM. Its clean shutdown may take minutes; a failover does not wait for it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest time the end of a killed process is waited for by the loop.
const KILL_LIMIT: Duration = Duration::from_secs(1);

/// Why a server could not be held down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FenceError {
    /// The data directory is neither configured nor was it ever learnt, so no process can be told to be the server's.
    #[error("the data directory of the server is not known")]
    NoDataDirectory,
    /// The process could not be signalled or watched.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The hold could not be stored: nothing was stopped, or the hold is not lifted.
    #[error("the hold could not be stored")]
    Store(#[from] DurableError),
    /// The task that stores the hold was abandoned.
    #[error("storing the hold was abandoned")]
    Abandoned,
}

/// A hold, as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Operation that wants the server down.
    pub operation: String,
    /// Its epoch.
    pub epoch: u64,
    /// Data directory of the server.
    pub datadir: PathBuf,
    /// Its pid file, where one is known.
    pub pid_file: Option<PathBuf>,
}

/// What a hold found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// mysqld ran when the call came.
    pub was_running: bool,
    /// How it ended.
    pub how: Ended,
}

/// The fence of one server.
#[derive(Debug)]
pub struct Fence {
    server: String,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    hold: Option<Hold>,
    /// The process that a call is stopping.
    stopping: Option<u32>,
}

/// While it lives, the loop leaves a process to the call that is stopping it; a call that is abandoned leaves it to the loop.
struct Stopping<'a>(&'a Fence);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.state().stopping = None;
    }
}

impl Fence {
    /// Reads the hold that an earlier run of the agent left in `folder`, if any.
    ///
    /// # Errors
    /// A hold that cannot be read is an error: forgetting it could let a deposed primary come back.
    pub fn open(server: String, folder: &Path) -> Result<Self, DurableError> {
        let path = folder.join("hold.json");
        let hold = durable::read_json::<Hold>(&path)?;
        if let Some(hold) = &hold {
            tracing::warn!(
                server,
                operation = hold.operation,
                "mysqld is still held down"
            );
        }
        Ok(Self {
            server,
            path,
            state: Mutex::new(State {
                hold,
                stopping: None,
            }),
        })
    }

    /// The hold in force.
    pub fn hold(&self) -> Option<Hold> {
        self.state().hold.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the hold, then stops mysqld: SIGTERM, after a bounded time SIGKILL.
    ///
    /// # Errors
    /// See [`FenceError`]. After a [`FenceError::Process`] the hold is in force and the loop goes on trying.
    pub async fn hold_down(
        self: &Arc<Self>,
        hold: Hold,
        deadline: Deadline,
    ) -> Result<Held, FenceError> {
        self.stop(hold, PATIENCE, deadline).await
    }

    /// The same for a mysqld that hangs: SIGKILL follows at once, since it would not obey anyway.
    ///
    /// # Errors
    /// As [`Self::hold_down`].
    pub async fn kill_and_hold_down(
        self: &Arc<Self>,
        hold: Hold,
        deadline: Deadline,
    ) -> Result<Held, FenceError> {
        self.stop(hold, Duration::ZERO, deadline).await
    }

    async fn stop(
        self: &Arc<Self>,
        hold: Hold,
        patience: Duration,
        deadline: Deadline,
    ) -> Result<Held, FenceError> {
        let running = process::find(&hold.datadir, hold.pid_file.as_deref())?;
        let stored = hold.clone();
        let already_held = {
            let mut state = self.state();
            state.stopping = running.as_ref().map(process::Mysqld::pid);
            state.hold.is_some()
        };
        let _stopping = Stopping(self);
        self.store(Some(hold)).await?;
        let Some(mysqld) = running else {
            // One that was started while the hold was written is caught here, later ones by the loop.
            let how = process::stop(
                &stored.datadir,
                stored.pid_file.as_deref(),
                Duration::ZERO,
                deadline,
            )
            .await?;
            return Ok(Held {
                was_running: how != Ended::NotRunning,
                how,
            });
        };
        let patience = if already_held {
            // It was started during a hold.
            Duration::ZERO
        } else {
            patience.min(deadline.remaining() / 2)
        };
        let how = mysqld.stop(patience, deadline).await?;
        tracing::warn!(
            server = self.server,
            pid = mysqld.pid(),
            how = how.as_str(),
            "mysqld held down"
        );
        Ok(Held {
            was_running: true,
            how,
        })
    }

    /// Ends the hold; `false` if there was none. mysqld is not started.
    ///
    /// # Errors
    /// The hold could not be removed and stays in force.
    pub async fn release(self: &Arc<Self>) -> Result<bool, FenceError> {
        if self.hold().is_none() {
            return Ok(false);
        }
        self.store(None).await?;
        tracing::info!(server = self.server, "hold released");
        Ok(true)
    }

    /// Stops a held server's mysqld on sight, until `stop`.
    pub async fn enforce(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let Some(hold) = self.hold() else { continue };
            match process::find(&hold.datadir, hold.pid_file.as_deref()) {
                Ok(None) => {}
                Ok(Some(mysqld)) => {
                    // Looked up anew: a release may have come while the process was looked for.
                    let leave = {
                        let state = self.state();
                        state.hold.is_none() || state.stopping == Some(mysqld.pid())
                    };
                    if leave {
                        continue;
                    }
                    let ended = mysqld.kill(Deadline::after(KILL_LIMIT)).await;
                    match ended {
                        Ok(how) => tracing::warn!(
                            server = self.server,
                            pid = mysqld.pid(),
                            operation = hold.operation,
                            how = how.as_str(),
                            "mysqld was started during a hold and stopped"
                        ),
                        Err(error) => self.report(&error),
                    }
                }
                Err(error) => self.report(&error),
            }
        }
    }

    fn report(&self, error: &ProcessError) {
        tracing::error!(
            server = self.server,
            error = crate::error::chain(error),
            "mysqld is to be held down and could not be stopped"
        );
    }

    /// Makes the hold durable, then effective; for a release the other way round would leave a hold after a restart.
    async fn store(self: &Arc<Self>, hold: Option<Hold>) -> Result<(), FenceError> {
        let fence = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            match &hold {
                Some(hold) => durable::write_json(&fence.path, hold)?,
                None => {
                    durable::remove(&fence.path)?;
                }
            }
            fence.state().hold = hold;
            Ok(())
        })
        .await
        .map_err(|_| FenceError::Abandoned)?
    }
}
