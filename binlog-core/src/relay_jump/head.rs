//! What the head of a relay log tells: where its first event stands, here and in the primary's file.

use std::path::Path;

use crate::checksum::ChecksumAlgorithm;
use crate::error::LogError;
use crate::event::{EventHeader, EventType, FIRST_EVENT, FLAG_ARTIFICIAL, FormatDescription};
use crate::map::ends_at;
use crate::position::{BinlogPosition, ServerId};
use crate::reader::{EventReader, FileEnd, RawEvent, Step};
use crate::relay_walk::{Kind, classify};
use crate::transaction::is_bookkeeping;

use super::low;

/// Events that stand in a head at most.
const HEAD_MAX: usize = 16;
/// In so many bytes there is no room for a transaction beside an empty Previous_gtids event.
const PREVIOUS_GTIDS_SURE: u64 = 110;
/// What the head of a relay log says.
#[derive(Debug)]
pub(super) struct Head {
    /// Index of the file.
    pub(super) source: usize,
    pub(super) size: u64,
    /// Stated by a Rotate.
    pub(super) stated: Option<BinlogPosition>,
    /// The first event of the stream: its offset in this file and its start in the primary's file, modulo 2^32.
    pub(super) first: Option<(u64, u32)>,
    /// Setting of the events that follow.
    pub(super) checksum: ChecksumAlgorithm,
    /// The primary's format description: second it was made in, and server.
    pub(super) format: Option<(u32, u32)>,
    /// The first event is the primary's Rotate to there.
    pub(super) rotate_to: Option<BinlogPosition>,
    /// It holds nothing of the stream, and states nothing.
    pub(super) bare: bool,
    /// It ends behind its head: there is nothing else in it.
    pub(super) over: bool,
    /// The first event is more than a format description or Rotate, or data follow it directly.
    pub(super) has_data: bool,
    /// The first event does not stand where the head says: something is missing before it.
    pub(super) odd: bool,
    /// Where the format description ends that stands here in its place.
    described: u64,
    /// A format description may stand in its place if what was before ended there.
    may_begin: bool,
    /// Where the first event is in the primary's stream, once known.
    pub(super) start: Option<BinlogPosition>,
}

impl Head {
    pub(super) fn read(source: usize, path: &Path, owner: ServerId) -> Result<Self, LogError> {
        let mut reader = EventReader::open(path)?;
        let mut head = Self {
            source,
            size: reader.size(),
            stated: None,
            first: None,
            checksum: ChecksumAlgorithm::None,
            format: None,
            rotate_to: None,
            bare: false,
            over: false,
            has_data: false,
            odd: false,
            described: 0,
            may_begin: false,
            start: None,
        };
        for _ in 0..HEAD_MAX {
            let event = match reader.step()? {
                Step::Event(event) => event,
                Step::End(end) => {
                    head.over = matches!(end, FileEnd::Boundary) && head.first.is_none();
                    head.bare = head.over && head.stated.is_none() && !head.may_begin;
                    break;
                }
            };
            if !head.see(&event, owner) {
                break;
            }
        }
        // A first event elsewhere than stated: something is missing before it.
        if let (Some((_, start)), Some(stated)) = (head.first, &head.stated)
            && low(stated.offset) != start
        {
            head.odd = true;
        }
        if head.odd {
            return Ok(head);
        }
        head.start = head.stated.clone();
        Ok(head)
    }

    /// False once the head is over.
    fn see(&mut self, event: &RawEvent<'_>, owner: ServerId) -> bool {
        let header = &event.header;
        let start = header.log_pos.wrapping_sub(header.event_size);
        let expected = self.stated.as_ref().map(|at| at.offset);
        self.checksum = event.checksum;
        match classify(event, owner, expected) {
            // It goes on inside a group where headers do not say where events end: only the walk knows where.
            Kind::Artificial if has_no_place(header) => {
                self.odd = true;
                false
            }
            Kind::Local | Kind::Artificial => true,
            Kind::States {
                position,
                by_receiver,
            } => {
                // Beside Previous_gtids the source may have skipped transactions: only the walk can tell.
                self.odd |= by_receiver
                    && self.stated.as_ref().is_some_and(|at| {
                        at.file == position.file
                            && position
                                .offset
                                .saturating_sub(at.offset.max(self.described))
                                > PREVIOUS_GTIDS_SURE
                    });
                // The description of another file, if any was before, is not that of this one.
                if self
                    .stated
                    .as_ref()
                    .is_none_or(|at| at.file != position.file)
                {
                    self.format = None;
                }
                self.stated = Some(position);
                self.first = None;
                true
            }
            Kind::Format => {
                self.format = Some((header.timestamp, header.server_id));
                let in_place = expected == Some(FIRST_EVENT)
                    && !ends_at(header, 0)
                    && u64::from(start) == FIRST_EVENT;
                self.may_begin |= !header.has_flag(FLAG_ARTIFICIAL) && header.log_pos != 0;
                let description = FormatDescription::parse(event.bytes);
                // It begins the stream here; what follows may stand right behind it or, behind another Rotate, further on.
                if in_place && description.is_some() {
                    self.described = FIRST_EVENT + u64::from(header.event_size);
                    self.first = Some((event.offset, start));
                }
                true
            }
            Kind::Rotate { to } => {
                self.begin(event, start);
                self.rotate_to = Some(to);
                false
            }
            Kind::Data => {
                self.begin(event, start);
                false
            }
            Kind::Malformed => {
                self.stated = None;
                self.first = None;
                false
            }
        }
    }

    /// The first event of the stream; it may stand right behind the format description that began it.
    fn begin(&mut self, event: &RawEvent<'_>, start: u32) {
        let goes_on = self.first.is_some_and(|(at, from)| {
            event.offset.checked_sub(at).map(low) == Some(start.wrapping_sub(from))
        });
        if !goes_on {
            self.first = Some((event.offset, start));
        }
        self.has_data = !is_bookkeeping(event.type_code());
    }
}

/// An event of the stream that does not say where it stands.
fn has_no_place(header: &EventHeader) -> bool {
    !header.has_flag(FLAG_ARTIFICIAL)
        && !matches!(
            header.type_code,
            EventType::STOP | EventType::HEARTBEAT | EventType::HEARTBEAT_V2
        )
}

/// Nothing speaks of another primary, or of another file of the same name.
pub(super) fn consistent(heads: &[Head]) -> bool {
    let described = || {
        heads
            .iter()
            .filter_map(|head| Some((head.start.as_ref()?, head.format?)))
    };
    let mut servers = described().map(|(_, (_, server))| server);
    let one = servers.next();
    servers.all(|server| Some(server) == one)
        && described().all(|(start, format)| {
            described().all(|(other, its)| other.file != start.file || its == format)
        })
}
