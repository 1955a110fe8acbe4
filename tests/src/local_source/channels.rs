//! Several streams at once: MariaDB's domains, and a second replication channel beside the one that is replayed.

use node_agent::source::fault::FaultPlan;

use super::bench::first_place;
use super::created::one_transaction;
use super::{Bench, Seen, Trouble};
use crate::sandbox::ServerKind;

/// Statements: two tables, then transactions of two domains in turn.
fn two_domains(rounds: u32) -> Vec<String> {
    let mut statements = vec![
        "CREATE DATABASE e".to_owned(),
        "CREATE TABLE e.t (id INT PRIMARY KEY) ENGINE=InnoDB".to_owned(),
        // Without a key, so that what comes twice is there twice.
        "CREATE TABLE e.u (id INT) ENGINE=InnoDB".to_owned(),
    ];
    statements.extend(rounds_of(1, rounds));
    statements
}

fn rounds_of(first: u32, last: u32) -> Vec<String> {
    let mut statements = Vec::new();
    for id in first..=last {
        for (domain, table) in [(1, "t"), (2, "u")] {
            statements.push(format!("SET SESSION gtid_domain_id={domain}"));
            statements.push(format!("INSERT INTO e.{table} VALUES ({id})"));
        }
    }
    statements
}

async fn appliers(bench: &Bench) -> Result<(), Trouble> {
    bench.workers(4).await?;
    bench
        .set_replica("slave_domain_parallel_threads", "2")
        .await
}

/// Two domains, applied beside each other, with cuts; the rest through the agent's apply.
pub(super) async fn domains(bench: &Bench) -> Result<Seen, Trouble> {
    let middle = bench.write("ROW", &two_domains(40)).await?;
    let end = bench.write("ROW", &rounds_of(41, 60)).await?;
    appliers(bench).await?;
    let source = bench
        .serve(
            &[bench.all_to(&middle).await?],
            FaultPlan::cut_after_events([40, 90, 91, 130, 200]),
        )
        .await?;
    bench.follow(&source, &first_place()?).await?;
    bench.executed(&middle).await?;
    let half_way = bench.replica().value("SELECT @@gtid_slave_pos").await?;
    let applied = bench.apply(&[bench.all_to(&end).await?], &end).await?;
    let cuts = source.progress().borrow().cuts;
    source.stop().await;
    applied.ended?;
    let found = bench.replica().value("SELECT @@gtid_slave_pos").await?;
    Seen::equal(
        bench,
        format!("{cuts} connections lost, {half_way}, then {found}"),
    )
    .await
}

/// One domain is held up by a lock, the other is ahead, the replica is killed: neither loses nor repeats.
pub(super) async fn domain_ahead_and_crash(bench: &Bench) -> Result<Seen, Trouble> {
    let middle = bench.write("ROW", &two_domains(1)).await?;
    let end = bench.write("ROW", &rounds_of(2, 9)).await?;
    let source = bench
        .serve(&[bench.all_to(&middle).await?], FaultPlan::default())
        .await?;
    bench.follow(&source, &first_place()?).await?;
    bench.executed(&middle).await?;
    bench.replica_says("STOP SLAVE").await?;
    source.stop().await;
    appliers(bench).await?;
    let mut blocker = bench.replica().admin().await?;
    for statement in ["SET sql_log_bin=0", "BEGIN", "INSERT INTO e.t VALUES (2)"] {
        blocker.exec(statement).await?;
    }
    let source = bench
        .serve(&[bench.segment(&middle, &end).await?], FaultPlan::default())
        .await?;
    // By GTID: only then do domains go their own ways.
    bench
        .change(source.port(), crate::sandbox::dialect::Start::Gtid)
        .await?;
    bench.replica_says("START SLAVE").await?;
    bench.replica_value("SELECT COUNT(*) FROM e.u", "9").await?;
    bench.replica().kill()?;
    source.stop().await;
    drop(blocker);
    bench.replica().start_with(&["--skip-slave-start"]).await?;
    let found = bench.replica().value("SELECT @@gtid_slave_pos").await?;
    let applied = bench.apply(&[bench.all_to(&end).await?], &end).await?;
    applied.ended?;
    Seen::equal(bench, format!("gtid_slave_pos was {found}")).await
}

/// A second channel, configured and never started: the agent sees both and means the default one, so that the manager can
/// refuse such a replica. MariaDB's is replayed beside it; MySQL wants the channel named in each statement then (3079).
pub(super) async fn second_channel(bench: &Bench) -> Result<Seen, Trouble> {
    let kind = bench.kind();
    if kind == ServerKind::MySql57 {
        for name in ["master_info_repository", "relay_log_info_repository"] {
            bench.set_replica(name, "'TABLE'").await?;
        }
    }
    let middle = bench.write("ROW", &one_transaction(20)).await?;
    let end = bench
        .write("ROW", &["INSERT INTO e.t VALUES (2000, 'x')"])
        .await?;
    let source = bench
        .serve(&[bench.all_to(&middle).await?], FaultPlan::default())
        .await?;
    bench.follow(&source, &first_place()?).await?;
    bench.executed(&middle).await?;
    let to = "MASTER_HOST='127.0.0.1', MASTER_PORT=1, MASTER_USER='other', MASTER_PASSWORD='x', \
              MASTER_LOG_FILE='other-bin.000007', MASTER_LOG_POS=4711";
    let other = if kind.is_mariadb() {
        format!("CHANGE MASTER 'other' TO {to}")
    } else {
        kind.statement(&format!("CHANGE MASTER TO {to} FOR CHANNEL 'other'"))
            .into_owned()
    };
    bench.replica().exec(&other).await?;
    let seen_by_agent = bench.agent_status().await?;
    let applied = if kind.is_mariadb() {
        Some(bench.apply(&[bench.all_to(&end).await?], &end).await?)
    } else {
        None
    };
    source.stop().await;
    let show = if kind.is_mariadb() {
        "SHOW SLAVE 'other' STATUS".to_owned()
    } else {
        kind.statement("SHOW SLAVE STATUS FOR CHANNEL 'other'")
            .into_owned()
    };
    let row = bench.replica().row(&show).await?;
    let row = row.map(|row| row.renamed(|column| kind.status_column(column)));
    let get = |column: &str| -> String {
        row.as_ref()
            .and_then(|row| row.get(column))
            .unwrap_or_default()
            .to_owned()
    };
    let found = format!(
        "{}@{}:{} {}:{}",
        get("Master_User"),
        get("Master_Host"),
        get("Master_Port"),
        get("Master_Log_File"),
        get("Read_Master_Log_Pos")
    );
    if kind.is_mariadb() {
        bench.replica().exec("RESET SLAVE 'other' ALL").await?;
    }
    let text = format!(
        "the agent sees {} channels; the other one is {found}",
        seen_by_agent.channels
    );
    let seen = match applied {
        Some(applied) => {
            applied.ended?;
            Seen::equal(bench, format!("{text} after the replay of the first")).await?
        }
        None => Seen::relied(true, text),
    };
    Ok(seen
        .and(
            found == "other@127.0.0.1:1 other-bin.000007:4711",
            "it was changed",
        )
        .and(
            seen_by_agent.channels == 2 && seen_by_agent.channel.is_empty(),
            "not seen as two",
        ))
}
