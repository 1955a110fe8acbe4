//! MariaDB GTIDs `domain-server-number` and positions: the last GTID of each domain.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{GtidError, excerpt};

/// A MariaDB GTID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MariaDbGtid {
    /// Replication domain.
    pub domain_id: u32,
    /// Server it was made on.
    pub server_id: u32,
    /// Number in the domain.
    pub seq_no: u64,
}

impl fmt::Display for MariaDbGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain_id, self.server_id, self.seq_no)
    }
}

impl FromStr for MariaDbGtid {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, GtidError> {
        let bad = || GtidError::BadMariaDbGtid {
            text: excerpt(text),
        };
        let mut fields = text.trim().split('-');
        let mut field = || {
            let digits = fields.next().unwrap_or_default();
            if digits.bytes().all(|b| b.is_ascii_digit()) {
                digits.parse::<u64>().map_err(|_| bad())
            } else {
                Err(bad())
            }
        };
        let domain_id = u32::try_from(field()?).map_err(|_| bad())?;
        let server_id = u32::try_from(field()?).map_err(|_| bad())?;
        let seq_no = field()?;
        if fields.next().is_some() {
            return Err(bad());
        }
        Ok(Self {
            domain_id,
            server_id,
            seq_no,
        })
    }
}

impl TryFrom<String> for MariaDbGtid {
    type Error = GtidError;

    fn try_from(text: String) -> Result<Self, GtidError> {
        text.parse()
    }
}

impl From<MariaDbGtid> for String {
    fn from(gtid: MariaDbGtid) -> String {
        gtid.to_string()
    }
}

/// A MariaDB GTID position (`gtid_slave_pos`): the last GTID of each domain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MariaDbGtidPos {
    domains: BTreeMap<u32, MariaDbGtid>,
}

impl MariaDbGtidPos {
    /// The last GTID of a domain.
    #[must_use]
    pub fn get(&self, domain_id: u32) -> Option<MariaDbGtid> {
        self.domains.get(&domain_id).copied()
    }

    /// Makes `gtid` the last of its domain and returns the one before.
    pub fn update(&mut self, gtid: MariaDbGtid) -> Option<MariaDbGtid> {
        self.domains.insert(gtid.domain_id, gtid)
    }

    /// The GTIDs by domain.
    pub fn iter(&self) -> impl Iterator<Item = MariaDbGtid> + '_ {
        self.domains.values().copied()
    }

    /// True if there is no domain.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// True if everything that `other` stands for is in this one: in each of its domains this one has the same GTID or a
    /// higher number. (The same number of two servers are two transactions.)
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.iter().all(|theirs| {
            self.get(theirs.domain_id)
                .is_some_and(|ours| ours.seq_no > theirs.seq_no || ours == theirs)
        })
    }

    /// The higher number of each domain.
    #[must_use]
    pub fn furthest(&self, other: &Self) -> Self {
        let mut furthest = self.clone();
        for theirs in other.iter() {
            if !self.includes(&theirs) {
                furthest.update(theirs);
            }
        }
        furthest
    }

    /// True if some domain has the same number from two servers: two histories, whatever else they hold.
    #[must_use]
    pub fn contradicts(&self, other: &Self) -> bool {
        self.iter().any(|ours| {
            let theirs = other.get(ours.domain_id);
            theirs.is_some_and(|t| t.seq_no == ours.seq_no && t.server_id != ours.server_id)
        })
    }

    /// GTIDs of this one that `other`, which names their domain, does not include, or has from another server.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> Self {
        let mut beyond = Self::default();
        for ours in self.iter() {
            let is_beyond = other.get(ours.domain_id).is_some_and(|theirs| {
                ours.seq_no > theirs.seq_no
                    || (ours.seq_no == theirs.seq_no && ours.server_id != theirs.server_id)
            });
            if is_beyond {
                beyond.update(ours);
            }
        }
        beyond
    }

    /// True if a transaction is at or before this position by the numbers of its domain. (Numbers grow in each domain
    /// as long as it has one writer at a time.)
    #[must_use]
    pub fn includes(&self, gtid: &MariaDbGtid) -> bool {
        self.get(gtid.domain_id)
            .is_some_and(|last| gtid.seq_no <= last.seq_no)
    }
}

impl fmt::Display for MariaDbGtidPos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, gtid) in self.domains.values().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{gtid}")?;
        }
        Ok(())
    }
}

impl FromStr for MariaDbGtidPos {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, GtidError> {
        let mut position = Self::default();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let gtid: MariaDbGtid = part.parse()?;
            if position.update(gtid).is_some() {
                return Err(GtidError::DomainTwice {
                    domain_id: gtid.domain_id,
                    text: excerpt(text),
                });
            }
        }
        Ok(position)
    }
}

impl TryFrom<String> for MariaDbGtidPos {
    type Error = GtidError;

    fn try_from(text: String) -> Result<Self, GtidError> {
        text.parse()
    }
}

impl From<MariaDbGtidPos> for String {
    fn from(position: MariaDbGtidPos) -> String {
        position.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_print_and_parse() {
        let position: MariaDbGtidPos = "1-2-7, 0-1-5".parse().unwrap();
        assert_eq!(position.to_string(), "0-1-5,1-2-7");
        assert_eq!(position.get(1).unwrap().to_string(), "1-2-7");
        assert_eq!(
            "".parse::<MariaDbGtidPos>().unwrap(),
            MariaDbGtidPos::default()
        );
        assert!(position.includes(&"0-9-5".parse().unwrap()));
        assert!(!position.includes(&"0-1-6".parse().unwrap()));
        assert!(!position.includes(&"2-1-1".parse().unwrap()));
    }

    #[test]
    fn texts_that_are_no_positions_are_refused() {
        for text in [
            "0-1",
            "0-1-",
            "0-1-2-3",
            "a-1-2",
            "-1-2",
            "4294967296-1-2",
            "0-1-2,0-2-3",
            "0-+1-2",
        ] {
            assert!(text.parse::<MariaDbGtidPos>().is_err(), "{text:?}");
        }
    }
}
