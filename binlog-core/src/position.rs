//! Names of log files and places in them.
//!
//! A place in the primary's binary log and a place in a replica's relay log are different types and never mix. File
//! names are checked when they are made, so no holder of one needs to look for path separators or a missing number.
//! Files order by number, not by text: `mysql-bin.999999` comes before `mysql-bin.1000000`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest file name accepted, in bytes (the server's own limit for a path is 512).
const MAX_NAME_LEN: usize = 512;

/// A text is no log file name or no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PositionError {
    /// Empty, too long, or with a `/` or a control character.
    #[error(
        "log file name {name:?} is empty, longer than 512 bytes, or holds a slash or control character"
    )]
    BadName {
        /// The text.
        name: String,
    },
    /// Not `base.DIGITS`.
    #[error("log file name {name:?} does not end in a dot and a number")]
    NoNumber {
        /// The text.
        name: String,
    },
    /// Not `file:offset`.
    #[error("position {text:?} is not FILE:OFFSET")]
    BadPosition {
        /// The text.
        text: String,
    },
}

/// A checked name: the text and where its number starts.
#[derive(Clone)]
struct NumberedName {
    text: Arc<str>,
    base_len: usize,
    sequence: u64,
}

impl NumberedName {
    fn parse(text: &str) -> Result<Self, PositionError> {
        if text.is_empty()
            || text.len() > MAX_NAME_LEN
            || text.chars().any(|c| c == '/' || c.is_control())
        {
            return Err(PositionError::BadName {
                name: text.chars().take(80).collect(),
            });
        }
        let no_number = || PositionError::NoNumber {
            name: text.to_owned(),
        };
        let (base, digits) = text.rsplit_once('.').ok_or_else(no_number)?;
        if base.is_empty() || digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(no_number());
        }
        let sequence = digits.parse::<u64>().map_err(|_| no_number())?;
        Ok(Self {
            text: Arc::from(text),
            base_len: base.len(),
            sequence,
        })
    }

    fn base(&self) -> &str {
        self.text.get(..self.base_len).unwrap_or_default()
    }

    fn numbered(&self, sequence: u64) -> Self {
        // The server writes at least six digits.
        let text = format!("{}.{sequence:06}", self.base());
        Self {
            text: Arc::from(text),
            base_len: self.base_len,
            sequence,
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        (self.base(), self.sequence, &*self.text).cmp(&(other.base(), other.sequence, &*other.text))
    }
}

macro_rules! file_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(NumberedName);

        impl $name {
            /// The name as text, without directory.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0.text
            }

            /// What stands before the last dot.
            #[must_use]
            pub fn base(&self) -> &str {
                self.0.base()
            }

            /// The number after the last dot.
            #[must_use]
            pub fn sequence(&self) -> u64 {
                self.0.sequence
            }

            /// The name the server gives to the next file: number plus one, at least six digits.
            #[must_use]
            pub fn next(&self) -> Self {
                Self(self.0.numbered(self.0.sequence.saturating_add(1)))
            }

            /// The name of the file before; none before number 1.
            #[must_use]
            pub fn previous(&self) -> Option<Self> {
                let sequence = self.0.sequence.checked_sub(1).filter(|&n| n > 0)?;
                Some(Self(self.0.numbered(sequence)))
            }
        }

        impl FromStr for $name {
            type Err = PositionError;

            fn from_str(text: &str) -> Result<Self, PositionError> {
                NumberedName::parse(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = PositionError;

            fn try_from(text: String) -> Result<Self, PositionError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.text == other.0.text
            }
        }

        impl Eq for $name {}

        impl std::hash::Hash for $name {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                self.0.text.hash(state);
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                self.0.order(&other.0)
            }
        }
    };
}

file_name! {
    /// Name of a file of the primary's binary log, without directory: `mysql-bin.000001`. Cheap to clone.
    BinlogFileName
}

file_name! {
    /// Name of a relay log file of a replica, without directory: `relay-bin.000002`. Cheap to clone.
    RelayFileName
}

macro_rules! position {
    ($(#[$doc:meta])* $name:ident, $file:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// File, without directory.
            pub file: $file,
            /// Offset in that file in bytes, 64 bit.
            pub offset: u64,
        }

        impl $name {
            /// The place `offset` bytes into `file`.
            #[must_use]
            pub fn new(file: $file, offset: u64) -> Self {
                Self { file, offset }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}:{}", self.file, self.offset)
            }
        }

        impl FromStr for $name {
            type Err = PositionError;

            fn from_str(text: &str) -> Result<Self, PositionError> {
                let bad = || PositionError::BadPosition { text: text.chars().take(80).collect() };
                let (file, offset) = text.rsplit_once(':').ok_or_else(bad)?;
                if !offset.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(bad());
                }
                Ok(Self { file: file.parse()?, offset: offset.parse().map_err(|_| bad())? })
            }
        }
    };
}

position! {
    /// A place in the primary's event stream; written `mysql-bin.000001:452`.
    BinlogPosition, BinlogFileName
}

position! {
    /// A place in a replica's relay logs; written `relay-bin.000002:615`.
    RelayPosition, RelayFileName
}

/// A `server_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerId(pub u32);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A part of the primary's event stream: from `from` up to, not including, `to`. May span files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamRange {
    /// First byte.
    pub from: BinlogPosition,
    /// First byte after.
    pub to: BinlogPosition,
}

impl StreamRange {
    /// The range from `from` up to, not including, `to`.
    #[must_use]
    pub fn new(from: BinlogPosition, to: BinlogPosition) -> Self {
        Self { from, to }
    }

    /// True if the range holds no byte (or its ends are the wrong way round).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.from >= self.to
    }

    /// True if `position` is inside or at either end.
    #[must_use]
    pub fn touches(&self, position: &BinlogPosition) -> bool {
        self.from <= *position && *position <= self.to
    }
}

impl fmt::Display for StreamRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> BinlogFileName {
        text.parse().unwrap()
    }

    #[test]
    fn names_order_by_number_and_count_across_the_sixth_digit() {
        assert!(name("mysql-bin.999999") < name("mysql-bin.1000000"));
        assert_eq!(name("mysql-bin.999999").next(), name("mysql-bin.1000000"));
        assert_eq!(
            name("mysql-bin.1000000").previous(),
            Some(name("mysql-bin.999999"))
        );
        assert_eq!(name("mysql-bin.000001").previous(), None);
        assert_eq!(name("a.b.000009").next().as_str(), "a.b.000010");
        assert_eq!(name("a.b.000009").base(), "a.b");
    }

    #[test]
    fn names_that_are_no_log_files_are_refused() {
        for bad in [
            "",
            "mysql-bin",
            ".000001",
            "mysql-bin.",
            "mysql-bin.000004.bak",
            "d/mysql-bin.000001",
            "a.1x",
            "a.-1",
        ] {
            assert!(bad.parse::<BinlogFileName>().is_err(), "{bad:?}");
        }
        assert!(
            "a.99999999999999999999999"
                .parse::<RelayFileName>()
                .is_err()
        );
        assert!(
            format!("{}.000001", "a".repeat(600))
                .parse::<RelayFileName>()
                .is_err()
        );
    }

    #[test]
    fn positions_print_and_parse() {
        let position: BinlogPosition = "mysql-bin.000001:452".parse().unwrap();
        assert_eq!(position, BinlogPosition::new(name("mysql-bin.000001"), 452));
        assert_eq!(position.to_string(), "mysql-bin.000001:452");
        assert!("mysql-bin.000001".parse::<BinlogPosition>().is_err());
        assert!("mysql-bin.000001:+4".parse::<BinlogPosition>().is_err());
        assert!(
            "mysql-bin.000001:99999999999999999999999"
                .parse::<BinlogPosition>()
                .is_err()
        );
        assert!(
            BinlogPosition::new(name("b.000002"), 4) > BinlogPosition::new(name("b.000001"), 900)
        );
    }

    #[test]
    fn positions_travel_as_json_and_are_checked_on_arrival() {
        let range = StreamRange::new(
            "b.000001:4".parse().unwrap(),
            "b.000002:120".parse().unwrap(),
        );
        let json = serde_json::to_string(&range).unwrap();
        assert_eq!(
            json,
            r#"{"from":{"file":"b.000001","offset":4},"to":{"file":"b.000002","offset":120}}"#
        );
        assert_eq!(serde_json::from_str::<StreamRange>(&json).unwrap(), range);
        assert!(
            serde_json::from_str::<BinlogPosition>(r#"{"file":"../b.000001","offset":4}"#).is_err()
        );
        assert_eq!(range.to_string(), "[b.000001:4, b.000002:120)");
    }
}
