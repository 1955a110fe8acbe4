//! Whether a cut is worth making.

use super::plan::Cut;
use crate::error::LogError;
use crate::reader::{EventReader, Step};
use crate::transaction::is_bookkeeping;

impl Cut {
    /// False if the range holds nothing but bookkeeping (see [`is_bookkeeping`]): whoever lacks it lacks no data. Reads up
    /// to the first event that is some.
    ///
    /// # Errors
    /// An unreadable file.
    pub fn holds_data(&self) -> Result<bool, LogError> {
        for step in &self.steps {
            let Some(path) = self.sources.get(step.source) else {
                continue;
            };
            let mut reader = EventReader::open(path)?;
            reader.seek(step.at, step.checksum);
            while reader.offset() < step.end_at {
                match reader.step()? {
                    Step::Event(event) if is_bookkeeping(event.type_code()) => {}
                    Step::Event(_) => return Ok(true),
                    // Changed since it was planned: the cut itself says so.
                    Step::End(_) => return Ok(true),
                }
            }
        }
        Ok(false)
    }
}
