//! What the events look like: row and statement format, with and without checksums.

use tests::on_every_form;
use tests::sandbox::ClusterSpec;
use tests::scenario::{Act, Failure, Form, Lag, Plan, Scene};

on_every_form! {
    events_in_row_format
    events_in_statement_format
    logs_without_checksums
    checksums_switched_off_and_on_between_the_positions
    replicas_whose_own_logs_have_another_checksum
}

/// Statements whose events need what comes before them in the stream: user variables, seeds, times, automatic numbers.
fn plan() -> Plan {
    let statements = vec![
        Act::Sql("INSERT INTO varied (body, at) VALUES ('first', NOW())"),
        Act::Sql("SET @text = 'from a variable – ünï'"),
        Act::Sql("INSERT INTO varied (body, at, number) VALUES (@text, NOW(), RAND())"),
        Act::Sql("INSERT INTO varied (body, number) VALUES ('after', LAST_INSERT_ID())"),
        Act::Sql("SET timestamp = 1000000000.25, time_zone = '+05:30'"),
        Act::Sql(
            "INSERT INTO varied (body, at) VALUES (CONCAT('zone ', @@session.time_zone), NOW())",
        ),
        Act::Sql("SET timestamp = DEFAULT, sql_mode = 'PIPES_AS_CONCAT,ANSI_QUOTES'"),
        Act::Sql("INSERT INTO varied (body) VALUES ('pipes' || '-' || 'ansi')"),
        Act::Sql("SET sql_mode = ''"),
        Act::Sql("UPDATE varied SET number = number + 1 WHERE body LIKE 'a%'"),
        Act::Sql("DELETE FROM varied WHERE body = 'first'"),
        Act::Together(5),
        Act::Rows(2),
    ];
    let table = "CREATE TABLE varied (id INT AUTO_INCREMENT PRIMARY KEY, body VARCHAR(100) CHARACTER SET utf8, \
                 at TIMESTAMP NULL, number DOUBLE) ENGINE=InnoDB";
    let change = vec![
        Act::Sql("ALTER TABLE varied ADD COLUMN added INT DEFAULT 7"),
        Act::Sql("CREATE TABLE copied LIKE varied"),
        Act::Sql("INSERT INTO copied SELECT * FROM varied ORDER BY id"),
    ];
    Plan {
        batches: vec![
            vec![Act::Sql("SET NAMES utf8"), Act::Sql(table), Act::Rows(1)],
            statements.clone(),
            [change, statements.clone()].concat(),
            statements,
        ],
        lags: vec![Lag::behind(1), Lag::behind(3), Lag::behind(2)],
    }
}

async fn run(spec: ClusterSpec, plan: &Plan) -> Result<(), Failure> {
    let mut scene = Scene::open(spec).await?;
    scene.play(plan).await?;
    scene.loses_nothing().await
}

async fn events_in_row_format(form: Form) -> Result<(), Failure> {
    run(form.cluster().set("binlog-format", "ROW"), &plan()).await
}

async fn events_in_statement_format(form: Form) -> Result<(), Failure> {
    run(form.cluster().set("binlog-format", "STATEMENT"), &plan()).await
}

async fn logs_without_checksums(form: Form) -> Result<(), Failure> {
    run(form.cluster().set("binlog-checksum", "NONE"), &plan()).await
}

async fn checksums_switched_off_and_on_between_the_positions(form: Form) -> Result<(), Failure> {
    let mut plan = plan();
    for (batch, setting) in [(1, "NONE"), (2, "CRC32"), (3, "NONE")] {
        let act = match setting {
            "NONE" => Act::Admin("SET GLOBAL binlog_checksum = NONE"),
            _ => Act::Admin("SET GLOBAL binlog_checksum = CRC32"),
        };
        plan.batches[batch].insert(4, act);
    }
    run(form.cluster(), &plan).await
}

async fn replicas_whose_own_logs_have_another_checksum(form: Form) -> Result<(), Failure> {
    let spec =
        form.cluster()
            .set_on(1, "binlog-checksum", "NONE")
            .set_on(3, "binlog-checksum", "NONE");
    run(spec, &plan()).await
}
