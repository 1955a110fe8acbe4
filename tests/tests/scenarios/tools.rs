//! A failover by hand: no manager and no agent, only the commands on files, from the dead primary's disk and the other
//! replica's relay logs to a candidate that has everything.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tests::sandbox::deployment::{Deployment, DeploymentSpec, server_name};
use tests::sandbox::replica::{self, LogPlace};
use tests::sandbox::{ClusterSpec, ServerKind, binaries};

use crate::support::{self, Outcome, Running};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_by_hand_on_mysql_5_6() -> Outcome {
    by_hand(ServerKind::MySql56).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_by_hand_on_mariadb_10_11() -> Outcome {
    by_hand(ServerKind::MariaDb1011).await
}

/// Runs the agent's binary in `folder`.
async fn agent(folder: &Path, line: String) -> Result<Output, tests::sandbox::SandboxError> {
    let program = binaries::ensure().await?.agent.clone();
    let folder = folder.to_owned();
    let run = move || {
        Command::new(program)
            .args(line.split_whitespace())
            .current_dir(folder)
            .output()
            .unwrap()
    };
    Ok(tokio::task::spawn_blocking(run).await.unwrap())
}

fn ended_with(code: i32, output: &Output) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn write(cluster: &Running, ids: std::ops::Range<u32>) -> Outcome {
    for id in ids {
        cluster
            .primary()
            .exec(&format!("insert into app.t values ({id}, 'row {id}')"))
            .await?;
    }
    Ok(())
}

fn position(place: &LogPlace) -> String {
    format!("{}:{}", place.file, place.offset)
}

async fn by_hand(kind: ServerKind) -> Outcome {
    // Without an agent nobody keeps relay logs that the replica has applied.
    let spec = ClusterSpec::new(kind)
        .set("relay-log-purge", 0)
        .database("app");
    let cluster = support::start(spec).await?;
    let statement = "create table app.t (id int primary key, body varchar(40)) engine=innodb";
    cluster.primary().exec(statement).await?;
    write(&cluster, 0..5).await?;
    cluster.wait_caught_up().await?;
    let candidate_has = cluster.hold_here(1).await?;
    write(&cluster, 5..12).await?;
    cluster.primary().exec("flush logs").await?;
    write(&cluster, 12..20).await?;
    let other_has = cluster.hold_here(2).await?;
    write(&cluster, 20..30).await?;
    let (candidate, other) = (cluster.server(1), cluster.server(2));
    replica::wait_executed(candidate, &candidate_has).await?;
    replica::wait_executed(other, &other_has).await?;
    let source = replica::must_status(candidate).await?.source()?;
    let deployment = Deployment::start(&cluster, &DeploymentSpec::default()).await?;
    cluster.crash(0)?;

    let files = tempfile::tempdir().unwrap();
    let run = |line: String| agent(files.path(), line);
    let binlog = cluster.primary().binlog_base();
    let save = format!(
        "save-binary-logs --binlog-dir {} --start {} --output tail",
        binlog.parent().unwrap().display(),
        position(&other_has)
    );
    ended_with(0, &run(save).await?);
    let relay = other.relay_base();
    let diff = format!(
        "generate-diff --relay-dir {} --relay-log-index {}.index --server-id {} --target {} --latest {} --output diff",
        relay.parent().unwrap().display(),
        relay.display(),
        other.server_id(),
        position(&candidate_has),
        position(&other_has)
    );
    ended_with(0, &run(diff).await?);
    ended_with(0, &run("join diff tail --output all".to_owned()).await?);

    let apply = |number: usize, files: &str| {
        let config = deployment.agent(number).config().display();
        let name = server_name(cluster.server(number));
        format!("apply --config {config} --server {name} {files} --format json")
    };
    // Not beside an agent.
    let refused = run(apply(1, "all")).await?;
    assert!(
        ended_with(1, &refused).contains("is locked by pid"),
        "{refused:?}"
    );
    for number in [1, 2] {
        deployment.agent(number).kill()?;
    }
    // Not with a gap: the candidate lacks what is in the diff.
    let refused = ended_with(1, &run(apply(1, "tail")).await?);
    for place in [&candidate_has, &other_has] {
        assert!(refused.contains(&position(place)), "{refused}");
    }

    let dry = run(apply(1, "all --dry-run")).await?;
    ended_with(0, &dry);
    let dry: Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!(dry["result"]["transactions"], 25, "{dry}");
    assert_eq!(dry["result"]["from"]["offset"], candidate_has.offset);
    assert_eq!(candidate.value("select count(*) from app.t").await?, "5");

    let applied = run(apply(1, "all")).await?;
    ended_with(0, &applied);
    let applied: Value = serde_json::from_slice(&applied.stdout).unwrap();
    for key in ["from", "to", "transactions"] {
        assert_eq!(applied["result"][key], dry["result"][key], "{key}");
    }
    // The other one from files without manifests.
    std::fs::remove_file(files.path().join("tail.manifest.json")).unwrap();
    let named = format!("tail --first-file {}", other_has.file);
    ended_with(0, &run(apply(2, &named)).await?);

    assert_eq!(candidate.value("select count(*) from app.t").await?, "30");
    support::tables_equal(&[candidate, other]).await?;
    for server in [candidate, other] {
        let status = replica::must_status(server).await?;
        assert_eq!(status.source()?, source, "the channel is as it was");
        assert_eq!((status.io_running()?, status.sql_running()?), ("No", false));
    }
    for number in [1, 2] {
        let name = server_name(cluster.server(number)).replace(':', "_");
        let state = deployment
            .agent(number)
            .state_dir()
            .join("servers")
            .join(name);
        assert!(!state.join("channel.json").exists());
        assert!(!state.join("by-hand.segment").exists());
    }
    let again = ended_with(10, &run(apply(1, "all")).await?);
    assert!(again.contains("has executed up to"), "{again}");
    Ok(())
}
