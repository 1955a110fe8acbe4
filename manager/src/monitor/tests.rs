//! Stories as tables: what is seen when, and what must follow.

use std::time::Duration;

use super::*;
use crate::facts::{Process, Receiver};
use crate::verdict::Port;

/// One thing that happens at a moment, in milliseconds.
enum Happens {
    Ping(u64, Ping),
    Agent(AgentState),
    Lost,
    Ports(u64, Vec<ReplicaEvidence>),
}

use Happens::{Agent, Lost, Ports};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn answered(begun: u64) -> Happens {
    Happens::Ping(begun, Ping::Answered)
}

fn refused(begun: u64) -> Happens {
    Happens::Ping(begun, Ping::Refused)
}

fn no_answer(begun: u64) -> Happens {
    Happens::Ping(begun, Ping::NoAnswer { limit_ms: 1000 })
}

fn says_error(begun: u64, errno: u16) -> Happens {
    Happens::Ping(
        begun,
        Ping::AnsweredError {
            errno,
            text: "go away".into(),
        },
    )
}

fn state(process: Process, sql: LocalSql, disk_silent: Option<u64>) -> AgentState {
    AgentState {
        process,
        ended: None,
        sql,
        datadir: Some(Disk {
            directory: "/data".into(),
            silent: disk_silent.map(ms),
        }),
    }
}

fn well() -> Happens {
    Agent(state(Process::Running, LocalSql::Alive, None))
}

fn gone() -> Happens {
    Agent(state(Process::NotRunning, LocalSql::Silent, None))
}

fn hangs() -> Happens {
    Agent(state(Process::Running, LocalSql::Silent, None))
}

fn ports(asked: u64, seen: &[Port]) -> Happens {
    Ports(
        asked,
        seen.iter()
            .map(|port| ReplicaEvidence {
                server: "db2".into(),
                receiver: Some(Receiver::Running),
                port: Some(*port),
            })
            .collect(),
    )
}

/// Plays a story with a tick every 50 ms in between; returns what was done and when.
fn play(story: Vec<(u64, Happens)>, until: u64) -> Vec<(u64, Action)> {
    let limits = Limits::of(&MonitorConfig::default());
    let mut monitor = Monitor::new("db1", limits, ms(0));
    let mut done = Vec::new();
    let mut story = story.into_iter().peekable();
    for now in (0..=until).step_by(50) {
        while let Some((at, happens)) = story.next_if(|(at, _)| *at <= now) {
            let input = match happens {
                Happens::Ping(begun, ping) => Input::Ping {
                    begun: ms(begun),
                    ping,
                },
                Agent(state) => Input::Agent(state),
                Lost => Input::AgentLost,
                Ports(asked, replicas) => Input::Ports {
                    asked: ms(asked),
                    replicas,
                },
            };
            done.extend(monitor.step(ms(at), input).into_iter().map(|a| (at, a)));
        }
        done.extend(
            monitor
                .step(ms(now), Input::Tick)
                .into_iter()
                .map(|a| (now, a)),
        );
    }
    done
}

fn failover(done: &[(u64, Action)]) -> Option<(u64, Reason)> {
    done.iter().find_map(|(at, action)| match action {
        Action::FailOver(decision) => Some((*at, decision.reason)),
        _ => None,
    })
}

fn said(done: &[(u64, Action)]) -> Vec<(u64, Verdict)> {
    done.iter()
        .filter_map(|(at, action)| match action {
            Action::Say(said) => Some((*at, said.verdict)),
            _ => None,
        })
        .collect()
}

fn asked(done: &[(u64, Action)]) -> Vec<u64> {
    done.iter()
        .filter(|(_, action)| *action == Action::Ask)
        .map(|(at, _)| *at)
        .collect()
}

/// Pings every 500 ms and a heartbeat every 250 ms, until something happens.
fn peace(until: u64) -> Vec<(u64, Happens)> {
    let mut story = Vec::new();
    for at in (0..until).step_by(250) {
        story.push((at, well()));
        if at.is_multiple_of(500) {
            story.push((at + 1, answered(at)));
        }
    }
    story
}

#[test]
fn peace_is_quiet() {
    assert_eq!(play(peace(20_000), 20_000), []);
}

#[test]
fn a_process_that_its_agent_saw_end_is_dead_after_one_ping() {
    let mut story = peace(5000);
    story.push((5003, gone()));
    story.push((5004, refused(5003)));
    let done = play(story, 6000);
    assert_eq!(asked(&done), [5003]);
    assert_eq!(failover(&done), Some((5004, Reason::ProcessGone)));
}

#[test]
fn a_ping_from_before_the_end_does_not_count_and_a_server_that_is_back_is_alive() {
    let mut story = peace(5000);
    story.push((5003, gone()));
    // On its way when the process ended.
    story.push((5004, answered(5001)));
    let done = play(story, 5050);
    assert_eq!((asked(&done), failover(&done)), (vec![5003], None));

    let mut story = peace(5000);
    story.push((5003, gone()));
    story.push((5010, answered(5004)));
    story.push((5020, well()));
    story.extend(peace(9000).into_iter().filter(|(at, _)| *at >= 5250));
    let done = play(story, 9000);
    assert_eq!(failover(&done), None);
    assert_eq!(asked(&done), [5003]);
}

#[test]
fn a_host_that_vanished_is_dead_within_three_seconds_and_not_before_its_limit() {
    let mut story = peace(5000);
    // The last message came at 4750; nothing after it.
    story.push((5600, Lost));
    story.push((6000, no_answer(5000)));
    story.push((6550, no_answer(5550)));
    story.push((6560, ports(5550, &[Port::NoAnswer, Port::NoAnswer])));
    for at in [7100, 8100, 9100] {
        story.push((at, no_answer(at - 1000)));
    }
    let done = play(story, 9500);
    let (at, reason) = failover(&done).unwrap();
    assert_eq!(reason, Reason::NobodyReaches);
    assert!((6750..=7750).contains(&at), "{at}: {done:?}");
    // Silence of the agent alone made it ask, before any ping had failed.
    assert!(asked(&done).first().unwrap() <= &5600, "{:?}", asked(&done));
}

#[test]
fn one_second_of_silence_of_agent_and_server_is_forgiven() {
    let mut story = peace(5000);
    story.push((5780, no_answer(4780)));
    story.push((5790, ports(5550, &[Port::NoAnswer, Port::NoAnswer])));
    story.push((5800, well()));
    story.push((5900, answered(5550)));
    story.extend(peace(12_000).into_iter().filter(|(at, _)| *at >= 6000));
    let done = play(story, 12_000);
    assert_eq!(failover(&done), None);
}

#[test]
fn isolated_is_never_dead_however_long_it_lasts() {
    // The manager alone is cut off from the primary and its agent.
    let mut story = peace(5000);
    for at in (6000..60_000).step_by(500) {
        story.push((at, no_answer(at - 1000)));
        story.push((at + 1, ports(at - 500, &[Port::NoAnswer, Port::Answered])));
    }
    let done = play(story, 60_000);
    assert_eq!(failover(&done), None);
    assert_eq!(
        said(&done).iter().map(|(_, v)| *v).collect::<Vec<_>>(),
        [Verdict::Isolated]
    );

    // The agent still answers: its word counts, without any replica.
    let mut story = peace(5000);
    for at in (5000..60_000).step_by(250) {
        story.push((at, well()));
        story.push((at + 1, no_answer(at.saturating_sub(999))));
    }
    let done = play(story, 60_000);
    assert_eq!(failover(&done), None);
    assert_eq!(said(&done).first().unwrap().1, Verdict::Isolated);

    // The manager reaches nobody.
    let mut story = peace(5000);
    for at in (6000..60_000).step_by(500) {
        story.push((at, no_answer(at - 1000)));
        story.push((at + 1, ports(at - 500, &[])));
    }
    let done = play(story, 60_000);
    assert_eq!(failover(&done), None);
    assert_eq!(said(&done).first().unwrap().1, Verdict::Isolated);
}

#[test]
fn signs_of_life_are_never_a_failover() {
    for errno in [
        1040, 1042, 1043, 1044, 1045, 1129, 1130, 1203, 1226, 1251, 1275,
    ] {
        let mut story = peace(1000);
        for at in (1000..30_000).step_by(250) {
            story.push((at, well()));
            story.push((at + 1, says_error(at, errno)));
        }
        story.push((30_000, answered(29_999)));
        let done = play(story, 30_000);
        // Said when it begins and when it ends, and nothing else is done.
        assert_eq!(
            said(&done),
            [(1001, Verdict::Alive), (30_000, Verdict::Alive)],
            "{errno}"
        );
        assert_eq!(done.len(), 2, "{errno}");
    }
    // A global read lock stops the write of an INSERT ping.
    let mut story = peace(1000);
    for at in (1000..30_000).step_by(250) {
        story.push((at, well()));
        let locked = Ping::AnsweredQuery { limit_ms: 1000 };
        story.push((at + 1, Happens::Ping(at, locked)));
    }
    let done = play(story, 30_000);
    assert_eq!(
        (failover(&done), said(&done)),
        (None, vec![(1001, Verdict::Alive)])
    );
    // The agent is down for weeks, the server is not.
    let mut story = peace(1000);
    story.push((1000, Lost));
    for at in (1000..30_000).step_by(500) {
        story.push((at + 1, answered(at)));
    }
    let done = play(story, 30_000);
    assert_eq!((failover(&done), said(&done)), (None, vec![]));
}

#[test]
fn a_process_that_answers_nobody_is_hung_after_the_limit() {
    for accepts in [false, true] {
        let mut story = peace(5000);
        for at in (5000..12_000).step_by(250) {
            story.push((at, hangs()));
            let ping = if accepts {
                no_answer(at - 999)
            } else {
                refused(at)
            };
            story.push((at + 1, ping));
        }
        let done = play(story, 12_000);
        let (at, reason) = failover(&done).unwrap();
        assert_eq!(reason, Reason::ProcessSilent);
        assert!((7750..=8100).contains(&at), "{at}");
    }
}

#[test]
fn a_pause_shorter_than_the_limit_is_no_hang() {
    let mut story = peace(5000);
    for at in (5000..7500).step_by(250) {
        story.push((at, hangs()));
        story.push((at + 1, no_answer(at - 999)));
    }
    story.push((7501, well()));
    story.push((7502, answered(7400)));
    story.extend(peace(12_000).into_iter().filter(|(at, _)| *at >= 7750));
    assert_eq!(failover(&play(story, 12_000)), None);
}

#[test]
fn an_agent_without_credentials_kills_no_server() {
    let mut story = peace(5000);
    for at in (5000..30_000).step_by(250) {
        story.push((at, Agent(state(Process::Running, LocalSql::NotKnown, None))));
        story.push((at + 1, no_answer(at - 999)));
        story.push((at + 2, ports(at, &[Port::Answered])));
    }
    assert_eq!(failover(&play(story, 30_000)), None);
}

#[test]
fn a_data_disk_that_stands_still_is_hung_although_the_server_answers() {
    let mut story = peace(5000);
    for at in (5000..12_000).step_by(250) {
        let silent = Some(at - 5000);
        story.push((at, Agent(state(Process::Running, LocalSql::Alive, silent))));
        story.push((at + 1, answered(at)));
    }
    let done = play(story, 12_000);
    assert_eq!(failover(&done), Some((8000, Reason::DiskStalled)));
}

/// A disk so busy that each sync takes up to the limit but never reaches it, for minutes.
#[test]
fn a_slow_disk_is_no_hang() {
    for longest in [1000, 2000, 2750] {
        let mut story = peace(5000);
        let mut silent = 0;
        for at in (5000..120_000).step_by(250) {
            let told = (silent > 0).then_some(silent);
            story.push((at, Agent(state(Process::Running, LocalSql::Alive, told))));
            story.push((at + 1, answered(at)));
            silent = if silent < longest { silent + 250 } else { 0 };
        }
        let done = play(story, 120_000);
        assert_eq!((failover(&done), said(&done)), (None, vec![]), "{longest}");
    }
}

#[test]
fn agent_and_server_killed_together_are_dead_after_the_limit() {
    let mut story = peace(5000);
    story.push((5000, Lost));
    for at in (5001..12_000).step_by(100) {
        story.push((at, refused(at)));
        story.push((at + 1, ports(at, &[Port::Refused])));
    }
    let done = play(story, 12_000);
    let (at, reason) = failover(&done).unwrap();
    assert_eq!(reason, Reason::PortClosed);
    assert!((6750..=7000).contains(&at), "{at}");
}

#[test]
fn a_manager_that_starts_beside_a_dead_primary_decides_too() {
    let done = play(
        vec![(1, gone()), (2, refused(0)), (3, refused(1)), (4, gone())],
        100,
    );
    assert_eq!(failover(&done), Some((3, Reason::ProcessGone)));
}

#[test]
fn a_decision_is_made_once_and_again_only_after_it_was_resumed() {
    let limits = Limits::of(&MonitorConfig::default());
    let mut monitor = Monitor::new("db1", limits, ms(0));
    let dead = |monitor: &mut Monitor, at: u64| {
        let mut done = Vec::new();
        for (at, input) in [
            (at, state(Process::NotRunning, LocalSql::Silent, None)),
            (at + 2, state(Process::NotRunning, LocalSql::Silent, None)),
        ] {
            done.extend(monitor.step(ms(at), Input::Agent(input)));
            let ping = Input::Ping {
                begun: ms(at),
                ping: Ping::Refused,
            };
            done.extend(monitor.step(ms(at + 1), ping));
        }
        done.iter()
            .filter(|a| matches!(a, Action::FailOver(_)))
            .count()
    };
    assert_eq!(dead(&mut monitor, 10), 1);
    assert!(monitor.is_decided());
    assert_eq!(dead(&mut monitor, 1000), 0);
    monitor.resume(ms(2000));
    assert_eq!(dead(&mut monitor, 2001), 1);
}
