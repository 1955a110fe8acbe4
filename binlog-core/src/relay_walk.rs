//! Follows the primary's stream through a replica's relay logs.
//!
//! What stands in a relay log, and what it means here:
//!
//! - **Local events**: the replica's own format description at the head of each file, its Rotate or Stop at the end
//!   (flag 0x40, or its own server id). They only interrupt the bytes.
//! - **Rotates that state a position**: made by the source (log_pos 0, flag 0x20) or by the receiver (server_id 0, log_pos
//!   = offset in the relay log). The primary's own Rotate at the end of a file is an event of the stream.
//! - **The primary's format description** takes the place [4, ..) of its file when it comes at 4. When the source resumes
//!   inside a file it has log_pos 0, when the receiver repeats it in a new relay log it has flag 0x20: no place then.
//! - **Everything else** is an event of the stream at log_pos - size, which must be the place reached.
//!
//! The stream has gaps that are normal, because the receiver does not store everything:
//!
//! - Stop, or nothing, before a source that goes on with the next file at 4: it does so only after it sent the whole file.
//!   Not accepted where a transaction is open.
//! - MySQL: Previous_gtids right behind the format description, where the receiver states the position behind it by a
//!   Rotate with server_id 0 and the length can be that of the event. Where transactions that the source skipped could
//!   hide beside it, the next event must say that it is the first transaction of the file (5.7 and newer do). Without that
//!   Rotate only an empty set is believed.
//! - MariaDB: Annotate_rows, which the source sends only on request: before a Table_map, behind the GTID, a statement, or
//!   the last row event of one. A receiver drops whole transactions or nothing, so inside of one nothing else is missing.
//! - MariaDB: Gtid_list and Binlog_checkpoint behind the format description, Binlog_checkpoint between transactions. The
//!   length must be exactly that of such events, and either no transaction could hide in it, or in each domain the
//!   numbers must go on without a gap (judged when the next GTID of the domain comes).
//!
//! A receiver may open a new relay log inside a transaction, for its size or a new connection. Where events do not say where
//! they end (see `reader::group`), they go on there where the file before it ended, if that one names the new one, or
//! where a Rotate says. What was placed so is believed only as long as the next event that says where it stands agrees: a
//! receiver stores events that the primary had compressed (`log_bin_compress`) as they were before, in another length.
//!
//! Any other gap is a hole: the provider lacks that part. So are the events that the receiver ignored (its own server id,
//! ignored ids) and what a source in auto-position mode skipped: another replica may need them.

mod kind;
mod unstored;

use std::collections::{BTreeMap, BTreeSet};

use crate::checksum::ChecksumAlgorithm;
use crate::event::mariadb::MariaDbGtidEvent;
use crate::event::{
    EventHeader, EventType, FIRST_EVENT, FLAG_ARTIFICIAL, FormatDescription, HEADER_LEN, gtid,
    previous_gtids,
};
use crate::map::{FormatRef, Join, MapBuilder};
use crate::position::{BinlogFileName, BinlogPosition, ServerId};
use crate::reader::RawEvent;

pub(crate) use self::kind::{Kind, classify};
use self::unstored::{SHORTEST_GROUP, SHORTEST_MYSQL_GROUP, ends_statement, mariadb_spare};

/// A gap that was accepted although a transaction could hide in it, as long as the numbers go on.
#[derive(Debug)]
struct Provisional {
    piece_from: BinlogPosition,
}

/// The walk's state.
#[derive(Debug)]
pub(crate) struct RelayWalk {
    owner: ServerId,
    pub(crate) builder: MapBuilder,
    /// Name of the file in which the oldest relay log starts, where nothing before says so.
    first_file: Option<BinlogFileName>,
    mariadb: bool,
    /// End of the format description of the current primary file, while nothing followed it.
    format_end: Option<u64>,
    /// Last number of each domain, and how many provisional gaps there were then.
    domains: BTreeMap<u32, (u64, usize)>,
    /// (domain, server) pairs seen: a Gtid_list has at least so many entries.
    writers: BTreeSet<(u32, u32)>,
    provisional: Vec<Provisional>,
    /// An Annotate_rows may follow the last event.
    between_statements: bool,
    /// Beside the Previous_gtids event of the last gap there would be room for transactions that the source skipped: the
    /// next event must be the first transaction of its file.
    doubtful: bool,
    /// Nothing can be missing between the place reached and the next event, whatever its header says.
    seamless: bool,
    /// MariaDB: the group that was begun last, until an event of it says where it stands.
    counted: Option<Counted>,
}

/// A group whose events were placed by counting.
#[derive(Debug, Clone, Copy)]
struct Counted {
    /// Where it starts, in the primary's file and in the relay log.
    start: u64,
    physical: u64,
    /// An event of it did not say where it ends.
    any: bool,
}

impl RelayWalk {
    pub(crate) fn new(owner: ServerId, first_file: Option<BinlogFileName>) -> Self {
        Self {
            owner,
            builder: MapBuilder::new(),
            first_file,
            mariadb: false,
            format_end: None,
            domains: BTreeMap::new(),
            writers: BTreeSet::new(),
            provisional: Vec::new(),
            between_statements: false,
            doubtful: false,
            seamless: false,
            counted: None,
        }
    }

    /// Another relay log begins. `goes_on`: the one before it ended with the replica's Rotate to this one.
    pub(crate) fn begin_file(&mut self, goes_on: bool) {
        self.seamless = goes_on;
    }

    /// Where the next event starts, if it goes on with an open MariaDB group: its header may not say so.
    pub(crate) fn inside_group_at(&self) -> Option<u64> {
        let at = self.builder.at()?;
        let inside = self.seamless && self.mariadb && self.builder.tracker().open_since().is_some();
        inside.then_some(at.offset)
    }

    /// A gap that could hide transactions is a hole, unless what follows says that it is the first one of its file.
    pub(crate) fn settle(&mut self, next: Option<&RawEvent<'_>>) {
        let first = next.and_then(|event| match event.type_code() {
            EventType::GTID | EventType::ANONYMOUS_GTID => gtid::sequence_number(event.body()),
            EventType::GTID_TAGGED => gtid::sequence_number_tagged(event.body()),
            _ => None,
        });
        if std::mem::take(&mut self.doubtful)
            && first != Some(1)
            && let Some(last) = self.builder.pieces_mut().last_mut()
            && last.join == Join::Unstored
        {
            last.join = Join::Broken;
        }
    }

    /// Begins with the primary's own format description at the head of a file: it takes the place [4, ..) of the primary's
    /// file where `at` says that it stands there.
    pub(crate) fn begin_with(
        &mut self,
        event: &RawEvent<'_>,
        format: FormatRef,
        at: Option<BinlogPosition>,
    ) {
        if let Some(at) = at {
            self.builder
                .go_to(at, Join::Broken, format.source, event.offset);
            self.format(event, format.source);
        } else {
            self.mariadb = FormatDescription::parse(event.bytes)
                .is_some_and(|description| description.is_mariadb());
            self.builder.set_format(format);
        }
    }

    /// Takes the next event. `checksum` is the setting under which it was read.
    pub(crate) fn feed(&mut self, event: &RawEvent<'_>, source: usize) {
        let expected = self.builder.at().map(|at| at.offset);
        match classify(event, self.owner, expected) {
            Kind::Local | Kind::Artificial => {}
            Kind::Malformed => self.builder.lose_position(),
            Kind::States {
                position,
                by_receiver,
            } => {
                if event.header.server_id != 0 {
                    self.builder.set_origin(event.header.server_id);
                }
                if self.builder.at() != Some(&position) {
                    self.settle(None);
                }
                self.stated(position, by_receiver, event, source);
            }
            Kind::Rotate { to } => {
                self.settle(None);
                self.builder.set_origin(event.header.server_id);
                // No primary writes another one: the stream would go back, or leave files out.
                let leads_on = to.offset == FIRST_EVENT
                    && !self.builder.is_misread(event.checksum)
                    && match self.builder.at() {
                        Some(at) => to.file == at.file.next(),
                        None => to.file.previous().is_none_or(|file| to.file == file.next()),
                    };
                if !leads_on {
                    self.builder.lose_position();
                    return;
                }
                if !self.is_next(event) {
                    self.place(event, source, to.file.previous());
                    self.require_behind_head();
                }
                if self.builder.at().is_some() {
                    self.builder.add(event, event.checksum, source, Some(to));
                    self.format_end = None;
                }
            }
            Kind::Format => self.format(event, source),
            Kind::Data => {
                self.settle(Some(event));
                if self.builder.is_misread(event.checksum) {
                    self.builder.lose_position();
                    return;
                }
                if !self.is_next(event) {
                    if !self.doubt(event, source) {
                        self.place(event, source, self.first_file.clone());
                    }
                    self.require_behind_head();
                }
                if self.mariadb {
                    self.count(event);
                }
                if self.builder.at().is_some() {
                    self.builder.add(event, event.checksum, source, None);
                    self.format_end = None;
                }
                self.between_statements = ends_statement(event);
                if event.type_code() == EventType::MARIADB_GTID {
                    self.number(event);
                }
            }
        }
    }

    /// A Rotate says where the stream is.
    fn stated(
        &mut self,
        position: BinlogPosition,
        by_receiver: bool,
        event: &RawEvent<'_>,
        source: usize,
    ) {
        let physical = event.end();
        self.seamless = true;
        let join = match self.builder.at() {
            None => {
                // A source that begins sends the description next: one that came while nothing was known is another file's.
                if !by_receiver {
                    self.builder.lose_position();
                }
                Join::Broken
            }
            Some(at) if *at == position => {
                // Opened by the primary's Rotate: from here on the next file is being read.
                if position.offset == FIRST_EVENT
                    && self
                        .builder
                        .last()
                        .is_some_and(|last| last.rotate_to.as_ref() == Some(&position))
                {
                    Join::NextFile
                } else {
                    return;
                }
            }
            Some(at) if at.file == position.file && position.offset > at.offset => {
                let (from, gap) = (at.offset, position.offset - at.offset);
                if self.is_unstored(from, gap, by_receiver, event.checksum) {
                    Join::Unstored
                } else {
                    Join::Broken
                }
            }
            Some(at)
                if at.file.next() == position.file
                    && position.offset == FIRST_EVENT
                    // A file of which nothing was received has not ended, it is missing.
                    && at.offset > FIRST_EVENT
                    && self.builder.tracker().open_since().is_none() =>
            {
                Join::NextFile
            }
            Some(_) => Join::Broken,
        };
        if position.offset == FIRST_EVENT {
            self.format_end = None;
        }
        self.builder.go_to(position, join, source, physical);
    }

    fn format(&mut self, event: &RawEvent<'_>, source: usize) {
        let Some(description) = FormatDescription::parse(event.bytes) else {
            return;
        };
        if self.builder.is_misread(description.checksum) {
            // The setting of a file never changes: this is another file, and nothing said which.
            self.builder.lose_position();
        }
        self.mariadb = description.is_mariadb();
        let reference = FormatRef {
            source,
            offset: event.offset,
            header: event.header,
            checksum: description.checksum,
        };
        let at_start = self.builder.at().is_some_and(|at| at.offset == FIRST_EVENT);
        let end = FIRST_EVENT + u64::from(event.header.event_size);
        let in_place = at_start
            && !event.header.has_flag(FLAG_ARTIFICIAL)
            && u64::from(event.header.log_pos) == end;
        if in_place {
            if let Some(at) = self.builder.at().cloned()
                && self
                    .builder
                    .last()
                    .is_some_and(|last| last.rotate_to.as_ref() == Some(&at))
            {
                self.builder.go_to(at, Join::NextFile, source, event.offset);
            }
            self.builder.set_format(reference);
            self.builder.add(event, description.checksum, source, None);
            self.format_end = Some(end);
        } else {
            self.builder.set_format(reference);
            if self.builder.at().is_none_or(|at| at.offset == FIRST_EVENT) {
                self.format_end = None;
            }
        }
    }

    /// Remembers whether events of the open group say where they end; the next one is about to be added.
    fn count(&mut self, event: &RawEvent<'_>) {
        if event.type_code() == EventType::MARIADB_GTID {
            self.counted = self.builder.at().map(|at| Counted {
                start: at.offset,
                physical: event.offset,
                any: false,
            });
        } else if let Some(counted) = &mut self.counted {
            match EventHeader::parse(event.bytes) {
                Some(header) if header.log_pos == 0 => counted.any = true,
                _ => self.counted = None,
            }
        }
    }

    /// An event does not stand where the ones before it lead to: those of them that were placed by counting are elsewhere. True
    /// if there were any; then the event is placed by the start of its group.
    #[allow(clippy::cast_possible_truncation)]
    fn doubt(&mut self, event: &RawEvent<'_>, source: usize) -> bool {
        let counted = self.counted.take().filter(|counted| counted.any);
        let (Some(counted), Some(at)) = (counted, self.builder.at().cloned()) else {
            return false;
        };
        self.builder.forget_since(counted.start, counted.physical);
        let start = event.header.log_pos.wrapping_sub(event.header.event_size);
        let past = start.wrapping_sub(counted.start as u32);
        if past > u32::MAX / 2 {
            self.builder.lose_position();
        } else {
            let position = BinlogPosition::new(at.file, counted.start + u64::from(past));
            self.builder.found_at(position, source, event.offset);
        }
        true
    }

    /// The event starts at the place reached.
    #[allow(clippy::cast_possible_truncation)]
    fn is_next(&self, event: &RawEvent<'_>) -> bool {
        self.builder.at().is_some_and(|at| {
            at.offset != FIRST_EVENT
                && (at.offset as u32).wrapping_add(event.header.event_size) == event.header.log_pos
        })
    }

    /// Makes the place reached the start of this event, by a gap if need be.
    #[allow(clippy::cast_possible_truncation)]
    fn place(&mut self, event: &RawEvent<'_>, source: usize, file: Option<BinlogFileName>) {
        let start = event.header.log_pos.wrapping_sub(event.header.event_size);
        let Some(at) = self.builder.at().cloned() else {
            // Nothing said where the stream is: the oldest relay log, in the middle of a primary's file.
            let nothing_yet = self.builder.last().is_none();
            if let Some(file) = file.filter(|_| nothing_yet && u64::from(start) >= FIRST_EVENT) {
                self.builder.found_at(
                    BinlogPosition::new(file, u64::from(start)),
                    source,
                    event.offset,
                );
            }
            return;
        };
        let gap = start.wrapping_sub(at.offset as u32);
        if gap == 0 {
            return;
        }
        if gap > u32::MAX / 2 {
            // Further back without a word from anyone: nothing is known any more until a Rotate states a position.
            self.builder.lose_position();
            return;
        }
        let gap = u64::from(gap);
        let position = BinlogPosition::new(at.file, at.offset + gap);
        if self.mariadb
            && event.type_code() == EventType::TABLE_MAP
            && self.between_statements
            && !self.builder.tracker().is_outside()
        {
            self.builder.skip_to(position.offset);
        } else if self.is_unstored(at.offset, gap, false, event.checksum) {
            self.builder
                .go_to(position, Join::Unstored, source, event.offset);
        } else {
            self.builder.found_at(position, source, event.offset);
        }
    }

    /// Every file of a primary starts with its format description: where another event claims that place, nothing is
    /// known of the stream.
    fn require_behind_head(&mut self) {
        if self.builder.at().is_some_and(|at| at.offset == FIRST_EVENT) {
            self.builder.lose_position();
        }
    }

    /// The file ends in a damaged event: what follows it in the stream is unknown until something states it.
    pub(crate) fn damaged(&mut self) {
        self.builder.lose_position();
    }

    /// Only events that a receiver does not store can be in `[from, from + gap)`.
    fn is_unstored(
        &mut self,
        from: u64,
        gap: u64,
        by_receiver: bool,
        checksum: ChecksumAlgorithm,
    ) -> bool {
        if !self.builder.tracker().is_outside() {
            return false;
        }
        let head = self.format_end == Some(from);
        if !self.mariadb {
            let overhead = u64::from(HEADER_LEN + checksum.len());
            let Some(body) = gap.checked_sub(overhead).filter(|_| head) else {
                return false;
            };
            if !by_receiver {
                // Too short for anything else that a file can begin with.
                return body == previous_gtids::SHORTEST;
            }
            // A source in auto-position mode also skips what the replica has, and the same Rotate restates that.
            self.doubtful = body >= previous_gtids::SHORTEST + SHORTEST_MYSQL_GROUP;
            return previous_gtids::plausible_length(body);
        }
        let Some(name_len) = self.builder.at().map(|at| at.file.as_str().len() as u64) else {
            return false;
        };
        let Some(spare) = mariadb_spare(
            gap,
            head,
            name_len,
            u64::from(checksum.len()),
            self.writers.len() as u64,
        ) else {
            return false;
        };
        if spare >= SHORTEST_GROUP {
            if self.domains.is_empty() {
                return false;
            }
            let Some(at) = self.builder.at() else {
                return false;
            };
            self.provisional.push(Provisional {
                piece_from: BinlogPosition::new(at.file.clone(), from + gap),
            });
        }
        true
    }

    /// A MariaDB GTID: numbers that do not go on break the provisional gaps since the last one of the domain.
    fn number(&mut self, event: &RawEvent<'_>) {
        let Some(parsed) = MariaDbGtidEvent::parse(event.body(), event.header.server_id) else {
            return;
        };
        let gtid = parsed.gtid;
        self.writers.insert((gtid.domain_id, gtid.server_id));
        let gaps = self.provisional.len();
        let before = self.domains.insert(gtid.domain_id, (gtid.seq_no, gaps));
        let (goes_on, since) = match before {
            Some((seq_no, since)) => (seq_no.checked_add(1) == Some(gtid.seq_no), since),
            // A domain that starts behind a gap may have started inside it.
            None => (gtid.seq_no == 1 || gaps == 0, 0),
        };
        if goes_on {
            return;
        }
        for provisional in self.provisional.iter().skip(since) {
            for piece in self.builder.pieces_mut() {
                if piece.join == Join::Unstored && piece.start() == provisional.piece_from {
                    piece.join = Join::Broken;
                }
            }
        }
    }
}
