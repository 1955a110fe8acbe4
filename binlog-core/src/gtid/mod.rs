//! GTIDs: MySQL's sets (with tags) and MariaDB's positions.
//!
//! The two are different things: a MySQL set says which transactions a server has, a MariaDB position says the last one
//! of each domain. They never mix.

mod mariadb;
mod set;
mod state;

pub use mariadb::{MariaDbGtid, MariaDbGtidPos};
pub use set::{Gtid, GtidSet, Tag};
pub use state::{GtidState, Relation};

/// A text is no GTID, set or position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GtidError {
    /// No UUID where one must be.
    #[error("{text:?} is no UUID")]
    BadUuid {
        /// The text.
        text: String,
    },
    /// A tag is 1 to 32 of `a-z`, `0-9` and `_`, not starting with a digit.
    #[error("{text:?} is no GTID tag")]
    BadTag {
        /// The text.
        text: String,
    },
    /// Not `n` or `n-m` with 1 <= n <= m < 2^63-1.
    #[error("{text:?} is no interval of transaction numbers")]
    BadInterval {
        /// The text.
        text: String,
    },
    /// Not `domain-server-number`.
    #[error("{text:?} is no MariaDB GTID (domain-server-number)")]
    BadMariaDbGtid {
        /// The text.
        text: String,
    },
    /// A domain twice in one position.
    #[error("domain {domain_id} occurs twice in {text:?}")]
    DomainTwice {
        /// The domain.
        domain_id: u32,
        /// The text.
        text: String,
    },
}

/// The first characters of a text, for errors.
fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}
