//! The primary dies while it writes: its log ends inside a transaction that no client was promised.

use tests::on_every_form;
use tests::scenario::before::Before;
use tests::scenario::{Expected, Failure, Form, Lag, Plan, Scene, expect, expect_eq, torn};

on_every_form! {
    the_primary_is_killed_in_the_middle_of_a_large_transaction
}

async fn the_primary_is_killed_in_the_middle_of_a_large_transaction(
    form: Form,
) -> Result<(), Failure> {
    let mut scene = Scene::open(form.cluster().set("max-allowed-packet", "16M")).await?;
    torn::prepare(&mut scene.ledger).await?;
    let played = scene
        .play(&Plan::rows(&[
            Lag::behind(1),
            Lag::behind(3),
            Lag::behind(2),
        ]))
        .await?;
    let before = Before::read(&scene.cluster).await?;
    let torn = torn::kill_in_the_middle(&scene.cluster).await?;
    expect(
        torn.start.offset >= played.end()?.offset && torn.size > torn.start.offset,
        "the torn transaction",
        "after the plan",
        format!("{torn:?}"),
    )?;

    let ended = scene.fail_over(&[]).await?;
    scene.check(&before, &ended, &Expected::all()).await?;
    for server in scene.cluster.replicas() {
        let question = format!(
            "SELECT COUNT(*) FROM {} WHERE attempt={}",
            torn::TABLE,
            torn.attempt
        );
        let rows = server.value(&question).await?;
        expect_eq(
            format!("rows of the torn transaction on {}", server.name()),
            &rows.as_str(),
            &"0",
        )?;
    }
    expect(
        ended
            .report
            .lost
            .iter()
            .any(|line| line.contains(&torn.start.to_string())),
        "what the report lists as lost",
        format!("the unfinished transaction at {}", torn.start),
        ended.report.lost.join("; "),
    )
}
