//! A manager that is killed around a script is followed by one that finishes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use manager::exit_code::ExitCode;
use manager::journal::{Hook, NoHook, Record, StepOutcome};
use manager::plan::Act;

use super::{ALL_FOUR, Story};
use crate::cluster::code;

/// Stops the run as a crash would at the n-th record that is about a hook.
struct KillAtHookRecord {
    at: u32,
    after: bool,
    count: AtomicU32,
}

impl KillAtHookRecord {
    fn is_about_a_hook(record: &Record) -> bool {
        match record {
            Record::Started { step, .. } => matches!(step.act, Act::RunHook { .. }),
            Record::Done { outcome, .. } => matches!(**outcome, StepOutcome::HookRan(_)),
            _ => false,
        }
    }
}

impl Hook for KillAtHookRecord {
    fn before(&self, record: &Record) -> bool {
        if !Self::is_about_a_hook(record) {
            return true;
        }
        let n = self.count.fetch_add(1, Ordering::SeqCst);
        n != self.at || self.after
    }

    fn after(&self, record: &Record) -> bool {
        let n = self.count.load(Ordering::SeqCst);
        !(Self::is_about_a_hook(record) && self.after && n == self.at + 1)
    }
}

#[tokio::test]
async fn a_manager_killed_around_any_hook_is_followed_by_one_that_finishes() {
    // Four hooks, a record before and one after each.
    for at in 0..8 {
        for after in [false, true] {
            let story = Story::start().await;
            let hook = Arc::new(KillAtHookRecord {
                at,
                after,
                count: AtomicU32::new(0),
            });
            let request = story.cluster.request();
            story.cluster.run_with(&request, hook.clone(), None).await;
            let name = format!("record {at}, after {after}");
            assert!(
                hook.count.load(Ordering::SeqCst) > at,
                "{name}: it came that far"
            );
            let report = story
                .cluster
                .run_with(&request, Arc::new(NoHook), None)
                .await;
            assert_eq!(code(&report), ExitCode::Done, "{name}: {}", report.summary);
            assert!(story.winner_is_open(), "{name}");
            assert_eq!(story.cluster.called("Promote"), 1, "{name}");
            let calls = story.short_calls();
            for wanted in ALL_FOUR {
                let times = calls.iter().filter(|c| c == wanted).count();
                assert!((1..=2).contains(&times), "{name}: {wanted} {times} times");
            }
        }
    }
}
