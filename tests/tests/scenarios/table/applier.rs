//! Appliers that do not run when the primary dies.

use tests::on_every_form;
use tests::scenario::{Applier, Failure, Form, Lag, Plan, Scene};

on_every_form! {
    the_sql_thread_was_stopped_without_an_error
    the_sql_thread_had_stopped_with_an_error
}

async fn the_sql_thread_was_stopped_without_an_error(form: Form) -> Result<(), Failure> {
    let mut scene = Scene::open(form.cluster()).await?;
    let lags = [
        Lag::applied(3, 1, Applier::Stopped),
        Lag::applied(2, 2, Applier::Stopped),
        Lag::behind(1),
    ];
    scene.play(&Plan::rows(&lags)).await?;
    Ok(())
}

async fn the_sql_thread_had_stopped_with_an_error(form: Form) -> Result<(), Failure> {
    let mut scene = Scene::open(form.cluster()).await?;
    let lags = [
        Lag::behind(1),
        Lag::applied(3, 1, Applier::Failed),
        Lag::behind(2),
    ];
    scene.play(&Plan::rows(&lags)).await?;
    Ok(())
}
