//! Where the replicas stand when the primary dies.

use tests::on_every_form;
use tests::scenario::{Applier, Failure, Form, Lag, Plan, Scene};

on_every_form! {
    nobody_lags
    the_candidate_is_the_latest
    only_the_tail_is_missing
    a_replica_is_behind_only_in_applying
}

async fn nobody_lags(form: Form) -> Result<(), Failure> {
    let mut scene = Scene::open(form.cluster()).await?;
    scene.play(&Plan::rows(&[])).await?;
    Ok(())
}

async fn the_candidate_is_the_latest(form: Form) -> Result<(), Failure> {
    let mut scene = Scene::open(form.cluster()).await?;
    scene
        .play(&Plan::rows(&[
            Lag::behind(3),
            Lag::behind(1),
            Lag::behind(2),
        ]))
        .await?;
    Ok(())
}

async fn only_the_tail_is_missing(form: Form) -> Result<(), Failure> {
    let mut scene = Scene::open(form.cluster()).await?;
    scene.play(&Plan::rows(&[Lag::behind(2); 3])).await?;
    Ok(())
}

async fn a_replica_is_behind_only_in_applying(form: Form) -> Result<(), Failure> {
    let mut scene = Scene::open(form.cluster()).await?;
    let played = scene
        .play(&Plan::rows(&[
            Lag::applied(4, 1, Applier::Blocked),
            Lag::behind(4),
            Lag::applied(3, 2, Applier::Blocked),
        ]))
        .await?;
    drop(played);
    Ok(())
}
