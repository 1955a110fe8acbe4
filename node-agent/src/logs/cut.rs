//! Cutting a segment into the store: the same request twice gives the same segment once.

use binlog_core::{BinaryLogs, BinlogPosition, Cut, CutPlan, NothingToCut};
use proto::convert::Context;

use super::LogsError;
use super::store::{SegmentStore, Stored};

/// What became of a cut.
#[derive(Debug)]
pub enum CutOutcome {
    /// The segment is in the store.
    Done(Box<Stored>),
    /// There was nothing to cut.
    Nothing(NothingToCut),
}

/// Id of a tail: what the dead primary's binary log holds from a position on.
pub fn tail_id(from: &BinlogPosition) -> String {
    format!("tail-{}-{}", plain(from.file.as_str()), from.offset)
}

/// Id of what a binlog server's copies hold from a position on.
pub fn copy_id(binlog_server: &str, from: &BinlogPosition) -> String {
    format!(
        "copy-{}-{}-{}",
        plain(binlog_server),
        plain(from.file.as_str()),
        from.offset
    )
}

/// Id of a diff: what a survivor's relay logs hold from a position on.
pub fn diff_id(server: &str, from: &BinlogPosition) -> String {
    format!(
        "diff-{}-{}-{}",
        plain(server),
        plain(from.file.as_str()),
        from.offset
    )
}

/// Cuts the tail of a binary log: from a position to the end of its last whole transaction. It is written while the log is
/// read, unless there may be one already, or too little space. Blocks; `progress` gets bytes done and bytes in all.
///
/// # Errors
/// As [`BinaryLogs::plan_cut`] and [`carry_out`].
pub fn cut_tail(
    store: &SegmentStore,
    context: &Context,
    id: &str,
    provider: &str,
    (logs, from): (&BinaryLogs, &BinlogPosition),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<CutOutcome, LogsError> {
    let operation = context.operation.as_str();
    store.prepare(&context.cluster, operation)?;
    let bytes = logs.bytes_from(from).unwrap_or(0);
    let drafted = bytes > 0
        && store.get(&context.cluster, operation, id).is_err()
        && store.require_space(bytes).is_ok();
    let plan = if drafted {
        let path = store.path(operation, id)?;
        logs.plan_and_draft(from, &path, &mut |done| progress(done.min(bytes), bytes))?
    } else {
        logs.plan_cut(from, None)?
    };
    perform(store, context, id, provider, plan, drafted, progress)
}

/// Carries out a plan. A whole segment of this id and range, left by an earlier call, is given back as it is. Blocks;
/// `progress` gets bytes done and bytes in all.
///
/// # Errors
/// The disk is full or refuses; the log changed since it was planned.
pub fn carry_out(
    store: &SegmentStore,
    context: &Context,
    id: &str,
    provider: &str,
    plan: CutPlan,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<CutOutcome, LogsError> {
    perform(store, context, id, provider, plan, false, progress)
}

fn perform(
    store: &SegmentStore,
    context: &Context,
    id: &str,
    provider: &str,
    plan: CutPlan,
    drafted: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<CutOutcome, LogsError> {
    let cut: Cut = match plan {
        CutPlan::Cut(cut) => cut,
        CutPlan::Nothing(nothing) => return Ok(CutOutcome::Nothing(nothing)),
    };
    let operation = context.operation.as_str();
    store.prepare(&context.cluster, operation)?;
    let path = store.path(operation, id)?;
    if let Ok(stored) = store.get(&context.cluster, operation, id)
        && stored.manifest.range == *cut.range()
    {
        progress(stored.manifest.size, stored.manifest.size);
        return Ok(CutOutcome::Done(Box::new(stored)));
    }
    let total = cut.bytes();
    // What was written while the log was read has its space.
    if !drafted {
        store.require_space(total)?;
    }
    // The heads of the files come on top of what is copied; the last bytes are reported as all of it.
    cut.write(&path, provider, &mut |done| {
        progress(done.min(total), total);
    })?;
    let stored = store.get(&context.cluster, operation, id)?;
    Ok(CutOutcome::Done(Box::new(stored)))
}

/// A name of the server's as part of an id: whatever an id may not have becomes `_`; of a long one the end counts, where
/// the number is.
fn plain(name: &str) -> String {
    let surplus = name.chars().count().saturating_sub(80);
    name.chars()
        .skip(surplus)
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::names::is_safe;

    #[test]
    fn ids_say_what_they_hold_and_are_file_names() {
        let from = "mysql-bin.000001:880".parse().unwrap();
        assert_eq!(tail_id(&from), "tail-mysql-bin.000001-880");
        assert_eq!(
            diff_id("db2:3306", &from),
            "diff-db2_3306-mysql-bin.000001-880"
        );
        let odd = "b in\u{e9}.000001:4".parse().unwrap();
        assert!(is_safe(&tail_id(&odd)), "{}", tail_id(&odd));
        let long = format!("{}.000001:4", "x".repeat(300)).parse().unwrap();
        assert!(is_safe(&diff_id(&"s".repeat(63), &long)));
        assert!(is_safe(&copy_id(&"s".repeat(63), &long)));
    }
}
