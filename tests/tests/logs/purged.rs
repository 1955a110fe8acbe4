//! Relay logs removed by hand, the index adjusted: of every set of several relay logs, without its older half, with the
//! newest alone, and with a large one missing in the middle.
//!
//! MHA 0.58 derives the primary's file from the newer relay log where a head has no Rotate (6.4, step 2), and fails when
//! the number before is gone (6.2); a missing one in the middle it does not expect at all.

use std::fs;
use std::path::Path;

use super::naive;
use super::set::LogSet;

/// What is left of a set.
pub(crate) fn purged(set: &LogSet, scratch: &Path) -> Vec<LogSet> {
    let count = set.relay_logs().len();
    let mut sets = Vec::new();
    if count > 1 {
        sets.push(without(set, "newest alone", scratch, |i| i + 1 < count));
    }
    if count > 3 {
        let size = |i: &usize| fs::metadata(&set.relay_logs()[*i]).unwrap().len();
        let largest = (1..count - 1).max_by_key(size).unwrap();
        sets.push(without(set, "newer half", scratch, |i| i < count / 2));
        sets.push(without(set, "one missing", scratch, |i| i == largest));
        sets.push(without(set, "two missing", scratch, |i| {
            i == 1 || i == count - 2
        }));
    }
    sets
}

fn without(set: &LogSet, name: &str, scratch: &Path, gone: impl Fn(usize) -> bool) -> LogSet {
    let name = format!("{}, {name}", set.name);
    let relay = scratch.join(name.replace(' ', "-"));
    fs::create_dir_all(&relay).unwrap();
    let mut index = String::new();
    for (i, path) in set.relay_logs().iter().enumerate() {
        if !gone(i) {
            let file = path.file_name().unwrap().to_str().unwrap();
            fs::copy(path, relay.join(file)).unwrap();
            index.push_str(&format!("./{file}\n"));
        }
    }
    fs::write(relay.join("relay-bin.index"), index).unwrap();
    assert!(naive::log_files(&relay, "relay-bin").len() < set.relay_logs().len());
    LogSet {
        name,
        primary: set.primary.clone(),
        relay,
        gone: set.all_relay_logs(),
        owner: set.owner,
        latest: set.latest,
    }
}
