//! A replica holds the first part of a transaction.

use tests::on_every_form;
use tests::sandbox::ClusterSpec;
use tests::scenario::half::{self, Engine};
use tests::scenario::{Failure, Form, Scene};

on_every_form! {
    half_a_transaction_with_one_applier
    half_a_transaction_with_parallel_workers
    half_a_transaction_with_a_myisam_change_applied_by_one_applier
    half_a_transaction_with_a_myisam_change_applied_by_parallel_workers
}

fn spec(form: Form, workers: u32, format: &str) -> ClusterSpec {
    let mut spec = form.cluster().set("binlog-format", format);
    spec.options = spec.options.with(&half::workers(form.kind, workers));
    spec
}

async fn run(spec: ClusterSpec, engine: Engine) -> Result<(), Failure> {
    let mut scene = Scene::open(spec).await?;
    half::prepare(&mut scene.ledger).await?;
    scene.ledger.write(3).await?;
    half::leave(&scene.cluster, &mut scene.ledger, engine, 1, &[]).await?;
    Ok(())
}

async fn half_a_transaction_with_one_applier(form: Form) -> Result<(), Failure> {
    run(spec(form, 0, "ROW"), Engine::Transactional).await
}

async fn half_a_transaction_with_parallel_workers(form: Form) -> Result<(), Failure> {
    run(spec(form, 4, "ROW"), Engine::Transactional).await
}

async fn half_a_transaction_with_a_myisam_change_applied_by_one_applier(
    form: Form,
) -> Result<(), Failure> {
    run(spec(form, 0, "STATEMENT"), Engine::WithMyIsam).await
}

async fn half_a_transaction_with_a_myisam_change_applied_by_parallel_workers(
    form: Form,
) -> Result<(), Failure> {
    run(spec(form, 4, "STATEMENT"), Engine::WithMyIsam).await
}
