//! How the logs look in which the missing events are: rotated, renumbered, elsewhere, purged, with strangers among them.

use std::fs;

use tests::on_every_form;
use tests::sandbox::Server;
use tests::scenario::{Act, Failure, Form, Lag, Plan, Scene, expect, expect_eq};

on_every_form! {
    relay_logs_rotated_several_times_between_the_positions
    the_primarys_log_rotated_between_the_positions
    the_primarys_log_passes_from_999999_to_1000000
    a_stray_backup_lies_beside_the_primarys_log
    relay_logs_have_another_name_and_folder
    the_leaders_relay_logs_were_purged_and_the_dead_disk_serves
}

/// Names of the files `BASE.DIGITS` in the folder of `base`.
fn numbered(server: &Server, base: &std::path::Path) -> Vec<String> {
    let stem = format!(
        "{}.",
        base.file_name().unwrap_or_default().to_string_lossy()
    );
    let folder = base.parent().unwrap_or(base);
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: list {}: {error}", server.name(), folder.display()))
        .map(|entry| {
            entry
                .expect("a folder entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| {
            name.strip_prefix(&stem)
                .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
        })
        .collect();
    names.sort();
    names
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
    let files = numbered(leader, &leader.relay_base());
    expect(
        files.len() >= 9,
        "relay logs of the leader",
        "at least 9",
        files.join(" "),
    )?;
    Ok(())
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
    )
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
    )
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
    let primary = scene.cluster.primary();
    let stray = primary.datadir().join("mysql-bin.000004.bak");
    fs::copy(primary.datadir().join("mysql-bin.000001"), &stray)
        .expect("a copy in the data directory");
    expect_eq("the stray file exists", &stray.exists(), &true)
}

async fn relay_logs_have_another_name_and_folder(form: Form) -> Result<(), Failure> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut spec = form.cluster();
    for number in form.replica_numbers() {
        let own = folder.path().join(format!("of db{}", number + 1));
        fs::create_dir(&own).expect("a folder for relay logs");
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
        let files = numbered(server, &server.relay_base());
        expect(
            !files.is_empty(),
            format!("relay logs of {}", server.name()),
            "some",
            "none",
        )?;
        let ordinary = numbered(server, &server.datadir().join("relay-bin"));
        expect_eq(
            format!("relay-bin files of {}", server.name()),
            &ordinary,
            &vec![],
        )?;
    }
    Ok(())
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

async fn the_leaders_relay_logs_were_purged_and_the_dead_disk_serves(
    form: Form,
) -> Result<(), Failure> {
    let mut scene = Scene::open(form.cluster().set("relay-log-purge", 1)).await?;
    scene.play(&purged_plan()).await?;
    let leader = scene.cluster.server(2);
    let files = numbered(leader, &leader.relay_base());
    expect(
        files
            .first()
            .is_some_and(|first| first.as_str() > "relay-bin.000002"),
        "relay logs of the leader",
        "the first ones purged",
        files.join(" "),
    )
}
