//! A primary's binary log: everything it wrote is held, up to where it is cut off.

use binlog_core::{
    BinaryLogs, BinlogPosition, CutPlan, EventType, LogEnd, LogError, NothingReason,
};

use crate::primary::Primary;
use crate::segment::{check, range};

/// What is left of a log whose newest file is cut off.
#[derive(Debug)]
pub(crate) struct Left {
    /// Its events.
    pub(crate) held: Vec<usize>,
    /// Where the last one ends; the start of the newest file if that holds none.
    pub(crate) end: BinlogPosition,
    /// Bytes of a cut off event behind it.
    pub(crate) torn: u64,
}

impl Left {
    /// Of a newest file that keeps `keep` of its bytes.
    pub(crate) fn of(primary: &Primary, keep: u64) -> Self {
        let newest = &primary.log.position().file;
        let events = primary.log.events.iter().enumerate();
        let held: Vec<usize> = events
            .filter(|(_, e)| e.end.file != *newest || e.end.offset <= keep)
            .map(|(i, _)| i)
            .collect();
        let last = held.last().map(|&i| primary.log.events[i].end.clone());
        let end = last
            .filter(|end| end.file == *newest)
            .unwrap_or_else(|| BinlogPosition::new(newest.clone(), 4));
        let torn = keep - end.offset;
        Self { held, end, torn }
    }

    /// Ends of the whole transactions.
    pub(crate) fn whole(&self, primary: &Primary) -> Vec<BinlogPosition> {
        let whole = primary
            .transactions
            .iter()
            .filter(|transaction| self.held.contains(transaction.end()));
        whole
            .map(|transaction| primary.log.events[*transaction.end()].end.clone())
            .collect()
    }
}

/// Compares surveys and cuts with what is left.
pub(crate) fn compare(primary: &Primary, left: &Left, logs: &BinaryLogs, every: usize) {
    let dir = crate::scratch();
    let output = dir.path().join("segment");
    let whole = left.whole(primary);
    let inside = |position: &BinlogPosition| {
        primary.transactions.iter().any(|transaction| {
            let first = &primary.log.events[*transaction.start()];
            let last = &primary.log.events[*transaction.end()];
            first.start < *position && *position < last.end
        })
    };
    for (n, event) in primary.log.events.iter().enumerate() {
        for from in [&event.start, &event.end] {
            let beyond = *from > left.end;
            let last_whole = whole.iter().rev().find(|end| *end > from);
            match logs.survey(Some(from)) {
                Ok(survey) => {
                    assert!(!beyond, "{from}");
                    assert_eq!(survey.ranges, [range(from, &left.end)]);
                    assert_eq!(survey.data_end.as_ref(), Some(&left.end));
                    assert_eq!(survey.end.offset(), left.end.offset);
                    assert_eq!(matches!(survey.end, LogEnd::Torn { .. }), left.torn > 0);
                    let start = Some(from).filter(|from| !inside(from));
                    assert_eq!(survey.whole_end.as_ref(), last_whole.or(start), "{from}");
                }
                Err(LogError::NotHeld { .. }) => assert!(beyond, "{from}"),
                Err(error) => panic!("{from}: {error}"),
            }
            if n % every > 0 {
                continue;
            }
            let plan = if n % 2 == 0 {
                logs.plan_and_draft(from, &output, &mut |_| ()).unwrap()
            } else {
                logs.plan_cut(from, None).unwrap()
            };
            match (plan, last_whole) {
                (CutPlan::Cut(cut), Some(to)) => {
                    let wanted = range(from, to);
                    let manifest = check(primary, &left.held, &wanted, CutPlan::Cut(cut), &output);
                    assert_eq!(manifest.whole_end.as_ref(), Some(to));
                    let ended = whole.iter().filter(|end| *end > from).count();
                    assert_eq!(manifest.transactions, ended as u64);
                    // The unfinished transaction and the event that is cut off.
                    let open = primary
                        .transactions
                        .iter()
                        .map(|transaction| &primary.log.events[*transaction.start()].start)
                        .find(|start| *start >= to && **start < left.end);
                    let unfinished = open.map_or(0, |start| left.end.offset - start.offset);
                    assert_eq!(manifest.dropped_bytes, unfinished + left.torn);
                }
                (CutPlan::Nothing(nothing), None) => {
                    let data = left.held.iter().any(|&i| {
                        let event = &primary.log.events[i];
                        event.start >= *from
                    });
                    // The last event held belongs to a transaction that goes on.
                    let unfinished = left.torn > 0 || inside(&left.end);
                    let reason = if beyond {
                        NothingReason::BeyondEnd
                    } else if unfinished {
                        NothingReason::OnlyUnfinished
                    } else if data {
                        NothingReason::OnlyClosing
                    } else {
                        NothingReason::AtEnd
                    };
                    let at_end = from == &left.end && left.torn == 0;
                    assert!(
                        nothing.reason == reason
                            || (at_end && nothing.reason == NothingReason::AtEnd),
                        "{from}: {:?} instead of {reason:?}",
                        nothing.reason
                    );
                }
                (plan, wanted) => panic!("{from}: {plan:?}, wanted {wanted:?}"),
            }
        }
        if !left.held.contains(&n) {
            continue;
        }
        for offset in [event.start.offset + 1, event.end.offset - 1] {
            let position = BinlogPosition::new(event.start.file.clone(), offset);
            let found = logs.plan_cut(&position, None);
            let right = match &found {
                Err(LogError::NotABoundary { before, after, .. }) => {
                    (before, after) == (&event.start, &event.end)
                }
                _ => false,
            };
            assert!(right, "{position}: {found:?}");
        }
        if event.type_code != EventType::FORMAT_DESCRIPTION && inside(&event.end) {
            let refused = logs.plan_cut(&event.start, Some(&event.end));
            assert!(
                matches!(refused, Err(LogError::InsideTransaction { .. })),
                "{}: {refused:?}",
                event.end
            );
        }
    }
}
