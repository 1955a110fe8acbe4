//! The algebra of GTID sets against the server's own: what it says of a set must be what we say, tags included.

use binlog_core::GtidSet;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tests::sandbox::{Client, ClusterSpec, ServerKind};
use tests::scenario::{Failure, expect, expect_eq};

use super::support;

const PAIRS: usize = 300;
/// Pairs that one statement asks about.
const AT_ONCE: usize = 50;

/// A set of a few servers and tags, with intervals that often touch those of another one.
fn any_set(random: &mut StdRng) -> String {
    let mut parts = Vec::new();
    for _ in 0..random.random_range(0..4) {
        let digit = ["1", "a", "F"][random.random_range(0..3)];
        let run = |n: usize| digit.repeat(n);
        let mut part = format!("{}-{}-{}-{}-{}", run(8), run(4), run(4), run(4), run(12));
        for _ in 0..random.random_range(1..4) {
            match random.random_range(0..3) {
                0 => part.push_str(&format!(
                    ":{}",
                    ["x", "Tag_1", "x2"][random.random_range(0..3)]
                )),
                1 => part.push_str(&format!(":{}", random.random_range(1..12))),
                _ => {}
            }
            let first = random.random_range(1..12);
            part.push_str(&format!(":{first}-{}", first + random.random_range(0..5)));
        }
        parts.push(part);
    }
    parts.join(", ")
}

/// The server's answers for one pair.
struct Answer {
    subset: bool,
    left_only: GtidSet,
    right_only: GtidSet,
}

async fn ask(session: &mut Client, pairs: &[(String, String)]) -> Result<Vec<Answer>, Failure> {
    let asked: Vec<String> = pairs
        .iter()
        .map(|(a, b)| {
            format!("SELECT GTID_SUBSET('{b}', '{a}'), GTID_SUBTRACT('{a}', '{b}'), GTID_SUBTRACT('{b}', '{a}')")
        })
        .collect();
    let rows = session.rows(&asked.join(" UNION ALL ")).await?;
    let set = |text: Option<&str>| text.unwrap_or_default().parse().unwrap();
    Ok(rows
        .iter()
        .map(|row| Answer {
            subset: row.at(0) == Some("1"),
            left_only: set(row.at(1)),
            right_only: set(row.at(2)),
        })
        .collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sets_with_tags_are_what_mysql_9_7_says() -> Result<(), Failure> {
    let cluster = support::start(ClusterSpec::new(ServerKind::MySql97).replicas(0)).await?;
    let mut session = cluster.primary().admin().await?;
    let mut random = StdRng::seed_from_u64(20_261_123);
    let pairs: Vec<(String, String)> = (0..PAIRS)
        .map(|_| (any_set(&mut random), any_set(&mut random)))
        .collect();
    let mut subsets = 0;
    for pairs in pairs.chunks(AT_ONCE) {
        let answers = ask(&mut session, pairs).await?;
        expect_eq("number of answers", &answers.len(), &pairs.len())?;
        for ((left, right), answer) in pairs.iter().zip(answers) {
            let (a, b): (GtidSet, GtidSet) = (left.parse().unwrap(), right.parse().unwrap());
            let what = format!("of '{left}' and '{right}'");
            expect_eq(
                format!("subset {what}"),
                &a.contains_set(&b),
                &answer.subset,
            )?;
            expect_eq(
                format!("left alone {what}"),
                &a.subtract(&b),
                &answer.left_only,
            )?;
            expect_eq(
                format!("right alone {what}"),
                &b.subtract(&a),
                &answer.right_only,
            )?;
            subsets += usize::from(answer.subset);
        }
    }
    // Both answers were tried.
    expect(
        (10..PAIRS - 10).contains(&subsets),
        "pairs of which one is in the other",
        "some, not all",
        subsets,
    )?;
    session.close().await?;
    Ok(())
}
