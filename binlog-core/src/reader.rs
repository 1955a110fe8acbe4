//! Sequential walk over the events of one file.
//!
//! Guarantees: positioned reads into one buffer (256 KiB, 1 MiB once an event needs it), never more; an event of up to
//! 1 MiB is lent whole, of a larger one the first part, its checksum verified in blocks before it is handed out. Every
//! checksum is verified. Almost every step finds its event whole in the buffer and does no more than look at the header
//! and sum the bytes; all other cases take the slow way. Where the caller allows it, a thread reads and sums ahead
//! (see `ahead`). The size is taken once when the file is opened, so a file that still grows has one end for the
//! whole walk. What follows the last whole event is classified, never handed out, and never an error.
//!
//! Positions in the primary's stream are not this module's business.

mod ahead;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::ahead::{Ahead, Job, ordinary};
use crate::checksum::{CHECKSUM_LEN, ChecksumAlgorithm};
use crate::error::LogError;
use crate::event::{
    EventHeader, EventType, FIRST_EVENT, FLAG_IN_USE, FormatDescription, HEADER_LEN, MAGIC,
    MAGIC_ENCRYPTED,
};

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
/// Offset of the flags in the header.
const FLAGS_OFFSET: usize = 17;

/// How a file ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileEnd {
    /// At an event boundary.
    Boundary,
    /// The event at `offset` is cut off.
    Torn {
        /// Its start.
        offset: u64,
        /// What is there.
        detail: String,
    },
    /// The event at `offset` is damaged.
    Corrupt {
        /// Its start.
        offset: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// One event as it is in the file.
#[derive(Debug, Clone, Copy)]
pub struct RawEvent<'a> {
    /// Offset in the file.
    pub offset: u64,
    /// Header.
    pub header: EventHeader,
    /// Header, body, checksum; of an event over [`INLINE_MAX`] only the first part.
    pub bytes: &'a [u8],
    /// The event ends with a checksum.
    pub checksum: ChecksumAlgorithm,
}

impl<'a> RawEvent<'a> {
    /// True if `bytes` is the whole event.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.bytes.len() == self.header.event_size as usize
    }

    /// The body without header and checksum; cut off if the event is not whole.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        let tail = if self.is_whole() {
            self.checksum.len() as usize
        } else {
            0
        };
        let end = self.bytes.len().saturating_sub(tail);
        self.bytes.get(HEADER_LEN as usize..end).unwrap_or_default()
    }

    /// Offset in the file right after it.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.header.event_size)
    }

    /// Its type.
    #[must_use]
    pub fn type_code(&self) -> EventType {
        self.header.type_code
    }
}

/// One step of a walk.
#[derive(Debug)]
pub enum Step<'a> {
    /// The next event.
    Event(RawEvent<'a>),
    /// No further event.
    End(FileEnd),
}

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
        self.interrupted();
    }

    /// From here on a second thread may read and sum ahead of the walk, for files that are worth it. Every answer is the
    /// same as without.
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

    /// Up to `len` bytes (at most [`INLINE_MAX`]) from `offset`, whatever they are; fewer at the end of the file.
    pub(crate) fn peek(&mut self, offset: u64, len: usize) -> Result<&[u8], LogError> {
        self.fill(offset, len)
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

    /// A step at the edge of the buffer, at a format description, at a large event, or at the end.
    fn step_slowly(&mut self) -> Result<Step<'_>, LogError> {
        if let Some(end) = &self.end {
            return Ok(Step::End(end.clone()));
        }
        let offset = self.next;
        let header = match self.read_header(offset)? {
            Ok(header) => header,
            Err(end) => return Ok(Step::End(self.ended(end))),
        };
        let size = header.event_size as usize;
        let checksum;
        if header.type_code == EventType::FORMAT_DESCRIPTION {
            match self.read_format_description(offset, header)? {
                Ok(has_checksum) => checksum = has_checksum,
                Err(end) => return Ok(Step::End(self.ended(end))),
            }
        } else {
            if !self.described {
                let end = corrupt(
                    offset,
                    "a FORMAT_DESCRIPTION_EVENT",
                    format!("{}", header.type_code),
                );
                return Ok(Step::End(self.ended(end)));
            }
            checksum = self.checksum;
            if let Some(end) = self.verify(offset, header)? {
                return Ok(Step::End(self.ended(end)));
            }
        }
        if header.type_code == EventType::MARIADB_START_ENCRYPTION {
            return Err(LogError::Encrypted {
                path: self.path.clone(),
                offset,
            });
        }
        self.next = offset + u64::from(header.event_size);
        let bytes = self.fill(offset, size.min(INLINE_MAX))?;
        Ok(Step::Event(RawEvent {
            offset,
            header,
            bytes,
            checksum,
        }))
    }

    fn ended(&mut self, end: FileEnd) -> FileEnd {
        self.end = Some(end.clone());
        end
    }

    /// A header whose event lies inside the file, or how the file ends.
    fn read_header(&mut self, offset: u64) -> Result<Result<EventHeader, FileEnd>, LogError> {
        let rest = self.size.saturating_sub(offset);
        if rest == 0 {
            return Ok(Err(FileEnd::Boundary));
        }
        let bytes = self.fill(offset, HEADER_LEN as usize)?;
        let Some(header) = EventHeader::parse(bytes) else {
            return Ok(Err(torn(
                offset,
                format!("{rest} of 19 bytes of an event header"),
            )));
        };
        let size = header.event_size;
        if size < HEADER_LEN {
            // A crash of the machine can leave zeros where the data never reached the disk.
            if self.only_zeros(offset)? {
                return Ok(Err(torn(offset, format!("{rest} zero bytes"))));
            }
            return Ok(Err(corrupt(
                offset,
                "an event of at least 19 bytes",
                format!("length {size}"),
            )));
        }
        if size > EVENT_MAX {
            return Ok(Err(corrupt(
                offset,
                "an event of at most 1 GiB",
                format!("length {size}"),
            )));
        }
        if u64::from(size) > rest {
            self.cut_off = Some(header);
            return Ok(Err(torn(
                offset,
                format!("{rest} of {size} bytes of a {}", header.type_code),
            )));
        }
        Ok(Ok(header))
    }

    fn only_zeros(&mut self, mut offset: u64) -> Result<bool, LogError> {
        while offset < self.size {
            let bytes = self.fill(offset, 1)?;
            if bytes.is_empty() {
                break;
            }
            let len = bytes.len() as u64;
            if bytes.iter().any(|&b| b != 0) {
                return Ok(false);
            }
            offset += len;
            // `fill` lends no more than asked for; go on with the whole buffer.
            let (start, filled) = (self.start, self.filled);
            let end = start + filled as u64;
            if end > offset {
                let skip = usize::try_from(offset - start).unwrap_or(filled);
                if self
                    .buffer
                    .get(skip..filled)
                    .is_some_and(|rest| rest.iter().any(|&b| b != 0))
                {
                    return Ok(false);
                }
                offset = end;
            }
        }
        Ok(true)
    }

    /// Takes over the setting of a format description; yields whether it has a checksum field itself.
    fn read_format_description(
        &mut self,
        offset: u64,
        header: EventHeader,
    ) -> Result<Result<ChecksumAlgorithm, FileEnd>, LogError> {
        let size = header.event_size as usize;
        if size > INLINE_MAX {
            return Ok(Err(corrupt(
                offset,
                "a FORMAT_DESCRIPTION_EVENT of less than 1 MiB",
                format!("length {size}"),
            )));
        }
        let bytes = self.fill(offset, size)?;
        let Some(description) = FormatDescription::parse(bytes) else {
            return Ok(Err(corrupt(
                offset,
                "a FORMAT_DESCRIPTION_EVENT of format 4",
                format!("{size} bytes that are none"),
            )));
        };
        let has_checksum = if description.has_checksum_field {
            ChecksumAlgorithm::Crc32
        } else {
            ChecksumAlgorithm::None
        };
        let verified = description.checksum == ChecksumAlgorithm::Crc32
            || (description.has_checksum_field && !is_sent_without_checksums(bytes, header));
        if verified
            && let Some((stored, computed)) = format_description_checksums(bytes)
            && stored != computed
        {
            return Ok(Err(bad_checksum(offset, header, stored, computed)));
        }
        self.checksum = description.checksum;
        self.described = true;
        Ok(Ok(has_checksum))
    }

    /// Checks the sum of an event that is no format description.
    fn verify(&mut self, offset: u64, header: EventHeader) -> Result<Option<FileEnd>, LogError> {
        if self.checksum == ChecksumAlgorithm::None {
            return Ok(None);
        }
        let size = header.event_size as usize;
        if header.event_size < HEADER_LEN + CHECKSUM_LEN {
            return Ok(Some(corrupt(
                offset,
                "an event with a checksum",
                format!("length {size}"),
            )));
        }
        let (stored, computed) = if size <= INLINE_MAX {
            match crate::checksum::checksums(self.fill(offset, size)?) {
                Some(sums) => sums,
                None => return Ok(Some(torn(offset, format!("less than {size} bytes")))),
            }
        } else {
            self.checksums_in_blocks(offset, size)?
        };
        Ok((stored != computed).then(|| bad_checksum(offset, header, stored, computed)))
    }

    fn checksums_in_blocks(&mut self, offset: u64, size: usize) -> Result<(u32, u32), LogError> {
        let mut hasher = crc32fast::Hasher::new();
        let mut left = size - CHECKSUM_LEN as usize;
        let mut at = offset;
        while left > 0 {
            let block = self.fill(at, left.min(BUFFER))?;
            if block.is_empty() {
                // The file shrank: report a sum that cannot match.
                return Ok((0, !0));
            }
            hasher.update(block);
            left -= block.len();
            at += block.len() as u64;
        }
        let stored = self.fill(at, CHECKSUM_LEN as usize)?;
        let stored = <[u8; 4]>::try_from(stored).map(u32::from_le_bytes);
        let computed = hasher.finalize();
        Ok((stored.unwrap_or(!computed), computed))
    }

    /// `len` bytes (at most [`INLINE_MAX`]) from `offset`; fewer only at the end of the file.
    fn fill(&mut self, offset: u64, len: usize) -> Result<&[u8], LogError> {
        let len = len.min(INLINE_MAX);
        let inside = offset
            .checked_sub(self.start)
            .and_then(|skip| usize::try_from(skip).ok())
            .filter(|skip| skip.checked_add(len).is_some_and(|end| end <= self.filled));
        let skip = match inside {
            Some(skip) => skip,
            None => {
                self.refill(offset, len)?;
                0
            }
        };
        let end = (skip + len).min(self.filled);
        Ok(self.buffer.get(skip..end).unwrap_or_default())
    }

    fn refill(&mut self, offset: u64, len: usize) -> Result<(), LogError> {
        let rest = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let block = if offset == 0 { HEAD } else { self.block };
        let want = rest.min(len.max(block));
        if self.buffer.len() < want {
            self.buffer.resize(want, 0);
        }
        self.start = offset;
        self.filled = 0;
        self.proven = 0;
        while self.filled < want {
            let Some(target) = self.buffer.get_mut(self.filled..want) else {
                break;
            };
            match self.file.read_at(target, offset + self.filled as u64) {
                Ok(0) => break,
                Ok(n) => self.filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(LogError::io("read", &self.path)(e)),
            }
        }
        Ok(())
    }
}

/// A server writes a right sum into every format description, also where checksums are off. Only a source that sends one
/// with them off zeroes fields without a new sum. Where the sum is right with checksums on, that byte alone is damaged, and
/// believing it would leave all that follows unverified.
fn is_sent_without_checksums(event: &[u8], header: EventHeader) -> bool {
    let mut on = event.to_vec();
    if let Some(algorithm) = on.iter_mut().rev().nth(CHECKSUM_LEN as usize) {
        *algorithm = 1;
    }
    header.log_pos == 0
        && format_description_checksums(&on).is_some_and(|(stored, computed)| stored != computed)
}

/// (stored, computed) sums of a format description: computed with the in-use flag cleared.
pub(crate) fn format_description_checksums(event: &[u8]) -> Option<(u32, u32)> {
    let (content, stored) = event.split_last_chunk::<4>()?;
    let (head, rest) = content.split_at_checked(FLAGS_OFFSET)?;
    let (flags, tail) = rest.split_first_chunk::<2>()?;
    let flags = u16::from_le_bytes(*flags) & !FLAG_IN_USE;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(&flags.to_le_bytes());
    hasher.update(tail);
    Some((u32::from_le_bytes(*stored), hasher.finalize()))
}

fn torn(offset: u64, detail: String) -> FileEnd {
    FileEnd::Torn { offset, detail }
}

fn corrupt(offset: u64, expected: impl Into<String>, found: String) -> FileEnd {
    FileEnd::Corrupt {
        offset,
        expected: expected.into(),
        found,
    }
}

fn bad_checksum(offset: u64, header: EventHeader, stored: u32, computed: u32) -> FileEnd {
    corrupt(
        offset,
        format!("a {} with checksum {computed:08x}", header.type_code),
        format!("{stored:08x}"),
    )
}
