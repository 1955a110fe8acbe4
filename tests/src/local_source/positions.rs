//! Positions: the end to wait for, what becomes of MariaDB's `gtid_slave_pos`, several files, and a restart among them.

use binlog_core::BinlogPosition;
use node_agent::source::fault::FaultPlan;

use super::bench::{ACCOUNT, first_place, position};
use super::created::one_transaction;
use super::{Bench, Seen, Trouble};
use crate::sandbox::client::{Login, Target};
use crate::sandbox::{Client, replica};

/// A row in a transaction of its own.
fn insert(id: u32) -> String {
    format!("INSERT INTO e.t VALUES ({id}, 'x')")
}

/// Files that end with a Rotate, replayed with cuts; the last thing served is one of them.
pub(super) async fn rotates(bench: &Bench) -> Result<Seen, Trouble> {
    let mut last = bench.write("ROW", &one_transaction(20)).await?;
    for id in 2000..2003 {
        replica::rotate(bench.primary()).await?;
        last = bench.write("ROW", &[insert(id)]).await?;
    }
    // The place after a Rotate is the beginning of the next file.
    replica::rotate(bench.primary()).await?;
    let file = last.file.next();
    let next = BinlogPosition::new(file, 4);
    let segment = bench.all_to(&next).await?;
    let source = bench
        .serve(
            &[segment],
            FaultPlan::cut_after_events([30, 214, 217, 220, 222]),
        )
        .await?;
    bench.follow(&source, &first_place()?).await?;
    let status = bench.executed(&last).await?;
    let status = if position(&status.executed()?)? < next {
        bench.executed(&next).await?
    } else {
        status
    };
    let executed = status.executed()?;
    let cuts = source.progress().borrow().cuts;
    Ok(Seen::equal(
        bench,
        format!("{cuts} cuts, executed {executed} after the last Rotate"),
    )
    .await?
    .and(position(&executed)? == next, "not (next file, 4)"))
}

/// A clean restart of the primary: its file ends with a Stop event and without a Rotate.
pub(super) async fn restart(bench: &Bench) -> Result<Seen, Trouble> {
    bench.write("ROW", &one_transaction(20)).await?;
    bench.primary().stop().await?;
    bench.primary().start().await?;
    replica::rotated(bench.primary()).await?;
    let end = bench.write("ROW", &[insert(2000)]).await?;
    let segment = bench.all_to(&end).await?;
    let source = bench
        .serve(&[segment], FaultPlan::cut_after_events([30, 214, 217]))
        .await?;
    bench.follow(&source, &first_place()?).await?;
    let status = bench.executed(&end).await?;
    let text = format!("executed {} behind the restart", status.executed()?);
    Seen::equal(bench, text).await
}

/// A segment to the very end of a file that ends with a Stop event: nothing waits for what is never counted.
pub(super) async fn stop_event(bench: &Bench) -> Result<Seen, Trouble> {
    let end = bench.write("ROW", &one_transaction(20)).await?;
    bench.primary().stop().await?;
    let path = format!("{}.000001", bench.primary().binlog_base().display());
    let size = std::fs::metadata(&path)
        .map_err(|_| Trouble::lacks(format!("a file {path}")))?
        .len();
    bench.primary().start().await?;
    replica::rotated(bench.primary()).await?;
    let whole = BinlogPosition::new(end.file.clone(), size);
    let segment = bench.all_to(&whole).await?;
    let chain = binlog_core::SegmentChain::open(std::slice::from_ref(&segment))?;
    let (range, wait_for) = (chain.range(), chain.whole_end());
    let source = bench.serve(&[segment], FaultPlan::default()).await?;
    bench.follow(&source, &first_place()?).await?;
    bench.executed(&wait_for).await?;
    bench.idle().await?;
    let executed = bench.status().await?.executed()?;
    Ok(Seen::equal(
        bench,
        format!(
            "file of {size} bytes, served to {}, executed {executed}",
            range.to
        ),
    )
    .await?
    .and(
        wait_for == end,
        "the end to wait for is not that of the last transaction",
    ))
}

/// MariaDB: `binlog_gtid_pos` as the local source answers it, at every place of the log, beside the server's own answer.
pub(super) async fn gtid_answers(bench: &Bench) -> Result<Seen, Trouble> {
    let mut statements = one_transaction(10);
    statements.push("SET SESSION gtid_domain_id=7".to_owned());
    statements.extend((2000..2003).map(insert));
    statements.push("SET SESSION gtid_domain_id=0".to_owned());
    statements.push(insert(2010));
    bench.write("ROW", &statements).await?;
    replica::rotate(bench.primary()).await?;
    let end = bench.write("ROW", &[insert(3000), insert(3001)]).await?;
    let source = bench
        .serve(&[bench.all_to(&end).await?], FaultPlan::default())
        .await?;
    let mut asker = Client::connect(&Login {
        target: Target::Tcp(std::net::Ipv4Addr::LOCALHOST, source.port()),
        ..bench.primary().login(ACCOUNT.user, ACCOUNT.password)
    })
    .await?;
    let mut own = bench.primary().admin().await?;
    let (mut asked, mut empty, mut wrong) = (0, 0, Vec::new());
    for file in ["mysql-bin.000001", "mysql-bin.000002"] {
        for event in own.rows(&format!("SHOW BINLOG EVENTS IN '{file}'")).await? {
            let Some(place) = event.get("End_log_pos") else {
                continue;
            };
            if event.get("Event_type") == Some("Rotate") {
                continue;
            }
            let question = format!("SELECT binlog_gtid_pos('{file}',{place})");
            let ours = asker.value(&question).await?;
            // In the middle of a transaction the server says NULL or what came before; only the end of one is asked for.
            let theirs = own.value(&question).await.unwrap_or_default();
            asked += 1;
            empty += usize::from(ours.is_empty());
            if !ours.is_empty() && !same_gtids(&ours, &theirs) {
                wrong.push(format!("{file}:{place}: '{ours}', server '{theirs}'"));
            }
        }
    }
    Ok(Seen::relied(
        wrong.is_empty() && asked > empty,
        format!(
            "{asked} places asked, {empty} answered with nothing, {} differ from the server's own {}",
            wrong.len(),
            wrong.first().map_or("", String::as_str)
        ),
    ))
}

fn same_gtids(one: &str, other: &str) -> bool {
    let sorted = |text: &str| {
        let mut parts: Vec<String> = text.split(',').map(|part| part.trim().to_owned()).collect();
        parts.sort_unstable();
        parts
    };
    sorted(one) == sorted(other)
}

/// MariaDB by position, at the end of the stream, nothing to replay: `gtid_slave_pos` stays, own writes go on behind it.
pub(super) async fn gtid_at_the_end(bench: &Bench) -> Result<Seen, Trouble> {
    let end = bench.write("ROW", &one_transaction(10)).await?;
    let segment = bench.all_to(&end).await?;
    let source = bench.serve(&[segment], FaultPlan::default()).await?;
    bench.follow(&source, &first_place()?).await?;
    bench.executed(&end).await?;
    let before = bench.replica().value("SELECT @@gtid_slave_pos").await?;
    bench.replica_says("STOP SLAVE").await?;
    bench.follow(&source, &end).await?;
    bench
        .until("both threads", |status| {
            Ok(status.io_running()? == "Yes" && status.sql_running()?)
        })
        .await?;
    bench.replica_says("STOP SLAVE").await?;
    let after = bench.replica().value("SELECT @@gtid_slave_pos").await?;
    bench
        .replica()
        .exec("INSERT INTO e.t VALUES (9000, 'own')")
        .await?;
    let own = bench.replica().value("SELECT @@gtid_binlog_pos").await?;
    let sequence = |gtid: &str| -> u64 {
        gtid.rsplit('-')
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or(0)
    };
    Ok(Seen::relied(
        before == after && !before.is_empty() && sequence(&own) == sequence(&before) + 1,
        format!("gtid_slave_pos {before}, then {after}; next own write {own}"),
    ))
}

/// MariaDB by position from the middle, for a replica that never had a `gtid_slave_pos`.
pub(super) async fn gtid_from_the_middle(bench: &Bench) -> Result<Seen, Trouble> {
    let middle = bench.write("ROW", &one_transaction(10)).await?;
    let end = bench.write("ROW", &[insert(2000), insert(2001)]).await?;
    let first = bench
        .serve(&[bench.all_to(&middle).await?], FaultPlan::default())
        .await?;
    bench.follow(&first, &first_place()?).await?;
    bench.executed(&middle).await?;
    bench.replica_says("STOP SLAVE").await?;
    first.stop().await;
    bench.replica_says("RESET SLAVE ALL").await?;
    bench.replica().exec("RESET MASTER").await?;
    bench.replica().exec("SET GLOBAL gtid_slave_pos=''").await?;
    let second = bench
        .serve(&[bench.all_to(&end).await?], FaultPlan::default())
        .await?;
    bench.follow(&second, &middle).await?;
    bench.executed(&end).await?;
    let found = bench.replica().value("SELECT @@gtid_slave_pos").await?;
    Seen::equal(bench, format!("gtid_slave_pos {found}")).await
}
