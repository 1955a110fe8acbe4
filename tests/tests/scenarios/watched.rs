//! The manager as a daemon beside real servers: what it does by itself, and what it never does.

use std::time::Duration;

use manager::returned::Found;
use tests::sandbox::accounts::{APPLICATION, MONITOR};
use tests::sandbox::daemon::Daemon;
use tests::sandbox::deployment::{CLUSTER, DeploymentSpec, server_name};
use tests::sandbox::gate::Mode;
use tests::sandbox::load::{Load, LoadSpec};
use tests::sandbox::slot::Slot;
use tests::sandbox::wait::{self, Look};
use tests::sandbox::{Cluster, ClusterSpec, SandboxError, ServerKind};
use tests::watched::{Before, Loss, Watched};

use crate::support::Outcome;

/// As many pings as would have to fail several times over.
const LONG: Duration = Duration::from_secs(5);
/// Limit of what must come, on a machine that does much else.
const SOON: Duration = Duration::from_secs(60);

async fn watched(kind: ServerKind, spec: DeploymentSpec) -> Result<(Watched, Slot), SandboxError> {
    let slot = Slot::take().await?;
    let cluster = Cluster::start(ClusterSpec::new(kind)).await?;
    Ok((Watched::start(cluster, spec).await?, slot))
}

fn journals(watched: &Watched) -> usize {
    let folder = watched
        .deployment
        .manager_state()
        .join("journal")
        .join(CLUSTER);
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "journal"))
        .count()
}

/// Killed under load: replaced without a command, nothing lost, and the next death is refused.
async fn replaced_and_then_refused(kind: ServerKind) -> Outcome {
    let (watched, _slot) = watched(kind, DeploymentSpec::default()).await?;
    let replaced = watched.lose_the_primary(Loss::Killed).await?;
    assert!(replaced.acknowledged > 0, "a load that wrote nothing");
    let (code, status) = watched.daemon.status().await?;
    assert_eq!(code, Some(0), "{status}");
    let old = server_name(watched.cluster.primary());
    assert_eq!(status["deposed"], serde_json::json!([old]), "{status}");
    assert!(
        watched.daemon.log_text().contains("server dead"),
        "{}",
        watched.daemon.log_text()
    );

    // The new primary dies, too: within the window nothing is done.
    watched.cluster.crash(replaced.new_primary)?;
    let refusal = |status: &serde_json::Value| {
        let sentence = status["sentence"].as_str().unwrap_or_default();
        status["state"] == 51 && sentence.contains("none may follow within")
    };
    watched.daemon.until("a refusal", refusal).await?;
    let (code, _) = watched.daemon.status().await?;
    assert_eq!(code, Some(51));
    assert_eq!(journals(&watched), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_and_then_refused_mysql_5_6() -> Outcome {
    replaced_and_then_refused(ServerKind::MySql56).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_and_then_refused_mariadb_10_11() -> Outcome {
    replaced_and_then_refused(ServerKind::MariaDb1011).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_death_is_refused_across_a_restart_and_by_hand_until_it_is_overridden() -> Outcome
{
    let (watched, _slot) = watched(ServerKind::MySql56, DeploymentSpec::default()).await?;
    let replaced = watched.lose_the_primary(Loss::Killed).await?;
    let Watched {
        daemon,
        deployment,
        cluster,
    } = watched;
    assert_eq!(daemon.terminate().await?, Some(0));
    cluster.crash(replaced.new_primary)?;
    let daemon = Daemon::launch(&deployment)?;
    daemon
        .until("a refusal", |status| {
            let sentence = status["sentence"].as_str().unwrap_or_default();
            status["state"] == 51 && sentence.contains("none may follow within")
        })
        .await?;
    // By hand, too.
    let dead = cluster.server(replaced.new_primary);
    let run = deployment.failover(dead, &[]).await?;
    run.must_end_with(12);
    assert!(run.mentions("none may follow within"), "{}", run.text());
    // The override goes on: one survivor is left, and the deposed server does not stand in the way.
    let run = deployment
        .failover(dead, &["--ignore-last-failover"])
        .await?;
    assert!(
        matches!(run.finished.code, Some(0 | 10)),
        "{:?}\n{}",
        run.finished.code,
        run.text()
    );
    let last = cluster.server(3 - replaced.new_primary);
    assert_eq!(last.value("SELECT @@read_only").await?, "0");
    assert_eq!(daemon.terminate().await?, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_lets_the_manager_act_again() -> Outcome {
    let (watched, _slot) = watched(ServerKind::MySql56, DeploymentSpec::default()).await?;
    let replaced = watched.lose_the_primary(Loss::Killed).await?;
    watched.cluster.crash(replaced.new_primary)?;
    watched
        .daemon
        .until("a refusal", |status| status["state"] == 51)
        .await?;
    let told = watched.daemon.tell(&["ack", CLUSTER]).await?;
    assert_eq!(told.code, Some(0), "{told:?}");
    let last = server_name(watched.cluster.server(3 - replaced.new_primary));
    watched
        .daemon
        .until("the last server as the primary", |status| {
            status["primary"] == last.as_str()
        })
        .await?;
    assert_eq!(journals(&watched), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_frozen_is_replaced() -> Outcome {
    let (watched, _slot) = watched(ServerKind::MySql56, DeploymentSpec::default()).await?;
    watched.lose_the_primary(Loss::HostFrozen).await?;
    // What only the lost host held is listed, never glossed over.
    for words in ["host dead", "unknown beyond", "fenced by its lease"] {
        assert!(
            watched.daemon.log_text().contains(words),
            "{words} in\n{}",
            watched.daemon.log_text()
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_killed_and_replaced() -> Outcome {
    let (watched, _slot) = watched(ServerKind::MySql56, DeploymentSpec::default()).await?;
    watched.lose_the_primary(Loss::Hung).await?;
    assert!(
        watched.daemon.log_text().contains("is hung"),
        "{}",
        watched.daemon.log_text()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_data_disk_stands_still_is_killed_and_replaced() -> Outcome {
    let _slot = Slot::take().await?;
    let watched =
        Watched::prepare_for(ServerKind::MySql56, Loss::DiskStalled, Before::default()).await?;
    let replaced = watched.lose_the_primary(Loss::DiskStalled).await?;
    let text = watched.daemon.log_text();
    assert!(
        replaced.first_write < Duration::from_secs(20),
        "{replaced:?}\n{text}"
    );
    let sentence = "is hung: its data disk completes no write, whatever it still answers";
    assert!(text.contains(sentence), "{text}");
    Ok(())
}

/// Again and again a sync takes longer than a busy disk's, and comes back: longer in sum than any limit, and no failover.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_data_disk_is_no_failover() -> Outcome {
    let _slot = Slot::take().await?;
    let cluster = Cluster::start(ClusterSpec::new(ServerKind::MySql56).stalling_disk()).await?;
    // So much that a busy machine does not make the test come too late.
    let spec = DeploymentSpec::default().monitor("hang_limit", "8s");
    let watched = Watched::start(cluster, spec).await?;
    watched.leased().await?;
    let disk = watched.cluster.stalling_disk().unwrap();
    let log = watched.deployment.agent(0).log();
    let wait_for = |words, count| async move {
        wait::until(words, SOON, || async {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            Ok(if text.matches(words).count() >= count {
                Look::Done(())
            } else {
                Look::NotYet(text)
            })
        })
        .await
    };
    for round in 1..=6 {
        disk.stall()?;
        // 1.5 s have passed when its agent says so.
        wait_for("the disk is slow, or stands still", round).await?;
        disk.resume()?;
        wait_for("the write came back", round).await?;
    }
    assert_eq!(journals(&watched), 0, "{}", watched.daemon.log_text());
    let (code, status) = watched.daemon.status().await?;
    assert_eq!(code, Some(0), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_without_a_packet_is_replaced() -> Outcome {
    let _slot = Slot::take().await?;
    let watched =
        Watched::prepare_for(ServerKind::MariaDb1011, Loss::HostCut, Before::default()).await?;
    let replaced = watched.lose_the_primary(Loss::HostCut).await?;
    let text = watched.daemon.log_text();
    assert!(
        replaced.first_write < Duration::from_secs(20),
        "{replaced:?}\n{text}"
    );
    let sentence = "is host dead: neither it nor its agent answer, and no replica reaches it";
    assert!(text.contains(sentence), "{text}");
    Ok(())
}

/// The host took rows with it that no replica had received. It comes back with its mysqld down: they are found and copied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_host_alone_held_is_found_when_it_comes_back() -> Outcome {
    const ALONE: u64 = 7;
    let (watched, _slot) = watched(ServerKind::MySql56, DeploymentSpec::default()).await?;
    let (cluster, old) = (&watched.cluster, watched.cluster.primary());
    for number in [1, 2] {
        cluster.hold_here(number).await?;
    }
    let rows = LoadSpec {
        sessions: 1,
        rows: u32::try_from(ALONE).unwrap(),
        ..LoadSpec::default()
    };
    let login = old.login(APPLICATION.user, APPLICATION.password);
    let written = Load::start(&login, &rows).finish_all().await;
    let agent = watched.deployment.agent(0);
    agent.freeze()?;
    old.freeze()?;
    let name = server_name(old);
    watched
        .daemon
        .until("a new primary", |status| {
            status["state"] == 0 && status["primary"].as_str().is_some_and(|now| now != name)
        })
        .await?;
    cluster.crash(0)?;
    agent.thaw()?;
    let report = watched.report_of_the_returned().await?;
    let returned = report.returned.clone().unwrap();
    let Found::Written(found) = &returned.found else {
        panic!("{returned:?}");
    };
    assert_eq!(found.transactions, ALONE);
    assert_eq!(found.listed.len() as u64, ALONE);
    assert!(
        found.listed.iter().all(|one| one.xid.is_some()),
        "{found:?}"
    );
    assert_eq!(returned.server, name);
    let copy = std::fs::read(&found.copy).unwrap();
    assert!(copy.starts_with(b"\xfebin"));
    assert_eq!(written.acknowledged.len() as u64, ALONE);
    let sentence = format!("can be reached again: {ALONE} transactions in [");
    // It is told when it is in the journal and in the report.
    wait::until("the sentence", Duration::from_secs(60), || async {
        let text = watched.daemon.log_text();
        Ok(if text.contains(&sentence) {
            Look::Done(())
        } else {
            Look::NotYet(text)
        })
    })
    .await?;
    assert!(manager::report::render(&report).contains(&sentence));
    // Said and written down once, and it does not stand in the way of a restart.
    let Watched {
        daemon,
        deployment,
        cluster,
    } = watched;
    assert_eq!(daemon.terminate().await?, Some(0));
    let daemon = Daemon::start(&deployment).await?;
    assert_eq!(daemon.log_text().matches(&sentence).count(), 1);
    assert_eq!(daemon.terminate().await?, Some(0));
    drop(cluster);
    Ok(())
}

/// Frozen, replaced, thawed: it takes writes until its agent finds the lease over; all of them are found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_thawed_primary_took_is_in_the_report() -> Outcome {
    let (watched, _slot) = watched(ServerKind::MySql56, DeploymentSpec::default()).await?;
    let thawed = watched.freeze_and_thaw().await?;
    eprintln!("{thawed:?}");
    // The figure is `sandbox speed --watched --fault host`; here others work beside it.
    assert!(thawed.refused_after < Duration::from_secs(5), "{thawed:?}");
    Ok(())
}

/// For a while nothing is done, and the manager says this.
async fn left_alone(watched: &Watched, sentence: &str) -> Outcome {
    wait::until(sentence, SOON, || async {
        let log = watched.daemon.log_text();
        Ok(if log.contains(sentence) {
            Look::Done(())
        } else {
            Look::NotYet(log)
        })
    })
    .await?;
    tokio::time::sleep(LONG).await;
    assert_eq!(journals(watched), 0, "{}", watched.daemon.log_text());
    let (code, status) = watched.daemon.status().await?;
    assert_eq!(code, Some(0), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_monitor_password_is_a_sign_of_life() -> Outcome {
    let spec = DeploymentSpec::default().monitor("user", "nobody_knows_me");
    let (watched, _slot) = watched(ServerKind::MySql56, spec).await?;
    left_alone(
        &watched,
        "is alive: it answers the manager (it answers with error 1045",
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exhausted_connections_are_a_sign_of_life() -> Outcome {
    let spec = DeploymentSpec::default().monitor("ping_type", "CONNECT");
    let (watched, _slot) = watched(ServerKind::MySql56, spec).await?;
    watched
        .cluster
        .primary()
        .exec("SET GLOBAL max_connections=1")
        .await?;
    left_alone(&watched, "it answers with error 1040").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_host_is_a_sign_of_life() -> Outcome {
    let spec = DeploymentSpec::default().monitor("ping_type", "CONNECT");
    let (watched, _slot) = watched(ServerKind::MySql56, spec).await?;
    watched.cluster.gate(0).set_mode(Mode::Blocking);
    left_alone(
        &watched,
        "is alive: it answers the manager (it answers with error 1129",
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_global_read_lock_is_a_sign_of_life() -> Outcome {
    let spec = DeploymentSpec::default().monitor("ping_type", "INSERT");
    let (watched, _slot) = watched(ServerKind::MySql56, spec).await?;
    watched
        .cluster
        .primary()
        .exec(&format!("GRANT ALL ON infra.* TO '{}'@'%'", MONITOR.user))
        .await?;
    // Until the row is written, and not only refused.
    let table = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema='infra'";
    wait::until("the row of the ping", SOON, || async {
        let tables = watched.cluster.primary().value(table).await?;
        Ok(if tables == "1" {
            Look::Done(())
        } else {
            Look::NotYet(tables)
        })
    })
    .await?;
    let mut locker = watched.cluster.primary().admin().await?;
    locker.exec("FLUSH TABLES WITH READ LOCK").await?;
    // Each upsert waits for the lock, and each time a query beside it is answered.
    tokio::time::sleep(LONG).await;
    assert_eq!(journals(&watched), 0, "{}", watched.daemon.log_text());
    assert_eq!(
        watched
            .cluster
            .primary()
            .value("SELECT @@read_only")
            .await?,
        "0"
    );
    let text = watched.daemon.log_text();
    let sentence =
        "is alive: it answers the manager (it answers a query, and no write within 1000 ms";
    assert!(text.contains(sentence), "{text}");
    locker.exec("UNLOCK TABLES").await?;
    watched
        .daemon
        .until("state 0", |status| status["state"] == 0)
        .await?;
    Ok(())
}
