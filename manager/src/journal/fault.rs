//! A fault at one hook point, asked for by the environment: how the long suites kill a manager exactly there.
//!
//! Hook points of a process are numbered from 0 in the order they are reached: each record has one before it is written
//! and one after it is durable. Without [`VARIABLE`] there is no fault. With it nothing can happen that a SIGKILL or a
//! SIGSTOP at that moment would not do as well, and those must be survived at any moment.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Hook, NoHook, Record};

/// `kill:N`: the process kills itself (SIGKILL) at hook point N. `pause:N:FILE`: it makes FILE there and goes on when FILE
/// is gone.
pub const VARIABLE: &str = "MHA_JOURNAL_FAULT";

/// How often a paused process looks whether it may go on.
const LOOK: Duration = Duration::from_micros(200);

/// The variable does not say what is wanted.
#[derive(Debug, thiserror::Error)]
#[error("{VARIABLE}={found}: expected kill:N or pause:N:FILE")]
pub struct BadFault {
    found: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Deed {
    Kill,
    Pause(PathBuf),
}

/// One fault.
#[derive(Debug)]
struct Fault {
    at: u64,
    deed: Deed,
    reached: AtomicU64,
}

/// The hook that the environment asks for; none, as a rule. One that is there is told on standard error.
///
/// # Errors
/// [`BadFault`].
pub fn from_environment() -> Result<Arc<dyn Hook>, BadFault> {
    let Some(found) = std::env::var_os(VARIABLE) else {
        return Ok(Arc::new(NoHook));
    };
    let found = found.to_string_lossy().into_owned();
    match Fault::parse(&found) {
        Some(fault) => {
            eprintln!("mha-manager: {VARIABLE}={found}: this process is going to fail on purpose");
            Ok(Arc::new(fault))
        }
        None => Err(BadFault { found }),
    }
}

impl Fault {
    fn parse(text: &str) -> Option<Self> {
        let (deed, rest) = text.split_once(':')?;
        let (at, deed) = match deed {
            "kill" => (rest, Deed::Kill),
            "pause" => {
                let (at, file) = rest.split_once(':')?;
                (at, Deed::Pause(Path::new(file).to_owned()))
            }
            _ => return None,
        };
        Some(Self {
            at: at.parse().ok()?,
            deed,
            reached: AtomicU64::new(0),
        })
    }

    fn reach(&self) -> bool {
        if self.reached.fetch_add(1, Ordering::SeqCst) == self.at {
            match &self.deed {
                Deed::Kill => {
                    // Nothing of this process runs after it; should it fail, the run stops as a crash would stop it.
                    let _ = kill(Pid::this(), Signal::SIGKILL);
                    return false;
                }
                Deed::Pause(file) => {
                    if std::fs::write(file, b"").is_err() {
                        return false;
                    }
                    while file.exists() {
                        std::thread::sleep(LOOK);
                    }
                }
            }
        }
        true
    }
}

impl Hook for Fault {
    fn before(&self, _record: &Record) -> bool {
        self.reach()
    }

    fn after(&self, _record: &Record) -> bool {
        self.reach()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_variable_may_say() {
        let kill = Fault::parse("kill:17").unwrap();
        assert_eq!((kill.at, kill.deed), (17, Deed::Kill));
        let pause = Fault::parse("pause:3:/tmp/a:b").unwrap();
        assert_eq!((pause.at, pause.deed), (3, Deed::Pause("/tmp/a:b".into())));
        for wrong in ["", "kill", "kill:", "kill:x", "pause:3", "stop:3"] {
            assert!(Fault::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_pause_is_at_its_point_alone_and_ends_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("here");
        let fault = Arc::new(Fault::parse(&format!("pause:1:{}", file.display())).unwrap());
        assert!(fault.reach());
        let paused = {
            let fault = fault.clone();
            std::thread::spawn(move || fault.reach())
        };
        while !file.exists() {
            std::thread::sleep(LOOK);
        }
        assert!(!paused.is_finished());
        std::fs::remove_file(&file).unwrap();
        assert!(paused.join().unwrap());
        assert!(fault.reach());
        assert!(!file.exists());
    }
}
