//! Claims, stale calls and fencing through the wire.

use std::process::{Child, Command};

use proto::v1;
use proto::v1::ErrorKind;
use proto::v1::epoch_service_client::EpochServiceClient;
use proto::v1::fence_service_client::FenceServiceClient;
use proto::v1::log_service_client::LogServiceClient;

use super::fixture::{Authority, Running, claim, context, kind};

/// A program called mysqld in the agent's data directory.
fn false_mysqld(folder: &std::path::Path) -> Child {
    let program = folder.join("mysqld");
    if !program.exists() {
        // Not a copy: it could not be run while a child of another thread still has it open for writing.
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
    }
    Command::new(&program)
        .arg("600")
        .current_dir(folder.join("data"))
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_are_granted_refused_and_released_by_the_rules() {
    let authority = Authority::new();
    let agent = Running::start("db1", Some(&authority)).await;
    let channel = authority.dial(&agent, &["mha://app1/manager/m1"]).await;
    claim(&channel, 5, "op-1").await;
    let mut epochs = EpochServiceClient::new(channel.clone());
    let request = |cluster: &str, epoch, operation: &str| v1::ClaimEpochRequest {
        cluster: cluster.to_owned(),
        epoch,
        operation: operation.to_owned(),
        manager: "m2".to_owned(),
        take_over: false,
    };
    for (cluster, epoch, operation, expected) in [
        ("app1", 5, "op-2", ErrorKind::Held),
        ("app1", 4, "op-1", ErrorKind::StaleEpoch),
        ("app1", 0, "op-2", ErrorKind::InvalidArgument),
        ("app1", 6, "../op", ErrorKind::InvalidArgument),
        ("app1", 6, "", ErrorKind::InvalidArgument),
        // The certificate is for app1 only.
        ("app2", 1, "op-2", ErrorKind::NotAuthorised),
    ] {
        let status = epochs
            .claim_epoch(request(cluster, epoch, operation))
            .await
            .unwrap_err();
        assert_eq!(kind(&status), expected, "{cluster} {epoch} {operation}");
        assert_eq!(agent.agent.epochs.stored("app1").unwrap().epoch, 5);
    }
    let status = epochs
        .claim_epoch(request("app1", 5, "op-2"))
        .await
        .unwrap_err();
    let proto::status::CallError::Agent(error) =
        proto::status::CallError::from_status("db1", &status)
    else {
        panic!("{status:?}");
    };
    assert_eq!(
        (error.stored_epoch, error.holder.as_str()),
        (5, "op-1 of m1")
    );
    assert_eq!(error.host, "db1");

    for (operation, released) in [("op-2", false), ("op-1", true), ("op-1", false)] {
        let answer = epochs
            .release_epoch(v1::ReleaseEpochRequest {
                cluster: "app1".to_owned(),
                epoch: 5,
                operation: operation.to_owned(),
            })
            .await
            .unwrap();
        assert_eq!(answer.get_ref().released, released);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_without_the_stored_pair_is_refused_and_changes_nothing() {
    let agent = Running::start("db1", None).await;
    let channel = agent.dial().await;
    let mut child = false_mysqld(&agent.folder);
    let mut fences = FenceServiceClient::new(channel.clone());
    let mut logs = LogServiceClient::new(channel.clone());
    claim(&channel, 2, "op-1").await;
    let good = context("db1:3306", 2, "op-1");
    let spoilt = [
        (None, ErrorKind::InvalidArgument),
        (
            Some(v1::CallContext {
                epoch: 1,
                ..good.clone()
            }),
            ErrorKind::StaleEpoch,
        ),
        (
            Some(v1::CallContext {
                epoch: 3,
                ..good.clone()
            }),
            ErrorKind::StaleEpoch,
        ),
        (
            Some(v1::CallContext {
                epoch: 0,
                ..good.clone()
            }),
            ErrorKind::InvalidArgument,
        ),
        (
            Some(v1::CallContext {
                operation: "op-2".to_owned(),
                ..good.clone()
            }),
            ErrorKind::Held,
        ),
        (
            Some(v1::CallContext {
                deadline_ms: 0,
                ..good.clone()
            }),
            ErrorKind::InvalidArgument,
        ),
        (
            Some(v1::CallContext {
                server: "db1:3307".to_owned(),
                ..good.clone()
            }),
            ErrorKind::UnknownServer,
        ),
        (
            Some(v1::CallContext {
                cluster: "app2".to_owned(),
                ..good.clone()
            }),
            ErrorKind::UnknownServer,
        ),
    ];
    for (context, expected) in spoilt {
        let held = fences
            .hold_down(v1::HoldDownRequest {
                context: context.clone(),
            })
            .await
            .unwrap_err();
        assert_eq!(kind(&held), expected, "{context:?}");
        let saved = logs
            .save_binary_logs(v1::SaveBinaryLogsRequest {
                context: context.clone(),
                from: Some(v1::BinlogPosition {
                    file: "mysql-bin.000001".to_owned(),
                    offset: 4,
                }),
                ..Default::default()
            })
            .await
            .unwrap_err();
        assert_eq!(kind(&saved), expected, "{context:?}");
    }
    assert_eq!(child.try_wait().unwrap(), None, "mysqld still runs");
    assert_eq!(agent.agent.servers["db1:3306"].fence.hold(), None);
    // The tail is not cut while mysqld runs.
    let mut stream = logs
        .save_binary_logs(v1::SaveBinaryLogsRequest {
            context: Some(good.clone()),
            from: Some(v1::BinlogPosition {
                file: "mysql-bin.000001".to_owned(),
                offset: 4,
            }),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    let status = stream.message().await.unwrap_err();
    assert_eq!(kind(&status), ErrorKind::MysqldRunning);
    assert!(
        status.message().contains(&child.id().to_string()),
        "{status:?}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_server_goes_down_stays_down_and_may_start_after_the_release() {
    let agent = Running::start("db1", None).await;
    let channel = agent.dial().await;
    let mut fences = FenceServiceClient::new(channel.clone());
    claim(&channel, 1, "op-1").await;
    let hold = || v1::HoldDownRequest {
        context: Some(context("db1:3306", 1, "op-1")),
    };
    let mut child = false_mysqld(&agent.folder);
    let held = fences.hold_down(hold()).await.unwrap().into_inner();
    assert!(held.was_running && held.confirmed);
    // Which of the two depends on how soon the machine gets round to it.
    assert!(matches!(&*held.how, "SIGTERM" | "SIGKILL"), "{held:?}");
    child.wait().unwrap();
    let again = fences.hold_down(hold()).await.unwrap().into_inner();
    assert_eq!(
        (again.was_running, again.how.as_str()),
        (false, "not running")
    );

    let mut client = v1::agent_service_client::AgentServiceClient::new(channel.clone());
    let mut observe = async || {
        client
            .observe_server(v1::ObserveServerRequest {
                cluster: "app1".to_owned(),
                server: "db1:3306".to_owned(),
            })
            .await
            .unwrap()
            .into_inner()
    };
    let state = observe().await;
    assert_eq!(state.held_down_by, "op-1");
    assert_eq!(state.process(), v1::ProcessState::NotRunning);

    // A supervisor starts it again: it is stopped on sight.
    let mut restarted = false_mysqld(&agent.folder);
    let ended = tokio::task::spawn_blocking(move || restarted.wait().unwrap());
    tokio::time::timeout(super::fixture::SOON, ended)
        .await
        .unwrap()
        .unwrap();

    let mut release = async || {
        fences
            .release_hold(v1::ReleaseHoldRequest {
                context: Some(context("db1:3306", 1, "op-1")),
            })
            .await
            .unwrap()
            .into_inner()
            .released
    };
    assert!(release().await);
    assert!(!release().await);
    let mut free = false_mysqld(&agent.folder);
    // Longer than several looks of the loop.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(free.try_wait().unwrap(), None);
    let state = observe().await;
    assert_eq!((state.held_down_by.as_str(), state.pid), ("", free.id()));
    free.kill().unwrap();
    free.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_data_directory_is_unknown_is_not_held_down() {
    let agent = Running::start("db1", None).await;
    let channel = agent.dial().await;
    EpochServiceClient::new(channel.clone())
        .claim_epoch(v1::ClaimEpochRequest {
            cluster: "app2".to_owned(),
            epoch: 1,
            operation: "op-1".to_owned(),
            manager: "m1".to_owned(),
            take_over: false,
        })
        .await
        .unwrap();
    let context = v1::CallContext {
        cluster: "app2".to_owned(),
        ..context("db1:3307", 1, "op-1")
    };
    let status = FenceServiceClient::new(channel)
        .hold_down(v1::HoldDownRequest {
            context: Some(context),
        })
        .await
        .unwrap_err();
    assert_eq!(kind(&status), ErrorKind::Conflict);
}
