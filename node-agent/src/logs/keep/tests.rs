//! Keeping relay logs with plain files in a private directory.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use super::*;

struct Server {
    folder: tempfile::TempDir,
    keeper: RelayKeeper,
}

const LIMITS: RelayKeep = RelayKeep {
    percent_of_disk: 90,
    age: Duration::from_secs(86_400),
};

fn source(server_id: u32, host: &str) -> StreamSource {
    StreamSource {
        server_id,
        server_uuid: String::new(),
        host: host.to_owned(),
        port: 3306,
    }
}

impl Server {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["data", "state"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let keeper = RelayKeeper::open(&folder.path().join("state"), LIMITS).unwrap();
        let server = Self { folder, keeper };
        server.learn(Some(source(1, "db1")));
        server
    }

    fn learn(&self, source: Option<StreamSource>) {
        let index = self.path("relay-bin.index");
        self.keeper
            .learn_location(RelayLocation::new(&self.path("relay-bin"), Some(index)).unwrap());
        if let Some(source) = source {
            self.keeper.learn_source(source, Instant::now());
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    fn write(&self, number: u32, text: &str) {
        fs::write(self.path(&format!("relay-bin.{number:06}")), text).unwrap();
    }

    /// As the server does: the file first, then its entry.
    fn index(&self, numbers: &[u32]) {
        let text: String = numbers
            .iter()
            .map(|n| format!("./relay-bin.{n:06}\n"))
            .collect();
        fs::write(self.path("relay-bin.index"), text).unwrap();
    }

    fn delete(&self, number: u32) {
        fs::remove_file(self.path(&format!("relay-bin.{number:06}"))).unwrap();
    }

    fn pass(&self) -> Pass {
        self.keeper.protect_now().unwrap()
    }

    /// Contents of the sets, file by file.
    fn sets(&self) -> Vec<Vec<String>> {
        self.keeper
            .sets()
            .unwrap()
            .into_iter()
            .map(|set| {
                set.into_iter()
                    .map(|(_, path)| fs::read_to_string(path).unwrap())
                    .collect()
            })
            .collect()
    }

    fn kept_files(&self) -> usize {
        fs::read_dir(self.path(""))
            .unwrap()
            .filter(|entry| {
                let name = entry.as_ref().unwrap().file_name();
                name.to_string_lossy().starts_with("mha-kept-")
            })
            .count()
    }
}

#[test]
fn a_purged_relay_log_stays_and_a_present_one_counts_once() {
    let server = Server::new();
    server.write(1, "one");
    server.write(2, "two");
    fs::write(server.path("relay-bin.000001.bak"), "stray").unwrap();
    fs::write(server.path("mysql-bin.000001"), "binlog").unwrap();
    server.index(&[1, 2]);
    assert_eq!(server.pass().linked, 2);
    assert_eq!(server.pass(), Pass::default());
    assert_eq!(server.sets(), [["one", "two"]]);
    // The link grows with the file.
    OpenOptions::new()
        .append(true)
        .open(server.path("relay-bin.000002"))
        .unwrap()
        .write_all(b" and more")
        .unwrap();
    server.delete(1);
    server.write(3, "three");
    server.index(&[2, 3]);
    assert_eq!(server.pass().linked, 1);
    assert_eq!(server.sets(), [["one", "two and more", "three"]]);
    server.delete(2);
    server.index(&[3]);
    assert_eq!(server.sets(), [["one", "two and more", "three"]]);
}

#[test]
fn what_was_kept_is_known_after_a_restart() {
    let server = Server::new();
    server.write(1, "one");
    server.index(&[1]);
    server.pass();
    server.delete(1);
    server.write(2, "two");
    server.index(&[2]);
    let again = RelayKeeper::open(&server.folder.path().join("state"), LIMITS).unwrap();
    let server = Server {
        folder: server.folder,
        keeper: again,
    };
    // Nothing is known of the place until the server or its memory says so.
    assert!(server.sets().is_empty());
    server.learn(None);
    assert_eq!(server.pass().linked, 1);
    assert_eq!(server.sets(), [["one", "two"]]);
}

#[test]
fn a_new_numbering_of_the_same_source_is_a_set_of_its_own() {
    let server = Server::new();
    server.write(1, "old one");
    server.write(2, "old two");
    server.index(&[1, 2]);
    server.pass();
    server.learn(Some(source(1, "db1")));
    server.pass();
    // CHANGE deletes them all and begins again at 1; the replay keeps the identity and changes the address.
    server.delete(1);
    server.delete(2);
    server.write(1, "new one");
    server.index(&[1]);
    // What was seen of the channel before the file appeared says nothing about it.
    assert_eq!(server.sets(), [["new one"]]);
    server.learn(Some(source(1, "127.0.0.1")));
    assert_eq!(server.sets(), [vec!["new one"], vec!["old one", "old two"]]);
    server.write(2, "new two");
    server.index(&[1, 2]);
    server.pass();
    assert_eq!(
        server.sets(),
        [vec!["new one", "new two"], vec!["old one", "old two"]]
    );
}

#[test]
fn relay_logs_of_another_source_are_kept_but_not_offered() {
    let server = Server::new();
    server.write(1, "of db1");
    server.index(&[1]);
    server.pass();
    server.delete(1);
    server.learn(Some(source(7, "db7")));
    server.write(1, "of db7");
    server.index(&[1]);
    server.pass();
    assert_eq!(server.sets(), [["of db7"]]);
    assert_eq!(server.kept_files(), 2);
    server.learn(Some(source(7, "db7")));
    server.pass();
    // The numbering went on, but the source changed: also another stream.
    server.learn(Some(source(8, "db8")));
    server.write(2, "of db8");
    server.index(&[2]);
    server.delete(1);
    server.pass();
    assert_eq!(server.sets(), [["of db8"]]);
}

#[test]
fn a_source_that_tells_its_id_only_while_connected_is_still_known() {
    let server = Server::new();
    server.write(1, "one");
    server.index(&[1]);
    server.pass();
    server.learn(Some(source(0, "db1")));
    server.pass();
    // A replay through the local source, connected first, then cut off.
    server.learn(Some(source(1, "127.0.0.1")));
    server.delete(1);
    server.write(1, "replayed");
    server.index(&[1]);
    server.pass();
    server.learn(Some(source(0, "127.0.0.1")));
    assert_eq!(server.sets(), [["replayed"], ["one"]]);
    // Pointed at another server and not connected yet: nothing older is of its stream.
    server.learn(Some(source(0, "db2")));
    server.delete(1);
    server.write(1, "of db2");
    server.index(&[1]);
    server.pass();
    server.learn(Some(source(0, "db2")));
    assert_eq!(server.sets(), [["of db2"]]);
    server.learn(Some(source(2, "db2")));
    assert_eq!(server.sets(), [["of db2"]]);
}

#[test]
fn protecting_answers_for_each_file_it_is_asked_for() {
    let server = Server::new();
    server.write(1, "one");
    server.write(2, "two");
    let files = [
        server.path("relay-bin.000001"),
        server.path("relay-bin.000002"),
    ];
    server.keeper.protect(&files).unwrap();
    assert_eq!(server.kept_files(), 2);
    // One that the server deleted meanwhile is no failure, one that is none of its relay logs is.
    server.delete(1);
    server.keeper.protect(&files).unwrap();
    fs::write(server.path("other.000001"), "other").unwrap();
    let error = server.keeper.protect(&[server.path("other.000001")]);
    assert!(error.unwrap_err().to_string().contains("other.000001"));
}

#[test]
fn protecting_finds_the_place_by_the_files_if_nobody_has_told_it() {
    let server = Server::new();
    let keeper = RelayKeeper::open(&server.folder.path().join("state"), LIMITS).unwrap();
    server.write(1, "one");
    keeper.protect(&[server.path("relay-bin.000001")]).unwrap();
    assert_eq!(server.kept_files(), 1);
}

#[test]
fn age_drops_only_what_the_server_let_go() {
    let server = Server::new();
    server.write(1, "one");
    server.write(2, "two");
    server.index(&[1, 2]);
    server.pass();
    let later = SystemTime::now() + LIMITS.age + Duration::from_secs(60);
    assert_eq!(server.keeper.enforce_limits(later).unwrap(), 0);
    server.delete(1);
    server.index(&[2]);
    assert_eq!(server.keeper.enforce_limits(SystemTime::now()).unwrap(), 0);
    assert_eq!(server.keeper.enforce_limits(later).unwrap(), 1);
    assert_eq!(server.sets(), [["two"]]);
    assert_eq!(server.kept_files(), 1);
}

#[test]
fn an_entry_whose_link_somebody_removed_is_forgotten() {
    let server = Server::new();
    server.write(1, "one");
    server.index(&[1]);
    server.pass();
    server.delete(1);
    fs::remove_file(server.path("mha-kept-000001-relay-bin.000001")).unwrap();
    server.index(&[]);
    assert_eq!(server.keeper.enforce_limits(SystemTime::now()).unwrap(), 0);
    assert!(server.sets().is_empty());
}

#[test]
fn a_link_left_by_a_crash_before_the_journal_is_replaced() {
    let server = Server::new();
    fs::write(server.path("mha-kept-000001-relay-bin.000001"), "stale").unwrap();
    server.write(1, "one");
    server.index(&[1]);
    assert_eq!(server.pass().linked, 1);
    server.delete(1);
    server.index(&[]);
    assert_eq!(server.sets(), [["one"]]);
}

#[test]
fn what_was_listed_can_be_read_when_the_server_lets_go_of_it() {
    let server = Server::new();
    server.write(1, "one");
    server.write(2, "two");
    server.index(&[1, 2]);
    let listed = server.keeper.sets().unwrap();
    server.delete(1);
    let read = |(_, path): &(RelayFileName, PathBuf)| fs::read_to_string(path).unwrap();
    let contents: Vec<String> = listed.iter().flatten().map(read).collect();
    assert_eq!(contents, ["one", "two"]);
    // A link that somebody took away is no reason to miss what the server has.
    fs::remove_file(&listed[0][1].1).unwrap();
    server.index(&[2]);
    assert_eq!(server.sets(), [["one", "two"]]);
}

#[test]
fn where_links_are_refused_a_copy_follows_the_file_and_takes_the_rest_after_its_deletion() {
    for errno in [Errno::EPERM, Errno::EXDEV, Errno::EACCES] {
        let server = Server::new();
        let link: fn(&Path, &Path) -> Result<(), Errno> = match errno {
            Errno::EPERM => |_, _| Err(Errno::EPERM),
            Errno::EXDEV => |_, _| Err(Errno::EXDEV),
            _ => |_, _| Err(Errno::EACCES),
        };
        server.keeper.lock().link = link;
        server.write(1, "one");
        server.index(&[1]);
        let pass = server.pass();
        assert_eq!((pass.linked, pass.copied), (0, 1));
        assert_eq!(
            server.kept_files(),
            0,
            "nothing is written beside the originals"
        );
        let mut writer = OpenOptions::new()
            .append(true)
            .open(server.path("relay-bin.000001"))
            .unwrap();
        writer.write_all(b", two").unwrap();
        server.delete(1);
        server.index(&[]);
        assert_eq!(server.sets(), [["one, two"]]);
        assert!(server.keeper.lock().copies.is_empty());
        // The file system may give its number to the next relay log, which is kept all the same.
        server.write(2, "next");
        assert_eq!(server.pass().copied, 1);
        // After a restart of the agent the copy goes on.
        let keeper = RelayKeeper::open(&server.folder.path().join("state"), LIMITS).unwrap();
        let server = Server {
            folder: server.folder,
            keeper,
        };
        server.learn(Some(source(1, "db1")));
        OpenOptions::new()
            .append(true)
            .open(server.path("relay-bin.000002"))
            .unwrap()
            .write_all(b" and more")
            .unwrap();
        server.pass();
        server.delete(2);
        assert_eq!(server.sets(), [["one, two", "next and more"]]);
    }
}

#[test]
fn a_link_refused_for_another_reason_is_an_error_and_no_silent_gap() {
    let server = Server::new();
    server.keeper.lock().link = |_, _| Err(Errno::ENOSPC);
    server.write(1, "one");
    assert!(matches!(
        server.keeper.protect_now(),
        Err(KeepError::Durable(_))
    ));
}

#[test]
fn a_journal_that_cannot_be_written_keeps_nobody_from_reading_and_is_written_later() {
    let server = Server::new();
    // A folder with something in it cannot be replaced by a file.
    let journal = server.folder.path().join("state/relay-kept.json");
    fs::create_dir_all(journal.join("in the way")).unwrap();
    server.write(1, "one");
    server.index(&[1]);
    assert!(matches!(
        server.keeper.protect_now(),
        Err(KeepError::Durable(_))
    ));
    assert_eq!(server.sets(), [["one"]]);
    // Still not on disk, though nothing has changed since.
    assert!(server.keeper.protect_now().is_err());
    fs::remove_dir_all(&journal).unwrap();
    server.pass();
    server.delete(1);
    server.index(&[]);
    let keeper = RelayKeeper::open(&server.folder.path().join("state"), LIMITS).unwrap();
    let server = Server {
        folder: server.folder,
        keeper,
    };
    server.learn(Some(source(1, "db1")));
    assert_eq!(server.sets(), [["one"]]);
}

#[test]
fn a_copy_that_fails_holds_up_no_other_and_loses_nothing() {
    let server = Server::new();
    server.keeper.lock().link = |_, _| Err(Errno::EXDEV);
    for number in [1, 2] {
        server.write(number, "begun");
    }
    server.index(&[1, 2]);
    assert_eq!(server.pass().copied, 2);
    {
        let mut inner = server.keeper.lock();
        let first = inner.journal.kept[0].clone();
        let copy = inner.copies.get_mut(&first.id).unwrap();
        copy.break_for_test(&first.path);
    }
    for number in [1, 2] {
        let path = server.path(&format!("relay-bin.{number:06}"));
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b" and done").unwrap();
        server.delete(number);
    }
    server.index(&[]);
    assert!(server.keeper.protect_now().is_err());
    assert_eq!(server.sets(), [["begun", "begun and done"]]);
    // The file of the broken one is gone from its folder: the handle is all that is left of it.
    assert_eq!(server.keeper.lock().copies.len(), 1);
}

#[test]
fn without_an_index_the_directory_is_the_list() {
    let server = Server::new();
    server.write(2, "two");
    server.write(10, "ten");
    server.pass();
    assert_eq!(server.sets(), [["two", "ten"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watch_catches_a_file_that_lives_only_shortly() {
    let server = Server::new();
    let keeper = std::sync::Arc::new(
        RelayKeeper::open(&server.folder.path().join("state"), LIMITS).unwrap(),
    );
    keeper.learn_location(RelayLocation::new(&server.path("relay-bin"), None).unwrap());
    keeper.learn_source(source(1, "db1"), Instant::now());
    let stop = tokio_util::sync::CancellationToken::new();
    let watching = tokio::spawn(watch::run(
        std::sync::Arc::clone(&keeper),
        "db1:3306".to_owned(),
        stop.clone(),
    ));
    // The first file tells that the watch is in place.
    server.write(1, "one");
    let kept = async |count: usize| {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(60) {
            if server.kept_files() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} of {count} files kept", server.kept_files());
    };
    kept(1).await;
    let began = Instant::now();
    for number in 2..12 {
        server.write(number, "short-lived");
        kept(usize::try_from(number).unwrap()).await;
        server.delete(number);
    }
    // The tick alone would need a second for each.
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    stop.cancel();
    watching.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_looked_at_as_soon_as_it_is_known() {
    let state = tempfile::tempdir().unwrap();
    let keeper = std::sync::Arc::new(RelayKeeper::open(state.path(), LIMITS).unwrap());
    let stop = tokio_util::sync::CancellationToken::new();
    let watching = tokio::spawn(watch::run(
        std::sync::Arc::clone(&keeper),
        "db1:3306".to_owned(),
        stop.clone(),
    ));
    // All there at once: a deleted file's inode may come back as another's.
    let servers: [Server; 10] = std::array::from_fn(|_| Server::new());
    let began = Instant::now();
    for server in &servers {
        server.write(1, "there before anybody knew the place");
        keeper.learn_location(RelayLocation::new(&server.path("relay-bin"), None).unwrap());
        while server.kept_files() == 0 {
            assert!(began.elapsed() < Duration::from_secs(60), "never kept");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    // The tick alone would need a second for each.
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    stop.cancel();
    watching.await.unwrap();
}
