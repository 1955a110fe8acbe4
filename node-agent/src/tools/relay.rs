//! Relay logs by directory and index, and what of them may be used.
//!
//! Exactly the files that the index names are read, in its order: kept hard links of purged relay logs
//! (`mha-kept-...`) are not, unless the index names them.

use std::path::{Path, PathBuf};

use binlog_core::reader::{EventReader, FileEnd, Step};
use binlog_core::{
    BinlogPosition, LogError, RelayFileName, RelayLogs, ServerId, StreamRange, Survey, read_index,
};

use super::ToolError;
use super::error::damaged;
use crate::cli::RelayArgs;

/// Which relay logs, and the primary's positions between which they are used.
#[derive(Debug, Clone)]
pub struct RelayInput {
    /// Directory of the relay logs.
    pub relay_dir: PathBuf,
    /// Index file.
    pub relay_log_index: PathBuf,
    /// Server id of their owner.
    pub server_id: ServerId,
    /// What the target has.
    pub target: BinlogPosition,
    /// What the owner received.
    pub latest: Option<BinlogPosition>,
}

impl From<RelayArgs> for RelayInput {
    fn from(args: RelayArgs) -> Self {
        Self {
            relay_dir: args.relay_dir,
            relay_log_index: args.relay_log_index,
            server_id: args.server_id,
            target: args.target,
            latest: args.latest,
        }
    }
}

impl RelayInput {
    /// Opens the relay logs.
    ///
    /// # Errors
    /// An index that cannot be read, a line of it that is no relay log, a file that it names and that is missing or no
    /// log.
    pub fn open(&self) -> Result<RelayLogs, ToolError> {
        let index = self.index();
        let mut files: Vec<(RelayFileName, PathBuf)> = Vec::new();
        for (i, listed) in read_index(&index)?.iter().enumerate() {
            let text = listed
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let name: RelayFileName = text.parse().map_err(|_| LogError::BadInfoFile {
                path: index.clone(),
                line: i + 1,
                expected: "a relay log file",
                found: text.clone(),
            })?;
            let path = self.relay_dir.join(name.as_str());
            if !path.exists() {
                let context = format!(": {} names it", index.display());
                return Err(LogError::Missing { path, context }.into());
            }
            files.push((name, path));
        }
        if files.is_empty() {
            let context = format!(": {} names no relay log", index.display());
            let path = self.relay_dir.clone();
            return Err(LogError::Missing { path, context }.into());
        }
        Ok(RelayLogs::open(files, self.server_id, self.latest.clone())?)
    }

    /// The index as given; a bare name that is not in the current directory is looked for in that of the relay logs.
    fn index(&self) -> PathBuf {
        let bare = self.relay_log_index.components().count() == 1;
        if bare && !self.relay_log_index.exists() {
            return self.relay_dir.join(&self.relay_log_index);
        }
        self.relay_log_index.clone()
    }

    /// The end of what may be used: what the owner received, or less if the relay logs end before.
    ///
    /// # Errors
    /// Nothing is held; a position of another log; a target behind the end.
    pub fn bound(&self, logs: &RelayLogs, survey: &Survey) -> Result<BinlogPosition, ToolError> {
        let Some(end) = survey.data_end.clone() else {
            return Err(self.explain(logs, survey, self.not_held(survey, None)));
        };
        for (option, position) in [
            ("--target", Some(&self.target)),
            ("--latest", self.latest.as_ref()),
        ] {
            if let Some(position) = position.filter(|p| p.file.base() != end.file.base()) {
                let from = survey.ranges.first().map_or(&end, |range| &range.from);
                return Err(ToolError::OtherLog {
                    option,
                    position: position.clone(),
                    path: self.relay_dir.clone(),
                    held: StreamRange::new(from.clone(), end),
                });
            }
        }
        let bound = match &self.latest {
            Some(latest) if *latest < end => latest.clone(),
            _ => end,
        };
        if self.target > bound {
            let error = self.not_held(survey, Some(&bound));
            return Err(self.explain(logs, survey, error));
        }
        Ok(bound)
    }

    fn not_held(&self, survey: &Survey, bound: Option<&BinlogPosition>) -> LogError {
        let clipped = |range: &StreamRange| match bound {
            Some(bound) if range.from >= *bound => None,
            Some(bound) if range.to > *bound => {
                Some(StreamRange::new(range.from.clone(), bound.clone()))
            }
            _ => Some(range.clone()),
        };
        LogError::NotHeld {
            position: self.target.clone(),
            held: survey.ranges.iter().filter_map(clipped).collect(),
        }
    }

    /// The reason behind a refusal where it is damage: that of the newest file for what lies behind its end, that of an
    /// older one for a hole.
    pub fn explain(&self, logs: &RelayLogs, survey: &Survey, error: LogError) -> ToolError {
        match &error {
            LogError::NotHeld { position, .. }
                if survey.data_end.as_ref().is_none_or(|end| position > end) =>
            {
                let path = self.relay_dir.join(survey.end.file());
                damaged(&survey.end, path).unwrap_or(ToolError::Log(error))
            }
            LogError::NotHeld { position, .. } => match logs.hole_at(position) {
                Ok(Some(hole)) => self.explain(logs, survey, hole),
                _ => ToolError::Log(error),
            },
            LogError::Hole { missing, path, .. } => {
                let index = |is: &dyn Fn(&RelayFileName, &Path) -> bool| {
                    let files = logs.files().iter();
                    files.into_iter().position(|(name, path)| is(name, path))
                };
                let behind = index(&|_, file| file == path).unwrap_or_default();
                let before = logs
                    .locate(&missing.from)
                    .ok()
                    .and_then(|found| index(&|name, _| *name == found.position.file));
                let between = logs
                    .files()
                    .iter()
                    .take(behind)
                    .skip(before.unwrap_or(behind));
                let damage = between.map(|(_, path)| damage_in(path));
                match damage.flat_map(Result::transpose).next() {
                    Some(Ok(damage) | Err(damage)) => ToolError::Log(damage),
                    None => ToolError::Log(error),
                }
            }
            _ => ToolError::Log(error),
        }
    }
}

/// The damaged event at which a file's use ends.
fn damage_in(path: &Path) -> Result<Option<LogError>, LogError> {
    let mut reader = EventReader::open(path)?;
    loop {
        match reader.step()? {
            Step::Event(_) => {}
            Step::End(FileEnd::Corrupt {
                offset,
                expected,
                found,
            }) => {
                return Ok(Some(LogError::Corrupt {
                    path: path.to_owned(),
                    offset,
                    expected,
                    found,
                }));
            }
            Step::End(_) => return Ok(None),
        }
    }
}
