//! MySQL GTID sets, with tags: `uuid:1-5:7:tag:1-3,uuid2:1`.
//!
//! Kept normalised: intervals ascending, disjoint, not touching. Two sets are equal exactly if they hold the same
//! transactions; text compares nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{GtidError, excerpt};

/// Greatest transaction number: 2^63 - 2.
const MAX_NUMBER: u64 = i64::MAX as u64 - 1;

/// A tag (8.3), in lower case; empty for untagged GTIDs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Tag(String);

impl Tag {
    /// The text; empty for no tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, GtidError> {
        let text = text.trim();
        let ok = (1..=32).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !text.bytes().next().is_some_and(|b| b.is_ascii_digit());
        if ok {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(GtidError::BadTag {
                text: excerpt(text),
            })
        }
    }
}

/// One GTID.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gtid {
    /// UUID of the server it was made on.
    pub uuid: [u8; 16],
    /// Tag; empty for none.
    pub tag: Tag,
    /// Number, from 1.
    pub number: u64,
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid(f, &self.uuid)?;
        if !self.tag.0.is_empty() {
            write!(f, ":{}", self.tag.0)?;
        }
        write!(f, ":{}", self.number)
    }
}

/// First and last number, both included.
type Interval = (u64, u64);

/// A set of MySQL GTIDs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GtidSet {
    /// No entry is empty.
    intervals: BTreeMap<([u8; 16], Tag), Vec<Interval>>,
}

impl GtidSet {
    /// True if the set holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// Number of transactions.
    #[must_use]
    pub fn count(&self) -> u128 {
        self.intervals
            .values()
            .flatten()
            .map(|(first, last)| u128::from(last - first) + 1)
            .sum()
    }

    /// True if the set holds this GTID.
    #[must_use]
    pub fn contains(&self, gtid: &Gtid) -> bool {
        self.intervals
            .get(&(gtid.uuid, gtid.tag.clone()))
            .is_some_and(|list| {
                list.iter()
                    .any(|&(first, last)| (first..=last).contains(&gtid.number))
            })
    }

    /// True if everything in `other` is in this set.
    #[must_use]
    pub fn contains_set(&self, other: &Self) -> bool {
        other.subtract(self).is_empty()
    }

    /// What of this set was written on the server with this UUID, whatever the tag; nothing for a text that is no UUID.
    #[must_use]
    pub fn written_on(&self, uuid: &str) -> Self {
        let wanted = parse_uuid(uuid.trim()).ok();
        let intervals = self.intervals.iter();
        Self {
            intervals: intervals
                .filter(|((uuid, _), _)| Some(*uuid) == wanted)
                .map(|(key, list)| (key.clone(), list.clone()))
                .collect(),
        }
    }

    /// Adds one GTID.
    ///
    /// # Errors
    /// A number out of range.
    pub fn insert(&mut self, gtid: &Gtid) -> Result<(), GtidError> {
        self.insert_range(gtid.uuid, &gtid.tag, gtid.number, gtid.number)
    }

    /// Adds `first..=last`.
    ///
    /// # Errors
    /// Numbers out of range or the wrong way round.
    pub fn insert_range(
        &mut self,
        uuid: [u8; 16],
        tag: &Tag,
        first: u64,
        last: u64,
    ) -> Result<(), GtidError> {
        if first == 0 || first > last || last > MAX_NUMBER {
            return Err(GtidError::BadInterval {
                text: format!("{first}-{last}"),
            });
        }
        let list = self.intervals.entry((uuid, tag.clone())).or_default();
        // Append at the end is the common case: sets come sorted.
        let from = list.partition_point(|&(_, end)| end + 1 < first);
        let to = list.partition_point(|&(start, _)| start <= last + 1);
        let (first, last) = match (list.get(from), to.checked_sub(1).and_then(|i| list.get(i))) {
            (Some(&(low, _)), Some(&(_, high))) if from < to => (first.min(low), last.max(high)),
            _ => (first, last),
        };
        list.splice(from..to.max(from), [(first, last)]);
        Ok(())
    }

    /// Everything in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        for ((uuid, tag), list) in &other.intervals {
            for &(first, last) in list {
                // Bounds were checked when `other` was made.
                let _ = out.insert_range(*uuid, tag, first, last);
            }
        }
        out
    }

    /// Everything in this set that is not in `other`.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        let mut out = Self::default();
        for (key, list) in &self.intervals {
            let minus = other
                .intervals
                .get(key)
                .map(Vec::as_slice)
                .unwrap_or_default();
            let rest = subtract_lists(list, minus);
            if !rest.is_empty() {
                out.intervals.insert(key.clone(), rest);
            }
        }
        out
    }

    /// Everything in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.subtract(&self.subtract(other))
    }
}

fn subtract_lists(list: &[Interval], minus: &[Interval]) -> Vec<Interval> {
    let mut out = Vec::new();
    let mut minus = minus.iter().copied().peekable();
    for &(mut first, last) in list {
        let mut eaten = false;
        while let Some(&(low, high)) = minus.peek() {
            if high < first {
                minus.next();
            } else if low > last {
                break;
            } else {
                if low > first {
                    out.push((first, low - 1));
                }
                if high >= last {
                    eaten = true;
                    break;
                }
                first = high + 1;
            }
        }
        if !eaten {
            out.push((first, last));
        }
    }
    out
}

impl FromStr for GtidSet {
    type Err = GtidError;

    /// Reads what the server prints; white space and upper case do not matter, an empty text is the empty set.
    fn from_str(text: &str) -> Result<Self, GtidError> {
        let mut set = Self::default();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let mut fields = part.split(':').map(str::trim);
            let uuid = parse_uuid(fields.next().unwrap_or_default())?;
            let mut tag = Tag::default();
            for field in fields {
                match field.bytes().next() {
                    Some(b) if b.is_ascii_digit() => {
                        let (first, last) = parse_interval(field)?;
                        set.insert_range(uuid, &tag, first, last)?;
                    }
                    _ => tag = field.parse()?,
                }
            }
        }
        Ok(set)
    }
}

fn parse_interval(text: &str) -> Result<Interval, GtidError> {
    let bad = || GtidError::BadInterval {
        text: excerpt(text),
    };
    let number = |digits: &str| {
        let digits = digits.trim();
        if digits.bytes().all(|b| b.is_ascii_digit()) {
            digits.parse::<u64>().map_err(|_| bad())
        } else {
            Err(bad())
        }
    };
    match text.split_once('-') {
        Some((first, last)) => Ok((number(first)?, number(last)?)),
        None => number(text).map(|n| (n, n)),
    }
}

fn parse_uuid(text: &str) -> Result<[u8; 16], GtidError> {
    let bad = || GtidError::BadUuid {
        text: excerpt(text),
    };
    let shape = text.len() == 36
        && text
            .bytes()
            .enumerate()
            .all(|(i, b)| matches!(i, 8 | 13 | 18 | 23) == (b == b'-'));
    if !shape {
        return Err(bad());
    }
    let mut uuid = [0; 16];
    hex::decode_to_slice(text.replace('-', ""), &mut uuid).map_err(|_| bad())?;
    Ok(uuid)
}

fn write_uuid(f: &mut fmt::Formatter<'_>, uuid: &[u8; 16]) -> fmt::Result {
    for (i, byte) in uuid.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

impl fmt::Display for GtidSet {
    /// As the server prints it, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last_uuid = None;
        for ((uuid, tag), list) in &self.intervals {
            if last_uuid != Some(uuid) {
                if last_uuid.is_some() {
                    f.write_str(",")?;
                }
                write_uuid(f, uuid)?;
                last_uuid = Some(uuid);
            }
            if !tag.0.is_empty() {
                write!(f, ":{}", tag.0)?;
            }
            for &(first, last) in list {
                if first == last {
                    write!(f, ":{first}")?;
                } else {
                    write!(f, ":{first}-{last}")?;
                }
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for GtidSet {
    type Error = GtidError;

    fn try_from(text: String) -> Result<Self, GtidError> {
        text.parse()
    }
}

impl From<GtidSet> for String {
    fn from(set: GtidSet) -> String {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const A: &str = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";
    const B: &str = "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb";

    fn set(text: &str) -> GtidSet {
        text.parse().unwrap()
    }

    #[test]
    fn texts_are_normalised() {
        for (text, normal) in [
            (String::new(), String::new()),
            (format!("{A}:5:1-3:4"), format!("{A}:1-5")),
            (format!(" {B}:1 ,\n{A}:2-2"), format!("{A}:2,{B}:1")),
            (
                format!("{A}:1-3:TAG_1:4:9, {A}:tag_1:5"),
                format!("{A}:1-3:tag_1:4-5:9"),
            ),
            (A.to_uppercase() + ":1", format!("{A}:1")),
            (
                format!("{A}:1-9223372036854775806"),
                format!("{A}:1-9223372036854775806"),
            ),
        ] {
            assert_eq!(set(&text).to_string(), normal, "{text:?}");
            assert_eq!(set(&normal), set(&text));
        }
    }

    #[test]
    fn texts_that_are_no_sets_are_refused() {
        for text in ["x:1", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:1"] {
            assert!(text.parse::<GtidSet>().is_err(), "{text:?}");
        }
        for tail in [
            ":0",
            ":5-3",
            ":1-",
            ":-1",
            ":1-9223372036854775807",
            ":99999999999999999999",
            ":1x",
            ":ta-g:1",
            "::1",
        ] {
            assert!(format!("{A}{tail}").parse::<GtidSet>().is_err(), "{tail}");
        }
        assert!(
            format!("{A}:{}:1", "t".repeat(33))
                .parse::<GtidSet>()
                .is_err()
        );
    }

    #[test]
    fn a_tag_is_another_sequence() {
        let both = set(&format!("{A}:1-5:t:1-3"));
        assert!(both.contains_set(&set(&format!("{A}:1-5"))));
        assert!(!set(&format!("{A}:1-5")).contains_set(&both));
        assert_eq!(both.count(), 8);
        assert_eq!(
            both.subtract(&set(&format!("{A}:t:2"))).to_string(),
            format!("{A}:1-5:t:1:3")
        );
    }

    #[test]
    fn what_a_server_wrote_has_its_uuid_and_any_tag() {
        let all = set(&format!("{A}:1-5:t:1-2,{B}:7"));
        assert_eq!(all.written_on(A), set(&format!("{A}:1-5:t:1-2")));
        assert_eq!(all.written_on(&A.to_uppercase()), all.written_on(A));
        assert_eq!(all.written_on(B).to_string(), format!("{B}:7"));
        assert!(all.written_on("").is_empty());
    }

    /// Oracle: plain sets of (which, number).
    fn naive(ops: &[(bool, u64, u64)]) -> (GtidSet, BTreeSet<(bool, u64)>) {
        let mut set = GtidSet::default();
        let mut oracle = BTreeSet::new();
        for &(which, first, len) in ops {
            let uuid = if which { [1; 16] } else { [2; 16] };
            set.insert_range(uuid, &Tag::default(), first, first + len)
                .unwrap();
            oracle.extend((first..=first + len).map(|n| (which, n)));
        }
        (set, oracle)
    }

    fn ops() -> impl Strategy<Value = Vec<(bool, u64, u64)>> {
        proptest::collection::vec((any::<bool>(), 1..40_u64, 0..6_u64), 0..12)
    }

    proptest! {
        #[test]
        fn algebra_agrees_with_plain_sets(left in ops(), right in ops()) {
            let ((a, na), (b, nb)) = (naive(&left), naive(&right));
            prop_assert_eq!(a.count(), na.len() as u128);
            prop_assert_eq!(a.union(&b).count(), na.union(&nb).count() as u128);
            prop_assert_eq!(a.subtract(&b).count(), na.difference(&nb).count() as u128);
            prop_assert_eq!(a.intersection(&b).count(), na.intersection(&nb).count() as u128);
            prop_assert_eq!(a.contains_set(&b), na.is_superset(&nb));
            prop_assert_eq!(a.to_string().parse::<GtidSet>().unwrap(), a.clone());
            prop_assert_eq!(a.subtract(&b).union(&a.intersection(&b)), a);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9a-f:,_t -]{0,80}") {
            if let Ok(set) = text.parse::<GtidSet>() {
                prop_assert_eq!(set.to_string().parse::<GtidSet>().unwrap(), set);
            }
        }
    }
}
