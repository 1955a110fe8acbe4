//! What a process has needed so far, from `/proc`.

use std::time::Duration;

/// Clock ticks in a second in `/proc/PID/stat`: `USER_HZ`, 100 on every Linux that Rust supports.
const TICKS: u64 = 100;

/// Peak memory and CPU time.
pub(crate) struct Usage {
    /// `VmHWM`, bytes.
    pub(crate) peak_bytes: u64,
    /// User and system time of all threads.
    pub(crate) cpu: Duration,
}

impl Usage {
    /// Of a living process.
    pub(crate) fn of(pid: u32) -> Self {
        let read = |file| {
            std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the process lives")
        };
        let status = read("status");
        let kibibytes: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .and_then(|number| number.trim().parse().ok())
            .expect("VmHWM is in every status");
        let stat = read("stat");
        // Behind the name, which may hold anything, come state (field 3) and the rest; utime and stime are 14 and 15.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_ascii_whitespace().collect())
            .expect("the name is in parentheses");
        let ticks: u64 = [fields[11], fields[12]]
            .iter()
            .map(|field| field.parse::<u64>().expect("a number of ticks"))
            .sum();
        Self {
            peak_bytes: kibibytes << 10,
            cpu: Duration::from_millis(ticks * 1000 / TICKS),
        }
    }
}
