//! Runs the binary, and makes logs for it.

use std::path::{Path, PathBuf};
use std::process::Command;

use binlog_core::checksum::ChecksumAlgorithm;
use binlog_core::reader::{EventReader, Step};
use binlog_core::testing::{PrimaryLog, RelayWriter};
use binlog_core::transaction::is_bookkeeping;
use binlog_core::{BinlogPosition, EventType};
use serde_json::Value;

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs `mha-node-agent` with the words of `line`; `{}` stands for the next of `paths`.
pub(crate) fn run(line: &str, paths: &[&Path]) -> Ran {
    let mut paths = paths.iter();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mha-node-agent"));
    for word in line.split_whitespace() {
        match word {
            "{}" => command.arg(paths.next().unwrap()),
            word => command.arg(word),
        };
    }
    assert!(paths.next().is_none(), "more paths than places: {line}");
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The same with `--format json`: exactly one object on stdout, which tells the exit code too.
pub(crate) fn json(line: &str, paths: &[&Path]) -> (i32, Value) {
    let ran = run(&format!("{line} --format json"), paths);
    let object: Value =
        serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{line}: {e}: {ran:?}"));
    assert_eq!(object["exit_code"], ran.code, "{object}");
    assert_eq!(object["command"], line.split_whitespace().next().unwrap());
    (ran.code, object)
}

impl Ran {
    /// The exit code, and a line on stderr that says all of `words`; nothing on stdout.
    pub(crate) fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} in {:?}", self.err);
        }
    }
}

/// Names in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The events of a file that are data.
pub(crate) fn data(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = EventReader::open(path).unwrap();
    let mut out = Vec::new();
    while let Step::Event(event) = reader.step().unwrap() {
        if !is_bookkeeping(event.type_code()) {
            out.push(event.bytes.to_vec());
        }
    }
    out
}

/// The data events of a primary from `from` to `to`.
pub(crate) fn written(
    log: &PrimaryLog,
    from: &BinlogPosition,
    to: &BinlogPosition,
) -> Vec<Vec<u8>> {
    log.events
        .iter()
        .filter(|event| event.start >= *from && event.end <= *to)
        .filter(|event| !is_bookkeeping(event.type_code))
        .map(|event| event.bytes.clone())
        .collect()
}

/// A primary's log of two files with three transactions in each.
pub(crate) fn primary() -> PrimaryLog {
    let mut log = PrimaryLog::new(
        "mysql-bin.000007".parse().unwrap(),
        1,
        ChecksumAlgorithm::Crc32,
    );
    for xid in 1..=3 {
        log.transaction(xid, 1, 40);
    }
    log.rotate();
    for xid in 4..=6 {
        log.transaction(xid, 1, 40);
    }
    log
}

/// What replica 3 received of a log, in a directory of its own with an index of absolute paths of another host. A relay
/// log ends behind each event for which `rotate` says so.
pub(crate) fn received(
    log: &PrimaryLog,
    dir: &Path,
    rotate: impl Fn(usize) -> bool,
    keep: impl Fn(usize) -> bool,
) -> PathBuf {
    let mut relay = RelayWriter::new(
        "relay-bin.000001".parse().unwrap(),
        3,
        ChecksumAlgorithm::Crc32,
    );
    relay.connect(log, &log.events.first().unwrap().start);
    for (i, event) in log.events.iter().enumerate() {
        if keep(i) {
            relay.receive(log, event);
            if rotate(i) {
                relay.rotate();
            }
        }
    }
    let files = relay.write_to(dir).unwrap();
    let index: String = files
        .iter()
        .map(|(name, _)| format!("/var/lib/elsewhere/{name}\n"))
        .collect();
    let path = dir.join("relay-bin.index");
    std::fs::write(&path, index).unwrap();
    path
}

/// Ends of all data events, in order.
pub(crate) fn ends(log: &PrimaryLog) -> Vec<BinlogPosition> {
    log.events
        .iter()
        .filter(|event| !is_bookkeeping(event.type_code))
        .map(|event| event.end.clone())
        .collect()
}

/// Ends of the transactions.
pub(crate) fn commits(log: &PrimaryLog) -> Vec<BinlogPosition> {
    log.events
        .iter()
        .filter(|event| event.type_code == EventType::XID)
        .map(|event| event.end.clone())
        .collect()
}

/// Changes the byte at `offset`.
pub(crate) fn flip(path: &Path, offset: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// Real logs that the repository keeps.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../binlog-core/tests/golden")
        .join(name)
}
