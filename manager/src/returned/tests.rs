//! When a returned primary's log is read, and what follows from its end.

use super::*;
use crate::testing::holds;

#[test]
fn only_a_whole_transaction_beyond_the_failover_counts() {
    let at = |text: &str| -> BinlogPosition { text.parse().unwrap() };
    let from = at("mysql-bin.000001:880");
    let survey = |whole_end: &str, last: &str| LogSurvey {
        whole_end: Some(at(whole_end)),
        last_transaction: Some(LastTransaction {
            end: at(last),
            gtid: None,
            xid: Some(7),
        }),
        ..holds(&[], None)
    };
    // (what, end of the log, end of the last transaction, what follows)
    let cases = [
        (
            "the same",
            "mysql-bin.000001:880",
            "mysql-bin.000001:880",
            Compared::Same,
        ),
        (
            "one more",
            "mysql-bin.000001:990",
            "mysql-bin.000001:990",
            Compared::Beyond,
        ),
        (
            "only the next file",
            "mysql-bin.000002:120",
            "mysql-bin.000001:880",
            Compared::Same,
        ),
        (
            "one in the next file",
            "mysql-bin.000002:400",
            "mysql-bin.000002:400",
            Compared::Beyond,
        ),
        (
            "less",
            "mysql-bin.000001:452",
            "mysql-bin.000001:452",
            Compared::Less(Some(at("mysql-bin.000001:452"))),
        ),
    ];
    for (what, end, last, expected) in cases {
        assert_eq!(compare(&from, &survey(end, last)), expected, "{what}");
    }
    assert_eq!(compare(&from, &holds(&[], None)), Compared::Less(None));
}
