//! Where the primary's events stand in a single file of unknown origin: a binary log, a relay log, a segment without its
//! manifest, or what other tools saved (a format description, then events that stand at their own positions).
//!
//! The events say it themselves: `log_pos` is the end of each in the primary's file, and the rules for gaps are those of
//! relay logs (see `relay_walk`). Only the name of the first file may have to come from outside: what the file itself
//! states is believed first, then what the caller says.

use crate::end::LogEnd;
use crate::event::{EventType, FIRST_EVENT, FLAG_ARTIFICIAL, FLAG_RELAY_LOG, FormatDescription};
use crate::map::{FormatRef, Join, Map, MapBuilder, Piece, ends_at};
use crate::position::{BinlogFileName, BinlogPosition, ServerId};
use crate::reader::{EventReader, FileEnd, RawEvent};
use crate::relay_log::Closing;
use crate::relay_walk::{Kind, RelayWalk, classify};

/// Stands for a name that nothing told; no server gives a file the number 0.
const UNKNOWN: &str = "unknown.000000";

/// What kind of file it is, told by its first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// Every event stands where the primary's file has it.
    BinaryLog,
    /// A receiver wrote it: it begins with the replica's own format description.
    RelayLog,
    /// Events of a primary behind a format description, at other places than in the primary's file.
    Segment,
}

/// Follows the events of one file.
#[derive(Debug)]
pub(crate) struct Follower {
    walk: Option<RelayWalk>,
    /// Name of the first file, as long as nothing in the file says otherwise.
    given: Option<BinlogFileName>,
    /// The file's own name, which counts where it is no relay log.
    own: Option<BinlogFileName>,
    /// The file that the stream reached before this one.
    before: Option<BinlogFileName>,
    /// What the file says.
    told: Option<BinlogFileName>,
    /// Owner of a relay log; a number that nobody has for other files.
    owner: ServerId,
    relay: bool,
    /// Every event so far ends where its header says.
    plain: bool,
    closing: Closing,
    /// Offsets of the primary's format descriptions.
    formats: Vec<u64>,
    /// The first event whose position does not go on from the one before: its offset and its start by its header.
    lost: Option<(u64, u32)>,
}

/// Where one file's events stand.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) map: Map,
    pub(crate) kind: FileKind,
    pub(crate) formats: Vec<u64>,
    pub(crate) lost: Option<(u64, u32)>,
    /// The name of the first file is known.
    pub(crate) named: bool,
    /// A binary log whose server stopped: it goes on with the next file.
    pub(crate) stopped: bool,
    /// The name under which the first file was followed, and the one that the file told later.
    pub(crate) renamed: Option<(BinlogFileName, BinlogFileName)>,
}

impl Follower {
    /// `given` names the primary's file in which the first event stands, where the file itself does not; `own` is the name
    /// of the file, which counts after that; `before` the one that the stream reached before.
    pub(crate) fn new(
        given: Option<BinlogFileName>,
        own: Option<BinlogFileName>,
        before: Option<BinlogFileName>,
    ) -> Self {
        Self {
            walk: None,
            given,
            own,
            before,
            told: None,
            owner: ServerId(u32::MAX),
            relay: false,
            plain: true,
            closing: Closing::default(),
            formats: Vec::new(),
            lost: None,
        }
    }

    fn first_file(&self) -> Option<BinlogFileName> {
        self.given.clone().or_else(|| UNKNOWN.parse().ok())
    }

    /// Takes the next event; `Some` where it cannot be what the primary wrote there.
    pub(crate) fn feed(&mut self, event: &RawEvent<'_>) -> Option<FileEnd> {
        let in_place = ends_at(&event.header, event.end());
        if self.plain && !in_place {
            // Without a checksum a changed position is not told from a gap: in a file that was one byte for byte so far it
            // is damage.
            let damaged = self.walk.is_some()
                && event.checksum == crate::checksum::ChecksumAlgorithm::None
                && !event.header.has_flag(FLAG_ARTIFICIAL)
                && self.closing.last() != Some(EventType::FORMAT_DESCRIPTION)
                && self.closing.last() != Some(EventType::ROTATE)
                && !self.relay;
            if damaged {
                return Some(FileEnd::Corrupt {
                    offset: event.offset,
                    expected: format!("log_pos {} modulo 2^32", event.end()),
                    found: event.header.log_pos.to_string(),
                });
            }
            self.plain = false;
        }
        self.closing.see(event);
        let Some(walk) = &mut self.walk else {
            self.head(event);
            return None;
        };
        let expected = walk.builder.at().map(|at| at.offset);
        let kind = classify(event, self.owner, expected);
        match &kind {
            Kind::Format => self.formats.push(event.offset),
            Kind::Rotate { to } if self.told.is_none() && walk.builder.pieces_of_one_file() => {
                self.told = to.file.previous();
            }
            Kind::States { position, .. } => {
                let stands_there = walk
                    .builder
                    .at()
                    .is_some_and(|at| at.offset == position.offset);
                if stands_there && walk.builder.pieces_of_one_file() {
                    self.told = self.told.take().or_else(|| Some(position.file.clone()));
                }
            }
            _ => {}
        }
        let start = event.header.log_pos.wrapping_sub(event.header.event_size);
        // A receiver stores no Stop; in the primary's own file it takes its place.
        let stop = !self.relay
            && event.type_code() == EventType::STOP
            && !event.header.has_flag(FLAG_ARTIFICIAL)
            && expected.is_some_and(|at| u64::from(start) == at);
        if stop {
            walk.builder.add(event, event.checksum, 0, None);
        } else {
            walk.feed(event, 0);
        }
        if kind == Kind::Data && walk.builder.at().is_none() && self.lost.is_none() {
            self.lost = Some((event.offset, start));
        }
        None
    }

    /// The first event: a replica's own format description, or the primary's.
    fn head(&mut self, event: &RawEvent<'_>) {
        let header = &event.header;
        self.relay = header.has_flag(FLAG_RELAY_LOG);
        self.owner = match (self.relay, header.server_id) {
            (true, id) => ServerId(id),
            // Any id but the primary's.
            (false, u32::MAX) => ServerId(u32::MAX - 1),
            (false, _) => ServerId(u32::MAX),
        };
        self.given = self
            .given
            .take()
            .or_else(|| self.own.take().filter(|_| !self.relay))
            .or_else(|| self.before.take());
        let first = self.first_file();
        let mut walk = RelayWalk::new(self.owner, first.clone());
        if !self.relay
            && let Some(description) = FormatDescription::parse(event.bytes)
        {
            self.formats.push(event.offset);
            let format = FormatRef {
                source: 0,
                offset: event.offset,
                header: *header,
                checksum: description.checksum,
            };
            let first = first.filter(|_| ends_at(header, event.end()));
            walk.begin_with(
                event,
                format,
                first.map(|file| BinlogPosition::new(file, FIRST_EVENT)),
            );
        }
        self.walk = Some(walk);
    }

    /// The part of the stream reached, as far as followed.
    pub(crate) fn builder(&self) -> Option<&MapBuilder> {
        self.walk.as_ref().map(|walk| &walk.builder)
    }

    /// The end of the file: `end` as the reader tells it, judged by what the file is.
    pub(crate) fn finish(self, reader: &EventReader, end: FileEnd) -> Followed {
        let end = match (&end, reader.cut_off()) {
            (FileEnd::Torn { offset, .. }, Some(header)) if self.plain && self.walk.is_some() => {
                // A crash cuts events off but does not lengthen them.
                let claimed = offset.saturating_add(u64::from(header.event_size));
                if ends_at(header, claimed) {
                    end
                } else {
                    FileEnd::Corrupt {
                        offset: *offset,
                        expected: format!(
                            "log_pos {claimed} modulo 2^32 by the length of the event"
                        ),
                        found: header.log_pos.to_string(),
                    }
                }
            }
            _ => end,
        };
        let offset = match &end {
            FileEnd::Boundary => reader.offset(),
            FileEnd::Torn { offset, .. } | FileEnd::Corrupt { offset, .. } => *offset,
        };
        let path = reader.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let log_end: LogEnd = self.closing.end(&name, offset, end);
        let stopped = !self.relay && self.closing.last() == Some(EventType::STOP);
        let given = self.first_file();
        let builder = self.walk.map_or_else(MapBuilder::new, |walk| walk.builder);
        let mut map = builder.finish(vec![path.to_owned()], log_end, offset);
        let renamed = given.zip(self.told).filter(|(given, told)| given != told);
        if let Some((given, told)) = &renamed {
            for piece in map.pieces.iter_mut().filter(|piece| piece.file == *given) {
                piece.file = told.clone();
            }
        }
        tidy(&mut map.pieces);
        let named = map
            .pieces
            .first()
            .is_some_and(|piece| piece.file.as_str() != UNKNOWN);
        let kind = match (self.relay, self.plain) {
            (true, _) => FileKind::RelayLog,
            (false, true) => FileKind::BinaryLog,
            (false, false) => FileKind::Segment,
        };
        Followed {
            map,
            kind,
            formats: self.formats,
            lost: self.lost,
            named,
            stopped,
            renamed,
        }
    }
}

/// A format description in front of events that stand elsewhere only describes them: it is no part of what is held. Nor
/// are places without events at either end; and where a name became known later, what it joins is joined.
fn tidy(pieces: &mut Vec<Piece>) {
    let heads = pieces
        .windows(2)
        .take_while(|pair| match pair {
            [head, next] => {
                (!head.has_data && head.rotate_to.is_none() && next.join == Join::Broken)
                    || head.to == head.from
            }
            _ => false,
        })
        .count();
    pieces.drain(..heads);
    while pieces.last().is_some_and(|piece| piece.to == piece.from) {
        pieces.pop();
    }
    let mut end: Option<BinlogPosition> = None;
    for piece in pieces.iter_mut() {
        if piece.join == Join::Broken && end.as_ref() == Some(&piece.start()) {
            piece.join = Join::Contiguous;
        }
        end = Some(piece.end());
    }
    if let Some(first) = pieces.first_mut() {
        first.join = Join::Broken;
    }
}
