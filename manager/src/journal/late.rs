//! A record after the end of an operation: what became known of it later.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use super::write::encode;
use super::{JournalError, Record, read};

/// Appends a record to the journal of an operation that is over; durable when this returns. The journal is not locked: an
/// operation that is over must not look like one that runs.
///
/// # Errors
/// [`JournalError`].
pub fn append_after_end(path: &Path, record: &Record) -> Result<(), JournalError> {
    let io = |source| JournalError::io(path, source);
    let line = encode(path, record)?;
    let torn_at = read(path)?.torn_at;
    let mut file = OpenOptions::new().append(true).open(path).map_err(io)?;
    if let Some(torn_at) = torn_at {
        // An earlier append was cut off.
        file.set_len(torn_at).map_err(io)?;
    }
    file.write_all(&line).map_err(io)?;
    file.sync_all().map_err(io)
}
