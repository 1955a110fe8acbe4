//! Inputs from real logs: the golden sets, file by file.

use std::path::{Path, PathBuf};

use binlog_core::event::HEADER_LEN;
use binlog_core::{BinaryLogs, BinlogPosition, CutPlan, Manifest};

use super::container::{EXTRA, Input, JSON_MARK, PARAMETERS, REPAIR, REPAIR_POSITIONS, events};
use super::{Scratch, number_of};

/// Longer files add nothing but time.
const FILE_MAX: usize = 8 << 10;

/// Where the golden sets are.
pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("tests/golden"))
        .find(|folder| folder.is_dir())
        .unwrap()
}

/// Inputs for all targets.
pub fn all(scratch: &Scratch) -> Vec<Vec<u8>> {
    let mut out = texts();
    let mut sets: Vec<PathBuf> = std::fs::read_dir(golden())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("primary").is_dir())
        .collect();
    sets.sort();
    assert!(sets.len() >= 4);
    for set in sets {
        let primary = numbered(&set.join("primary"));
        for (i, (number, file)) in primary.iter().enumerate() {
            out.push(input("walk", 0, *number, &[file]));
            out.push(input("walk", REPAIR, *number, &[file]));
            for mode in [0, REPAIR | EXTRA, REPAIR | REPAIR_POSITIONS] {
                out.push(input("binary_logs", mode, *number, &[file]));
                if let Some((_, next)) = primary.get(i + 1) {
                    out.push(input("binary_logs", mode, *number, &[file, next]));
                }
            }
            for event in events(file).iter().take(40) {
                let body = event.get(HEADER_LEN as usize..).unwrap_or_default();
                out.push(input("parsers", 0, 0, &[body]));
                let body = &body[..body.len().saturating_sub(4)];
                out.push(input("parsers", 0, 0, &[body]));
            }
        }
        out.extend(segments(&set, scratch));
        let replica = numbered(&set.join("replica"));
        for i in 0..replica.len() {
            for count in 1..=3 {
                let Some(window) = replica.get(i..i + count) else {
                    continue;
                };
                let files: Vec<&[u8]> = window.iter().map(|(_, file)| &file[..]).collect();
                for mode in [0, REPAIR | EXTRA, REPAIR | REPAIR_POSITIONS] {
                    out.push(input("relay_logs", mode, 1, &files));
                }
            }
        }
        for name in ["master.info", "relay-log.info"] {
            // New servers keep none.
            if let Ok(text) = std::fs::read(set.join("replica").join(name)) {
                out.push(input("texts", 0, 0, &[&text]));
            }
        }
    }
    // The same event bodies occur over and over.
    out.sort();
    out.dedup();
    out
}

fn texts() -> Vec<Vec<u8>> {
    [
        "mysql-bin.000001",
        "mysql-bin.000001:4",
        "./mysql-bin.000001\n./mysql-bin.000002\n",
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:8:tag:1-3,4e11fa47-71ca-11e1-9e33-c80aa9429562:1",
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9,3e11fa47-71ca-11e1-9e33-c80aa9429562:2-3:5-12",
        "0-1-100,1-1-7",
        "0-1-100",
    ]
    .map(|text| input("texts", 0, 0, &[text.as_bytes()]))
    .to_vec()
}

/// Segments as they are cut: a whole file, one from an event in the middle, two that meet.
fn segments(set: &Path, scratch: &Scratch) -> Vec<Vec<u8>> {
    scratch.clear();
    let logs = BinaryLogs::open(&set.join("primary/mysql-bin")).unwrap();
    let mut out = Vec::new();
    for file in logs.files() {
        let at = |offset| BinlogPosition::new(file.clone(), offset);
        let whole = std::fs::read(set.join("primary").join(file.as_str())).unwrap();
        let ends: Vec<u64> = events(&whole)
            .iter()
            .scan(4, |end, event| {
                *end += event.len() as u64;
                Some(*end)
            })
            .collect();
        let middle = ends[ends.len() / 2];
        let mut parts = Vec::new();
        for (from, to) in [(4, middle), (middle, ends[ends.len() - 1])] {
            let Ok(CutPlan::Cut(cut)) = logs.plan_cut(&at(from), Some(&at(to))) else {
                continue;
            };
            let path = scratch.path("seed");
            cut.write(&path, "seed", &mut |_| ()).unwrap();
            let mut text = JSON_MARK.to_vec();
            text.extend(std::fs::read(Manifest::path_for(&path)).unwrap());
            let segment = std::fs::read(&path).unwrap();
            if segment.len() <= FILE_MAX {
                parts.push((segment, text));
            }
        }
        for mode in [0, REPAIR] {
            for (segment, text) in &parts {
                out.push(input("segments", mode, 0, &[segment, text]));
                out.push(input("texts", 0, 0, &[&text[JSON_MARK.len()..]]));
            }
            if let [(a, b), (c, d)] = &parts[..] {
                out.push(input("segments", mode, 0, &[a, b, c, d]));
            }
        }
    }
    out
}

/// The logs of a folder with the numbers in their names.
fn numbered(folder: &Path) -> Vec<(u8, Vec<u8>)> {
    let mut files: Vec<(u8, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let number = path.extension()?.to_str()?.parse().ok()?;
            Some((number, std::fs::read(path).unwrap()))
        })
        .filter(|(_, file)| file.len() <= FILE_MAX)
        .collect();
    files.sort();
    files
}

fn input(target: &str, mode: u8, number: u8, files: &[&[u8]]) -> Vec<u8> {
    let payload = files.concat();
    let input = Input {
        target: number_of(target),
        mode,
        cut: 0,
        number,
        payload: &payload,
    };
    let out = input.encode();
    assert!(out.len() >= PARAMETERS);
    out
}
