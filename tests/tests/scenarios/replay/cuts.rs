//! The connection to the local source is lost at 50 random points of a replay, inside events, inside transactions and
//! with temporary tables open. The faults strike in the shipped agent.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tests::scenario::{Act, Expected, Failure, Form, Lag, Plan, Scene, expect, expect_eq};

use tests::sandbox::ServerKind;

/// Cuts of each replica's replay.
const CUTS: u32 = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_cuts_at_random_points_on_mysql_5_6() -> Result<(), Failure> {
    fifty_cuts(Form::new(ServerKind::MySql56, 2)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_cuts_at_random_points_on_mariadb_10_11() -> Result<(), Failure> {
    fifty_cuts(Form::new(ServerKind::MariaDb1011, 3)).await
}

/// Transactions of many statements, and temporary tables that are made before the replay and used at its end.
fn plan() -> Plan {
    let before = vec![
        Act::Sql("CREATE TABLE kept (id INT, body VARCHAR(60)) ENGINE=InnoDB"),
        Act::Sql("CREATE TEMPORARY TABLE early (id INT, body VARCHAR(60))"),
        Act::Sql("INSERT INTO early VALUES (1, 'before the lag')"),
        Act::Rows(2),
    ];
    let mut lost = vec![
        Act::Sql("CREATE TEMPORARY TABLE late (id INT, body VARCHAR(60))"),
        Act::Sql("INSERT INTO late VALUES (2, 'in the replay')"),
    ];
    for _ in 0..6 {
        lost.extend([
            Act::Together(25),
            Act::Sql("INSERT INTO early SELECT id + 10, body FROM late"),
            Act::Rows(3),
            Act::Sql(
                "INSERT INTO late SELECT id + 100, 'from early' FROM early ORDER BY id LIMIT 1",
            ),
        ]);
    }
    lost.extend([
        Act::Sql("INSERT INTO kept SELECT * FROM early"),
        Act::Sql("INSERT INTO kept SELECT * FROM late"),
        Act::Rows(1),
    ]);
    Plan {
        batches: vec![before, lost],
        lags: vec![Lag::behind(1); 3],
    }
}

async fn fifty_cuts(form: Form) -> Result<(), Failure> {
    let mut scene = Scene::open(form.cluster().set("binlog-format", "STATEMENT")).await?;
    let played = scene.play(&plan()).await?;
    let bytes = played.end()?.offset - played.place(1)?.offset;

    // Shown if the test fails.
    let seed: u64 = rand::rng().random();
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for number in form.replica_numbers() {
        // What is sent again only moves the later points forward, so all of them strike.
        let mut points: Vec<u64> = (0..CUTS).map(|_| random.random_range(1..bytes)).collect();
        points.sort_unstable();
        let faults: Vec<String> = points
            .iter()
            .map(|at| format!("cut after {at} bytes"))
            .collect();
        scene.inject(number, &faults).await?;
    }
    let (ended, _) = scene.survives(&Expected::all()).await?;

    for connections in ended.connections()? {
        expect(
            connections > CUTS,
            "connections of a survivor to its local source",
            format!("one more than the {CUTS} cuts"),
            connections,
        )?;
    }
    let kept = scene
        .cluster
        .server(1)
        .value("SELECT COUNT(*) FROM app.kept")
        .await?;
    expect_eq("rows made from temporary tables", &kept.as_str(), &"29")
}
