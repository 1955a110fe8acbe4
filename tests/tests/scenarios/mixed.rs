//! Clusters in the middle of an upgrade; `sandbox matrix --mixed` has all of them. The newest replica is the preferred
//! candidate each time, and must not win: the other one could not replicate from it.

use tests::matrix::cell::{Cell, Format, Line, Mode, Situation};
use tests::matrix::play;
use tests::sandbox::ServerKind::{self, MariaDb105, MariaDb118, MariaDb1011, MySql57, MySql80};
use tests::scenario::{Failure, expect_eq};

async fn fails_over(
    servers: [ServerKind; 3],
    mode: Mode,
    situation: Situation,
) -> Result<(), Failure> {
    let cell = Cell {
        line: Line { servers },
        mode,
        situation,
        format: Format::Row,
    };
    let held = play::play(cell, None).await?;
    let oldest = if servers[2] < servers[1] {
        "db3"
    } else {
        "db2"
    };
    expect_eq("the new primary", &held.winner.as_str(), &oldest)
}

/// What the host of the old primary would have told of itself must be had from its replicas, the first of which is newer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_of_mysql_5_7_is_gone_and_one_replica_is_8_0_already() -> Result<(), Failure> {
    fails_over(
        [MySql57, MySql80, MySql57],
        Mode::Position,
        Situation::HostGone,
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_of_three_versions_of_mariadb() -> Result<(), Failure> {
    fails_over(
        [MariaDb105, MariaDb1011, MariaDb118],
        Mode::Gtid,
        Situation::Both,
    )
    .await
}
