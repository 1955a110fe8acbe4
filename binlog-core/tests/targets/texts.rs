//! Every parser of a text: what it reads is printed so that it reads the same again.

use std::fmt::{Debug, Display};
use std::path::Path;
use std::str::FromStr;

use binlog_core::{
    BinlogFileName, BinlogPosition, GtidSet, Manifest, MariaDbGtid, MariaDbGtidPos, MasterInfo,
    RelayFileName, RelayLogInfo, RelayPosition, read_index,
};

use super::Scratch;
use super::container::Input;

/// The target.
pub fn check(input: &Input<'_>, scratch: &Scratch) {
    let bytes = input.payload;
    let path = scratch.write("index", bytes);
    let listed = read_index(&path);
    assert_eq!(listed.is_ok(), std::str::from_utf8(bytes).is_ok());
    if let Ok(manifest) = Manifest::from_json(bytes, Path::new("m")) {
        let again = Manifest::from_json(&manifest.to_json(), Path::new("m")).unwrap();
        assert_eq!(again, manifest);
    }
    let text = String::from_utf8_lossy(bytes);
    if let Ok(info) = RelayLogInfo::parse(&text, Path::new("r")) {
        assert!(info.relay_log_path.ends_with(info.relay.file.as_str()));
    }
    if let Ok(info) = MasterInfo::parse(&text, Path::new("m")) {
        assert!(info.password.is_empty() || !format!("{info:?}").contains("password"));
    }
    round_trip::<RelayFileName>(&text);
    round_trip::<BinlogPosition>(&text);
    round_trip::<RelayPosition>(&text);
    round_trip::<MariaDbGtid>(&text);
    if let Some(name) = round_trip::<BinlogFileName>(&text) {
        assert!(!name.as_str().contains('/'));
        if name.sequence() < u64::MAX {
            let next = name.next();
            assert!(name < next && next.as_str().parse() == Ok(next.clone()));
            // No server numbers a file 0.
            let before = Some(name.sequence()).filter(|&number| number > 0);
            assert_eq!(next.previous().map(|previous| previous.sequence()), before);
        }
    }
    if let Some(position) = round_trip::<MariaDbGtidPos>(&text) {
        mariadb(&position);
    }
    if let Some(set) = round_trip::<GtidSet>(&text) {
        algebra(&set);
        // Two sets in one text: the laws of sets hold between them.
        let (a, b) = text.split_once(',').unwrap_or((&text, ""));
        if let (Ok(a), Ok(b)) = (a.parse::<GtidSet>(), b.parse::<GtidSet>()) {
            assert_eq!(a.union(&b), set);
            let (both, left) = (a.intersection(&b), a.subtract(&b));
            assert_eq!(both, b.intersection(&a));
            assert_eq!(left.union(&both), a);
            assert!(left.intersection(&b).is_empty());
            assert_eq!(set.count() + both.count(), a.count() + b.count());
        }
    }
}

fn round_trip<T>(text: &str) -> Option<T>
where
    T: FromStr + Display + PartialEq + Debug,
    T::Err: Debug,
{
    let value: T = text.parse().ok()?;
    let again: T = value.to_string().parse().unwrap();
    assert_eq!(again, value);
    Some(value)
}

/// Laws of one set.
pub fn algebra(set: &GtidSet) {
    assert_eq!(set.to_string().parse::<GtidSet>().unwrap(), *set);
    assert_eq!(set.count() == 0, set.is_empty());
    assert!(set.contains_set(set) && set.subtract(set).is_empty());
    assert_eq!(set.union(set), *set);
    assert_eq!(set.intersection(set), *set);
}

/// Laws of a MariaDB position.
pub fn mariadb(position: &MariaDbGtidPos) {
    assert_eq!(
        position.to_string().parse::<MariaDbGtidPos>().unwrap(),
        *position
    );
    assert_eq!(position.iter().count() == 0, position.is_empty());
    for gtid in position.iter() {
        assert!(position.includes(&gtid));
        assert_eq!(position.get(gtid.domain_id), Some(gtid));
    }
}
