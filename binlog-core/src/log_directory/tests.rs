//! Directories as copying jobs leave them: without an index, with files of two primaries, with gaps, with a torn end.

use super::*;
use crate::checksum::ChecksumAlgorithm;
use crate::end::LogEnd;
use crate::testing::PrimaryLog;

const FIRST: ServerId = ServerId(1);
const SECOND: ServerId = ServerId(2);

/// Files 1 to 3 of a server, one transaction in each.
fn log_of(writer: ServerId, first: u64) -> PrimaryLog {
    let file = format!("mysql-bin.{first:06}").parse().unwrap();
    let mut log = PrimaryLog::new(file, writer.0, ChecksumAlgorithm::Crc32);
    log.transaction(1, 2, 50).rotate();
    log.transaction(2, 2, 50).rotate();
    log.transaction(3, 2, 50);
    log
}

/// The copies alone: no index file.
fn copy(log: &PrimaryLog, dir: &Path, files: impl IntoIterator<Item = u64>) {
    for number in files {
        let name: BinlogFileName = format!("mysql-bin.{number:06}").parse().unwrap();
        std::fs::write(dir.join(name.as_str()), log.file(&name)).unwrap();
    }
}

fn at(file: u64, offset: u64) -> BinlogPosition {
    format!("mysql-bin.{file:06}:{offset}").parse().unwrap()
}

fn numbers(log: &BinaryLogs) -> Vec<u64> {
    log.files().iter().map(BinlogFileName::sequence).collect()
}

#[test]
fn names_are_ordered_by_number_and_need_no_index() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(FIRST, 999_999);
    copy(&log, dir.path(), 999_999..=1_000_001);
    std::fs::write(dir.path().join("notes.2026"), "no binary log").unwrap();
    std::fs::create_dir(dir.path().join("mysql-bin.1000002")).unwrap();
    let found = LogDirectory::open(dir.path()).unwrap();
    let all = found.of(FIRST, Some(&at(999_999, 4)), None).unwrap();
    assert_eq!(numbers(&all), [999_999, 1_000_000, 1_000_001]);
    let survey = all.survey(Some(&at(999_999, 4))).unwrap();
    assert_eq!(survey.data_end.as_ref(), Some(log.position()));
    assert_eq!(numbers(&found.of(FIRST, None, None).unwrap()).len(), 3);
    assert_eq!(found.newest(FIRST).unwrap(), *log.position());
}

#[test]
fn a_torn_last_event_is_cut_as_in_the_primarys_own_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(FIRST, 1);
    copy(&log, dir.path(), 1..=3);
    let path = dir.path().join("mysql-bin.000003");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
    let found = LogDirectory::open(dir.path()).unwrap();
    let all = found.of(FIRST, Some(&at(2, 4)), None).unwrap();
    let survey = all.survey(Some(&at(2, 4))).unwrap();
    assert!(
        matches!(survey.end, LogEnd::Torn { .. }),
        "{:?}",
        survey.end
    );
    let whole = survey.last_transaction.unwrap().end;
    assert_eq!(
        whole.file.sequence(),
        2,
        "the torn one is the whole third file's only one"
    );
}

#[test]
fn another_primarys_files_are_never_part_of_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (log_of(FIRST, 1), log_of(SECOND, 3));
    // The copying followed server 2 after a failover: its 3 to 5 took the place of what server 1 had there.
    copy(&old, dir.path(), 1..=3);
    copy(&new, dir.path(), 3..=5);
    let found = LogDirectory::open(dir.path()).unwrap();
    assert_eq!(
        numbers(&found.of(FIRST, Some(&at(1, 4)), None).unwrap()),
        [1, 2]
    );
    assert_eq!(numbers(&found.of(FIRST, None, None).unwrap()), [1, 2]);
    assert_eq!(numbers(&found.of(SECOND, None, None).unwrap()), [3, 4, 5]);
    assert_eq!(found.newest(SECOND).unwrap(), *new.position());
    // Only one side of the border can be asked for.
    let error = found
        .of(FIRST, Some(&at(4, 4)), None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("server_id 1"), "{error}");
    assert!(error.contains("mysql-bin.000005 of server_id 2"), "{error}");
    assert!(matches!(
        found.of(ServerId(3), None, None),
        Err(LogError::OtherWriter { .. })
    ));
}

#[test]
fn what_a_server_wrote_before_it_began_anew_does_not_follow() {
    let dir = tempfile::tempdir().unwrap();
    copy(&log_of(FIRST, 1), dir.path(), 2..=3);
    // RESET MASTER: file 1 again, begun later than the 2 and 3 that are left over.
    let mut anew = PrimaryLog::new(
        "mysql-bin.000009".parse().unwrap(),
        FIRST.0,
        ChecksumAlgorithm::Crc32,
    );
    for _ in 0..5 {
        anew.rotate();
    }
    let file = anew.file(&"mysql-bin.000014".parse().unwrap());
    std::fs::write(dir.path().join("mysql-bin.000001"), file).unwrap();
    let found = LogDirectory::open(dir.path()).unwrap();
    assert_eq!(
        numbers(&found.of(FIRST, Some(&at(1, 4)), None).unwrap()),
        [1]
    );
    assert_eq!(
        numbers(&found.of(FIRST, Some(&at(2, 4)), None).unwrap()),
        [2, 3]
    );
}

#[test]
fn a_log_ends_before_a_gap_and_before_a_file_without_a_head() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(FIRST, 1);
    copy(&log, dir.path(), [1, 3]);
    let found = LogDirectory::open(dir.path()).unwrap();
    assert_eq!(
        numbers(&found.of(FIRST, Some(&at(1, 4)), None).unwrap()),
        [1]
    );
    assert_eq!(numbers(&found.of(FIRST, None, None).unwrap()), [3]);
    assert!(matches!(
        found.of(FIRST, Some(&at(2, 4)), None),
        Err(LogError::NotHeld { .. })
    ));
    copy(&log, dir.path(), [2]);
    for head in [&b""[..], b"\xfebi", b"\xfebin", b"\xfebin\0\0\0"] {
        std::fs::write(dir.path().join("mysql-bin.000004"), head).unwrap();
        let found = LogDirectory::open(dir.path()).unwrap();
        assert_eq!(
            numbers(&found.of(FIRST, Some(&at(1, 4)), None).unwrap()),
            [1, 2, 3]
        );
        assert_eq!(found.newest(FIRST).unwrap(), *log.position());
    }
}

#[test]
fn a_directory_that_cannot_serve_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("away");
    let error = LogDirectory::open(&missing).unwrap_err().to_string();
    assert!(error.contains("away"), "{error}");
    assert!(matches!(
        LogDirectory::open(dir.path()),
        Err(LogError::NoFiles { .. })
    ));
    std::fs::write(dir.path().join("mysql-bin.000001"), b"\xfdbin....").unwrap();
    let found = LogDirectory::open(dir.path()).unwrap();
    assert!(matches!(
        found.of(FIRST, None, None),
        Err(LogError::Encrypted { .. })
    ));
}

/// What one broke off looks like the log of a primary that crashed: nobody can tell whether transactions are missing.
#[test]
fn nothing_counts_behind_a_file_that_was_not_closed() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(FIRST, 1);
    copy(&log, dir.path(), 1..=3);
    let path = dir.path().join("mysql-bin.000002");
    let whole = std::fs::read(&path).unwrap();
    let ends = log.events.iter().filter(|e| e.end.file.sequence() == 2);
    let ends: Vec<u64> = ends.map(|e| e.end.offset).collect();
    for &end in ends.iter().rev().skip(1) {
        std::fs::write(&path, &whole[..usize::try_from(end).unwrap()]).unwrap();
        let found = LogDirectory::open(dir.path()).unwrap();
        let from_first = found.of(FIRST, Some(&at(1, 4)), None).unwrap();
        assert_eq!(numbers(&from_first), [1, 2], "cut at {end}");
        assert_eq!(numbers(&found.of(FIRST, None, None).unwrap()), [3]);
    }
    std::fs::write(&path, whole).unwrap();
    let found = LogDirectory::open(dir.path()).unwrap();
    let upto = |to| numbers(&found.of(FIRST, Some(&at(1, 4)), Some(&to)).unwrap());
    assert_eq!(upto(at(3, 4)), [1, 2, 3]);
    assert_eq!(upto(at(2, 200)), [1, 2]);
}

#[test]
fn a_stop_closes_a_file_and_a_crash_does_not() {
    for checksum in [ChecksumAlgorithm::Crc32, ChecksumAlgorithm::None] {
        for (stops, expected) in [(true, &[1, 2][..]), (false, &[1][..])] {
            let dir = tempfile::tempdir().unwrap();
            let mut log = PrimaryLog::new("mysql-bin.000001".parse().unwrap(), 1, checksum);
            log.transaction(1, 2, 50);
            if stops {
                log.stop();
            } else {
                log.crash();
            }
            log.transaction(2, 2, 50);
            copy(&log, dir.path(), 1..=2);
            let found = LogDirectory::open(dir.path()).unwrap();
            let all = found.of(FIRST, Some(&at(1, 4)), None).unwrap();
            assert_eq!(numbers(&all), expected, "{checksum:?} {stops}");
        }
    }
}
