//! Where transactions begin and end in a stream of events: the only places at which a segment may end.
//!
//! A transaction ends with an XID, a COMMIT or ROLLBACK, an XA PREPARE (one phase or two), a compressed payload, or,
//! outside of BEGIN, with the statement itself (DDL, autocommit of tables without transactions). It begins with its GTID
//! where there is one, else with BEGIN, else with the first of the events that prepare a statement (INTVAR and the like).
//! MariaDB's GTID event opens a group in place of BEGIN; with the standalone flag the next statement closes it.
//!
//! Bookkeeping (format descriptions, Rotate, Stop, Previous_gtids, Gtid_list, Binlog_checkpoint) never counts.

#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::event::mariadb::{FLAG_COMPLETED_XA, MariaDbGtidEvent};
use crate::event::query::{Query, QueryKind};
use crate::event::{EventType, gtid, xid};
use crate::gtid::{Gtid, MariaDbGtid};
use crate::reader::RawEvent;

/// GTID of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionGtid {
    /// MySQL.
    MySql(Gtid),
    /// MariaDB.
    MariaDb(MariaDbGtid),
}

impl fmt::Display for TransactionGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql(gtid) => gtid.fmt(f),
            Self::MariaDb(gtid) => gtid.fmt(f),
        }
    }
}

/// How an open transaction will end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    /// With XID, COMMIT, ROLLBACK or XA PREPARE.
    Commit,
    /// As what follows says: BEGIN makes it [`Open::Commit`], any other statement ends it.
    Undecided,
    /// With the next statement.
    Statement,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// The walk began somewhere; no boundary was seen yet.
    Unknown,
    Outside,
    Inside {
        start: u64,
        open: Open,
        gtid: Option<TransactionGtid>,
    },
}

/// What is known of transactions where a segment starts; stored in its manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartState {
    /// Between two transactions.
    Between,
    /// Inside one that a commit ends.
    UntilCommit,
    /// Behind the GTID or the preparing events of one.
    Undecided,
    /// Inside one that the next statement ends.
    UntilStatement,
    /// Nothing is known.
    #[default]
    Unknown,
}

/// A transaction that just ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its GTID, if its head was seen.
    pub gtid: Option<TransactionGtid>,
    /// Its XID.
    pub xid: Option<u64>,
}

/// Follows a stream event by event. Offsets are in the primary's current file: no transaction spans files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracker {
    state: State,
}

impl Tracker {
    /// At a place known to be between transactions: the start of a file.
    #[must_use]
    pub fn outside() -> Self {
        Self {
            state: State::Outside,
        }
    }

    /// At any event.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            state: State::Unknown,
        }
    }

    /// For the manifest.
    #[must_use]
    pub fn start_state(&self) -> StartState {
        match &self.state {
            State::Unknown => StartState::Unknown,
            State::Outside => StartState::Between,
            State::Inside {
                open: Open::Commit, ..
            } => StartState::UntilCommit,
            State::Inside {
                open: Open::Undecided,
                ..
            } => StartState::Undecided,
            State::Inside {
                open: Open::Statement,
                ..
            } => StartState::UntilStatement,
        }
    }

    /// From the manifest, at `offset` in the primary's file.
    #[must_use]
    pub fn resume(state: StartState, offset: u64) -> Self {
        let inside = |open| State::Inside {
            start: offset,
            open,
            gtid: None,
        };
        let state = match state {
            StartState::Unknown => State::Unknown,
            StartState::Between => State::Outside,
            StartState::UntilCommit => inside(Open::Commit),
            StartState::Undecided => inside(Open::Undecided),
            StartState::UntilStatement => inside(Open::Statement),
        };
        Self { state }
    }

    /// Known to be between transactions.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        self.state == State::Outside
    }

    /// Start of the open transaction, if one is known to be open.
    #[must_use]
    pub fn open_since(&self) -> Option<u64> {
        match self.state {
            State::Inside { start, .. } => Some(start),
            State::Unknown | State::Outside => None,
        }
    }

    /// Takes the event that stands at `start` in the primary's file; yields the transaction that ends with it.
    pub fn feed(&mut self, event: &RawEvent<'_>, start: u64) -> Option<Ended> {
        let type_code = event.type_code();
        match type_code {
            EventType::FORMAT_DESCRIPTION | EventType::ROTATE | EventType::STOP => {
                // A file never ends inside a transaction that counts.
                self.state = State::Outside;
                None
            }
            EventType::GTID => self.open(
                start,
                Open::Undecided,
                gtid::parse(event.body()).map(TransactionGtid::MySql),
            ),
            EventType::GTID_TAGGED => self.open(
                start,
                Open::Undecided,
                gtid::parse_tagged(event.body()).map(TransactionGtid::MySql),
            ),
            EventType::ANONYMOUS_GTID => self.open(start, Open::Undecided, None),
            EventType::MARIADB_GTID => {
                let parsed = MariaDbGtidEvent::parse(event.body(), event.header.server_id);
                let by_statement =
                    parsed.is_some_and(|e| e.standalone() || e.flags & FLAG_COMPLETED_XA != 0);
                let open = if by_statement {
                    Open::Statement
                } else {
                    Open::Commit
                };
                self.open(
                    start,
                    open,
                    parsed.map(|e| TransactionGtid::MariaDb(e.gtid)),
                )
            }
            EventType::QUERY | EventType::MARIADB_QUERY_COMPRESSED => {
                // The text of a compressed statement is not readable, and none of the bounding words is ever compressed.
                let kind = match type_code {
                    EventType::QUERY => {
                        Query::parse(event.body()).map_or(QueryKind::Statement, |q| q.kind())
                    }
                    _ => QueryKind::Statement,
                };
                self.statement(kind, start)
            }
            EventType::EXECUTE_LOAD_QUERY
            | EventType::EXEC_LOAD
            | EventType::LOAD
            | EventType::INCIDENT => self.statement(QueryKind::Statement, start),
            EventType::XID => self.end(xid::parse_xid(event.body())),
            EventType::XA_PREPARE | EventType::TRANSACTION_PAYLOAD => self.end(None),
            EventType::INTVAR
            | EventType::RAND
            | EventType::USER_VAR
            | EventType::BEGIN_LOAD_QUERY
            | EventType::APPEND_BLOCK
            | EventType::CREATE_FILE
            | EventType::NEW_LOAD => {
                if self.state == State::Outside {
                    self.open(start, Open::Undecided, None);
                }
                None
            }
            _ if is_row_event(type_code) => {
                match &mut self.state {
                    State::Outside => {
                        self.open(start, Open::Commit, None);
                    }
                    State::Inside { open, .. } if *open == Open::Undecided => *open = Open::Commit,
                    State::Unknown | State::Inside { .. } => {}
                }
                None
            }
            _ => None,
        }
    }

    fn open(&mut self, start: u64, open: Open, gtid: Option<TransactionGtid>) -> Option<Ended> {
        self.state = State::Inside { start, open, gtid };
        None
    }

    fn end(&mut self, xid: Option<u64>) -> Option<Ended> {
        let gtid = match std::mem::replace(&mut self.state, State::Outside) {
            State::Inside { gtid, .. } => gtid,
            State::Unknown | State::Outside => None,
        };
        Some(Ended { gtid, xid })
    }

    fn statement(&mut self, kind: QueryKind, start: u64) -> Option<Ended> {
        match (&mut self.state, kind) {
            (
                State::Inside {
                    open: Open::Statement,
                    ..
                },
                _,
            )
            | (_, QueryKind::End) => self.end(None),
            (State::Inside { open, .. }, QueryKind::Begin | QueryKind::Opening) => {
                *open = Open::Commit;
                None
            }
            (State::Unknown | State::Outside, QueryKind::Begin | QueryKind::Opening) => {
                self.open(start, Open::Commit, None)
            }
            (
                State::Inside {
                    open: Open::Undecided,
                    ..
                }
                | State::Outside,
                QueryKind::Statement,
            ) => self.end(None),
            // Inside BEGIN, or perhaps so: the statement is a part of it.
            (
                State::Inside {
                    open: Open::Commit, ..
                }
                | State::Unknown,
                QueryKind::Statement,
            ) => None,
        }
    }
}

/// Table_map, row events and what comes with them.
#[must_use]
pub fn is_row_event(type_code: EventType) -> bool {
    matches!(type_code.0, 19..=25 | 29..=32 | 39 | 160 | 166..=171)
}

/// Events that a relay log never holds although the primary's file does, and those that only frame a file. They are no
/// data: none of them changes a row, and providers of both kinds agree on what is left when they are not counted.
#[must_use]
pub fn is_bookkeeping(type_code: EventType) -> bool {
    matches!(
        type_code,
        EventType::FORMAT_DESCRIPTION
            | EventType::ROTATE
            | EventType::STOP
            | EventType::PREVIOUS_GTIDS
            | EventType::HEARTBEAT
            | EventType::HEARTBEAT_V2
            | EventType::MARIADB_GTID_LIST
            | EventType::MARIADB_BINLOG_CHECKPOINT
            | EventType::MARIADB_START_ENCRYPTION
            | EventType::MARIADB_ANNOTATE_ROWS
    )
}
