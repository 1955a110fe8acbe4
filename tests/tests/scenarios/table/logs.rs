//! How the logs look in which the missing events are: rotated, renumbered, elsewhere, purged, with strangers among them.

use tests::on_every_form;
use tests::sandbox::deployment::DeploymentSpec;
use tests::scenario::{
    Act, Expected, Failure, Form, Lag, Plan, Played, Scene, expect, expect_eq, files,
};

on_every_form! {
    relay_logs_rotated_several_times_between_the_positions
    the_primarys_log_rotated_between_the_positions
    the_primarys_log_passes_from_999999_to_1000000
    a_stray_backup_lies_beside_the_primarys_log
    relay_logs_have_another_name_and_folder
    the_leaders_relay_logs_were_purged_and_the_dead_disk_serves
    the_leaders_relay_logs_were_purged_and_its_agent_kept_them
}

async fn relay_logs_rotated_several_times_between_the_positions(form: Form) -> Result<(), Failure> {
    let mut scene = Scene::open(form.cluster().set("relay-log-purge", 0)).await?;
    let rotating = vec![
        Act::RotateRelayLogs,
        Act::Rows(2),
        Act::RotateRelayLogs,
        Act::RotateRelayLogs,
        Act::Rows(1),
        Act::RotateRelayLogs,
    ];
    let plan = Plan {
        batches: vec![
            vec![Act::Rows(3)],
            rotating.clone(),
            rotating,
            vec![Act::Rows(2)],
        ],
        lags: vec![Lag::behind(1), Lag::behind(3), Lag::behind(2)],
    };
    scene.play(&plan).await?;
    let leader = scene.cluster.server(2);
    let files = files::numbered(&leader.relay_base())?;
    expect(
        files.len() >= 9,
        "relay logs of the leader",
        "at least 9",
        files.join(" "),
    )?;
    scene.loses_nothing().await
}

async fn the_primarys_log_rotated_between_the_positions(form: Form) -> Result<(), Failure> {
    let mut scene = Scene::open(form.cluster()).await?;
    let plan = Plan {
        batches: vec![
            vec![Act::Rows(3)],
            vec![Act::Rows(2), Act::RotatePrimary, Act::Rows(2)],
            vec![Act::RotatePrimary, Act::RotatePrimary, Act::Rows(1)],
            vec![Act::Rows(2), Act::RotatePrimary, Act::Rows(2)],
        ],
        lags: vec![Lag::behind(2), Lag::behind(1), Lag::behind(3)],
    };
    let played = scene.play(&plan).await?;
    let files: Vec<&str> = played
        .places
        .iter()
        .map(|place| place.file.as_str())
        .collect();
    let number = |number: u32| format!("mysql-bin.{number:06}");
    expect_eq(
        "files of the places",
        &files,
        &vec![
            number(1).as_str(),
            number(1).as_str(),
            number(2).as_str(),
            number(4).as_str(),
            number(5).as_str(),
        ],
    )?;
    scene.loses_nothing().await
}

async fn the_primarys_log_passes_from_999999_to_1000000(form: Form) -> Result<(), Failure> {
    let mut scene = Scene::open(form.cluster()).await?;
    scene.renumber(999_999).await?;
    let plan = Plan {
        batches: vec![
            vec![Act::Rows(3)],
            vec![Act::Rows(2)],
            vec![Act::Rows(1), Act::RotatePrimary, Act::Rows(1)],
            vec![Act::Rows(2)],
        ],
        lags: vec![Lag::behind(1), Lag::behind(3), Lag::behind(2)],
    };
    let played = scene.play(&plan).await?;
    expect_eq(
        "file of the candidate",
        &played.place(1)?.file.as_str(),
        &"mysql-bin.999999",
    )?;
    expect_eq(
        "file of the leader",
        &played.place(3)?.file.as_str(),
        &"mysql-bin.1000000",
    )?;
    scene.loses_nothing().await
}

async fn a_stray_backup_lies_beside_the_primarys_log(form: Form) -> Result<(), Failure> {
    let mut scene = Scene::open(form.cluster()).await?;
    let plan = Plan {
        batches: vec![
            vec![Act::Rows(3), Act::RotatePrimary],
            vec![Act::Rows(2), Act::RotatePrimary],
            vec![Act::Rows(3)],
        ],
        lags: vec![Lag::behind(1), Lag::behind(2), Lag::behind(1)],
    };
    let played = scene.play(&plan).await?;
    expect_eq(
        "the primary's file",
        &played.end()?.file.as_str(),
        &"mysql-bin.000003",
    )?;
    let folder = scene.cluster.primary().datadir();
    files::copy(
        &folder.join("mysql-bin.000001"),
        &folder.join("mysql-bin.000004.bak"),
    )?;
    scene.loses_nothing().await
}

async fn relay_logs_have_another_name_and_folder(form: Form) -> Result<(), Failure> {
    let folder = files::scratch()?;
    let mut spec = form.cluster();
    for number in form.replica_numbers() {
        let own = folder.path().join(format!("of db{}", number + 1));
        files::create(&own)?;
        spec = spec.set_on(number, "relay-log", own.join("received").display());
    }
    let mut scene = Scene::open(spec).await?;
    let plan = Plan {
        batches: vec![
            vec![Act::Rows(3)],
            vec![Act::Rows(2), Act::RotateRelayLogs, Act::Rows(2)],
            vec![Act::Rows(2)],
            vec![Act::Rows(2)],
        ],
        lags: vec![Lag::behind(1), Lag::behind(3), Lag::behind(2)],
    };
    scene.play(&plan).await?;
    for server in scene.cluster.replicas() {
        let files = files::numbered(&server.relay_base())?;
        expect(
            !files.is_empty(),
            format!("relay logs of {}", server.name()),
            "some",
            "none",
        )?;
        let ordinary = files::numbered(&server.datadir().join("relay-bin"))?;
        expect_eq(
            format!("relay-bin files of {}", server.name()),
            &ordinary,
            &vec![],
        )?;
    }
    scene.loses_nothing().await
}

/// The leader applied and purged what the others lack.
fn purged_plan() -> Plan {
    Plan {
        batches: vec![
            vec![Act::Rows(3)],
            vec![
                Act::Rows(3),
                Act::RotateRelayLogs,
                Act::Rows(1),
                Act::RotateRelayLogs,
                Act::Rows(1),
            ],
            vec![Act::Rows(2)],
        ],
        lags: vec![Lag::behind(1), Lag::behind(2), Lag::behind(1)],
    }
}

/// The leader executed the second batch, and its server removed the relay logs that held it.
async fn purged(scene: &mut Scene) -> Result<Played, Failure> {
    let played = scene.play(&purged_plan()).await?;
    let files = files::numbered(&scene.cluster.server(2).relay_base())?;
    expect(
        files
            .first()
            .is_some_and(|first| first.as_str() > "relay-bin.000002"),
        "relay logs of the leader",
        "the first ones purged",
        files.join(" "),
    )?;
    Ok(played)
}

async fn the_leaders_relay_logs_were_purged_and_the_dead_disk_serves(
    form: Form,
) -> Result<(), Failure> {
    // The agents come after the purge, so that nothing was kept.
    let mut scene = Scene::without_agents(form.cluster().set("relay-log-purge", 1)).await?;
    purged(&mut scene).await?;
    scene.start_agents(&DeploymentSpec::default()).await?;
    scene.loses_nothing().await
}

async fn the_leaders_relay_logs_were_purged_and_its_agent_kept_them(
    form: Form,
) -> Result<(), Failure> {
    let mut scene = Scene::open(form.cluster().set("relay-log-purge", 1)).await?;
    scene.relay_logs_are_kept(2).await?;
    let played = purged(&mut scene).await?;
    // The dead host is gone for good: only what the agent kept has the second batch.
    scene.host_of_the_primary_is_gone()?;
    let expected = Expected::all().up_to(played.place(2)?, 8);
    scene.survives(&expected).await?;
    Ok(())
}
