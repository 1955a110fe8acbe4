//! The table of cases of a dead primary: each row on MySQL 5.6 and MariaDB 10.11, with three and with four servers.
//!
//! | file | rows |
//! |---|---|
//! | `lag` | the candidate is the latest; nobody lags; only the tail is missing; a replica is behind only in applying |
//! | `logs` | relay logs rotated several times between the positions; the primary's log rotated, also 999999 to 1000000; a stray `mysql-bin.000004.bak`; other relay log name and folder; `relay_log_purge=1` with the leader's logs purged |
//! | `applier` | the SQL thread stopped without an error and with one |
//! | `format` | row and statement format; checksum NONE, also changed on the way |
//! | `torn` | the primary killed in the middle of a large transaction |
//! | `half` | a replica holds half a transaction: one applier and parallel workers, InnoDB and with a MyISAM change applied |
//! | `temporary` | temporary tables open across the failover |
//! | `proof` | the evidence of a failover with one transaction removed from a segment |

mod applier;
mod format;
mod half;
pub(crate) mod lag;
mod logs;
mod proof;
mod temporary;
mod torn;
