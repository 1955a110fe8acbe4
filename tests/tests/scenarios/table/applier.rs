//! Appliers that do not run when the primary dies.

use tests::on_every_form;
use tests::scenario::{Applier, Expected, Failure, Form, Lag, Plan, Played, Scene};

on_every_form! {
    the_sql_thread_was_stopped_without_an_error
    the_sql_thread_had_stopped_with_an_error
    a_failed_applier_still_provides_what_it_received
}

async fn the_sql_thread_was_stopped_without_an_error(form: Form) -> Result<(), Failure> {
    let mut scene = Scene::open(form.cluster()).await?;
    let lags = [
        Lag::applied(3, 1, Applier::Stopped),
        Lag::applied(2, 2, Applier::Stopped),
        Lag::behind(1),
    ];
    scene.play(&Plan::rows(&lags)).await?;
    scene.loses_nothing().await
}

/// The second replica has received the most and applied the least: its applier stopped with an error.
async fn with_a_failed_applier(form: Form) -> Result<(Scene, Played), Failure> {
    let mut scene = Scene::open(form.cluster()).await?;
    let lags = [
        Lag::behind(1),
        Lag::applied(3, 1, Applier::Failed),
        Lag::behind(2),
    ];
    let played = scene.play(&Plan::rows(&lags)).await?;
    Ok((scene, played))
}

async fn the_sql_thread_had_stopped_with_an_error(form: Form) -> Result<(), Failure> {
    let (mut scene, _) = with_a_failed_applier(form).await?;
    scene.survives(&Expected::all().aside(2)).await?;
    Ok(())
}

async fn a_failed_applier_still_provides_what_it_received(form: Form) -> Result<(), Failure> {
    let (mut scene, played) = with_a_failed_applier(form).await?;
    scene.host_of_the_primary_is_gone()?;
    let expected = Expected::all().aside(2).up_to(played.place(3)?, 9);
    scene.survives(&expected).await?;
    Ok(())
}
