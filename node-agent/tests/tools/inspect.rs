//! `inspect`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::run::{flip, golden, json, primary, received, run};

fn inspected(path: &Path) -> (i32, Value) {
    let (code, object) = json("inspect {}", &[path]);
    (code, object["result"]["files"][0].clone())
}

#[test]
fn the_golden_set_is_what_its_readme_says() {
    let set = golden("mha-5.6-small");
    // (file, size, kind, from, to, transactions), where MHA was right: positions and sizes of its README.
    for (name, size, kind, from, to, transactions) in [
        (
            "input/master/mysql-bin.000001",
            1702,
            "binary_log",
            4,
            1702,
            9,
        ),
        ("input/h2/relay-bin.000002", 985, "relay_log", 4, 822, 5),
        ("input/h3/relay-bin.000002", 1425, "relay_log", 4, 1262, 7),
        (
            "output/saved_master_binlog.binlog",
            560,
            "segment",
            1262,
            1702,
            2,
        ),
        (
            "output/relay_from_read_to_latest.binlog",
            723,
            "relay_log",
            822,
            1262,
            2,
        ),
        (
            "output/total_binlog_for_127.0.0.1_3306.total-binlog.binlog",
            1163,
            "relay_log",
            822,
            1702,
            4,
        ),
        ("output/save_all.binlog", 1702, "binary_log", 4, 1702, 9),
        (
            "output/save_nothing_left.binlog",
            120,
            "binary_log",
            4,
            120,
            0,
        ),
        (
            "output/generate_target_is_latest.binlog",
            283,
            "relay_log",
            4,
            120,
            0,
        ),
    ] {
        let (code, file) = inspected(&set.join(name));
        assert_eq!(
            (code, file["verdict"].as_str()),
            (0, Some("ok")),
            "{name}: {file}"
        );
        assert_eq!(file["size"], size, "{name}");
        assert_eq!(file["kind"], kind, "{name}");
        assert_eq!(file["transactions"]["count"], transactions, "{name}");
        let extents = file["extents"].as_array().unwrap();
        assert_eq!(extents.len(), 1, "{name}");
        assert_eq!(extents[0]["from"]["offset"], from, "{name}");
        assert_eq!(extents[0]["to"]["offset"], to, "{name}");
        assert_eq!(file["checksums_verified"], file["events"], "{name}");
        assert_eq!(file["end"]["offset"], size, "{name}");
        assert_eq!(file["formats"][0]["server_version"], "5.6.24-log");
    }
    let (_, master) = inspected(&set.join("input/master/mysql-bin.000001"));
    assert_eq!(master["end"]["kind"], "in_use");
    assert_eq!(master["primary_file_known"], true);
    assert_eq!(master["extents"][0]["from"]["file"], "mysql-bin.000001");
    let (_, saved) = inspected(&set.join("output/saved_master_binlog.binlog"));
    assert_eq!(saved["primary_file_known"], false);
}

#[test]
fn real_logs_of_every_server_are_right_to_their_ends() {
    for set in [
        "mysql-5.6-rotations",
        "mysql-5.6-gtid",
        "mariadb-10.11-rotations",
    ] {
        for folder in ["primary", "replica"] {
            let dir = golden(&format!("{set}/{folder}"));
            let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| {
                    path.extension()
                        .is_some_and(|ext| ext.to_str().unwrap().parse::<u32>().is_ok())
                })
                .collect();
            files.sort();
            assert!(files.len() > 4, "{set}");
            let places = "{} ".repeat(files.len());
            let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
            let ran = run(&format!("inspect --verify {places}"), &paths);
            assert_eq!(ran.code, 0, "{ran:?}");
            assert_eq!(ran.out.lines().count(), files.len());
            assert!(
                ran.out.lines().all(|line| line.contains(": ok: ")),
                "{}",
                ran.out
            );
            for path in &files {
                let (_, file) = inspected(path);
                let size = path.metadata().unwrap().len();
                assert_eq!(file["end"]["offset"], size, "{file}");
                if folder == "primary" {
                    assert_eq!(file["extents"].as_array().unwrap().len(), 1, "{file}");
                    assert_eq!(file["extents"][0]["from"]["offset"], 4);
                }
            }
        }
    }
    let (_, gtid) = inspected(&golden("mysql-5.6-gtid/primary/mysql-bin.000001"));
    let first = gtid["transactions"]["first"]["gtid"].as_str().unwrap();
    assert!(first.ends_with(":1"), "{first}");
    let (_, none) = inspected(&golden("mariadb-10.11-rotations/primary/mysql-bin.000009"));
    assert_eq!(none["formats"][0]["checksum"], "NONE");
    assert_eq!(none["without_checksum"], none["events"]);
}

#[test]
fn every_event_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let log = primary();
    log.write_to(dir.path()).unwrap();
    let path = dir.path().join("mysql-bin.000007");
    let of_file: Vec<_> = log
        .events
        .iter()
        .filter(|event| event.start.file.as_str() == "mysql-bin.000007")
        .collect();
    let ran = run("inspect --events {} --format json", &[&path]);
    assert_eq!(ran.code, 0);
    let mut values = serde_json::Deserializer::from_str(&ran.out).into_iter::<Value>();
    for event in &of_file {
        let line = values.next().unwrap().unwrap();
        assert_eq!(line["offset"], event.start.offset);
        assert_eq!(line["log_pos"], event.end.offset);
        assert_eq!(line["size"], event.bytes.len());
        assert_eq!(line["type"], event.type_code.to_string());
        assert_eq!(line["server_id"], 1);
    }
    let summary = values.next().unwrap().unwrap();
    assert_eq!(summary["result"]["files"][0]["events"], of_file.len());
    assert!(values.next().is_none());
    let text = run("inspect --events {}", &[&path]);
    let listed = text
        .out
        .lines()
        .filter(|line| line.contains("_EVENT  ") && line.contains("0x0"));
    assert_eq!(listed.count(), of_file.len());
}

#[test]
fn damage_is_found_at_its_offset_and_what_is_before_it_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let log = primary();
    log.write_to(dir.path()).unwrap();
    let path = dir.path().join("mysql-bin.000007");
    let whole = std::fs::read(&path).unwrap();
    let event = &log.events[7];
    flip(&path, usize::try_from(event.end.offset).unwrap() - 6);
    let (code, file) = inspected(&path);
    assert_eq!((code, file["verdict"].as_str()), (15, Some("corrupt")));
    assert_eq!(file["end"]["kind"], "corrupt");
    assert_eq!(file["end"]["offset"], event.start.offset);
    assert_eq!(file["events"], 7);
    assert_eq!(file["extents"][0]["to"]["offset"], event.start.offset);
    let ran = run("inspect --verify {}", &[&path]);
    assert_eq!(ran.code, 15);
    assert!(ran.out.contains(": corrupt: 7 events"), "{ran:?}");

    // Cut off: not damage, but not whole either.
    std::fs::write(
        &path,
        &whole[..usize::try_from(event.end.offset).unwrap() - 6],
    )
    .unwrap();
    let (code, file) = inspected(&path);
    assert_eq!((code, file["verdict"].as_str()), (0, Some("torn")));
    assert_eq!(file["end"]["offset"], event.start.offset);
    assert!(file["transactions"]["open_since"]["offset"].is_u64());

    // A file that is no log does not keep the others from being inspected; damage is the worse news.
    let text = dir.path().join("text");
    std::fs::write(&text, "no log\n").unwrap();
    std::fs::write(&path, &whole).unwrap();
    let ran = run("inspect --verify {} {}", &[&text, &path]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("text: unreadable: ") && ran.out.contains("000007: ok: "));
    flip(&path, 200);
    let (code, object) = json(
        "inspect {} {} {}",
        &[&text, &dir.path().join("none"), &path],
    );
    assert_eq!(code, 15);
    let files = object["result"]["files"].as_array().unwrap();
    assert_eq!(files[0]["error"]["kind"], "not_a_binary_log");
    assert_eq!(files[1]["error"]["kind"], "missing_file");
    run("inspect", &[]).refused(2, &["<FILE>"]);
}

#[test]
fn segments_and_holes_are_told() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = primary();
    log.write_to(dir.path()).unwrap();
    let segment = out.path().join("segment");
    let start = &log.events[4].end;
    let save = format!("save-binary-logs --binlog-dir {{}} --output {{}} --start {start}");
    assert_eq!(run(&save, &[dir.path(), &segment]).code, 0);
    let (code, file) = inspected(&segment);
    assert_eq!(code, 0, "{file}");
    assert_eq!(file["manifest"]["range"]["from"]["offset"], start.offset);
    assert_eq!(file["extents"][0]["from"]["file"], start.file.as_str());
    assert!(file["manifest"]["mismatch"].is_null());
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes.extend_from_slice(b"more");
    std::fs::write(&segment, bytes).unwrap();
    let (code, file) = inspected(&segment);
    assert_eq!((code, file["verdict"].as_str()), (15, Some("corrupt")));
    assert!(
        file["manifest"]["mismatch"]
            .as_str()
            .unwrap()
            .contains("its manifest says")
    );

    // A relay log in which a transaction is missing.
    let relay = tempfile::tempdir().unwrap();
    received(&log, relay.path(), |_| false, |i| !(5..9).contains(&i));
    let (code, file) = inspected(&relay.path().join("relay-bin.000002"));
    assert_eq!(code, 0, "{file}");
    assert_eq!(file["kind"], "relay_log");
    assert_eq!(
        file["holes"][0]["from"]["offset"],
        log.events[5].start.offset
    );
    assert_eq!(file["holes"][0]["to"]["offset"], log.events[8].end.offset);
}
