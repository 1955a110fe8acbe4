//! Temporary tables that are open when the primary dies: later events of the same session need them.

use tests::on_every_form;
use tests::sandbox::replica;
use tests::scenario::{Act, Failure, Form, Lag, Plan, Scene, expect_eq};

on_every_form! {
    temporary_tables_are_open_across_the_failover
}

async fn temporary_tables_are_open_across_the_failover(form: Form) -> Result<(), Failure> {
    let mut scene = Scene::open(form.cluster().set("binlog-format", "STATEMENT")).await?;
    let plan = Plan {
        batches: vec![
            vec![
                Act::Sql("CREATE TABLE kept (id INT PRIMARY KEY, body VARCHAR(50)) ENGINE=InnoDB"),
                Act::Sql("CREATE TEMPORARY TABLE passing (id INT, body VARCHAR(50)) ENGINE=InnoDB"),
                Act::Sql("INSERT INTO passing VALUES (1, 'one'), (2, 'two')"),
                Act::Rows(1),
            ],
            vec![
                Act::Sql("INSERT INTO passing VALUES (3, 'three')"),
                Act::Sql("CREATE TEMPORARY TABLE second (id INT) ENGINE=MyISAM"),
                Act::Sql("INSERT INTO second SELECT id + 10 FROM passing"),
                Act::Rows(1),
            ],
            vec![
                Act::Sql("INSERT INTO passing SELECT id, 'from the second' FROM second"),
                Act::Sql("INSERT INTO kept SELECT * FROM passing"),
                Act::Rows(1),
            ],
        ],
        lags: vec![Lag::behind(1), Lag::behind(2), Lag::behind(1)],
    };
    scene.play(&plan).await?;
    for (number, open) in [(1, "1"), (2, "2")] {
        let server = scene.cluster.server(number);
        replica::must_status(server).await?;
        let found = server
            .row("SHOW GLOBAL STATUS LIKE 'Slave_open_temp_tables'")
            .await?;
        let found = found.as_ref().and_then(|row| row.get("Value"));
        expect_eq(
            format!("temporary tables open on {}", server.name()),
            &found,
            &Some(open),
        )?;
    }
    scene.loses_nothing().await?;
    let kept = scene
        .cluster
        .server(1)
        .value("SELECT COUNT(*) FROM app.kept")
        .await?;
    expect_eq("rows made from temporary tables", &kept.as_str(), &"6")
}
