//! A client that tries to write to every server all the time, and remembers when each of them took or refused a row.
//!
//! It reaches the servers past all relays and gates, as a client in the same rack would. What it proves: if two servers took
//! writes at the same time, the times of its rows contradict any order of "first the one, then the other".

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::accounts::APPLICATION;
use super::client::{Client, Login, Record, Target};
use super::cluster::Cluster;
use super::error::SandboxError;
use super::server::Server;

/// The table: number of the server that took the row, number of the try.
pub const TABLE: &str = "app.witness";

/// How long an answer is waited for after the end; a server that stands still gives none.
const LAST_ANSWER: Duration = Duration::from_secs(2);
/// Between two tries at one server.
const PAUSE: Duration = Duration::from_millis(5);
/// Longest wait for an answer; a server that stands still longer is dialled again.
const LIMIT: Duration = Duration::from_secs(30);
/// ER_OPTION_PREVENTS_STATEMENT: the server is read-only.
const READ_ONLY: u16 = 1290;

/// One try that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Try {
    /// Its number.
    pub number: u64,
    /// When it was sent.
    pub sent: Instant,
    /// When its answer came.
    pub answered: Instant,
}

/// Tries of one server, one after the other, that all ended alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The rows were taken; refused as read-only otherwise.
    pub taken: bool,
    /// The first.
    pub first: Try,
    /// The last.
    pub last: Try,
    /// How many.
    pub count: u64,
}

/// What one server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diary {
    /// Its name.
    pub server: String,
    /// Everything, in order. Tries without an answer are not in it.
    pub stretches: Vec<Stretch>,
}

/// A running witness.
#[derive(Debug)]
pub struct Witness {
    tasks: JoinSet<(usize, Diary)>,
    stop: watch::Sender<bool>,
}

/// Makes the table, to be replicated.
pub async fn prepare(primary: &Server) -> Result<(), SandboxError> {
    primary
        .exec_all(&[
            "CREATE DATABASE IF NOT EXISTS app",
            &format!("CREATE TABLE {TABLE} (server INT, number BIGINT, PRIMARY KEY (server, number)) ENGINE=InnoDB"),
        ])
        .await
}

/// The rows of the table on a server: number of the server that took it, number of the try.
pub async fn rows(server: &Server) -> Result<BTreeSet<(u64, u64)>, SandboxError> {
    let rows = server
        .rows(&format!("SELECT server, number FROM {TABLE}"))
        .await?;
    let number = |row: &Record, column| row.at(column)?.parse().ok();
    Ok(rows
        .iter()
        .filter_map(|row| Some((number(row, 0)?, number(row, 1)?)))
        .collect())
}

impl Witness {
    /// Starts trying on all servers; every one must have the table.
    pub fn start(cluster: &Cluster) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for (number, server) in cluster.servers().iter().enumerate() {
            let login = Login {
                target: Target::Tcp(server.bind_address(), server.port()),
                limit: LIMIT,
                ..server.login(APPLICATION.user, APPLICATION.password)
            };
            let stopped = stopped.clone();
            tasks.spawn(async move { (number, observe(number, login, stopped).await) });
        }
        Self { tasks, stop }
    }

    /// Ends the tries; the diaries in the order of the servers.
    pub async fn finish(mut self) -> Vec<Diary> {
        self.stop.send_replace(true);
        let mut diaries = Vec::new();
        while let Some(diary) = self.tasks.join_next().await {
            // A panic of it is a defect of the test.
            diaries.push(diary.expect("a witness does not panic"));
        }
        diaries.sort_by_key(|(number, _)| *number);
        diaries.into_iter().map(|(_, diary)| diary).collect()
    }
}

async fn observe(server: usize, login: Login, mut stopped: watch::Receiver<bool>) -> Diary {
    let mut diary = Diary {
        server: login.server.clone(),
        stretches: Vec::new(),
    };
    let mut session: Option<Client> = None;
    let mut number = 0;
    while !*stopped.borrow() {
        tokio::time::sleep(PAUSE).await;
        let mut client = match session.take() {
            Some(client) => client,
            None => match told(&mut stopped, Client::connect(&login)).await {
                Some(Ok(client)) => client,
                Some(Err(_)) => continue,
                None => break,
            },
        };
        number += 1;
        let statement = format!("INSERT INTO {TABLE} VALUES ({server}, {number})");
        let sent = Instant::now();
        let Some(answer) = told(&mut stopped, client.exec(&statement)).await else {
            break;
        };
        let one = Try {
            number,
            sent,
            answered: Instant::now(),
        };
        match answer {
            Ok(()) => diary.note(true, one),
            Err(SandboxError::Sql {
                source: mysql_async::Error::Server(error),
                ..
            }) if error.code == READ_ONLY => diary.note(false, one),
            // Its session was ended, or its server.
            Err(_) => continue,
        }
        session = Some(client);
    }
    diary
}

/// Waits for the work, or until the witness is told to stop and an answer under way had its time: a statement that is given up
/// is done by its server nevertheless, when others already compare what is there.
async fn told<T>(stopped: &mut watch::Receiver<bool>, work: impl Future<Output = T>) -> Option<T> {
    let given_up = async {
        let _ = stopped.wait_for(|stopped| *stopped).await;
        tokio::time::sleep(LAST_ANSWER).await;
    };
    tokio::select! {
        done = work => Some(done),
        () = given_up => None,
    }
}

impl Diary {
    fn note(&mut self, taken: bool, one: Try) {
        match self.stretches.last_mut() {
            Some(last) if last.taken == taken => {
                last.last = one;
                last.count += 1;
            }
            _ => self.stretches.push(Stretch {
                taken,
                first: one,
                last: one,
                count: 1,
            }),
        }
    }

    /// Stretches in which it took rows.
    pub fn taken(&self) -> impl Iterator<Item = &Stretch> {
        self.stretches.iter().filter(|stretch| stretch.taken)
    }

    /// Stretches in which it refused rows as read-only.
    pub fn refused(&self) -> impl Iterator<Item = &Stretch> {
        self.stretches.iter().filter(|stretch| !stretch.taken)
    }

    /// It refused a row at or after this moment.
    pub fn refused_after(&self, moment: Instant) -> bool {
        self.refused()
            .any(|stretch| stretch.last.answered >= moment)
    }

    /// How many rows it took.
    pub fn rows(&self) -> u64 {
        self.taken().map(|stretch| stretch.count).sum()
    }

    /// When it took its first row.
    pub fn first_row(&self) -> Option<Instant> {
        self.taken().next().map(|stretch| stretch.first.answered)
    }

    /// When the last row that it took was sent.
    pub fn last_row(&self) -> Option<Instant> {
        self.taken().last().map(|stretch| stretch.last.sent)
    }

    /// For how long writes were refused, each time: from the last row before to the first after.
    pub fn interruptions(&self) -> Vec<Duration> {
        let taken: Vec<&Stretch> = self.taken().collect();
        taken
            .windows(2)
            .filter_map(|pair| match pair {
                [one, next] => Some(next.first.answered.duration_since(one.last.answered)),
                _ => None,
            })
            .collect()
    }
}

/// Every pair of stretches in which two servers must have taken rows at the same time. Empty: at any moment at most one
/// server was writable, as far as a client can tell.
pub fn together(diaries: &[Diary]) -> Vec<String> {
    let mut found = Vec::new();
    for (number, one) in diaries.iter().enumerate() {
        for other in diaries.iter().skip(number + 1) {
            for a in one.taken() {
                for b in other.taken() {
                    if let Some(overlap) = overlap(a, b) {
                        found.push(format!(
                            "{} and {} both took rows for at least {overlap:?}",
                            one.server, other.server
                        ));
                    }
                }
            }
        }
    }
    found
}

/// The two can be ordered only if the last row of one may have been committed before the first of the other.
fn overlap(a: &Stretch, b: &Stretch) -> Option<Duration> {
    let a_then_b = a.last.sent.checked_duration_since(b.first.answered)?;
    let b_then_a = b.last.sent.checked_duration_since(a.first.answered)?;
    Some(a_then_b.min(b_then_a))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diary(server: &str, begin: Instant, tries: &[(bool, u64, u64)]) -> Diary {
        let mut diary = Diary {
            server: server.to_owned(),
            stretches: Vec::new(),
        };
        for (number, (taken, sent, answered)) in (0..).zip(tries) {
            let at = |ms| begin + Duration::from_millis(ms);
            let one = Try {
                number,
                sent: at(*sent),
                answered: at(*answered),
            };
            diary.note(*taken, one);
        }
        diary
    }

    #[test]
    fn one_after_the_other_is_fine_and_a_row_in_between_is_not() {
        let begin = Instant::now();
        let old = diary("db1", begin, &[(true, 0, 2), (true, 10, 12)]);
        let after = diary(
            "db2",
            begin,
            &[(false, 0, 1), (true, 11, 13), (true, 20, 21)],
        );
        assert_eq!(together(&[old.clone(), after]), Vec::<String>::new());
        let between = diary("db2", begin, &[(true, 3, 5), (true, 20, 21)]);
        assert_eq!(together(&[old, between]).len(), 1);
    }

    #[test]
    fn a_refusal_parts_two_stretches() {
        let begin = Instant::now();
        let old = diary("db1", begin, &[(true, 0, 2), (false, 5, 6), (true, 30, 31)]);
        let new = diary("db2", begin, &[(true, 10, 11), (true, 20, 21)]);
        assert_eq!(together(&[old.clone(), new]), Vec::<String>::new());
        assert_eq!(old.interruptions(), [Duration::from_millis(29)]);
        assert_eq!(old.rows(), 2);
    }
}
