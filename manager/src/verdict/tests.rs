//! The table of cases, one row per combination that matters; `deploy/OPERATIONS.md` shows the same rows.

use super::*;

/// A row: manager's ping, the primary's agent, the replicas, and what follows.
struct Case {
    ping: &'static str,
    agent: &'static str,
    replicas: &'static str,
    reason: Reason,
}

const CASES: &[Case] = &[
    // A living server is alive whatever others say.
    case("answers", "silent", "refused", Reason::AnswersManager),
    case("answers", "no process", "refused", Reason::AnswersManager),
    case("error 1040", "silent", "no answer", Reason::AnswersManager),
    case("error 1045", "silent", "no answer", Reason::AnswersManager),
    case(
        "error 1129",
        "process, SQL silent",
        "refused",
        Reason::AnswersManager,
    ),
    case(
        "query, no write",
        "process, SQL alive",
        "answered",
        Reason::AnswersManager,
    ),
    // But for a disk that stands still.
    case(
        "answers",
        "process, SQL alive, data disk stalled",
        "answered",
        Reason::DiskStalled,
    ),
    case(
        "no answer",
        "process, SQL silent, data disk stalled",
        "no answer",
        Reason::DiskStalled,
    ),
    // The agent reaches it, the manager does not.
    case(
        "no answer",
        "process, SQL alive",
        "no answer",
        Reason::AnswersAgent,
    ),
    case(
        "refused",
        "process, SQL alive",
        "none",
        Reason::AnswersAgent,
    ),
    // No process: dead, even if a replica has not noticed yet.
    case("refused", "no process", "refused", Reason::ProcessGone),
    case(
        "no answer",
        "no process",
        "not asked, connected",
        Reason::ProcessGone,
    ),
    // A process that answers nobody, whether it accepts connections or not.
    case(
        "no answer",
        "process, SQL silent",
        "no answer",
        Reason::ProcessSilent,
    ),
    case(
        "refused",
        "process, SQL silent",
        "refused",
        Reason::ProcessSilent,
    ),
    case(
        "no answer",
        "process, SQL silent",
        "answered",
        Reason::ProcessSilent,
    ),
    // The agent does not know.
    case("refused", "cannot tell", "refused", Reason::PortClosed),
    case(
        "no answer",
        "cannot tell",
        "answered",
        Reason::AnswersReplica,
    ),
    case("no answer", "cannot tell", "no answer", Reason::AgentBlind),
    // No agent: the port decides, seen from the replicas.
    case("no answer", "silent", "answered", Reason::AnswersReplica),
    case("refused", "silent", "answered", Reason::AnswersReplica),
    case(
        "no answer",
        "silent",
        "no answer, answered",
        Reason::AnswersReplica,
    ),
    case("refused", "silent", "refused", Reason::PortClosed),
    case("no answer", "silent", "refused", Reason::PortClosed),
    case("refused", "silent", "none", Reason::PortClosed),
    case("no answer", "silent", "no answer", Reason::NobodyReaches),
    case(
        "no route",
        "silent",
        "no answer, no answer",
        Reason::NobodyReaches,
    ),
    case(
        "no answer",
        "silent",
        "no answer, no MySQL",
        Reason::PortUnclear,
    ),
    // A receiver's own word counts where its agent did not try.
    case(
        "no answer",
        "silent",
        "not asked, connected",
        Reason::ReplicaConnected,
    ),
    case(
        "no answer",
        "silent",
        "not asked, connecting",
        Reason::NobodyReaches,
    ),
    case(
        "refused",
        "silent",
        "not asked, connected",
        Reason::ReplicaConnected,
    ),
    // The manager reaches nobody.
    case("no answer", "silent", "none", Reason::NobodyToAsk),
    case("no route", "silent", "none", Reason::NobodyToAsk),
];

const fn case(
    ping: &'static str,
    agent: &'static str,
    replicas: &'static str,
    reason: Reason,
) -> Case {
    Case {
        ping,
        agent,
        replicas,
        reason,
    }
}

fn ping(words: &str) -> Ping {
    match words {
        "answers" => Ping::Answered,
        "refused" => Ping::Refused,
        "no answer" => Ping::NoAnswer { limit_ms: 1000 },
        "query, no write" => Ping::AnsweredQuery { limit_ms: 1000 },
        "no route" => Ping::Failed {
            text: words.to_owned(),
        },
        error => Ping::AnsweredError {
            errno: error.strip_prefix("error ").unwrap().parse().unwrap(),
            text: "text".to_owned(),
        },
    }
}

fn agent(words: &str) -> AgentEvidence {
    let answered = |process, sql_alive| AgentEvidence::Answered {
        process,
        sql_alive,
        stalled: words.contains("stalled").then(|| Stalled {
            directory: "/data".to_owned(),
            silent_ms: 4000,
        }),
    };
    match words {
        "silent" => AgentEvidence::NoAnswer,
        "no process" => answered(Process::NotRunning, false),
        "cannot tell" => answered(Process::Unknown, false),
        process => {
            assert!(process.starts_with("process, SQL "), "{words}");
            answered(Process::Running, process.contains("SQL alive"))
        }
    }
}

fn replicas(words: &str) -> Vec<ReplicaEvidence> {
    let one = |port, receiver| ReplicaEvidence {
        server: "db2".to_owned(),
        receiver: Some(receiver),
        port,
    };
    // One that was asked still believes in its connection: that must not count.
    let asked = |port| one(Some(port), Receiver::Running);
    match words {
        "none" => vec![],
        "not asked, connected" => vec![one(None, Receiver::Running)],
        "not asked, connecting" => vec![one(None, Receiver::Connecting)],
        ports => ports
            .split(", ")
            .map(|port| {
                asked(match port {
                    "answered" => Port::Answered,
                    "refused" => Port::Refused,
                    "no answer" => Port::NoAnswer,
                    "no MySQL" => Port::Unclear,
                    other => panic!("{other}"),
                })
            })
            .collect(),
    }
}

fn evidence(case: &Case) -> Evidence {
    Evidence {
        ping: ping(case.ping),
        agent: agent(case.agent),
        replicas: replicas(case.replicas),
    }
}

#[test]
fn table_of_verdicts() {
    for case in CASES {
        let evidence = evidence(case);
        assert_eq!(weigh(&evidence), case.reason, "{evidence:?}");
        assert_eq!(judge(&evidence), case.reason.verdict());
    }
}

/// The rows of the operator's page, between its two markers.
#[test]
fn the_operators_page_shows_the_same_table() {
    let page = include_str!("../../../deploy/OPERATIONS.md");
    let (_, rest) = page.split_once("<!-- verdicts -->\n").unwrap();
    let (shown, _) = rest.split_once("<!-- end of verdicts -->").unwrap();
    let mut table = String::from(
        "| manager's ping | the primary's agent sees | ports seen by replicas' agents | verdict | failover | because |\n|---|---|---|---|---|---|\n",
    );
    for case in CASES {
        let verdict = case.reason.verdict();
        let failover = if verdict.allows_failover() {
            "yes"
        } else {
            "no"
        };
        table.push_str(&format!(
            "| {} | {} | {} | {verdict} | {failover} | {} |\n",
            case.ping,
            case.agent,
            case.replicas,
            case.reason.words()
        ));
    }
    assert!(shown == table, "the page must show:\n{table}");
}

#[test]
fn a_sentence_names_server_verdict_and_what_was_seen() {
    let last = CASES
        .iter()
        .find(|c| c.reason == Reason::NobodyReaches)
        .unwrap();
    assert_eq!(
        sentence("db1:3306", &evidence(last)),
        "db1:3306 is host dead: neither it nor its agent answer, and no replica reaches it \
         (no answer to SQL within 1000 ms; its agent does not answer; db2 is connected, its agent gets no answer)"
    );
}

#[test]
fn evidence_of_older_journals_is_still_read() {
    let old = r#"{"ping":{"ping":"refused"},"agent":{"agent":"answered","process":"not_running","sql_alive":false},"replicas":[{"server":"db2","receiver":"connecting"}]}"#;
    let evidence: Evidence = serde_json::from_str(old).unwrap();
    assert_eq!(weigh(&evidence), Reason::ProcessGone);
}

#[test]
fn only_death_and_hanging_allow_a_failover() {
    for (verdict, allowed) in [
        (Verdict::Alive, false),
        (Verdict::ServerDead, true),
        (Verdict::HostDead, true),
        (Verdict::Isolated, false),
        (Verdict::Hung, true),
        (Verdict::Unknown, false),
    ] {
        assert_eq!(verdict.allows_failover(), allowed, "{verdict}");
    }
}
