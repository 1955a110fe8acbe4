//! A replica's relay logs as a provider of the primary's events.
//!
//! The first question walks all files once, verifying every checksum and every position, and remembers where each part of
//! the stream is; further questions are answered from that. Only [`RelayLogs::locate`] does without a walk where it can prove
//! its answer (see `relay_jump`). How the stream is followed is in `relay_walk`. What the files
//! hold beyond a torn or damaged event in the newest one is not used; an older file that ends so only breaks the range
//! there.

mod find;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::end::LogEnd;
use crate::error::LogError;
use crate::event::{EventType, FIRST_EVENT, FLAG_IN_USE, FormatDescription, rotate};
use crate::extent::{EventDigest, Located, Survey, UnfinishedTail};
use crate::gtid::{GtidState, MariaDbGtid, MariaDbGtidPos};
use crate::gtid_place;
use crate::map::Map;
use crate::mariadb_position;
use crate::position::{
    BinlogFileName, BinlogPosition, RelayFileName, RelayPosition, ServerId, StreamRange,
};
use crate::reader::{EventReader, FileEnd, RawEvent, Step};
use crate::relay_jump::Jump;
use crate::relay_walk::{Kind, RelayWalk, classify};
use crate::segment::plan::{self, CutPlan};
use crate::unfinished;

/// Relay log files, oldest first.
#[derive(Debug)]
pub struct RelayLogs {
    files: Vec<(RelayFileName, PathBuf)>,
    owner: ServerId,
    latest: Option<BinlogPosition>,
    map: OnceLock<Map>,
}

impl RelayLogs {
    /// Takes the files (oldest first; kept hard links count like the files themselves), the replica's own server id, and
    /// what it has read (`Master_Log_File:Read_Master_Log_Pos`), which names the primary's file where no Rotate does.
    ///
    /// # Errors
    /// A file that cannot be opened or is no binary log. Empty files are left out.
    pub fn open(
        files: Vec<(RelayFileName, PathBuf)>,
        owner: ServerId,
        latest: Option<BinlogPosition>,
    ) -> Result<Self, LogError> {
        let mut usable = Vec::with_capacity(files.len());
        for (name, path) in files {
            let reader = EventReader::open(&path)?;
            if reader.size() > 0 {
                usable.push((name, path));
            }
        }
        Ok(Self {
            files: usable,
            owner,
            latest,
            map: OnceLock::new(),
        })
    }

    /// The files, oldest first; empty ones are not among them.
    #[must_use]
    pub fn files(&self) -> &[(RelayFileName, PathBuf)] {
        &self.files
    }

    /// What is held.
    ///
    /// # Errors
    /// An unreadable or encrypted file.
    pub fn survey(&self) -> Result<Survey, LogError> {
        let map = self.map()?;
        let ranges = map.ranges();
        let holes = ranges
            .windows(2)
            .filter_map(|pair| match pair {
                [a, b] => Some(StreamRange::new(a.to.clone(), b.from.clone())),
                _ => None,
            })
            .collect();
        let last_transaction = map.last_transaction();
        // Without a transaction: where the stream starts here, unless that may be inside one.
        let start = || {
            let piece = map.pieces.first()?;
            piece
                .marks
                .first()
                .filter(|mark| mark.tracker.is_outside() || !piece.has_data)
                .map(|_| piece.start())
        };
        Ok(Survey {
            whole_end: last_transaction
                .as_ref()
                .map(|t| t.end.clone())
                .or_else(start),
            data_end: map.data_end(),
            ranges,
            holes,
            end: map.end.clone(),
            last_transaction,
            walked_bytes: map.walked_bytes,
        })
    }

    /// Where `target` is. Without a map of the files this is a jump where the landing can be proven; damage elsewhere in the
    /// files is then not seen.
    ///
    /// # Errors
    /// [`LogError::NotHeld`], [`LogError::NotABoundary`], an unreadable file.
    pub fn locate(&self, target: &BinlogPosition) -> Result<Located, LogError> {
        let jump = Jump {
            files: &self.files,
            owner: self.owner,
            latest: self.latest.as_ref(),
            target,
        };
        if self.map.get().is_none()
            && let Some(located) = jump.locate()?
        {
            return Ok(located);
        }
        let map = self.map()?;
        let place = map.find(target)?;
        let at_end = map.at_end(place);
        let named = |source: usize, offset: u64| {
            let file = self.files.get(source).map(|(name, _)| name.clone());
            file.map(|file| Located {
                position: RelayPosition::new(file, offset),
                at_end,
            })
        };
        // The end of the event that ends there, else the start of the one that starts there.
        let ending = map
            .pieces
            .iter()
            .find(|p| p.file == target.file && p.from < target.offset && target.offset <= p.to);
        let located = match ending {
            Some(piece) => named(piece.source, map.physical(piece, target.offset)?),
            None => match map.pieces.get(place.piece) {
                Some(piece) => named(piece.source, map.physical(piece, place.offset)?),
                None => None,
            },
        };
        located.ok_or_else(|| LogError::NotHeld {
            position: target.clone(),
            held: map.ranges(),
        })
    }

    /// The last event of the same primary file that ends at or before `before`; `None` if that place is not held or
    /// nothing is held between it and a hole before it. Events that a relay log does not store
    /// (see [`crate::transaction::is_bookkeeping`]) do not count, so that providers of both kinds give the same answer.
    ///
    /// # Errors
    /// An unreadable file.
    pub fn event_before(&self, before: &BinlogPosition) -> Result<Option<EventDigest>, LogError> {
        self.map()?.event_before(before)
    }

    /// A plan to cut exactly `range`, which may start and end inside a transaction (pieces of several providers meet
    /// there).
    ///
    /// # Errors
    /// [`LogError::NotHeld`], [`LogError::NotABoundary`], [`LogError::Hole`], an unreadable file.
    pub fn plan_cut(&self, range: &StreamRange) -> Result<CutPlan, LogError> {
        plan::exact(self.map()?, range)
    }

    /// What the transaction holds that the received range ends in; `None` if it ends between transactions.
    ///
    /// # Errors
    /// An unreadable file.
    pub fn unfinished_tail(&self) -> Result<Option<UnfinishedTail>, LogError> {
        unfinished::tail(self.map()?)
    }

    /// MariaDB: where the transaction with this GTID ends; `None` if it is not held whole.
    ///
    /// # Errors
    /// An unreadable file.
    pub fn position_after_gtid(
        &self,
        gtid: &MariaDbGtid,
    ) -> Result<Option<BinlogPosition>, LogError> {
        mariadb_position::after_gtid(self.map()?, gtid)
    }

    /// MariaDB: the coordinates of an executed GTID position: the end of the last transaction of `executed` that is held,
    /// provided that `executed` includes every transaction before it and none behind it; with none of them held, the
    /// start of what is held if the first transactions follow `executed` directly.
    ///
    /// # Errors
    /// An unreadable file.
    pub fn position_of_gtid_pos(
        &self,
        executed: &MariaDbGtidPos,
    ) -> Result<Option<BinlogPosition>, LogError> {
        mariadb_position::of_position(self.map()?, executed)
    }

    /// Where a server that has `held` stands in the primary's stream, if the replica whose logs these are has executed `owner`:
    /// the last place before which that server has every transaction. `None` if these logs cannot tell.
    ///
    /// # Errors
    /// An unreadable file.
    pub fn place_of(
        &self,
        held: &GtidState,
        owner: &GtidState,
    ) -> Result<Option<BinlogPosition>, LogError> {
        gtid_place::in_relay_logs(self.map()?, held, owner)
    }

    fn map(&self) -> Result<&Map, LogError> {
        if let Some(map) = self.map.get() {
            return Ok(map);
        }
        let map = self.walk()?;
        Ok(self.map.get_or_init(|| map))
    }

    fn walk(&self) -> Result<Map, LogError> {
        let mut walk = RelayWalk::new(self.owner, self.first_file()?);
        let mut walked = 0;
        let mut end = LogEnd::Clean {
            file: String::new(),
            offset: 0,
            detail: "no relay log".to_owned(),
        };
        // The file that the last event of the one before names.
        let mut named: Option<BinlogPosition> = None;
        for (source, (name, path)) in self.files.iter().enumerate() {
            let mut reader = EventReader::open(path)?;
            reader.read_ahead();
            let mut closing = Closing::default();
            walk.begin_file(named.is_some_and(|to| to.file.as_str() == name.as_str()));
            named = None;
            let file_end = loop {
                match reader.step()? {
                    Step::Event(event) => {
                        closing.see(&event);
                        walk.feed(&event, source);
                        match event.type_code() {
                            EventType::FORMAT_DESCRIPTION | EventType::ROTATE => {
                                named = rotate::parse(event.body())
                                    .filter(|_| event.type_code() == EventType::ROTATE);
                                if let Some(place) = walk.inside_group_at() {
                                    reader.stands_at(place);
                                }
                            }
                            _ if named.is_some() => named = None,
                            _ => {}
                        }
                    }
                    Step::End(end) => break end,
                }
            };
            named = named.filter(|_| matches!(file_end, FileEnd::Boundary));
            walked += reader.offset();
            if !matches!(file_end, FileEnd::Boundary) && source + 1 < self.files.len() {
                // What is behind the damage is lost; the next file states where it goes on.
                walk.damaged();
            }
            end = closing.end(name.as_str(), reader.offset(), file_end);
        }
        let sources = self.files.iter().map(|(_, path)| path.clone()).collect();
        walk.settle(None);
        let mut map = walk.builder.finish(sources, end, walked);
        map.keep_current()?;
        Ok(map)
    }

    /// The primary's file in which the oldest relay log starts, where its own head does not say so. What follows must
    /// prove it: the primary's Rotate at the end of that file; a Rotate that states exactly the place reached; a format
    /// description of the same file behind a Rotate to its start; without any Rotate, what the receiver reads.
    fn first_file(&self) -> Result<Option<BinlogFileName>, LogError> {
        let mut namer = Namer::default();
        for (_, path) in &self.files {
            let mut reader = EventReader::open(path)?;
            while let Step::Event(event) = reader.step()? {
                if let ControlFlow::Break(file) = namer.see(&event, self.owner) {
                    return Ok(file);
                }
            }
        }
        let latest = self.latest.as_ref().filter(|_| namer.stated.is_none());
        Ok(latest
            .filter(|latest| namer.place.is_none_or(|at| u64::from(at) <= latest.offset))
            .map(|latest| latest.file.clone()))
    }
}

/// Finds the name of the file in which a relay log starts.
#[derive(Debug, Default)]
struct Namer {
    /// log_pos of the last event, modulo 2^32.
    place: Option<u32>,
    /// What tells the primary's file from another one of the same name.
    format: Option<(u32, u32)>,
    /// A Rotate to the start of a file: of the same one after a reconnection with GTIDs, else of a later one.
    stated: Option<BinlogFileName>,
}

impl Namer {
    #[allow(clippy::cast_possible_truncation)]
    fn see(
        &mut self,
        event: &RawEvent<'_>,
        owner: ServerId,
    ) -> ControlFlow<Option<BinlogFileName>> {
        let header = &event.header;
        match classify(event, owner, self.place.map(u64::from)) {
            Kind::Rotate { to } if self.stated.is_none() => ControlFlow::Break(to.file.previous()),
            Kind::States {
                position,
                by_receiver,
            } if self.stated.is_none() => match self.place {
                None => ControlFlow::Break(Some(position.file)),
                Some(at)
                    if position.offset as u32 == at
                        || (by_receiver && position.offset > u64::from(at)) =>
                {
                    ControlFlow::Break(Some(position.file))
                }
                Some(_) if position.offset == FIRST_EVENT => {
                    self.stated = Some(position.file);
                    ControlFlow::Continue(())
                }
                Some(_) => ControlFlow::Break(None),
            },
            Kind::Format => {
                let identity = (header.timestamp, header.server_id);
                match self.stated.take() {
                    Some(file) => {
                        ControlFlow::Break(Some(file).filter(|_| self.format == Some(identity)))
                    }
                    None => {
                        self.format = Some(identity);
                        ControlFlow::Continue(())
                    }
                }
            }
            Kind::Data if self.stated.is_none() => {
                self.place = Some(header.log_pos);
                ControlFlow::Continue(())
            }
            Kind::Local | Kind::Artificial => ControlFlow::Continue(()),
            Kind::Malformed | Kind::Rotate { .. } | Kind::States { .. } | Kind::Data => {
                ControlFlow::Break(None)
            }
        }
    }
}

/// What the head and the last event of a file say about how it was closed.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    in_use: bool,
    last: Option<EventType>,
}

impl Closing {
    pub(crate) fn see(&mut self, event: &RawEvent<'_>) {
        if self.last.is_none() && FormatDescription::parse(event.bytes).is_some() {
            self.in_use = event.header.has_flag(FLAG_IN_USE);
        }
        self.last = Some(event.type_code());
    }

    pub(crate) fn last(&self) -> Option<EventType> {
        self.last
    }

    pub(crate) fn end(&self, file: &str, offset: u64, end: FileEnd) -> LogEnd {
        let file = file.to_owned();
        match end {
            FileEnd::Boundary => match self.last {
                Some(last @ (EventType::ROTATE | EventType::STOP)) => LogEnd::Clean {
                    file,
                    offset,
                    detail: format!("closed by a {last}"),
                },
                _ if !self.in_use => LogEnd::Clean {
                    file,
                    offset,
                    detail: "in-use flag cleared".to_owned(),
                },
                _ => LogEnd::InUse { file, offset },
            },
            FileEnd::Torn { offset, detail } => LogEnd::Torn {
                file,
                offset,
                detail,
            },
            FileEnd::Corrupt {
                offset,
                expected,
                found,
            } => LogEnd::Corrupt {
                file,
                offset,
                detail: format!("expected {expected}, found {found}"),
            },
        }
    }
}
