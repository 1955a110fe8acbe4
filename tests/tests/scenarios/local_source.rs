//! What servers do with what the local source sends them: the cheap ones of the experiments of `sandbox local-source`.

use tests::local_source::{self, Trouble};
use tests::sandbox::ServerKind;

async fn hold(kind: ServerKind, names: &[&str]) -> Result<(), Trouble> {
    let failed = local_source::play(kind, false, names).await?;
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_8_0() -> Result<(), Trouble> {
    let names = ["created/rows", "half/agent-workers", "xa/row", "load-data"];
    hold(ServerKind::MySql80, &names).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mariadb_11_8() -> Result<(), Trouble> {
    let names = [
        "created/temporary-change",
        "relay-logs/slave-pos-agent",
        "compressed/row",
        "gtid-pos/middle",
    ];
    hold(ServerKind::MariaDb118, &names).await
}
