//! What must hold for any bytes at all: no panic, bounded memory, no end behind the end of the input, and the same answer
//! whichever way it is asked for.
//!
//! An input is one byte string (see [`container`]). Its first byte picks the target, so that one corpus and one process
//! serve all of them. `tests/fuzz_targets.rs` runs a fixed number of inputs; `fuzz/` runs the same functions under a
//! coverage-guided fuzzer.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, unreachable_pub)] // helpers of tests

pub mod binary_logs;
pub mod container;
pub mod naive;
pub mod parsers;
pub mod relay_logs;
pub mod seeds;
pub mod segments;
pub mod texts;
pub mod walk;

use std::path::{Path, PathBuf};

use container::Input;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Most memory that one input may take at a time, beyond what it takes itself (inputs are small). The buffers of a walk,
/// a copy and a second walk are 1.5 MiB together at most.
pub const MEMORY_MAX: usize = 4 << 20;

/// One target.
pub type Target = fn(&Input<'_>, &Scratch);

/// All targets, picked by the first byte of an input.
pub const TARGETS: [(&str, Target); 6] = [
    ("walk", walk::check),
    ("binary_logs", binary_logs::check),
    ("relay_logs", relay_logs::check),
    ("segments", segments::check),
    ("parsers", parsers::check),
    ("texts", texts::check),
];

/// Number of a target.
pub fn number_of(name: &str) -> u8 {
    let found = TARGETS.iter().position(|(target, _)| *target == name);
    u8::try_from(found.unwrap()).unwrap()
}

/// Runs one input; yields the most memory it took.
pub fn run(data: &[u8], scratch: &Scratch) -> usize {
    let Some(input) = Input::decode(data) else {
        return 0;
    };
    let (_, target) = TARGETS[usize::from(input.target) % TARGETS.len()];
    let (peak, ()) = peak_of(|| target(&input, scratch));
    assert!(peak < MEMORY_MAX, "{peak} bytes of memory");
    peak
}

/// The most memory taken at a time by `work`, beyond what was in use before. Other threads count too.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = work();
    (MEMORY.peak_usage().saturating_sub(before), result)
}

/// A directory in memory for the files of an input.
pub struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    /// A new directory.
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("binlog-core-targets-");
        let directory = if memory.is_dir() {
            builder.tempdir_in(memory)
        } else {
            builder.tempdir()
        };
        Self {
            directory: directory.unwrap(),
        }
    }

    /// Where a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Removes all files.
    pub fn clear(&self) {
        for entry in std::fs::read_dir(self.directory.path()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
}
