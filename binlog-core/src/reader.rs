//! Sequential walk over the events of one file.
//!
//! Guarantees: positioned reads into one buffer (256 KiB, 1 MiB once an event needs it), never more; an event of up to
//! 1 MiB is lent whole, of a larger one the first part, its checksum verified in blocks before it is handed out. Every
//! checksum is verified. Almost every step finds its event whole in the buffer and does no more than look at the header
//! and sum the bytes; all other cases take the slow way. Where the caller allows it, a thread reads and sums ahead
//! (see `ahead`). The size is taken once when the file is opened, so a file that still grows has one end for the
//! whole walk. What follows the last whole event is classified, never handed out, and never an error.
//!
//! Positions in the primary's stream are not this module's business, with one exception: where a server left them out of
//! headers they are put in (see `group`).

mod ahead;
mod buffer;
mod edge;
mod event;
mod group;
#[cfg(test)]
mod tests;
mod verify;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::ahead::{Ahead, Job, ordinary};
use self::group::Group;
use crate::checksum::ChecksumAlgorithm;
use crate::error::LogError;
use crate::event::{EventHeader, FIRST_EVENT, MAGIC, MAGIC_ENCRYPTED};

pub use self::event::{FileEnd, RawEvent, Step};

/// Events up to this size are lent whole.
pub const INLINE_MAX: usize = 1 << 20;
/// Usual size of the buffer.
const BUFFER: usize = 256 << 10;
/// Bytes read at the head of a file: who looks at heads only needs no more.
const HEAD: usize = 8 << 10;
/// Bytes that are walked before a thread reads ahead, and that must be left: a short walk does without.
const AHEAD_AFTER: u64 = 2 << 20;
/// Largest event a server writes: `max_allowed_packet` is at most 1 GiB, plus what surrounds a packet.
const EVENT_MAX: u32 = (1 << 30) + (1 << 20);

/// Walks one file.
#[derive(Debug)]
pub struct EventReader {
    file: Arc<File>,
    path: PathBuf,
    size: u64,
    next: u64,
    checksum: ChecksumAlgorithm,
    /// A format description was seen, or the caller vouches for the setting.
    described: bool,
    buffer: Vec<u8>,
    /// Bytes read at a time.
    block: usize,
    /// File offset of `buffer[0]` and number of valid bytes.
    start: u64,
    filled: usize,
    end: Option<FileEnd>,
    /// Header of the event that is cut off, if that much of it is there.
    cut_off: Option<EventHeader>,
    ahead: ReadAhead,
    group: Group,
    /// File offset up to which the checksums of what the buffer holds are known to be right.
    proven: u64,
}

/// Whether a thread reads ahead.
#[derive(Debug)]
enum ReadAhead {
    /// Not asked for, or impossible.
    Never,
    /// Once the walk came there.
    From(u64),
    /// It does.
    Running(Ahead),
}

impl EventReader {
    /// Opens a file at its first event. An empty file, or one cut off inside the magic number, has a torn end at 0.
    ///
    /// # Errors
    /// I/O, a wrong magic number, an encrypted file.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let file = File::open(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => LogError::Missing {
                path: path.to_owned(),
                context: String::new(),
            },
            _ => LogError::Io {
                action: "open",
                path: path.to_owned(),
                source,
            },
        })?;
        let size = file
            .metadata()
            .map_err(LogError::io("read the size of", path))?
            .len();
        let mut reader = Self {
            file: Arc::new(file),
            path: path.to_owned(),
            size,
            next: FIRST_EVENT,
            checksum: ChecksumAlgorithm::None,
            described: false,
            buffer: Vec::new(),
            block: BUFFER,
            start: 0,
            filled: 0,
            end: None,
            cut_off: None,
            ahead: ReadAhead::Never,
            group: Group::default(),
            proven: 0,
        };
        let magic = reader.fill(0, MAGIC.len())?;
        if magic == MAGIC_ENCRYPTED {
            return Err(LogError::Encrypted {
                path: path.to_owned(),
                offset: 0,
            });
        }
        if !MAGIC.starts_with(magic) {
            return Err(LogError::NotABinlog {
                path: path.to_owned(),
                found: hex::encode(magic),
            });
        }
        if magic.len() < MAGIC.len() {
            let detail = format!("{} of 4 bytes of the magic number", magic.len());
            reader.end = Some(FileEnd::Torn { offset: 0, detail });
        }
        Ok(reader)
    }

    /// Goes on at `offset`, an event boundary of which the caller knows the checksum setting.
    pub fn seek(&mut self, offset: u64, checksum: ChecksumAlgorithm) {
        self.next = offset;
        self.checksum = checksum;
        self.described = true;
        self.end = None;
        self.proven = 0;
        self.group = Group::default();
        self.interrupted();
    }

    /// The same where the caller also knows that the next event starts at `place` of the primary's file: it may be one
    /// inside a transaction, whose header does not say so.
    pub(crate) fn seek_to(&mut self, offset: u64, checksum: ChecksumAlgorithm, place: u64) {
        self.seek(offset, checksum);
        self.stands_at(place);
    }

    /// The next event starts at `place` of the primary's file.
    pub(crate) fn stands_at(&mut self, place: u64) {
        self.group = Group::at(place);
    }

    /// From here on a second thread may read and sum ahead of the walk, for files that are worth it, if there is a second
    /// core. Where a digest is made beside what is written, that is a third thread, and shares out what there is to do over two
    /// cores better than two threads of unlike length do. Every answer is the same as without.
    pub fn read_ahead(&mut self) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if cores > 1 {
            self.ahead = ReadAhead::From(self.next.saturating_add(AHEAD_AFTER));
        }
    }

    /// The walk came to something that no thread reads: one starts anew a good way behind.
    fn interrupted(&mut self) {
        if !matches!(self.ahead, ReadAhead::Never) {
            self.ahead = ReadAhead::From(self.next.saturating_add(self.ahead_after()));
        }
    }

    /// [`AHEAD_AFTER`] for blocks of the usual size.
    fn ahead_after(&self) -> u64 {
        self.block as u64 * (AHEAD_AFTER / BUFFER as u64)
    }

    /// Header of the event that the end of the file cuts off, once the walk came there and if the header is whole.
    /// Whoever knows the position in the primary's stream can tell a cut from a damaged length by it.
    #[must_use]
    pub fn cut_off(&self) -> Option<&EventHeader> {
        self.cut_off.as_ref()
    }

    /// Size of the file when it was opened.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Offset of the next event.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.next
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file, to read blocks of a large event.
    #[must_use]
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// The next event, or how the file ends. After the end it stays there.
    ///
    /// # Errors
    /// I/O; [`LogError::Encrypted`] behind a START_ENCRYPTION_EVENT.
    #[inline]
    pub fn step(&mut self) -> Result<Step<'_>, LogError> {
        if let Some((header, skip)) = self.buffered_event() {
            return Ok(Step::Event(self.lend(header, skip)));
        }
        self.step_at_edge()
    }

    /// The next event if it is an ordinary one that lies in the buffer: its bytes stay there until [`Self::step`] is called,
    /// and can be had by [`Self::exchange`] until then. `None` says no more than that `step` must be called.
    #[inline]
    pub(crate) fn step_buffered(&mut self) -> Option<RawEvent<'_>> {
        let (header, skip) = self.buffered_event()?;
        Some(self.lend(header, skip))
    }

    /// The buffer is used up, or what follows is no ordinary event.
    #[cold]
    fn step_at_edge(&mut self) -> Result<Step<'_>, LogError> {
        if self.take_block()
            && let Some((header, skip)) = self.buffered_event()
        {
            return Ok(Step::Event(self.lend(header, skip)));
        }
        self.step_slowly()
    }

    /// Passes an event that lies in the buffer.
    #[inline]
    fn lend(&mut self, header: EventHeader, skip: usize) -> RawEvent<'_> {
        let header = self.group.pass(header);
        let offset = self.next;
        self.next = offset + u64::from(header.event_size);
        let end = skip + header.event_size as usize;
        RawEvent {
            offset,
            header,
            bytes: self.buffer.get(skip..end).unwrap_or_default(),
            checksum: self.checksum,
        }
    }

    /// The next event if it is an ordinary one that lies whole in the buffer and has a right checksum, and where it is in
    /// the buffer. Whatever else there is, [`Self::step_slowly`] finds out: nothing is decided here but that all is well.
    #[inline]
    fn buffered_event(&self) -> Option<(EventHeader, usize)> {
        if !self.described || self.end.is_some() {
            return None;
        }
        let skip = usize::try_from(self.next.checked_sub(self.start)?).ok()?;
        let rest = self.buffer.get(skip..self.filled)?;
        let header = ordinary(rest, self.checksum, self.next < self.proven)?;
        Some((header, skip))
    }

    /// Takes over the next block of the thread that reads ahead, starting it if it is time. False if there is none.
    fn take_block(&mut self) -> bool {
        if let ReadAhead::From(offset) = self.ahead
            && self.described
            && self.end.is_none()
            && self.checksum == ChecksumAlgorithm::Crc32
            && self.next >= offset
            && self.size.saturating_sub(self.next) >= self.ahead_after()
        {
            self.ahead = Ahead::start(Job {
                file: Arc::clone(&self.file),
                at: self.next,
                end: self.size,
                checksum: self.checksum,
                // Larger ones: threads that wait for each other cost time, too.
                block: self.block * 2,
            })
            .map_or(ReadAhead::Never, ReadAhead::Running);
        }
        let ReadAhead::Running(ahead) = &mut self.ahead else {
            return false;
        };
        match ahead.next(std::mem::take(&mut self.buffer)) {
            Some(block) if block.start == self.next => {
                self.start = block.start;
                self.filled = block.len;
                self.buffer = block.buffer;
                self.proven = block.start + block.len as u64;
                true
            }
            _ => {
                self.start = self.next;
                self.filled = 0;
                self.interrupted();
                false
            }
        }
    }
}
