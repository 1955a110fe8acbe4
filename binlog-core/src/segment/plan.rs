//! What to copy for a segment: pure decisions from a map.

use std::path::PathBuf;
use std::sync::Mutex;

use super::draft::Draft;
use crate::checksum::ChecksumAlgorithm;
use crate::end::LogEnd;
use crate::error::LogError;
use crate::event::FIRST_EVENT;
use crate::map::{FormatRef, Join, Map, Place};
use crate::position::{BinlogFileName, BinlogPosition, StreamRange};
use crate::transaction::StartState;

/// What a cut would do.
#[derive(Debug)]
pub enum CutPlan {
    /// There is something.
    Cut(Cut),
    /// There is nothing.
    Nothing(NothingToCut),
}

/// Nothing to cut, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NothingToCut {
    /// The position asked for.
    pub at: BinlogPosition,
    /// How the log ends.
    pub end: LogEnd,
    /// Why.
    pub reason: NothingReason,
}

/// Why there is nothing to cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NothingReason {
    /// The log ends at the position, or the range is empty.
    AtEnd,
    /// Only a Stop, Rotate or other event without data follows.
    OnlyClosing,
    /// The log ends before the position: whoever asks holds more than this log.
    BeyondEnd,
    /// Only a part of a transaction follows.
    OnlyUnfinished,
}

impl std::fmt::Display for NothingReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AtEnd => "at end",
            Self::OnlyClosing => "only a Stop, a Rotate or other events without data follow",
            Self::BeyondEnd => "position beyond the end",
            Self::OnlyUnfinished => "unfinished transaction dropped",
        })
    }
}

/// A verified plan: what to copy from where.
#[derive(Debug)]
pub struct Cut {
    pub(super) range: StreamRange,
    pub(super) starts: StartState,
    pub(super) sources: Vec<PathBuf>,
    /// Format description to put at the head; `None` if the range itself begins with one.
    pub(super) head: Option<Box<FormatRef>>,
    pub(super) steps: Vec<CopyStep>,
    /// Server id of the primary, for made-up Rotates.
    pub(super) origin: u32,
    /// The range ends at the start of this file, and the provider lacks the Rotate to it.
    pub(super) tail_rotate: Option<BinlogFileName>,
    pub(super) dropped_bytes: u64,
    /// How the provider's log ends.
    pub(super) log_end: LogEnd,
    /// The format description at the head as the first provider held it, where the source is a segment itself.
    pub(super) original: Option<Vec<u8>>,
    /// What was written already while the log was read.
    pub(super) draft: Mutex<Option<Box<Draft>>>,
}

/// Bytes to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CopyStep {
    /// Provider's file, bytes of it.
    pub(super) source: usize,
    pub(super) at: u64,
    pub(super) end_at: u64,
    pub(super) file: BinlogFileName,
    pub(super) from: u64,
    pub(super) to: u64,
    /// Events in between are not stored.
    pub(super) sparse: bool,
    pub(super) checksum: ChecksumAlgorithm,
    /// A Rotate to the start of `file` must be made up before.
    pub(super) rotate: bool,
}

impl Cut {
    /// What the segment will hold.
    #[must_use]
    pub fn range(&self) -> &StreamRange {
        &self.range
    }

    /// How the log ends from which it is cut.
    #[must_use]
    pub fn log_end(&self) -> &LogEnd {
        &self.log_end
    }

    /// What was written while the log was read.
    pub(crate) fn with_draft(self, draft: Draft) -> Self {
        Self {
            draft: Mutex::new(Some(Box::new(draft))),
            ..self
        }
    }

    /// Bytes of the primary's stream that will be copied; the segment is a few hundred bytes larger at most.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.steps.iter().map(|step| step.end_at - step.at).sum()
    }
}

/// From `from` to the end of the last whole transaction.
pub(crate) fn to_last_whole(map: &Map, from: &BinlogPosition) -> Result<CutPlan, LogError> {
    let nothing = |reason| {
        Ok(CutPlan::Nothing(NothingToCut {
            at: from.clone(),
            end: map.end.clone(),
            reason,
        }))
    };
    if map.data_end().is_none_or(|end| *from > end) {
        return nothing(NothingReason::BeyondEnd);
    }
    let place = map.find(from)?;
    let whole = map
        .last_transaction()
        .map(|t| t.end)
        .filter(|whole| whole > from);
    let Some(whole) = whole else {
        let last = map.pieces.last();
        let unfinished = last.is_some_and(|piece| !piece.after.is_outside() && piece.has_data);
        return nothing(if map.at_end(place) && !torn(&map.end) {
            NothingReason::AtEnd
        } else if unfinished || torn(&map.end) {
            NothingReason::OnlyUnfinished
        } else {
            NothingReason::OnlyClosing
        });
    };
    exact(map, &StreamRange::new(from.clone(), whole))
}

fn torn(end: &LogEnd) -> bool {
    matches!(end, LogEnd::Torn { .. } | LogEnd::Corrupt { .. })
}

/// Exactly `range`.
pub(crate) fn exact(map: &Map, range: &StreamRange) -> Result<CutPlan, LogError> {
    if range.from > range.to {
        return Err(LogError::BadRange {
            range: range.clone(),
        });
    }
    let first = map.find(&range.from)?;
    // The end must be a boundary too.
    map.find(&range.to)?;
    if range.is_empty() {
        // Also between two files, where neither the Rotate nor the next format description is a part of it.
        return Ok(CutPlan::Nothing(NothingToCut {
            at: range.from.clone(),
            end: map.end.clone(),
            reason: NothingReason::AtEnd,
        }));
    }
    let mut planner = Planner {
        map,
        range,
        steps: Vec::new(),
        file: range.from.file.clone(),
        rotate: false,
        ended_by_rotate: false,
    };
    planner.run(first)?;
    let Planner {
        steps,
        rotate,
        file,
        ..
    } = planner;
    let tail_rotate = rotate.then_some(file);
    if steps.is_empty() && tail_rotate.is_none() {
        return Ok(CutPlan::Nothing(NothingToCut {
            at: range.from.clone(),
            end: map.end.clone(),
            reason: NothingReason::AtEnd,
        }));
    }
    let begins_with_format = steps.first().is_some_and(|step| {
        step.from == FIRST_EVENT && !step.rotate && step.file == range.from.file
    });
    let head = if begins_with_format {
        None
    } else {
        {
            let file = &range.from.file;
            Some(
                map.format_of(first.piece, file)
                    .ok_or_else(|| LogError::NoFormatDescription { file: file.clone() })?,
            )
        }
    };
    check_settings(range, head.as_ref(), &steps)?;
    let origin = map
        .pieces
        .get(first.piece)
        .and_then(|piece| piece.origin)
        .unwrap_or_default();
    Ok(CutPlan::Cut(Cut {
        range: range.clone(),
        starts: map.tracker_at(first)?.start_state(),
        sources: map.sources.clone(),
        head: head.map(Box::new),
        steps,
        origin,
        tail_rotate,
        dropped_bytes: dropped(map, &range.to)?,
        log_end: map.end.clone(),
        original: None,
        draft: Mutex::new(None),
    }))
}

/// One description stands at the head of each file in a segment: events under another setting would be misread behind it.
fn check_settings(
    range: &StreamRange,
    head: Option<&FormatRef>,
    steps: &[CopyStep],
) -> Result<(), LogError> {
    let mut described = head.map(|head| (&range.from.file, head.checksum));
    for step in steps {
        if described.is_some_and(|(file, setting)| *file == step.file && setting != step.checksum) {
            return Err(LogError::NoFormatDescription {
                file: step.file.clone(),
            });
        }
        described = Some((&step.file, step.checksum));
    }
    Ok(())
}

struct Planner<'a> {
    map: &'a Map,
    range: &'a StreamRange,
    steps: Vec<CopyStep>,
    /// Primary's file reached.
    file: BinlogFileName,
    /// A Rotate to `file` is still to be made up.
    rotate: bool,
    /// The last event copied is the primary's Rotate.
    ended_by_rotate: bool,
}

impl Planner<'_> {
    fn run(&mut self, first: Place) -> Result<(), LogError> {
        let to = &self.range.to;
        for (i, piece) in self.map.pieces.iter().enumerate().skip(first.piece) {
            if i > first.piece && piece.join == Join::Broken {
                let missing = self
                    .map
                    .pieces
                    .get(i - 1)
                    .map_or(self.range.from.clone(), |before| before.end());
                return Err(LogError::Hole {
                    missing: StreamRange::new(missing, piece.start()),
                    path: self.map.source(piece.source).to_owned(),
                    offset: piece.at,
                });
            }
            let from = if i == first.piece {
                first.offset
            } else {
                piece.from
            };
            let start = BinlogPosition::new(piece.file.clone(), from);
            if start > *to {
                // The range ends inside what the provider does not store.
                return Ok(());
            }
            if piece.file != self.file {
                self.rotate = !self.ended_by_rotate;
                self.file = piece.file.clone();
                self.ended_by_rotate = false;
            }
            if start == *to {
                return Ok(());
            }
            let stop = if piece.file == to.file {
                piece.to.min(to.offset)
            } else {
                piece.to
            };
            if stop > from {
                self.steps.push(CopyStep {
                    source: piece.source,
                    at: self.map.physical(piece, from)?,
                    end_at: self.map.physical(piece, stop)?,
                    file: piece.file.clone(),
                    from,
                    to: stop,
                    sparse: piece.sparse,
                    checksum: piece.checksum,
                    rotate: std::mem::take(&mut self.rotate),
                });
                self.ended_by_rotate = stop == piece.to && piece.rotate_to.is_some();
            }
            let end = BinlogPosition::new(piece.file.clone(), stop);
            if end == *to || (stop == piece.to && piece.end() == *to) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Bytes behind `to` that will never be served: of an unfinished transaction, and torn or damaged ones.
fn dropped(map: &Map, to: &BinlogPosition) -> Result<u64, LogError> {
    let Some(last) = map.pieces.last() else {
        return Ok(0);
    };
    let mut bytes = 0;
    if let Some(start) = map.open_since()
        && *to <= start
    {
        bytes += last.to.saturating_sub(start.offset);
    }
    if torn(&map.end) && map.last_transaction().is_none_or(|t| t.end <= *to) {
        let path = map.source(last.source);
        let size = std::fs::metadata(path)
            .map_err(LogError::io("read the size of", path))?
            .len();
        bytes += size.saturating_sub(map.end.offset());
    }
    Ok(bytes)
}
