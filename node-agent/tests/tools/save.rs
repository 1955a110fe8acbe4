//! `save-binary-logs`.

use std::path::Path;

use crate::run::{commits, data, ends, flip, json, names, primary, run, written};

const SAVE: &str = "save-binary-logs --binlog-dir {} --output {} --start";

#[test]
fn from_each_event_end_to_the_last_whole_transaction() {
    let (logs, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = primary();
    log.write_to(logs.path()).unwrap();
    let (ends, last) = (ends(&log), commits(&log).pop().unwrap());
    for (i, start) in ends.iter().enumerate() {
        let output = out.path().join(format!("tail-{i}"));
        let (code, object) = json(&format!("{SAVE} {start}"), &[logs.path(), &output]);
        if *start == last {
            assert_eq!(code, 10, "{object}");
            assert_eq!(object["outcome"], "nothing_to_do");
            assert_eq!(object["nothing"]["reason"], "at_end");
            assert!(!output.exists());
            continue;
        }
        assert_eq!(code, 0, "{object}");
        assert_eq!(data(&output), written(&log, start, &last), "from {start}");
        let result = &object["result"];
        assert_eq!(result["range"]["from"]["file"], start.file.as_str());
        assert_eq!(result["range"]["from"]["offset"], start.offset);
        assert_eq!(result["range"]["to"]["offset"], last.offset);
        assert_eq!(result["size"], output.metadata().unwrap().len());
        assert_eq!(result["dropped_bytes"], 0);
        assert_eq!(result["log_end"]["kind"], "in_use");
    }
    // A segment and its manifest each, and nothing temporary.
    assert_eq!(names(out.path()).len(), 2 * (ends.len() - 1));
}

#[test]
fn what_follows_the_last_whole_transaction_is_dropped_and_counted() {
    let (logs, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut log = primary();
    let whole = log.position().clone();
    log.query("BEGIN");
    log.query("insert into t values (1)");
    log.write_to(logs.path()).unwrap();
    let newest = logs.path().join(whole.file.as_str());
    let mut bytes = std::fs::read(&newest).unwrap();
    bytes.truncate(bytes.len() - 7);
    std::fs::write(&newest, &bytes).unwrap();
    let dropped = bytes.len() as u64 - whole.offset;

    let start = &commits(&log)[0];
    let output = out.path().join("tail");
    let (code, object) = json(&format!("{SAVE} {start}"), &[logs.path(), &output]);
    assert_eq!(code, 0, "{object}");
    assert_eq!(object["result"]["range"]["to"]["offset"], whole.offset);
    assert_eq!(object["result"]["dropped_bytes"], dropped);
    assert_eq!(object["result"]["log_end"]["kind"], "torn");
    assert_eq!(data(&output), written(&log, start, &whole));

    let other = out.path().join("nothing");
    let ran = run(&format!("{SAVE} {whole}"), &[logs.path(), &other]);
    ran.refused(10, &["only a part of a transaction", &whole.to_string()]);
    assert!(!other.exists());
}

#[test]
fn a_position_beyond_the_end_is_nothing_to_save() {
    let (logs, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = primary();
    log.write_to(logs.path()).unwrap();
    let output = out.path().join("tail");
    for start in ["mysql-bin.000008:99999", "mysql-bin.000009:4"] {
        let (code, object) = json(&format!("{SAVE} {start}"), &[logs.path(), &output]);
        assert_eq!(code, 10, "{object}");
        assert_eq!(object["nothing"]["reason"], "beyond_end");
    }
    assert_eq!(names(out.path()), [""; 0]);
}

#[test]
fn refusals_name_what_is_wrong_and_leave_nothing() {
    let (logs, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = primary();
    log.write_to(logs.path()).unwrap();
    let output = out.path().join("tail");
    let save = |start: &str| run(&format!("{SAVE} {start}"), &[logs.path(), &output]);

    let (before, after) = (&log.events[1].start, &log.events[1].end);
    save(&format!("mysql-bin.000007:{}", before.offset + 1)).refused(
        1,
        &["no event boundary", &before.to_string(), &after.to_string()],
    );
    save("mysql-bin.000006:4").refused(1, &["mysql-bin.000006:4 is not held"]);
    save("other-bin.000001:4").refused(1, &["other-bin"]);
    let usage = save("mysql-bin.000007");
    usage.refused(2, &["is not FILE:OFFSET"]);

    // Damage in the older file, then in the newest one: whole transactions stand behind it.
    for file in ["mysql-bin.000007", "mysql-bin.000008"] {
        let path = logs.path().join(file);
        let whole = std::fs::read(&path).unwrap();
        let event = log
            .events
            .iter()
            .filter(|event| event.start.file.as_str() == file)
            .nth(3)
            .unwrap();
        flip(&path, usize::try_from(event.end.offset).unwrap() - 6);
        let ran = save("mysql-bin.000007:4");
        ran.refused(
            15,
            &[
                file,
                &format!("offset {}", event.start.offset),
                "expected",
                "found",
            ],
        );
        let (code, object) = json(
            &format!("{SAVE} mysql-bin.000007:4"),
            &[logs.path(), &output],
        );
        assert_eq!(
            (code, object["outcome"].as_str()),
            (15, Some("corrupt_log"))
        );
        assert_eq!(object["error"]["kind"], "corrupt");
        assert_eq!(object["error"]["offset"], event.start.offset);
        std::fs::write(&path, whole).unwrap();
    }
    assert_eq!(names(out.path()), [""; 0]);

    // What is there stays as it is: the output, or a manifest of that name.
    std::fs::write(&output, "mine").unwrap();
    save("mysql-bin.000007:4").refused(1, &["tail exists", "never replaced"]);
    assert_eq!(std::fs::read(&output).unwrap(), b"mine");
    std::fs::rename(&output, out.path().join("tail.manifest.json")).unwrap();
    save("mysql-bin.000007:4").refused(1, &["tail.manifest.json exists"]);
    assert_eq!(names(out.path()), ["tail.manifest.json"]);

    let missing = out.path().join("no/such/folder/tail");
    run(
        &format!("{SAVE} mysql-bin.000007:4"),
        &[logs.path(), &missing],
    )
    .refused(1, &["no/such/folder"]);
    run(
        &format!("{SAVE} mysql-bin.000007:4"),
        &[Path::new("/no/logs"), &output],
    )
    .refused(1, &["/no/logs"]);
}

#[test]
fn a_place_where_nothing_can_be_written_is_named() {
    let (logs, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    primary().write_to(logs.path()).unwrap();
    std::fs::write(out.path().join("file"), "").unwrap();
    let inside = out.path().join("file/tail");
    run(
        &format!("{SAVE} mysql-bin.000007:4"),
        &[logs.path(), &inside],
    )
    .refused(1, &["file/tail", "Not a directory"]);
    assert_eq!(names(out.path()), ["file"]);
}
