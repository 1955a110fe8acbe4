//! What a server has by its GTIDs, whatever its family, and how two servers compare.
//!
//! MySQL's sets say exactly which transactions are there. A MariaDB position names the last one of each domain: within a domain
//! it stands for all before it, of a domain that it does not name nothing is known (it may be older than the server).

use std::fmt;

use super::{GtidError, GtidSet, MariaDbGtidPos};
use crate::transaction::TransactionGtid;

/// What a server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GtidState {
    /// MySQL: `gtid_executed`, or what was received beside it.
    MySql(GtidSet),
    /// MariaDB: `gtid_slave_pos`, or what was received beyond it.
    MariaDb(MariaDbGtidPos),
}

/// How one state stands to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// Both hold the same.
    Equal,
    /// The first one holds everything of the second, and more.
    Ahead,
    /// The second one holds everything of the first, and more.
    Behind,
    /// Each holds what the other lacks.
    Apart {
        /// What only the first one holds.
        here: String,
        /// What only the second one holds.
        there: String,
    },
    /// It cannot be told: a domain that only one of them names, or two families.
    Unknown,
}

impl GtidState {
    /// Reads what a server prints.
    ///
    /// # Errors
    /// The text is no set or position of that family.
    pub fn parse(text: &str, mariadb: bool) -> Result<Self, GtidError> {
        Ok(if mariadb {
            Self::MariaDb(text.parse()?)
        } else {
            Self::MySql(text.parse()?)
        })
    }

    /// True if it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::MySql(set) => set.is_empty(),
            Self::MariaDb(position) => position.is_empty(),
        }
    }

    /// Everything in either. Of two MariaDB GTIDs of a domain the higher number counts; of two families, this one.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::MySql(a), Self::MySql(b)) => Self::MySql(a.union(b)),
            (Self::MariaDb(a), Self::MariaDb(b)) => Self::MariaDb(a.furthest(b)),
            _ => self.clone(),
        }
    }

    /// True if everything of `other` is known to be in this one.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::MySql(a), Self::MySql(b)) => a.contains_set(b),
            (Self::MariaDb(a), Self::MariaDb(b)) => a.covers(b),
            _ => false,
        }
    }

    /// True if this one holds the transaction.
    #[must_use]
    pub fn includes(&self, gtid: &TransactionGtid) -> bool {
        match (self, gtid) {
            (Self::MySql(set), TransactionGtid::MySql(gtid)) => set.contains(gtid),
            (Self::MariaDb(position), TransactionGtid::MariaDb(gtid)) => position.includes(gtid),
            _ => false,
        }
    }

    /// How this one stands to `other`.
    #[must_use]
    pub fn relation(&self, other: &Self) -> Relation {
        match (self.covers(other), other.covers(self)) {
            (true, true) => return Relation::Equal,
            (true, false) => return Relation::Ahead,
            (false, true) => return Relation::Behind,
            (false, false) => {}
        }
        match (self, other) {
            (Self::MySql(a), Self::MySql(b)) => Relation::Apart {
                here: a.subtract(b).to_string(),
                there: b.subtract(a).to_string(),
            },
            (Self::MariaDb(a), Self::MariaDb(b)) => {
                let (here, there) = (a.beyond(b), b.beyond(a));
                if here.is_empty() || there.is_empty() {
                    return Relation::Unknown;
                }
                Relation::Apart {
                    here: here.to_string(),
                    there: there.to_string(),
                }
            }
            _ => Relation::Unknown,
        }
    }
}

impl fmt::Display for GtidState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql(set) => set.fmt(f),
            Self::MariaDb(position) => position.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::gtid::{Gtid, MariaDbGtid, Tag};

    const A: &str = "11111111-1111-1111-1111-111111111111";
    const B: &str = "22222222-2222-2222-2222-222222222222";

    #[test]
    fn table_of_relations() {
        let apart = |here: &str, there: &str| Relation::Apart {
            here: here.to_owned(),
            there: there.to_owned(),
        };
        let a = |rest: &str| format!("{A}:{rest}");
        let table = [
            (false, a("1-5"), a("1-5"), Relation::Equal),
            (false, a("1-5"), a("1-4"), Relation::Ahead),
            (false, String::new(), a("1"), Relation::Behind),
            (false, a("1-5:t:1"), a("1-5"), Relation::Ahead),
            (
                false,
                a("1-5:t:1"),
                a("1-5:u:1"),
                apart(&a("t:1"), &a("u:1")),
            ),
            (
                false,
                format!("{A}:1-5,{B}:1"),
                a("1-6"),
                apart(&format!("{B}:1"), &a("6")),
            ),
            (true, "0-1-5".into(), "0-1-5".into(), Relation::Equal),
            // The domain has one writer at a time: a higher number of another server comes after.
            (true, "0-2-6".into(), "0-1-5".into(), Relation::Ahead),
            // Two writers at the same time.
            (
                true,
                "0-2-5".into(),
                "0-1-5".into(),
                apart("0-2-5", "0-1-5"),
            ),
            (
                true,
                "0-1-5,1-1-9".into(),
                "0-1-5,1-1-8".into(),
                Relation::Ahead,
            ),
            (
                true,
                "0-1-6,1-1-8".into(),
                "0-1-5,1-1-9".into(),
                apart("0-1-6", "1-1-9"),
            ),
            // Domain 1 may be older than the second server.
            (true, "0-1-5,1-1-9".into(), "0-1-5".into(), Relation::Ahead),
            (
                true,
                "0-1-5,1-1-9".into(),
                "0-1-6".into(),
                Relation::Unknown,
            ),
        ];
        for (mariadb, left, right, expected) in table {
            let state = |text: &str| GtidState::parse(text, mariadb).unwrap();
            let found = state(&left).relation(&state(&right));
            assert_eq!(found, expected, "{left} and {right}");
        }
        let (set, position) = (
            GtidState::parse("", false).unwrap(),
            GtidState::parse("", true).unwrap(),
        );
        assert_eq!(set.relation(&position), Relation::Unknown);
    }

    type One = (bool, u8, u64);

    fn ones() -> impl Strategy<Value = BTreeSet<One>> {
        proptest::collection::btree_set((any::<bool>(), 0..3_u8, 1..12_u64), 0..20)
    }

    fn set_of(ones: &BTreeSet<One>) -> GtidSet {
        let mut set = GtidSet::default();
        for gtid in ones.iter().map(gtid_of) {
            set.insert(&gtid).unwrap();
        }
        set
    }

    fn gtid_of((server, tag, number): &One) -> Gtid {
        let tag = ["", "a", "b_2"][usize::from(*tag)];
        Gtid {
            uuid: [u8::from(*server); 16],
            tag: if tag.is_empty() {
                Tag::default()
            } else {
                tag.parse().unwrap()
            },
            number: *number,
        }
    }

    /// Everything that has ever been written, by domain: the servers that wrote the numbers 1, 2, ..
    fn written() -> impl Strategy<Value = BTreeMap<u32, Vec<u32>>> {
        proptest::collection::btree_map(0..3_u32, proptest::collection::vec(1..4_u32, 1..8), 1..4)
    }

    fn prefix(written: &BTreeMap<u32, Vec<u32>>, upto: &[usize]) -> MariaDbGtidPos {
        let mut position = MariaDbGtidPos::default();
        for ((domain_id, servers), upto) in written.iter().zip(upto) {
            let upto = *upto % (servers.len() + 1);
            if let Some(server_id) = upto.checked_sub(1).and_then(|last| servers.get(last)) {
                position.update(MariaDbGtid {
                    domain_id: *domain_id,
                    server_id: *server_id,
                    seq_no: upto as u64,
                });
            }
        }
        position
    }

    /// Numbers per domain, the oracle: all transactions that a position stands for.
    fn all_of(position: &MariaDbGtidPos) -> BTreeSet<(u32, u64)> {
        position
            .iter()
            .flat_map(|last| (1..=last.seq_no).map(move |seq_no| (last.domain_id, seq_no)))
            .collect()
    }

    proptest! {
        #[test]
        fn sets_with_tags_agree_with_sets_of_single_gtids(left in ones(), right in ones()) {
            let (a, b) = (set_of(&left), set_of(&right));
            prop_assert_eq!(a.union(&b), set_of(&left.union(&right).copied().collect()));
            prop_assert_eq!(a.subtract(&b), set_of(&left.difference(&right).copied().collect()));
            prop_assert_eq!(a.intersection(&b), set_of(&left.intersection(&right).copied().collect()));
            prop_assert_eq!(a.to_string().parse::<GtidSet>().unwrap(), a.clone());
            for one in left.union(&right) {
                prop_assert_eq!(a.contains(&gtid_of(one)), left.contains(one));
            }
            let expected = match (left.is_superset(&right), right.is_superset(&left)) {
                (true, true) => Relation::Equal,
                (true, false) => Relation::Ahead,
                (false, true) => Relation::Behind,
                (false, false) => Relation::Apart {
                    here: a.subtract(&b).to_string(),
                    there: b.subtract(&a).to_string(),
                },
            };
            prop_assert_eq!(GtidState::MySql(a).relation(&GtidState::MySql(b)), expected);
        }

        #[test]
        fn positions_agree_with_the_transactions_that_they_stand_for(
            written in written(),
            left in proptest::collection::vec(0..8_usize, 3),
            right in proptest::collection::vec(0..8_usize, 3),
        ) {
            let (a, b) = (prefix(&written, &left), prefix(&written, &right));
            let (all_a, all_b) = (all_of(&a), all_of(&b));
            prop_assert_eq!(a.covers(&b), all_a.is_superset(&all_b));
            let both: BTreeSet<(u32, u64)> = all_a.union(&all_b).copied().collect();
            prop_assert_eq!(all_of(&a.furthest(&b)), both);
            for gtid in b.iter() {
                prop_assert_eq!(a.includes(&gtid), all_a.contains(&(gtid.domain_id, gtid.seq_no)));
            }
            let relation = GtidState::MariaDb(a.clone()).relation(&GtidState::MariaDb(b.clone()));
            match (all_a.is_superset(&all_b), all_b.is_superset(&all_a)) {
                (true, true) => prop_assert_eq!(relation, Relation::Equal),
                (true, false) => prop_assert_eq!(relation, Relation::Ahead),
                (false, true) => prop_assert_eq!(relation, Relation::Behind),
                // Told only by domains that both name.
                (false, false) => {
                    let told = matches!(relation, Relation::Apart { .. } | Relation::Unknown);
                    prop_assert!(told, "{a} and {b}");
                }
            }
        }
    }
}
