//! `join`, and the files that it takes without a manifest.

use std::path::{Path, PathBuf};

use binlog_core::checksum::ChecksumAlgorithm;
use binlog_core::testing::PrimaryLog;
use binlog_core::{BinlogPosition, Manifest, SegmentChain};

use crate::run::{commits, data, ends, flip, golden, json, names, primary, received, run, written};

/// Segments of [`primary`] from `cuts[i]` to `cuts[i + 1]`, each from the relay logs or from the disk.
fn segments(log: &PrimaryLog, cuts: &[BinlogPosition], dir: &Path) -> Vec<PathBuf> {
    let index = received(log, dir, |i| i % 4 == 0, |_| true);
    cuts.windows(2)
        .enumerate()
        .map(|(i, pair)| {
            let output = dir.join(format!("segment-{i}"));
            let line = format!(
                "generate-diff --server-id 3 --relay-dir {{}} --relay-log-index {{}} --output {{}} --target {} --latest {}",
                pair[0], pair[1]
            );
            let ran = run(&line, &[dir, &index, &output]);
            assert_eq!(ran.code, 0, "{ran:?}");
            output
        })
        .collect()
}

fn join(files: &[PathBuf], output: &Path, words: &str) -> crate::run::Ran {
    let places = "{} ".repeat(files.len());
    let mut paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    paths.push(output);
    run(&format!("join {places} --output {{}} {words}"), &paths)
}

#[test]
fn cut_anywhere_and_joined_is_the_whole() {
    let log = primary();
    let ends = ends(&log);
    let (first, last) = (log.events[1].start.clone(), ends.last().unwrap().clone());
    for middle in [1, 3, 4, 11, 12, 13] {
        let dir = tempfile::tempdir().unwrap();
        let cuts = [first.clone(), ends[middle].clone(), last.clone()];
        let parts = segments(&log, &cuts, dir.path());
        let whole = dir.path().join("whole");
        let ran = join(&parts, &whole, "");
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(data(&whole), written(&log, &first, &last));
        let manifest = Manifest::load(&whole).unwrap();
        assert_eq!((&manifest.range.from, &manifest.range.to), (&first, &last));
        assert_eq!(manifest.transactions, commits(&log).len() as u64);
        assert_eq!(manifest.whole_end.as_ref(), Some(&last));
        let parts_original = Manifest::load(&parts[0])
            .unwrap()
            .original_format_description;
        assert_eq!(manifest.original_format_description, parts_original);
        assert!(SegmentChain::open(std::slice::from_ref(&whole)).is_ok());

        // The same where no manifest tells: by what the events say. The name of the file is in no event of the first one.
        for part in &parts {
            std::fs::remove_file(Manifest::path_for(part)).unwrap();
        }
        let again = dir.path().join("again");
        let named = format!("--first-file {}", first.file);
        let ran = join(&parts, &again, &named);
        assert_eq!(ran.code, 0, "{middle}: {ran:?}");
        assert_eq!(
            std::fs::read(&again).unwrap(),
            std::fs::read(&whole).unwrap()
        );
    }
}

#[test]
fn parts_that_do_not_meet_are_refused_with_both_ends() {
    let (log, dir) = (primary(), tempfile::tempdir().unwrap());
    let ends = ends(&log);
    let cuts = [
        ends[0].clone(),
        ends[2].clone(),
        ends[5].clone(),
        ends[9].clone(),
    ];
    let parts = segments(&log, &cuts, dir.path());
    let before = names(dir.path());
    let out = dir.path().join("out");
    let refused = |files: &[usize], words: &[&str]| {
        let files: Vec<PathBuf> = files.iter().map(|&i| parts[i].clone()).collect();
        join(&files, &out, "").refused(1, words);
    };
    // A gap, the wrong order, an overlap.
    refused(
        &[0, 2],
        &["segment-2", &cuts[1].to_string(), &cuts[2].to_string()],
    );
    refused(
        &[1, 0],
        &["segment-0", &cuts[0].to_string(), &cuts[2].to_string()],
    );
    refused(
        &[0, 1, 1],
        &["segment-1", &cuts[1].to_string(), &cuts[2].to_string()],
    );
    // Nothing tells the primary's file, or something else than what was said.
    std::fs::remove_file(Manifest::path_for(&parts[0])).unwrap();
    refused(&[0], &["segment-0", "must be named"]);
    // Damage.
    flip(&parts[2], 250);
    let ran = join(&parts[2..], &out, "");
    ran.refused(15, &["segment-2", "sha256", "its manifest says"]);
    std::fs::remove_file(Manifest::path_for(&parts[2])).unwrap();
    let ran = join(&parts[2..], &out, "--first-file mysql-bin.000007");
    ran.refused(15, &["segment-2 is corrupt at offset"]);
    join(&[dir.path().join("none")], &out, "").refused(1, &["none is missing"]);
    std::fs::write(dir.path().join("text"), "no log\n").unwrap();
    join(&[dir.path().join("text")], &out, "").refused(1, &["text is no binary log"]);
    run("join --output {}", &[&out]).refused(2, &["<FILE>"]);
    let after: Vec<String> = names(dir.path());
    assert!(
        after
            .iter()
            .all(|name| before.contains(name) || name == "text"),
        "{after:?}"
    );
    std::fs::write(&out, "mine").unwrap();
    join(&parts[1..2], &out, "").refused(1, &["out exists", "never replaced"]);
}

#[test]
fn whole_binary_logs_join_by_their_own_names() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = primary();
    // A clean stop, and a torn end.
    log.stop().transaction(7, 1, 10);
    let whole = log.position().clone();
    log.query("BEGIN");
    log.write_to(dir.path()).unwrap();
    let files: Vec<PathBuf> = log
        .files()
        .iter()
        .map(|f| dir.path().join(f.as_str()))
        .collect();
    let newest = files.last().unwrap();
    let mut bytes = std::fs::read(newest).unwrap();
    bytes.truncate(bytes.len() - 5);
    std::fs::write(newest, bytes).unwrap();
    let out = dir.path().join("all");
    let ran = join(&files, &out, "");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(data(&out), written(&log, &log.events[0].start, &whole));
    let manifest = Manifest::load(&out).unwrap();
    assert_eq!(manifest.range.from.to_string(), "mysql-bin.000007:4");
    assert_eq!(manifest.range.to, whole);
    assert!(manifest.dropped_bytes > 0);
    // A crash says nothing of what came after the last event that is there.
    let mut log = primary();
    log.crash().transaction(7, 1, 10);
    let other = tempfile::tempdir().unwrap();
    log.write_to(other.path()).unwrap();
    let files: Vec<PathBuf> = log
        .files()
        .iter()
        .map(|f| other.path().join(f.as_str()))
        .collect();
    join(&files, &dir.path().join("crashed"), "").refused(1, &["mysql-bin.000009:4"]);
    // A copy under another name is what its Rotate says; a contradiction is refused.
    let copy = other.path().join("copy");
    std::fs::copy(&files[0], &copy).unwrap();
    let named = dir.path().join("named");
    assert_eq!(join(std::slice::from_ref(&copy), &named, "").code, 0);
    let manifest = Manifest::load(&named).unwrap();
    assert_eq!(manifest.range.from.to_string(), "mysql-bin.000007:4");
    join(
        &[copy],
        &dir.path().join("wrong"),
        "--first-file mysql-bin.000003",
    )
    .refused(
        1,
        &["begins in the primary's mysql-bin.000007, not in mysql-bin.000003"],
    );
}

#[test]
fn only_bookkeeping_joins_to_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = PrimaryLog::new("b.000001".parse().unwrap(), 1, ChecksumAlgorithm::Crc32);
    log.write_to(dir.path()).unwrap();
    let out = dir.path().join("out");
    join(&[dir.path().join("b.000001")], &out, "").refused(10, &["events without data"]);
    assert!(!out.exists());
}

#[test]
fn relay_logs_of_real_servers_join_to_what_the_primary_wrote() {
    // Up to the first hole, which a receiver that was stopped or killed leaves or not.
    for (set, files) in [
        ("mysql-5.6-rotations", 1..=4),
        ("mysql-5.6-gtid", 1..=4),
        ("mariadb-10.11-rotations", 1..=4),
    ] {
        let files: Vec<PathBuf> = files
            .map(|n| golden(&format!("{set}/replica/relay-bin.{n:06}")))
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let ran = join(&files, &out, "");
        assert_eq!(ran.code, 0, "{set}: {ran:?}");
        let range = Manifest::load(&out).unwrap().range;
        let saved = dir.path().join("saved");
        let line = format!(
            "save-binary-logs --binlog-dir {{}} --output {{}} --start {}",
            range.from
        );
        let (code, _) = json(&line, &[&golden(&format!("{set}/primary")), &saved]);
        assert_eq!(code, 0);
        let (ours, theirs) = (data(&out), data(&saved));
        assert!(ours.len() > 10, "{set}: {} events", ours.len());
        assert_eq!(ours, theirs[..ours.len()], "{set}");
    }
}

#[test]
fn what_mha_saved_joins_to_what_mha_joined() {
    let output = golden("mha-5.6-small/output");
    let [diff, tail, total] = [
        "relay_from_read_to_latest.binlog",
        "saved_master_binlog.binlog",
        "total_binlog_for_127.0.0.1_3306.total-binlog.binlog",
    ]
    .map(|name| output.join(name));
    let dir = tempfile::tempdir().unwrap();
    let (joined, again) = (dir.path().join("joined"), dir.path().join("again"));
    let ran = join(&[diff.clone(), tail.clone()], &joined, "");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(data(&joined), data(&total));
    let range = Manifest::load(&joined).unwrap().range;
    assert_eq!(
        range.to_string(),
        "[mysql-bin.000001:822, mysql-bin.000001:1702)"
    );
    assert_eq!(join(&[total], &again, "").code, 0);
    assert_eq!(
        std::fs::read(&joined).unwrap(),
        std::fs::read(&again).unwrap()
    );
    // Without the first part nothing names the primary's file; then it must be said.
    let alone = dir.path().join("alone");
    join(std::slice::from_ref(&tail), &alone, "").refused(1, &["must be named"]);
    let ran = join(
        std::slice::from_ref(&tail),
        &alone,
        "--first-file mysql-bin.000001",
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(data(&alone), data(&tail));
    // The other way round they do not meet.
    join(
        &[tail, diff],
        &dir.path().join("no"),
        "--first-file mysql-bin.000001",
    )
    .refused(1, &["mysql-bin.000001:822", "mysql-bin.000001:1702"]);
}
