//! The primary dies while it writes: its log ends inside a transaction that no client was promised.

use tests::on_every_form;
use tests::scenario::{Failure, Form, Lag, Plan, Scene, expect, torn};

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
    let torn = torn::kill_in_the_middle(&scene.cluster).await?;
    expect(
        torn.start.offset >= played.end()?.offset && torn.size > torn.start.offset,
        "the torn transaction",
        "after the plan",
        format!("{torn:?}"),
    )
}
