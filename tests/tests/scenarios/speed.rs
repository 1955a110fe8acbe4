//! Kill to first write: five runs on MySQL 5.6, the command started at the moment of the kill.

use std::time::Duration;

use tests::drill::Drill;
use tests::sandbox::ServerKind;
use tests::sandbox::slot::Slot;

use crate::support::Outcome;

const RUNS: usize = 5;
/// The pass line of issue 2, item 7.
const MEDIAN: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_median_of_five_failovers_is_under_one_and_a_half_seconds() -> Outcome {
    // A measurement beside another cluster's work measures that work: nothing else runs meanwhile.
    let _alone = Slot::alone().await?;
    let mut times = Vec::new();
    for run in 1..=RUNS {
        let drill = Drill::prepare(ServerKind::MySql56).await?;
        let measured = drill.run().await?;
        assert_eq!(
            measured.exit_code,
            Some(0),
            "{}{}",
            measured.progress,
            measured.text
        );
        drill.aftermath().await?;
        println!(
            "run {run}: first write after {:.0} ms",
            measured.first_write.as_secs_f64() * 1e3
        );
        times.push(measured.first_write);
    }
    times.sort();
    let median = times[RUNS / 2];
    println!("median {:.0} ms", median.as_secs_f64() * 1e3);
    assert!(median < MEDIAN, "{times:?}");
    Ok(())
}
