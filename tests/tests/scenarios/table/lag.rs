//! Where the replicas stand when the primary dies.

use tests::on_every_form;
use tests::sandbox::ClusterSpec;
use tests::sandbox::accounts::APPLICATION;
use tests::sandbox::load::{self, Load, LoadSpec};
use tests::scenario::before::Before;
use tests::scenario::{Applier, Expected, Failure, Form, Lag, Plan, Scene, expect};

on_every_form! {
    nobody_lags
    the_candidate_is_the_latest
    only_the_tail_is_missing
    a_replica_is_behind_only_in_applying
    clients_write_until_the_kill
}

async fn nobody_lags(form: Form) -> Result<(), Failure> {
    let mut scene = Scene::open(form.cluster()).await?;
    scene.play(&Plan::rows(&[])).await?;
    scene.loses_nothing().await
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
    scene.loses_nothing().await
}

async fn only_the_tail_is_missing(form: Form) -> Result<(), Failure> {
    let mut scene = Scene::open(form.cluster()).await?;
    scene.play(&Plan::rows(&[Lag::behind(2); 3])).await?;
    scene.loses_nothing().await
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
    scene.survives_while(played, &Expected::all()).await?;
    Ok(())
}

/// Whatever was acknowledged up to the moment of the kill is on the dead disk, and nowhere else.
async fn clients_write_until_the_kill(form: Form) -> Result<(), Failure> {
    killed_under_load(form.cluster()).await?;
    Ok(())
}

/// The same for any cluster. Returns it as the failover left it, with the number of the new primary.
pub(crate) async fn killed_under_load(spec: ClusterSpec) -> Result<(Scene, usize), Failure> {
    let mut scene = Scene::open(spec).await?;
    load::prepare(scene.cluster.primary()).await?;
    scene
        .play(&Plan::rows(&[
            Lag::behind(3),
            Lag::behind(1),
            Lag::behind(2),
        ]))
        .await?;
    let before = Before::read(&scene.cluster).await?;

    let primary = scene.cluster.primary();
    let login = primary.login(APPLICATION.user, APPLICATION.password);
    let clients = Load::start(
        &login,
        &LoadSpec {
            sessions: 4,
            ..LoadSpec::default()
        },
    );
    clients.wait_for(100).await?;
    scene.cluster.crash(0)?;
    let written = clients.finish().await;

    let ended = scene.fail_over(&[]).await?;
    let winner = scene.check(&before, &ended, &Expected::all()).await?;
    for server in scene.cluster.replicas() {
        let found = load::rows(server).await?;
        let name = server.name();
        let lost: Vec<&u64> = written.acknowledged.difference(&found).collect();
        expect(
            lost.is_empty(),
            format!("rows on {name}"),
            "all acknowledged",
            format!("without {lost:?}"),
        )?;
        let strange: Vec<&u64> = found
            .iter()
            .filter(|id| !written.acknowledged.contains(id) && !written.in_doubt.contains(id))
            .collect();
        expect(
            strange.is_empty(),
            format!("rows on {name}"),
            "what clients wrote",
            format!("{strange:?} too"),
        )?;
    }
    Ok((scene, winner))
}
