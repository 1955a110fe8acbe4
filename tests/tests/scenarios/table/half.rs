//! A replica holds the first part of a transaction.

use tests::on_every_form;
use tests::sandbox::ClusterSpec;
use tests::scenario::half::{self, Engine, Half};
use tests::scenario::{Expected, Failure, Form, Scene};

on_every_form! {
    half_a_transaction_with_one_applier
    half_a_transaction_with_parallel_workers
    half_a_transaction_with_a_myisam_change_applied_by_one_applier
    half_a_transaction_with_a_myisam_change_applied_by_parallel_workers
    half_a_transaction_that_nobody_has_in_full
    half_a_transaction_that_nobody_has_in_full_with_a_myisam_change
}

fn spec(form: Form, workers: u32, format: &str) -> ClusterSpec {
    let mut spec = form.cluster().set("binlog-format", format);
    spec.options = spec.options.with(&half::workers(form.kind, workers));
    spec
}

/// The first replica holds half of a transaction that changes these tables; nobody else holds any of it, unless the
/// dead disk does.
async fn with_half(spec: ClusterSpec, engine: Engine) -> Result<(Scene, Half), Failure> {
    let mut scene = Scene::open(spec).await?;
    half::prepare(&mut scene.ledger).await?;
    scene.ledger.write(3).await?;
    let half = half::leave(&scene.cluster, &mut scene.ledger, engine, 1, &[]).await?;
    Ok((scene, half))
}

fn expected(engine: Engine) -> Expected {
    match engine {
        Engine::Transactional => Expected::all(),
        // It cannot be undone, and is reported.
        Engine::WithMyIsam => Expected::all().maybe_twice(1, half::PLAIN),
    }
}

/// The dead disk has the transaction in full: all survivors end with it.
async fn whole_on_the_dead_disk(spec: ClusterSpec, engine: Engine) -> Result<(), Failure> {
    let (mut scene, _) = with_half(spec, engine).await?;
    scene.survives(&expected(engine)).await?;
    Ok(())
}

/// Nobody has it in full: no survivor ends with any of it, except for what cannot be undone.
async fn whole_nowhere(spec: ClusterSpec, engine: Engine) -> Result<(), Failure> {
    let (mut scene, half) = with_half(spec, engine).await?;
    scene.host_of_the_primary_is_gone()?;
    let rows = half.rows_before;
    scene
        .survives(&expected(engine).up_to(&half.start, rows))
        .await?;
    Ok(())
}

async fn half_a_transaction_with_one_applier(form: Form) -> Result<(), Failure> {
    whole_on_the_dead_disk(spec(form, 0, "ROW"), Engine::Transactional).await
}

async fn half_a_transaction_with_parallel_workers(form: Form) -> Result<(), Failure> {
    whole_on_the_dead_disk(spec(form, 4, "ROW"), Engine::Transactional).await
}

async fn half_a_transaction_with_a_myisam_change_applied_by_one_applier(
    form: Form,
) -> Result<(), Failure> {
    whole_on_the_dead_disk(spec(form, 0, "STATEMENT"), Engine::WithMyIsam).await
}

async fn half_a_transaction_with_a_myisam_change_applied_by_parallel_workers(
    form: Form,
) -> Result<(), Failure> {
    whole_on_the_dead_disk(spec(form, 4, "STATEMENT"), Engine::WithMyIsam).await
}

async fn half_a_transaction_that_nobody_has_in_full(form: Form) -> Result<(), Failure> {
    whole_nowhere(spec(form, 4, "ROW"), Engine::Transactional).await
}

async fn half_a_transaction_that_nobody_has_in_full_with_a_myisam_change(
    form: Form,
) -> Result<(), Failure> {
    whole_nowhere(spec(form, 0, "STATEMENT"), Engine::WithMyIsam).await
}
