//! `find-relay-log` and `generate-diff`.

use std::path::{Path, PathBuf};

use binlog_core::checksum::ChecksumAlgorithm::Crc32;
use binlog_core::reader::{EventReader, Step};
use binlog_core::testing::{PrimaryLog, RelayWriter, WrittenEvent};
use binlog_core::{BinlogPosition, EventType, RelayPosition};

use crate::run::{commits, data, ends, flip, golden, json, names, primary, received, run, written};

const FIND: &str = "find-relay-log --server-id 3 --relay-dir {} --relay-log-index {} --target";
const GENERATE: &str =
    "generate-diff --server-id 3 --relay-dir {} --relay-log-index {} --output {} --target";

fn find(dir: &Path, index: &Path, words: &str) -> crate::run::Ran {
    run(&format!("{FIND} {words}"), &[dir, index])
}

/// Header and offset of the event that stands at a place.
fn bytes_at(dir: &Path, place: &RelayPosition) -> Option<Vec<u8>> {
    let mut reader = EventReader::open(&dir.join(place.file.as_str())).unwrap();
    while let Step::Event(event) = reader.step().unwrap() {
        if event.offset == place.offset {
            return Some(event.bytes.to_vec());
        }
    }
    None
}

/// Every event end is found, also where the replica's own events stand between it and the next event of the primary, and
/// the diff from there holds exactly the primary's events.
fn every_event_end(log: &PrimaryLog, rotate: impl Fn(usize) -> bool) {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let index = received(log, dir.path(), rotate, |_| true);
    let ends = ends(log);
    let last = ends.last().unwrap().clone();
    for (i, target) in ends.iter().enumerate() {
        let found = find(dir.path(), &index, &target.to_string());
        assert_eq!(found.code, 0, "{target}: {found:?}");
        let place: RelayPosition = found.out.lines().last().unwrap().parse().unwrap();
        match log.events.iter().find(|event| event.start >= *target) {
            Some(next) => {
                let bytes = bytes_at(dir.path(), &place).unwrap();
                assert_eq!(bytes, next.bytes, "{target} at {place}");
            }
            None => assert!(found.out.contains("nothing of the primary follows")),
        }

        let output = out.path().join(format!("diff-{i}"));
        let (code, object) = json(
            &format!("{GENERATE} {target}"),
            &[dir.path(), &index, &output],
        );
        if *target == last {
            assert_eq!(
                (code, object["nothing"]["reason"].as_str()),
                (10, Some("at_end"))
            );
            assert!(!output.exists());
        } else {
            assert_eq!(code, 0, "{object}");
            assert_eq!(data(&output), written(log, target, &last), "{target}");
        }
    }
    assert_eq!(names(out.path()).len(), 2 * (ends.len() - 1));
}

#[test]
fn every_event_end_is_found_and_served() {
    every_event_end(&primary(), |_| false);
    every_event_end(&primary(), |i| i % 3 == 1);
    every_event_end(&primary(), |_| true);
}

#[test]
fn latest_is_the_upper_bound() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = primary();
    let index = received(&log, dir.path(), |_| false, |_| true);
    let ends = ends(&log);
    let target = &ends[2];
    for (i, latest) in ends.iter().enumerate() {
        let words = format!("{target} --latest {latest}");
        let output = out.path().join(format!("diff-{i}"));
        let ran = run(
            &format!("{GENERATE} {words}"),
            &[dir.path(), &index, &output],
        );
        let found = find(dir.path(), &index, &words);
        if latest < target {
            for ran in [&ran, &found] {
                ran.refused(1, &["is not held", &latest.to_string()]);
            }
        } else if latest == target {
            ran.refused(10, &["the target has everything"]);
            assert_eq!(found.code, 0);
            let place: RelayPosition = found.out.lines().last().unwrap().parse().unwrap();
            assert!(
                bytes_at(dir.path(), &place).is_some(),
                "the end of what was received"
            );
            assert!(found.out.contains("nothing of the primary follows"));
        } else {
            assert_eq!((ran.code, found.code), (0, 0), "{ran:?} {found:?}");
            assert_eq!(data(&output), written(&log, target, latest), "{latest}");
        }
    }
    // More was received than the relay logs hold: they end where they end, and that is said.
    let output = out.path().join("short");
    let words = format!("{target} --latest mysql-bin.000008:99999");
    let ran = run(
        &format!("{GENERATE} {words}"),
        &[dir.path(), &index, &output],
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out.contains("before --latest mysql-bin.000008:99999"),
        "{ran:?}"
    );
    assert_eq!(data(&output), written(&log, target, ends.last().unwrap()));
}

#[test]
fn only_bookkeeping_is_nothing_to_do() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut log = primary();
    let target = log.position().clone();
    log.rotate();
    let index = received(&log, dir.path(), |_| false, |_| true);
    let output = out.path().join("diff");
    let line = format!("{GENERATE} {target}");
    let (code, object) = json(&line, &[dir.path(), &index, &output]);
    assert_eq!(code, 10, "{object}");
    assert_eq!(object["nothing"]["reason"], "only_bookkeeping");
    // The Rotate is an event of the primary: it is found.
    assert_eq!(find(dir.path(), &index, &target.to_string()).code, 0);
    // The same on the primary's own disk.
    log.write_to(dir.path()).unwrap();
    run(
        &format!("save-binary-logs --binlog-dir {{}} --output {{}} --start {target}"),
        &[dir.path(), &output],
    )
    .refused(10, &["events without data"]);
    assert_eq!(names(out.path()), [""; 0]);
}

#[test]
fn holes_are_named_and_nothing_is_written() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = primary();
    // The second transaction never arrived.
    let hole = [commits(&log)[0].clone(), commits(&log)[1].clone()];
    let lost = |i: usize| log.events[i].start >= hole[0] && log.events[i].end <= hole[1];
    let index = received(&log, dir.path(), |_| false, |i| !lost(i));
    let named = format!("[{}, {})", hole[0], hole[1]);
    let output = out.path().join("diff");
    let inside = log
        .events
        .iter()
        .find(|event| event.start > hole[0])
        .unwrap();
    for target in [&hole[0], &inside.start] {
        find(dir.path(), &index, &target.to_string()).refused(1, &[&named, "offset"]);
        let ran = run(
            &format!("{GENERATE} {target}"),
            &[dir.path(), &index, &output],
        );
        ran.refused(1, &[&named]);
    }
    // From before the hole: what is before it can be had.
    let first = &log.events[1].start;
    let line = format!("{GENERATE} {first}");
    run(&line, &[dir.path(), &index, &output]).refused(1, &[&named]);
    let (code, object) = json(&line, &[dir.path(), &index, &output]);
    assert_eq!((code, object["error"]["kind"].as_str()), (1, Some("hole")));
    assert_eq!(object["error"]["missing"]["from"]["offset"], hole[0].offset);
    let until = format!("{line} --latest {}", hole[0]);
    assert_eq!(run(&until, &[dir.path(), &index, &output]).code, 0);
    assert_eq!(data(&output), written(&log, first, &hole[0]));
    let within = format!("{line} --latest {}", inside.start);
    run(&within, &[dir.path(), &index, &out.path().join("other")]).refused(1, &[&named]);
    assert_eq!(names(out.path()), ["diff", "diff.manifest.json"]);
}

/// Where nothing is held behind the target but a Rotate of the source, which says that more was received, the target has
/// not everything.
#[test]
fn what_was_received_and_is_gone_is_a_hole_and_not_the_end() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = primary();
    let leads_on = |event: &&WrittenEvent| event.type_code == EventType::ROTATE;
    let held = log.events.iter().find(leads_on).unwrap().end.clone();
    let next = BinlogPosition::new(held.file.next(), 4);
    let mut behind = commits(&log).into_iter();
    let reached = behind.find(|end| *end > next).unwrap();
    let mut writer = RelayWriter::new("relay-bin.000001".parse().unwrap(), 3, Crc32);
    writer.connect(&log, &log.events[0].start);
    for event in log.events.iter().filter(|event| event.end <= held) {
        writer.receive(&log, event);
    }
    writer.connect(&log, &reached);
    let files = writer.write_to(dir.path()).unwrap();
    let index = dir.path().join("relay-bin.index");
    let lines: Vec<_> = files
        .iter()
        .map(|(name, _)| format!("./{name}\n"))
        .collect();
    std::fs::write(&index, lines.concat()).unwrap();
    let output = out.path().join("diff");
    let ran = run(
        &format!("{GENERATE} {held}"),
        &[dir.path(), &index, &output],
    );
    ran.refused(1, &[&format!("[{next}, {reached})")]);
    assert!(names(out.path()).is_empty());
}

#[test]
fn refusals_name_what_is_wrong() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = primary();
    let index = received(&log, dir.path(), |i| i == 4, |_| true);
    let (start, end) = (&log.events[2].start, &log.events[2].end);
    let between = BinlogPosition::new(start.file.clone(), start.offset + 1);
    let neighbours = [start.to_string(), end.to_string()];
    find(dir.path(), &index, &between.to_string())
        .refused(1, &["no event boundary", &neighbours[0], &neighbours[1]]);
    find(dir.path(), &index, "mysql-bin.000008:99999").refused(1, &["is not held: held is ["]);
    find(dir.path(), &index, "other.000008:4").refused(1, &["--target", "of another log"]);
    find(
        dir.path(),
        &index,
        &format!("{start} --latest other.000008:4"),
    )
    .refused(1, &["--latest", "of another log"]);
    find(dir.path(), &index, "x").refused(2, &["FILE:OFFSET"]);

    // The index is what counts: what it names must be there, and nothing else is read.
    std::fs::write(dir.path().join("mha-kept-relay-bin.000001"), "not a log").unwrap();
    assert_eq!(find(dir.path(), &index, &start.to_string()).code, 0);
    assert_eq!(
        find(dir.path(), Path::new("relay-bin.index"), &start.to_string()).code,
        0,
        "a bare name is looked for beside the relay logs"
    );
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::write(&index, format!("{text}./relay-bin.000099\n")).unwrap();
    find(dir.path(), &index, &start.to_string()).refused(
        1,
        &["relay-bin.000099 is missing", "relay-bin.index names it"],
    );
    std::fs::write(&index, "./relay-bin\n").unwrap();
    find(dir.path(), &index, &start.to_string()).refused(1, &["relay-bin.index line 1"]);
    std::fs::write(&index, "").unwrap();
    find(dir.path(), &index, &start.to_string()).refused(1, &["names no relay log"]);
    find(dir.path(), Path::new("/no/index"), &start.to_string()).refused(1, &["/no/index"]);
    assert_eq!(names(out.path()), [""; 0]);
}

#[test]
fn damage_ends_with_15_wherever_it_hides_events() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = primary();
    let index = received(&log, dir.path(), |i| i == 6, |_| true);
    let mut files: Vec<PathBuf> = names(dir.path())
        .into_iter()
        .filter(|name| !name.ends_with("index"))
        .map(|name| dir.path().join(name))
        .collect();
    files.retain(|path| data(path).len() > 2);
    let first = log.events[1].start.clone();
    for path in [files.first().unwrap(), files.last().unwrap()] {
        let whole = std::fs::read(path).unwrap();
        let mut reader = EventReader::open(path).unwrap();
        let mut at = Vec::new();
        while let Step::Event(event) = reader.step().unwrap() {
            at.push((event.offset, event.end(), event.type_code()));
        }
        let xid = at.iter().find(|event| event.2 == EventType::XID).unwrap();
        flip(path, usize::try_from(xid.1).unwrap() - 6);
        let output = out.path().join("diff");
        let ran = run(
            &format!("{GENERATE} {first}"),
            &[dir.path(), &index, &output],
        );
        let offset = format!("offset {}", xid.0);
        ran.refused(15, &[path.to_str().unwrap(), &offset, "expected", "found"]);
        std::fs::write(path, whole).unwrap();
    }
    assert_eq!(names(out.path()), [""; 0]);
}

#[test]
fn the_places_that_mha_found() {
    let dir = golden("mha-5.6-small/input/h3");
    let index = Path::new("relay-bin.index");
    let latest = "--latest mysql-bin.000001:1262";
    for (target, place) in [
        (822, "relay-bin.000002:985"),
        (1262, "relay-bin.000002:1425"),
    ] {
        let found = find(&dir, index, &format!("mysql-bin.000001:{target} {latest}"));
        assert_eq!((found.code, found.out.lines().last()), (0, Some(place)));
    }
    let out = tempfile::tempdir().unwrap();
    let output = out.path().join("diff");
    let line = format!("{GENERATE} mysql-bin.000001:822 {latest}");
    assert_eq!(run(&line, &[&dir, index, &output]).code, 0);
    let theirs = golden("mha-5.6-small/output/relay_from_read_to_latest.binlog");
    assert_eq!(data(&output), data(&theirs));
    // Differs from MHA, which fails here: a target that has everything is no error.
    let line = format!("{GENERATE} mysql-bin.000001:1262 {latest}");
    run(&line, &[&dir, index, &out.path().join("none")]).refused(10, &["everything"]);
}
