//! A local server's logs as providers: the binary log at its remembered place, the relay logs in every set that holds
//! the current source's stream.
//!
//! Relay logs come in sets (see [`super::keep`]). The current set answers first; what it lacks is asked of older
//! numberings of the same source, so that a second run after a broken replay still finds what was received before.
//! All functions here block on the disk.

use binlog_core::{
    BinaryLogs, BinlogPosition, CutPlan, EventDigest, GtidState, Located, LogError, RelayLogs,
    ServerId, StreamRange, Survey,
};

use super::LogsError;
use super::keep::RelayKeeper;
use crate::mysqld::Remembered;

/// Opens the server's binary log.
///
/// # Errors
/// The place was never learnt; the server has none; or see [`LogError`].
pub fn binary_logs(known: Option<&Remembered>) -> Result<BinaryLogs, LogsError> {
    let known = known.ok_or(LogsError::NeverLearnt { what: "binary log" })?;
    let basename = known
        .log_bin_basename
        .as_ref()
        .ok_or(LogsError::NoBinaryLog)?;
    Ok(BinaryLogs::open(basename)?)
}

/// The relay logs of the current source's stream.
#[derive(Debug)]
pub struct RelayProvider {
    /// Never empty; the current set first.
    sets: Vec<RelayLogs>,
}

impl RelayProvider {
    /// Opens all sets. `latest` is what the server has received; it names the primary's file where no Rotate does, and
    /// speaks of the current set only.
    ///
    /// # Errors
    /// The place was never learnt, nothing is there, or see [`LogError`].
    pub fn open(
        known: Option<&Remembered>,
        keeper: &RelayKeeper,
        latest: Option<&BinlogPosition>,
    ) -> Result<Self, LogsError> {
        let known = known.ok_or(LogsError::NeverLearnt { what: "relay logs" })?;
        let location = keeper
            .location()
            .ok_or(LogsError::NeverLearnt { what: "relay logs" })?;
        let mut sets = Vec::new();
        for (index, files) in keeper.sets()?.into_iter().enumerate() {
            let latest = latest.filter(|_| index == 0).cloned();
            match RelayLogs::open(files, ServerId(known.identity.server_id), latest) {
                Ok(logs) => sets.push(logs),
                // An older set may have been dropped by the limits meanwhile.
                Err(error) if index > 0 => {
                    tracing::debug!(
                        error = crate::error::chain(&error),
                        "an older set of relay logs is left out"
                    );
                }
                Err(error) => return Err(error.into()),
            }
        }
        if sets.is_empty() {
            return Err(LogError::NoFiles {
                basename: location.directory.join(location.base),
            }
            .into());
        }
        Ok(Self { sets })
    }

    /// What all sets together hold; how it ends is told by the set that reaches furthest, the current one first.
    ///
    /// # Errors
    /// See [`LogError`]; a damaged older set only fails where it is the only one.
    pub fn survey(&self) -> Result<Survey, LogError> {
        let mut surveys = Vec::new();
        for (index, logs) in self.sets.iter().enumerate() {
            match logs.survey() {
                Ok(survey) => surveys.push(survey),
                Err(error) if index == 0 => return Err(error),
                Err(_) => {}
            }
        }
        merge(surveys).ok_or_else(|| LogError::NoFiles {
            basename: std::path::PathBuf::new(),
        })
    }

    /// Where `target` is.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn locate(&self, target: &BinlogPosition) -> Result<Located, LogError> {
        self.first_that_holds(|logs| logs.locate(target))
    }

    /// Where a server that has `held` stands, if the one whose logs these are has executed `owner`; `None` if no set can tell.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn place_of(
        &self,
        held: &GtidState,
        owner: &GtidState,
    ) -> Result<Option<BinlogPosition>, LogError> {
        let mut first = None;
        for logs in &self.sets {
            match logs.place_of(held, owner) {
                Ok(None) => {}
                found @ Ok(Some(_)) => return found,
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        first.map_or(Ok(None), Err)
    }

    /// The last event that ends at or before `before`.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn event_before(&self, before: &BinlogPosition) -> Result<Option<EventDigest>, LogError> {
        let mut first = None;
        for logs in &self.sets {
            match logs.event_before(before) {
                Ok(None) => {}
                found @ Ok(Some(_)) => return found,
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        first.map_or(Ok(None), Err)
    }

    /// A plan to cut exactly `range`.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn plan_cut(&self, range: &StreamRange) -> Result<CutPlan, LogError> {
        self.first_that_holds(|logs| logs.plan_cut(range))
    }

    /// Asks the sets one after the other as long as they lack what is asked for; the current set's answer is the error.
    fn first_that_holds<T>(
        &self,
        ask: impl Fn(&RelayLogs) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let mut first = None;
        for logs in &self.sets {
            match ask(logs) {
                Ok(answer) => return Ok(answer),
                Err(
                    error @ (LogError::NotHeld { .. }
                    | LogError::Hole { .. }
                    | LogError::NoFormatDescription { .. }),
                ) => {
                    first.get_or_insert(error);
                }
                Err(error) => return Err(first.unwrap_or(error)),
            }
        }
        Err(first.unwrap_or_else(|| LogError::NoFiles {
            basename: std::path::PathBuf::new(),
        }))
    }
}

/// One survey of several sets of one stream. `None` only for no survey at all.
fn merge(surveys: Vec<Survey>) -> Option<Survey> {
    let mut surveys = surveys.into_iter();
    let mut merged = surveys.next()?;
    for other in surveys {
        merged.walked_bytes = merged.walked_bytes.saturating_add(other.walked_bytes);
        merged.ranges.extend(other.ranges);
        if other.data_end > merged.data_end {
            merged.end = other.end;
            merged.whole_end = other.whole_end;
            merged.data_end = other.data_end;
            merged.last_transaction = other.last_transaction;
        }
    }
    merged.ranges = union(merged.ranges);
    merged.holes = merged
        .ranges
        .windows(2)
        .filter_map(|pair| match pair {
            [a, b] => Some(StreamRange::new(a.to.clone(), b.from.clone())),
            _ => None,
        })
        .collect();
    Some(merged)
}

/// Ranges joined where they touch, ascending.
fn union(mut ranges: Vec<StreamRange>) -> Vec<StreamRange> {
    ranges.sort_by(|a, b| a.from.cmp(&b.from));
    let mut joined: Vec<StreamRange> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.from <= last.to => {
                if range.to > last.to {
                    last.to = range.to;
                }
            }
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use binlog_core::LogEnd;

    use super::*;

    fn range(from: &str, to: &str) -> StreamRange {
        StreamRange::new(from.parse().unwrap(), to.parse().unwrap())
    }

    fn survey(ranges: Vec<StreamRange>, file: &str) -> Survey {
        let end = ranges.last().map(|r| r.to.clone());
        Survey {
            ranges,
            holes: Vec::new(),
            end: LogEnd::InUse {
                file: file.to_owned(),
                offset: 4,
            },
            whole_end: end.clone(),
            data_end: end,
            last_transaction: None,
            walked_bytes: 10,
        }
    }

    #[test]
    fn sets_that_touch_become_one_range_and_gaps_become_holes() {
        let merged = merge(vec![
            survey(vec![range("b.000001:452", "b.000001:880")], "r.000002"),
            survey(
                vec![
                    range("b.000001:4", "b.000001:120"),
                    range("b.000001:300", "b.000001:452"),
                ],
                "r.000009",
            ),
        ])
        .unwrap();
        assert_eq!(
            merged.ranges,
            [
                range("b.000001:4", "b.000001:120"),
                range("b.000001:300", "b.000001:880")
            ]
        );
        assert_eq!(merged.holes, [range("b.000001:120", "b.000001:300")]);
        assert_eq!(merged.end.file(), "r.000002");
        assert_eq!(merged.walked_bytes, 20);
    }

    #[test]
    fn the_set_that_reaches_furthest_tells_the_end() {
        let merged = merge(vec![
            survey(vec![range("b.000001:4", "b.000001:120")], "r.000002"),
            survey(vec![range("b.000001:4", "b.000002:300")], "r.000009"),
        ])
        .unwrap();
        assert_eq!(merged.ranges, [range("b.000001:4", "b.000002:300")]);
        assert_eq!(merged.end.file(), "r.000009");
        assert!(merged.holes.is_empty());
    }
}
