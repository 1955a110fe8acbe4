//! A replica with filters is the preferred candidate and has received most: it serves that to the others, does not become the
//! primary without the operator's word, and goes on as a replica with its filters.

use manager::elect::{Lost, Unfit};
use tests::sandbox::deployment::{DeploymentSpec, server_name};
use tests::sandbox::{ClusterSpec, Server, ServerKind};
use tests::scenario::{Act, Expected, Failure, Lag, Plan, Scene, expect_eq};

const FILTER: &str = "replicate_wild_ignore_table=left_out.%";

const ROWS: [&str; 4] = [
    "INSERT INTO left_out.t VALUES (1)",
    "INSERT INTO left_out.t VALUES (2)",
    "INSERT INTO left_out.t VALUES (3)",
    "INSERT INTO left_out.t VALUES (4)",
];

/// Rows of the table that the filters leave out; `None` without the table.
async fn left_out(server: &Server) -> Result<Option<String>, Failure> {
    let there = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema='left_out'";
    if server.value(there).await? == "0" {
        return Ok(None);
    }
    Ok(Some(server.value("SELECT COUNT(*) FROM left_out.t").await?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_is_passed_over_and_keeps_its_filters() -> Result<(), Failure> {
    let spec = ClusterSpec::new(ServerKind::MySql80).by_gtid().set_on(
        1,
        "replicate-wild-ignore-table",
        "left_out.%",
    );
    let mut scene = Scene::without_agents(spec).await?;
    let preferred = DeploymentSpec::default().candidate(1, "preferred");
    scene.start_agents(&preferred).await?;
    let primary = scene.cluster.primary();
    primary
        .exec_all(&[
            "CREATE DATABASE left_out",
            "CREATE TABLE left_out.t (id INT PRIMARY KEY) ENGINE=InnoDB",
        ])
        .await?;
    scene.cluster.wait_caught_up().await?;
    // The second one gets its third batch from the relay log of the filtered one, the last one from the dead disk.
    let mut plan = Plan::rows(&[Lag::behind(3), Lag::behind(2)]);
    for (batch, row) in plan.batches.iter_mut().zip(ROWS) {
        batch.push(Act::Admin(row));
    }
    scene.play(&plan).await?;
    let expected = Expected {
        left_out: vec!["left_out.t"],
        ..Expected::all()
    };
    let (ended, winner) = scene.survives(&expected).await?;
    expect_eq("number of the new primary", &winner, &2)?;
    let [filtered, other] = [1, 2].map(|number| server_name(scene.cluster.server(number)));
    let losers = ended
        .report
        .election
        .iter()
        .flat_map(|election| &election.losers);
    let why: Vec<&Lost> = losers
        .filter(|(server, _)| *server == filtered)
        .map(|(_, lost)| lost)
        .collect();
    let wanted = Lost::Unfit {
        why: vec![Unfit::Filtered {
            filters: vec![FILTER.to_owned()],
            other,
        }],
    };
    expect_eq(format!("why {filtered} lost"), &why, &vec![&wanted])?;
    let all = left_out(scene.cluster.server(2)).await?;
    expect_eq("rows of the new primary", &all, &Some("4".to_owned()))?;
    let none = left_out(scene.cluster.server(1)).await?;
    expect_eq("rows that the filters leave out", &none, &None)
}
