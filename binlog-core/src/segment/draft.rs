//! A segment that is written while the log is read for the first time.
//!
//! Where a segment ends is known only when its log has been read to the end, and to read and verify a log twice takes as
//! long as all the rest. So a draft is written on the way, from the start of the range on, by the walk that makes the map.
//! It decides nothing: the plan is made from the map as ever. Where the plan turns out to be what the draft holds,
//! but for bytes behind the last whole transaction, those are cut off and the draft is the segment; any other
//! draft is thrown away and the plan carried out. An error of the output is kept for the one who asks for the segment. Until
//! then the draft is a temporary file, which goes with the draft.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::copying::{Copying, Counts};
use super::output::Output;
use super::plan::{CopyStep, Cut};
use super::writer::{create, temporary};
use crate::error::LogError;
use crate::event::FIRST_EVENT;
use crate::map::{FormatRef, MapBuilder};
use crate::position::BinlogPosition;
use crate::reader::{EventReader, RawEvent};

/// A segment but for its end.
pub(super) struct Written {
    pub(super) copying: Copying,
    /// Where it ends, and the last whole transaction.
    pub(super) end: u64,
    pub(super) whole_end: Option<BinlogPosition>,
}

/// A segment from a position to wherever the log ends.
#[derive(Debug)]
pub(crate) struct Draft {
    from: BinlogPosition,
    path: PathBuf,
    expected: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The walk did not come to the start yet.
    Before,
    Writing(Box<Writing>),
    Failed(LogError),
}

#[derive(Debug)]
struct Writing {
    copying: Copying,
    temporary: Temporary,
    head: Option<FormatRef>,
    /// Server id of the primary.
    origin: u32,
    steps: Vec<CopyStep>,
    /// The last step goes on.
    in_step: bool,
    ended_by_rotate: bool,
    last_whole: Option<LastWhole>,
}

/// How things stood behind a whole transaction.
#[derive(Debug, Clone, Copy)]
struct LastWhole {
    steps: usize,
    /// In the primary's file.
    end: u64,
    /// In the segment.
    written: u64,
    counts: Counts,
}

/// A file that goes unless it is kept.
#[derive(Debug)]
struct Temporary(Option<PathBuf>);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Of no use to anyone; whoever writes a segment there overwrites it.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Where the walk is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walked<'a> {
    pub(crate) file: &'a File,
    pub(crate) path: &'a Path,
    pub(crate) source: usize,
}

impl Draft {
    /// Nothing yet of a segment `output` of about `expected` bytes.
    pub(crate) fn new(from: &BinlogPosition, output: &Path, expected: u64) -> Self {
        Self {
            from: from.clone(),
            path: temporary(output),
            expected,
            state: State::Before,
        }
    }

    /// Takes the event that was just added to the map; a transaction `ended` with it.
    #[inline]
    pub(crate) fn take(
        &mut self,
        event: &RawEvent<'_>,
        walked: Walked<'_>,
        builder: &MapBuilder,
        ended: bool,
        progress: &mut dyn FnMut(u64),
    ) {
        let taken = match &mut self.state {
            State::Writing(writing) => writing.take(event, walked, builder, ended, progress),
            State::Before if event.offset == self.from.offset => self
                .start(walked, builder)
                .and_then(|writing| match writing {
                    Some(mut writing) => {
                        let taken = writing.take(event, walked, builder, ended, progress);
                        self.state = State::Writing(writing);
                        taken
                    }
                    None => Ok(()),
                }),
            State::Before | State::Failed(_) => Ok(()),
        };
        self.keep_error(taken);
    }

    fn keep_error(&mut self, result: Result<(), LogError>) {
        if let Err(error) = result {
            self.state = State::Failed(error);
        }
    }

    #[cold]
    fn start(
        &self,
        walked: Walked<'_>,
        builder: &MapBuilder,
    ) -> Result<Option<Box<Writing>>, LogError> {
        let Some(piece) = builder.last().filter(|piece| piece.file == self.from.file) else {
            return Ok(None);
        };
        let head = match &piece.format {
            _ if self.from.offset == FIRST_EVENT => None,
            Some(format) => Some(format.clone()),
            None => return Ok(None),
        };
        let file = create(&self.path)?;
        let temporary = Temporary(Some(self.path.clone()));
        let mut copying = Copying::new(Output::new(file, &self.path, self.expected))?;
        if let Some(head) = &head {
            copying.head(walked.path, head, self.from.offset)?;
        }
        Ok(Some(Box::new(Writing {
            copying,
            temporary,
            head,
            origin: piece.origin.unwrap_or_default(),
            steps: Vec::new(),
            in_step: false,
            ended_by_rotate: false,
            last_whole: None,
        })))
    }

    /// The reader is about to read on.
    pub(crate) fn flush(&mut self, reader: &mut EventReader, progress: &mut dyn FnMut(u64)) {
        if let State::Writing(writing) = &mut self.state {
            let flushed = writing.copying.flush(reader, progress);
            self.keep_error(flushed);
        }
    }

    /// The walk ended a file.
    pub(crate) fn end_file(&mut self, builder: &MapBuilder) {
        if let State::Writing(writing) = &mut self.state {
            writing.end_step(builder);
        }
    }

    /// What `cut` says, if this is it. `None` if it is not: then nothing of it is left.
    pub(super) fn adopt(self, cut: &Cut, path: &Path) -> Option<Result<Written, LogError>> {
        if self.path != path {
            return None;
        }
        match self.state {
            State::Before => None,
            State::Failed(error) => Some(Err(error)),
            State::Writing(writing) => writing.adopt(cut).map(Ok),
        }
    }
}

impl Writing {
    #[inline]
    fn take(
        &mut self,
        event: &RawEvent<'_>,
        walked: Walked<'_>,
        builder: &MapBuilder,
        ended: bool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), LogError> {
        if !self.in_step {
            self.begin_step(event, walked, builder)?;
        }
        self.copying
            .event(event, (walked.file, walked.path), progress)?;
        if ended {
            self.copying.counts.transactions += 1;
            self.copying.mark();
            self.last_whole = Some(LastWhole {
                steps: self.steps.len(),
                end: event.end(),
                written: self.copying.written(),
                counts: self.copying.counts,
            });
        }
        Ok(())
    }

    #[cold]
    fn begin_step(
        &mut self,
        event: &RawEvent<'_>,
        walked: Walked<'_>,
        builder: &MapBuilder,
    ) -> Result<(), LogError> {
        let Some(piece) = builder.last() else {
            return Ok(());
        };
        let rotate = !self.steps.is_empty() && !self.ended_by_rotate;
        if rotate {
            self.copying.rotate_to(&piece.file, self.origin)?;
        }
        self.copying.begin(piece.checksum);
        self.steps.push(CopyStep {
            source: walked.source,
            at: event.offset,
            end_at: event.offset,
            file: piece.file.clone(),
            from: event.offset,
            to: event.offset,
            sparse: false,
            checksum: piece.checksum,
            rotate,
        });
        self.in_step = true;
        Ok(())
    }

    fn end_step(&mut self, builder: &MapBuilder) {
        if !std::mem::take(&mut self.in_step) {
            return;
        }
        if let (Some(step), Some(piece)) = (self.steps.last_mut(), builder.last()) {
            (step.to, step.end_at) = (piece.to, piece.end_at);
            self.ended_by_rotate = piece.rotate_to.is_some();
            self.copying.end(step);
        }
    }

    fn adopt(self, cut: &Cut) -> Option<Written> {
        let Self {
            mut copying,
            mut temporary,
            head,
            origin,
            mut steps,
            last_whole,
            ..
        } = self;
        let last_whole = last_whole?;
        steps.truncate(last_whole.steps);
        let last = steps.last_mut()?;
        (last.to, last.end_at) = (last_whole.end, last_whole.end);
        let whole_end = BinlogPosition::new(last.file.clone(), last.to);
        let same = cut.range.to == whole_end
            && cut.head.as_deref() == head.as_ref()
            && cut.origin == origin
            && cut.steps == steps
            && cut.tail_rotate.is_none()
            && cut.original.is_none();
        if !same {
            return None;
        }
        copying.go_back(last_whole.written, last_whole.end, last_whole.counts);
        temporary.0 = None;
        Some(Written {
            copying,
            end: last_whole.written,
            whole_end: Some(whole_end),
        })
    }
}
