//! What an agent says of a server's configuration is what the server's next start does, on real servers of each line.

use node_agent::mysqld::configured::{self, Answer, Start};
use node_agent::mysqld::{ServerVersion, process};
use tests::sandbox::slot::Slot;
use tests::sandbox::{Cluster, ClusterSpec, Server, ServerKind};

/// Lines of the option file, and a statement before the next start.
type Case = (&'static [(&'static str, &'static str)], &'static str);

async fn predicted(server: &Server) -> configured::Configured {
    let version = server.value("SELECT @@version").await.unwrap();
    let running = process::find(&server.datadir(), None).unwrap().unwrap();
    configured::read_only(&Start::of(
        &running,
        &server.datadir(),
        ServerVersion::parse(&version).unwrap(),
    ))
}

async fn is_read_only(server: &Server) -> bool {
    let value = server.value("SELECT @@GLOBAL.read_only").await.unwrap();
    value == "1"
}

async fn holds(kind: ServerKind, cases: &[Case]) {
    let _slot = Slot::take().await.unwrap();
    let mut cluster = Cluster::start(ClusterSpec::new(kind).replicas(0))
        .await
        .unwrap();
    for (options, statement) in cases {
        let what = format!("{kind} {options:?} {statement:?}");
        let server = cluster.server_mut(0);
        server
            .reconfigure(|mut all| {
                for name in ["read-only", "super-read-only", "skip-read-only"] {
                    all = all.unset(name);
                }
                for (name, value) in *options {
                    all = all.set(name, value);
                }
                all
            })
            .unwrap();
        if !statement.is_empty() {
            server.exec(statement).await.unwrap();
        }
        let said = predicted(server).await;
        server.stop().await.unwrap();
        server.start().await.unwrap();
        let expected = if is_read_only(server).await {
            Answer::Yes
        } else {
            Answer::No
        };
        assert_eq!(said.answer, expected, "{what}: {said:?}");
    }
    let server = cluster.server_mut(0);
    server.stop().await.unwrap();
    server.start_with(&["--read-only=0"]).await.unwrap();
    let said = predicted(server).await;
    let expected = if is_read_only(server).await {
        Answer::Yes
    } else {
        Answer::No
    };
    assert_eq!(said.answer, expected, "{kind} command line: {said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_5_6() {
    holds(
        ServerKind::MySql56,
        &[
            (&[("read-only", "")], ""),
            (&[("read-only", "1"), ("skip-read-only", "")], ""),
            (&[("read-only", "1")], "SET GLOBAL read_only=0"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_10_11() {
    holds(
        ServerKind::MariaDb1011,
        &[(&[("read-only", "on")], ""), (&[], "")],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_9_7() {
    holds(
        ServerKind::MySql97,
        &[
            (&[("super-read-only", "1")], ""),
            (&[("super-read-only", "1"), ("read-only", "0")], ""),
            (&[("read-only", "1")], "SET PERSIST super_read_only=OFF"),
            (&[("read-only", "1")], "SET PERSIST read_only=OFF"),
            (&[], "SET PERSIST read_only=ON"),
            (&[("persisted-globals-load", "OFF")], ""),
        ],
    )
    .await;
}
