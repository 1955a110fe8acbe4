//! Hosts that lose sight of each other. The whole matrix is `sandbox partitions`.

use tests::partition::{Direction, Divided, PRIMARY, Partition};
use tests::sandbox::ServerKind;
use tests::sandbox::links::Host;
use tests::sandbox::slot::Slot;

use crate::support::Outcome;

const SEED: u64 = 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_alone_loses_the_primary_changes_nothing() -> Outcome {
    let _slot = Slot::take().await?;
    let divided = Divided::start(ServerKind::MySql56, SEED).await?;
    for partition in [
        Partition::of(Host::Manager, Direction::Both),
        Partition::between(Host::Manager, PRIMARY, Direction::Both),
        Partition::between(Host::Manager, PRIMARY, Direction::In),
        Partition::between(Host::Server(2), PRIMARY, Direction::Both),
        Partition::between(Host::Server(2), PRIMARY, Direction::Out),
    ] {
        divided.left_alone(&partition).await?;
    }
    let text = divided.watched.daemon.log_text();
    for words in [
        "the manager reaches nobody: it may be cut off itself",
        "it answers a replica's agent; only the manager cannot reach it",
    ] {
        assert!(text.contains(words), "{words} in\n{text}");
    }
    let primary = divided.undivided().await?;
    assert!(primary.rows() > 0);
    Ok(())
}

async fn a_primary_that_nobody_reaches(direction: Direction) -> Outcome {
    let _slot = Slot::take().await?;
    let divided = Divided::start(ServerKind::MySql56, SEED).await?;
    let partition = Partition::of(PRIMARY, direction);
    let replaced = divided.replaced(&partition).await?;
    eprintln!("{partition}: {replaced:?}");
    assert!(
        replaced.old_wrote_for <= replaced.first_write,
        "{replaced:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_cut_off_ends_before_the_next_begins() -> Outcome {
    a_primary_that_nobody_reaches(Direction::Both).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_hears_nobody_ends_before_the_next_begins() -> Outcome {
    a_primary_that_nobody_reaches(Direction::In).await
}
