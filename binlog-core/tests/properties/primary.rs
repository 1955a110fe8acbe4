//! Random primaries: what was written is known by construction, transactions included.

use std::ops::RangeInclusive;

use binlog_core::checksum::ChecksumAlgorithm::{Crc32, None as NoChecksum};
use binlog_core::testing::{PrimaryLog, query_body, table_map_body};
use binlog_core::{BinlogPosition, EventType};
use proptest::prelude::*;

/// How a server marks its transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// BEGIN .. XID.
    Plain,
    /// MySQL's GTID events, Previous_gtids at the head of each file.
    Gtid,
    /// As above with anonymous GTID events.
    Anonymous,
    /// GTID events that open groups, Annotate_rows, Gtid_list and Binlog_checkpoint.
    MariaDb,
}

/// What a primary does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Write {
    /// Statements of `rows` row events of `len` bytes each.
    Transaction {
        statements: usize,
        rows: usize,
        len: usize,
    },
    /// A statement that is a transaction.
    Statement { len: usize },
    /// MariaDB only: a Binlog_checkpoint.
    Checkpoint,
    /// FLUSH LOGS; checksums on or off in the next file.
    Rotate(bool),
    /// Clean restart.
    Stop,
    /// Crash and restart.
    Crash,
}

pub(crate) fn flavours() -> impl Strategy<Value = Flavour> {
    prop_oneof![
        Just(Flavour::Plain),
        Just(Flavour::Gtid),
        Just(Flavour::Anonymous),
        Just(Flavour::MariaDb),
    ]
}

pub(crate) fn writes() -> impl Strategy<Value = Vec<Write>> {
    let one = prop_oneof![
        6 => (0..3_usize, 0..3_usize, 7..90_usize).prop_map(|(statements, rows, len)| Write::Transaction { statements, rows, len }),
        3 => (0..60_usize).prop_map(|len| Write::Statement { len }),
        1 => Just(Write::Checkpoint),
        2 => any::<bool>().prop_map(Write::Rotate),
        1 => Just(Write::Stop),
        1 => Just(Write::Crash),
    ];
    proptest::collection::vec(one, 1..12)
}

/// A primary's log and its transactions.
#[derive(Debug)]
pub(crate) struct Primary {
    pub(crate) log: PrimaryLog,
    /// First and last event of each transaction.
    pub(crate) transactions: Vec<RangeInclusive<usize>>,
    pub(crate) flavour: Flavour,
    number: u64,
}

impl Primary {
    pub(crate) fn new(flavour: Flavour, checksums: bool, writes: &[Write]) -> Self {
        Self::starting_at(flavour, checksums, None, writes)
    }

    /// The first file is so long already that its first event behind the head starts at `offset`.
    pub(crate) fn starting_at(
        flavour: Flavour,
        checksums: bool,
        offset: Option<u64>,
        writes: &[Write],
    ) -> Self {
        let version = match flavour {
            Flavour::MariaDb => "10.11.6-MariaDB-log",
            _ => "5.6.24-log",
        };
        let setting = if checksums { Crc32 } else { NoChecksum };
        let file = "b.000009".parse().unwrap();
        let log = PrimaryLog::with_version(file, 1, setting, version);
        let mut primary = Self {
            log,
            transactions: Vec::new(),
            flavour,
            number: 0,
        };
        match offset {
            Some(offset) => drop(primary.log.jump_to(offset)),
            None => primary.head(),
        }
        let mut checkpoints = 0;
        for write in writes {
            let first = primary.log.events.len();
            match *write {
                Write::Transaction {
                    statements,
                    rows,
                    len,
                } => primary.transaction(statements, rows, len),
                Write::Statement { len } => primary.statement(len),
                Write::Checkpoint => {
                    // Right behind the head, or in longer rows, nobody could tell them from what must not be missing.
                    let behind_transaction = primary
                        .transactions
                        .last()
                        .is_some_and(|last| last.end() + 1 + checkpoints == first);
                    if flavour == Flavour::MariaDb && behind_transaction && checkpoints < 2 {
                        primary.checkpoint();
                        checkpoints += 1;
                    }
                    continue;
                }
                Write::Rotate(checksums) => {
                    let setting = if checksums { Crc32 } else { NoChecksum };
                    primary.log.rotate_with(setting);
                    primary.head();
                }
                Write::Stop => {
                    primary.log.stop();
                    primary.head();
                }
                Write::Crash => {
                    primary.log.crash();
                    primary.head();
                }
            }
            checkpoints = 0;
            if matches!(write, Write::Transaction { .. } | Write::Statement { .. }) {
                let last = primary.log.events.len() - 1;
                primary.transactions.push(first..=last);
            }
        }
        primary
    }

    /// What follows the format description.
    fn head(&mut self) {
        match self.flavour {
            Flavour::Plain => {}
            Flavour::Gtid | Flavour::Anonymous => {
                let mut body = u64::from(self.number > 0).to_le_bytes().to_vec();
                if self.number > 0 {
                    body.extend_from_slice(&[7; 16]);
                    for number in [1, 1, self.number + 1] {
                        body.extend_from_slice(&number.to_le_bytes());
                    }
                }
                self.log.event(EventType::PREVIOUS_GTIDS, &body);
            }
            Flavour::MariaDb => {
                let mut body = u32::from(self.number > 0).to_le_bytes().to_vec();
                if self.number > 0 {
                    body.extend_from_slice(&0_u32.to_le_bytes());
                    body.extend_from_slice(&1_u32.to_le_bytes());
                    body.extend_from_slice(&self.number.to_le_bytes());
                } else {
                    body.extend_from_slice(&[0; 2]);
                }
                self.log.event(EventType::MARIADB_GTID_LIST, &body);
                self.checkpoint();
            }
        }
    }

    fn checkpoint(&mut self) {
        let name = self.log.position().file.clone();
        let mut body = u32::try_from(name.as_str().len())
            .unwrap()
            .to_le_bytes()
            .to_vec();
        body.extend_from_slice(name.as_str().as_bytes());
        self.log.event(EventType::MARIADB_BINLOG_CHECKPOINT, &body);
    }

    fn begin(&mut self, statement: bool) {
        self.number += 1;
        match self.flavour {
            Flavour::Plain => {}
            Flavour::Gtid | Flavour::Anonymous => {
                let mut body = vec![1];
                body.extend_from_slice(&[7; 16]);
                body.extend_from_slice(&self.number.to_le_bytes());
                body.extend_from_slice(&[0; 17]);
                let type_code = match self.flavour {
                    Flavour::Gtid => EventType::GTID,
                    _ => EventType::ANONYMOUS_GTID,
                };
                self.log.event(type_code, &body);
            }
            Flavour::MariaDb => {
                self.log
                    .mariadb_gtid(0, self.number, if statement { 1 } else { 4 });
            }
        }
    }

    fn transaction(&mut self, statements: usize, rows: usize, len: usize) {
        self.begin(false);
        if self.flavour != Flavour::MariaDb {
            self.log.query("BEGIN");
        }
        // MariaDB writes no group without a statement, and its length says whether it can be hidden in a gap.
        let least = usize::from(self.flavour == Flavour::MariaDb);
        for _ in 0..statements.max(least) {
            if self.flavour == Flavour::MariaDb {
                self.log
                    .event(EventType::MARIADB_ANNOTATE_ROWS, b"insert into t values(1)");
            }
            self.log
                .event(EventType::TABLE_MAP, &table_map_body("d", "t"));
            for row in 0..=rows {
                let mut body = vec![0xa5; len];
                // STMT_END_F
                body[6] = u8::from(row == rows);
                self.log.event(EventType::WRITE_ROWS, &body);
            }
        }
        self.log.xid(self.number);
    }

    fn statement(&mut self, len: usize) {
        self.begin(true);
        if self.flavour == Flavour::Plain && len.is_multiple_of(3) {
            self.log.event(EventType::INTVAR, &[2; 9]);
        }
        let text = format!("create table t{}(i int)", "x".repeat(len));
        self.log.event(EventType::QUERY, &query_body("d", &text));
    }

    /// The place of an event's end that a replica would name: behind a Rotate that is the next file.
    pub(crate) fn reached(&self, event: usize) -> BinlogPosition {
        let event = &self.log.events[event];
        match event.type_code {
            EventType::ROTATE => BinlogPosition::new(event.end.file.next(), 4),
            _ => event.end.clone(),
        }
    }

    /// The transaction that starts with this event.
    pub(crate) fn starting(&self, event: usize) -> Option<&RangeInclusive<usize>> {
        self.transactions
            .iter()
            .find(|transaction| *transaction.start() == event)
    }
}

/// No receiver stores these.
pub(crate) fn is_unstored(type_code: EventType) -> bool {
    [
        EventType::STOP,
        EventType::PREVIOUS_GTIDS,
        EventType::MARIADB_GTID_LIST,
        EventType::MARIADB_BINLOG_CHECKPOINT,
        EventType::MARIADB_ANNOTATE_ROWS,
    ]
    .contains(&type_code)
}
