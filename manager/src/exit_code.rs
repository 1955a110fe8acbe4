//! Exit codes of `mha-manager`: part of its interface, so numbers never change their meaning.

use std::process::ExitCode as ProcessExitCode;

use crate::daemon::State;

/// How a command of the manager ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExitCode {
    /// 0: everything that was asked for is done.
    Done,
    /// 1: failed, and nothing was changed (or what was changed is undone).
    Failed,
    /// 2: wrong usage or configuration; nothing was tried.
    Usage,
    /// 10: done, but a server needs care; the report names it.
    DoneNeedsCare,
    /// 11: failed after changes; the journal of the operation is open.
    FailedAfterChanges,
    /// 12: refused by a safety check; nothing was changed.
    Refused,
    /// 13: another operation holds the cluster; nothing was changed.
    Held,
    /// 14: a change was sent and its outcome is unknown.
    OutcomeUnknown,
}

impl ExitCode {
    /// All codes, for documentation and tests.
    pub const ALL: [Self; 8] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::DoneNeedsCare,
        Self::FailedAfterChanges,
        Self::Refused,
        Self::Held,
        Self::OutcomeUnknown,
    ];

    /// The number the process ends with.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::DoneNeedsCare => 10,
            Self::FailedAfterChanges => 11,
            Self::Refused => 12,
            Self::Held => 13,
            Self::OutcomeUnknown => 14,
        }
    }

    /// One phrase for help texts and reports.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed, nothing changed",
            Self::Usage => "usage or configuration error",
            Self::DoneNeedsCare => "done, a server needs care",
            Self::FailedAfterChanges => "failed after changes, journal open",
            Self::Refused => "refused by a safety check, nothing changed",
            Self::Held => "another operation holds the cluster, nothing changed",
            Self::OutcomeUnknown => "outcome unknown",
        }
    }
}

/// How a command ended: the manager's own codes, and MHA's state numbers of `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// One of ours.
    Manager(ExitCode),
    /// MHA's number of a cluster's state.
    State(State),
}

impl From<ExitCode> for Exit {
    fn from(code: ExitCode) -> Self {
        Self::Manager(code)
    }
}

impl From<Exit> for ProcessExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Manager(code) => Self::from(code.number()),
            Exit::State(state) => Self::from(state.number()),
        }
    }
}

impl From<ExitCode> for ProcessExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_documented_ones() {
        let numbers: Vec<u8> = ExitCode::ALL.iter().map(|c| c.number()).collect();
        assert_eq!(numbers, [0, 1, 2, 10, 11, 12, 13, 14]);
    }

    #[test]
    fn meanings_are_distinct() {
        let mut meanings: Vec<&str> = ExitCode::ALL.iter().map(|c| c.meaning()).collect();
        meanings.sort_unstable();
        meanings.dedup();
        assert_eq!(meanings.len(), ExitCode::ALL.len());
    }
}
