//! The loop that sees new relay logs as they appear.
//!
//! inotify wakes it within a millisecond of a file's creation, so that even a relay log that the applier is through
//! with at once is caught, and learning where the relay logs are wakes it too; a slow tick does what needs no hurry
//! (copies, limits, a directory that was not there yet).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{KeepError, RelayKeeper};
use crate::folder::FolderEvents;

/// How often copies are brought up to date and a missed file is looked for.
const TICK: Duration = Duration::from_secs(1);
/// How often the limits are enforced, in ticks.
const TICKS_PER_CLEANING: u64 = 60;

/// Keeps relay logs until `stop`.
pub async fn run(keeper: Arc<RelayKeeper>, server: String, stop: CancellationToken) {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticks: u64 = 0;
    let mut watched: Option<(PathBuf, FolderEvents)> = None;
    // One line per kind of trouble, not one per tick.
    let mut last_trouble = String::new();
    loop {
        let directory = keeper.location().map(|location| location.directory);
        if watched.as_ref().map(|(path, _)| path) != directory.as_ref() {
            watched = directory.and_then(|path| {
                let watcher = FolderEvents::new(&path)
                    .inspect_err(|error| {
                        tracing::warn!(%server, directory = %path.display(), %error, "relay logs are not watched, only looked at each second");
                    })
                    .ok()?;
                Some((path, watcher))
            });
        }
        let passing = Arc::clone(&keeper);
        let clean = ticks.is_multiple_of(TICKS_PER_CLEANING);
        let done = tokio::task::spawn_blocking(move || pass(&passing, clean)).await;
        let trouble = match done {
            Ok(Ok(())) => String::new(),
            Ok(Err(error)) => crate::error::chain(&error),
            Err(error) => error.to_string(),
        };
        if trouble != last_trouble {
            if !trouble.is_empty() {
                tracing::warn!(%server, error = trouble, "relay logs are not kept");
            }
            last_trouble = trouble;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => ticks = ticks.wrapping_add(1),
            () = keeper.relocated() => {}
            () = woken(watched.as_ref().map(|(_, watcher)| watcher)) => {}
        }
    }
}

fn pass(keeper: &RelayKeeper, clean: bool) -> Result<(), KeepError> {
    let pass = keeper.protect_now()?;
    if pass.linked + pass.copied > 0 {
        tracing::debug!(
            linked = pass.linked,
            copied = pass.copied,
            "relay logs kept"
        );
    }
    if clean {
        let dropped = keeper.enforce_limits(SystemTime::now())?;
        if dropped > 0 {
            tracing::info!(dropped, "kept relay logs dropped by the limits");
        }
    }
    Ok(())
}

/// Returns when something appeared in the directory; never without a watcher.
async fn woken(watcher: Option<&FolderEvents>) {
    match watcher {
        // Which file does not matter: the pass looks at all of them.
        Some(watcher) => watcher.appeared(|_| true).await,
        None => std::future::pending().await,
    }
}
