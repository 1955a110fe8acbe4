//! When a lease ends: pure, fed with moments of one clock that runs through suspend.
//!
//! Invariants: a lease ends [`TTL`] after the newest moment at which the manager, or a majority of the agents, was known to
//! hold it up; that moment is never later than when the agent asked, whatever lay in a queue meanwhile. An answer that comes
//! late, because this agent stood still, counts like any other if it was asked for while the lease stood and is not over: then
//! no moment was without somebody who held it up. One that leaves a gap ends the lease. A lease that was lost is regained only
//! by a majority of the agents, all asked after the loss: none of them knows of a newer claim, and a manager that claims them
//! from now on waits the lease out again. The manager's word alone regains nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::lease::TTL;

/// One lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    /// Beginning: as if everybody had been heard then.
    began: Duration,
    manager: Option<Duration>,
    /// The other agents, and when each was last asked with success.
    peers: BTreeMap<String, Option<Duration>>,
    /// This agent vouched at the last look.
    own: bool,
    lost: Option<Duration>,
}

/// How a lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Held { remaining: Duration },
    Lost { since: Duration },
}

impl Machine {
    /// A lease that begins now.
    pub(super) fn new(peers: impl IntoIterator<Item = String>, now: Duration) -> Self {
        Self {
            began: now,
            manager: None,
            peers: peers.into_iter().map(|peer| (peer, None)).collect(),
            own: true,
            lost: None,
        }
    }

    /// The manager answered what was sent at `at`; a moment that has not come yet is none.
    pub(super) fn heard_manager(&mut self, at: Duration, now: Duration) {
        self.hear(at, now, |machine| {
            machine.manager = machine.manager.max(Some(at));
        });
    }

    /// This agent vouched when it was asked at `at`.
    pub(super) fn heard_peer(&mut self, peer: &str, at: Duration, now: Duration) {
        self.hear(at, now, |machine| {
            if let Some(heard) = machine.peers.get_mut(peer) {
                *heard = (*heard).max(Some(at));
            }
        });
    }

    /// What is heard after the end, looked at or not, renews nothing if it is of a moment after the end.
    fn hear(&mut self, at: Duration, now: Duration, change: impl FnOnce(&mut Self)) {
        if at > now {
            return;
        }
        let end = self.held_up_at(self.own) + TTL;
        change(self);
        if self.lost.is_none() && self.held_up_at(self.own) >= end {
            self.lost = Some(now);
        }
    }

    /// How it stands by what was heard so far; `own`: this agent itself vouches.
    pub(super) fn standing(&self, now: Duration, own: bool) -> Standing {
        if let Some(since) = self.lost {
            return Standing::Lost { since };
        }
        let end = self.held_up_at(own) + TTL;
        if now < end {
            Standing::Held {
                remaining: end - now,
            }
        } else {
            Standing::Lost { since: now }
        }
    }

    /// The same; an end that is seen here is one for good.
    pub(super) fn look(&mut self, now: Duration, own: bool) -> Standing {
        self.own = own;
        let standing = self.standing(now, own);
        if let Standing::Lost { since } = standing {
            self.lost = Some(since);
        }
        standing
    }

    /// Whether a lost lease is held again; see above.
    pub(super) fn regain(&mut self, now: Duration, own: bool) -> bool {
        let (Some(lost), Some(at)) = (self.lost, self.by_agents(own)) else {
            return false;
        };
        let regained = at > lost && now < at + TTL;
        if regained {
            self.lost = None;
        }
        regained
    }

    /// When the manager or a majority of the agents last was known to hold this server for the primary; `None` if that was
    /// never, or so long ago that a lease would be over.
    pub(super) fn evidence(&self, now: Duration, own: bool) -> Option<Duration> {
        self.manager
            .max(self.by_agents(own))
            .filter(|at| now < *at + TTL)
    }

    fn held_up_at(&self, own: bool) -> Duration {
        [Some(self.began), self.manager, self.by_agents(own)]
            .into_iter()
            .flatten()
            .max()
            .unwrap_or(self.began)
    }

    /// The moment at which the last of a majority of the agents was heard.
    fn by_agents(&self, own: bool) -> Option<Duration> {
        let majority = self.agents() / 2 + 1;
        let wanted = majority - usize::from(own);
        let mut heard: Vec<Duration> = self.peers.values().filter_map(|at| *at).collect();
        heard.sort_unstable_by(|a, b| b.cmp(a));
        wanted
            .checked_sub(1)
            .and_then(|last| heard.get(last))
            .copied()
    }

    /// Agents of the cluster, this one counted.
    pub(super) fn agents(&self) -> usize {
        self.peers.len() + 1
    }

    /// Agents heard within the lease's time, this one counted if it vouches.
    pub(super) fn vouching(&self, now: Duration, own: bool) -> usize {
        let fresh = |at: &&Option<Duration>| at.is_some_and(|at| now < at + TTL);
        self.peers.values().filter(fresh).count() + usize::from(own)
    }

    /// The manager was heard within the lease's time.
    pub(super) fn manager_heard(&self, now: Duration) -> bool {
        self.manager.is_some_and(|at| now < at + TTL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    /// What happens, at which moment.
    enum Event {
        Manager(u64),
        Peer(&'static str, u64),
    }
    use Event::{Manager, Peer};

    /// (what, agents, this one vouches, events as (arrival, event), looked at, held for, `None` if lost)
    type Case = (
        &'static str,
        usize,
        bool,
        &'static [(u64, Event)],
        u64,
        Option<u64>,
    );

    #[test]
    fn it_lasts_as_long_as_somebody_who_counts_is_heard() {
        let cases: [Case; 24] = [
            ("begins", 3, true, &[], 10_000, Some(1500)),
            ("nobody", 3, true, &[], 11_499, Some(1)),
            ("nobody, over", 3, true, &[], 11_500, None),
            (
                "manager",
                3,
                true,
                &[(11_000, Manager(11_000))],
                12_000,
                Some(500),
            ),
            (
                "manager, over",
                3,
                true,
                &[(11_000, Manager(11_000))],
                12_500,
                None,
            ),
            (
                "one of two others",
                3,
                true,
                &[(11_000, Peer("a", 11_000))],
                12_000,
                Some(500),
            ),
            (
                "one of two, this one does not vouch",
                3,
                false,
                &[(11_000, Peer("a", 11_000))],
                12_000,
                None,
            ),
            (
                "both others, this one does not vouch",
                3,
                false,
                &[(11_000, Peer("a", 11_000)), (11_000, Peer("b", 10_800))],
                12_000,
                Some(300),
            ),
            (
                "a stranger",
                3,
                true,
                &[(11_000, Peer("z", 11_000))],
                12_000,
                None,
            ),
            (
                "the same one twice",
                5,
                true,
                &[(11_000, Peer("a", 11_000)), (11_100, Peer("a", 11_100))],
                12_000,
                None,
            ),
            (
                "two of four others, as old as the older",
                5,
                true,
                &[(11_000, Peer("a", 11_000)), (11_400, Peer("b", 11_400))],
                12_000,
                Some(500),
            ),
            (
                "half of four agents is no majority",
                4,
                true,
                &[(11_000, Peer("a", 11_000))],
                12_000,
                None,
            ),
            // Thawed at 30 s, with answers to old questions in the queue.
            (
                "old answers after a stop",
                3,
                true,
                &[(30_000, Manager(10_100))],
                30_000,
                None,
            ),
            (
                "old vouching after a stop",
                3,
                true,
                &[(30_000, Peer("a", 10_100))],
                30_000,
                None,
            ),
            // Thawed at 12 s: what was asked for at 11.4 s was in the queue.
            (
                "an answer that waited while this agent stood still",
                3,
                true,
                &[(12_000, Peer("a", 11_400))],
                12_000,
                Some(900),
            ),
            (
                "a word that did",
                3,
                true,
                &[(12_000, Manager(11_400))],
                12_000,
                Some(900),
            ),
            (
                "one after the other, without a gap",
                3,
                true,
                &[
                    (13_000, Peer("a", 11_400)),
                    (13_000, Manager(12_800)),
                    (13_000, Peer("b", 12_000)),
                ],
                13_000,
                Some(1_300),
            ),
            (
                "a gap that is filled too late",
                3,
                true,
                &[(13_200, Manager(12_950)), (13_200, Peer("a", 11_400))],
                13_200,
                None,
            ),
            (
                "one of two that are needed waited",
                5,
                true,
                &[(12_000, Peer("a", 11_400))],
                12_000,
                None,
            ),
            (
                "the second of two leaves a gap",
                5,
                true,
                &[(12_000, Peer("a", 11_800)), (12_000, Peer("b", 11_600))],
                12_000,
                None,
            ),
            (
                "a word after the end",
                3,
                true,
                &[(11_600, Manager(11_600))],
                11_700,
                None,
            ),
            (
                "a word of the very end",
                3,
                true,
                &[(11_600, Manager(11_500))],
                11_700,
                None,
            ),
            (
                "a moment to come",
                3,
                true,
                &[(11_000, Manager(60_000))],
                12_000,
                None,
            ),
            (
                "an older one after a newer",
                3,
                true,
                &[(11_000, Manager(11_000)), (11_100, Manager(10_500))],
                12_000,
                Some(500),
            ),
        ];
        for (what, agents, own, events, at, expected) in cases {
            let names = ["a", "b", "c", "d"].map(str::to_owned);
            let mut machine = Machine::new(names.into_iter().take(agents - 1), ms(10_000));
            for (arrival, event) in events {
                match event {
                    Manager(sent) => machine.heard_manager(ms(*sent), ms(*arrival)),
                    Peer(name, sent) => machine.heard_peer(name, ms(*sent), ms(*arrival)),
                }
            }
            let standing = machine.look(ms(at), own);
            match (standing, expected) {
                (Standing::Held { remaining }, Some(left)) => {
                    assert_eq!(remaining, ms(left), "{what}");
                }
                (Standing::Lost { since }, None) => assert!(since <= ms(at), "{what}"),
                (other, _) => panic!("{what}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_was_lost_is_regained_by_a_majority_that_was_asked_afterwards() {
        let mut machine = Machine::new(["a".to_owned(), "b".to_owned()], ms(0));
        machine.heard_peer("a", ms(200), ms(200));
        let lost = Standing::Lost { since: ms(1750) };
        assert_eq!(machine.look(ms(1750), true), lost);
        // (what, agent asked at, this one vouches, regained)
        let cases = [
            ("nobody", None, true, false),
            ("asked before the loss", Some(1700), true, false),
            ("asked at the loss", Some(1750), true, false),
            ("this one does not vouch", Some(1760), false, false),
            ("a majority", Some(1760), true, true),
        ];
        for (what, asked, own, regained) in cases {
            let mut machine = machine.clone();
            machine.heard_manager(ms(1780), ms(1780));
            if let Some(asked) = asked {
                machine.heard_peer("a", ms(asked), ms(1800));
            }
            assert_eq!(machine.look(ms(1800), own), lost, "{what}");
            assert_eq!(machine.regain(ms(1800), own), regained, "{what}");
            let held = matches!(machine.look(ms(1800), own), Standing::Held { .. });
            assert_eq!(held, regained, "{what}");
            assert!(!machine.regain(ms(1800), own), "{what}: news once");
        }
        // An answer that is over, too.
        machine.heard_peer("a", ms(1760), ms(9000));
        assert!(!machine.regain(ms(9000), true));
    }

    #[test]
    fn an_end_that_was_only_told_of_is_none_yet_and_one_that_was_seen_is() {
        let mut machine = Machine::new(["a".to_owned(), "b".to_owned()], ms(0));
        machine.heard_peer("a", ms(400), ms(500));
        // Stood still until 1.95 s; somebody asks before the queue is empty.
        let over = Standing::Lost { since: ms(1950) };
        assert_eq!(machine.standing(ms(1950), true), over);
        let mut seen = machine.clone();
        machine.heard_peer("b", ms(800), ms(1951));
        let remaining = ms(340);
        assert_eq!(
            machine.look(ms(1960), true),
            Standing::Held { remaining },
            "what comes late is as old as its question"
        );
        assert_eq!(seen.look(ms(1950), true), over);
        seen.heard_peer("b", ms(800), ms(1951));
        assert_eq!(seen.look(ms(1960), true), over);
        assert!(!seen.regain(ms(1960), true), "asked before the loss");
    }

    #[test]
    fn evidence_is_the_newest_word_that_counts() {
        let mut machine = Machine::new(["a".to_owned(), "b".to_owned()], ms(0));
        assert_eq!(
            machine.evidence(ms(10), true),
            None,
            "its beginning is none"
        );
        machine.heard_peer("a", ms(20), ms(20));
        assert_eq!(machine.evidence(ms(30), true), Some(ms(20)));
        assert_eq!(machine.evidence(ms(30), false), None);
        machine.heard_manager(ms(25), ms(30));
        assert_eq!(machine.evidence(ms(30), false), Some(ms(25)));
        assert_eq!(machine.evidence(ms(25) + TTL, false), None);
    }

    #[test]
    fn what_was_lost_stays_lost_whatever_the_manager_says() {
        let mut machine = Machine::new(["a".to_owned(), "b".to_owned()], ms(0));
        assert_eq!(
            machine.look(ms(1500), true),
            Standing::Lost { since: ms(1500) }
        );
        machine.heard_manager(ms(1600), ms(1600));
        machine.heard_peer("a", ms(1600), ms(1600));
        assert_eq!(
            machine.look(ms(1700), true),
            Standing::Lost { since: ms(1500) }
        );
        assert_eq!(machine.vouching(ms(1700), true), 2);
        assert!(machine.manager_heard(ms(1700)));
        assert!(!machine.manager_heard(ms(3100)));
    }

    #[test]
    fn a_clock_that_jumps_ends_it_and_one_that_goes_back_does_not_renew_it() {
        let mut machine = Machine::new(["a".to_owned(), "b".to_owned()], ms(10_000));
        machine.heard_manager(ms(10_500), ms(10_500));
        // Back: it cannot, and if it did, the end is where it was.
        assert_eq!(
            machine.look(ms(9_000), true),
            Standing::Held {
                remaining: ms(3_000)
            }
        );
        assert_eq!(
            machine.look(ms(900_000), true),
            Standing::Lost { since: ms(900_000) }
        );
    }
}
