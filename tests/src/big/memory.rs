//! The most memory that processes of ours ever had resident, as the kernel counted it (`VmHWM`).

use std::path::PathBuf;

use crate::sandbox::SandboxError;
use crate::watched::{Watched, wrong};

/// Nobody may ever have had more.
const LIMIT_KIB: u64 = 64 * 1024;

/// The peaks of all processes.
#[derive(Debug)]
pub(super) struct Peaks(Vec<(String, u64)>);

impl Peaks {
    /// Of the agents and the manager, which must all still run.
    pub(super) fn read(watched: &Watched) -> Result<Self, SandboxError> {
        let agents = watched.deployment.agents().iter();
        let mut found = agents
            .map(|agent| Ok((format!("agent of {}", agent.name()), of(agent.pid())?)))
            .collect::<Result<Vec<_>, SandboxError>>()?;
        found.push(("manager".to_owned(), of(Some(watched.daemon.pid()))?));
        Ok(Self(found))
    }

    /// All within the limit.
    pub(super) fn good(&self) -> bool {
        self.0.iter().all(|(_, kib)| *kib < LIMIT_KIB)
    }
}

impl std::fmt::Display for Peaks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |kib: u64| kib as f64 / 1024.0;
        let all: Vec<String> = self
            .0
            .iter()
            .map(|(name, kib)| format!("{name} {:.1}", mib(*kib)))
            .collect();
        write!(
            f,
            "peak memory in MiB: {}; limit {:.0}",
            all.join(", "),
            mib(LIMIT_KIB)
        )
    }
}

/// Peak of a process in KiB.
fn of(pid: Option<i32>) -> Result<u64, SandboxError> {
    let pid = pid.ok_or_else(|| wrong("a process that runs", "one that ended"))?;
    let path = PathBuf::from(format!("/proc/{pid}/status"));
    let text = std::fs::read_to_string(&path).map_err(|source| SandboxError::Io {
        action: "read",
        path,
        source,
    })?;
    peak(&text).ok_or_else(|| wrong("VmHWM of a process", &text))
}

/// `VmHWM:     1234 kB` of a process's status.
fn peak(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_found_and_judged() {
        let status = "Name:\ta\nVmPeak:\t  90000 kB\nVmHWM:\t   65535 kB\nVmRSS:\t  100 kB\n";
        assert_eq!(peak(status), Some(65_535));
        assert_eq!(peak("VmHWM:\t none kB\n"), None);
        let judged =
            |kib| Peaks(vec![("manager".to_owned(), 10), ("agent".to_owned(), kib)]).good();
        assert!(judged(65_535));
        assert!(!judged(65_536));
    }
}
