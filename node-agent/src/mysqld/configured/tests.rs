use std::fs;

use super::*;

/// Started with this option file only, and these arguments.
fn start(folder: &Path, version: &str, arguments: &[&str]) -> Start {
    let file = format!("--defaults-file={}", folder.join("my.cnf").display());
    Start {
        arguments: std::iter::once(file)
            .chain(arguments.iter().map(|a| (*a).to_owned()))
            .collect(),
        environment: Some(BTreeMap::new()),
        datadir: folder.to_owned(),
        version: ServerVersion::parse(version).unwrap(),
    }
}

fn answered(version: &str, file: &str, arguments: &[&str], persisted: Option<&str>) -> Configured {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("my.cnf"), file).unwrap();
    if let Some(json) = persisted {
        fs::write(folder.path().join(PERSISTED), json).unwrap();
    }
    read_only(&start(folder.path(), version, arguments))
}

#[test]
fn table_of_configurations() {
    use Answer::{No, Unknown, Yes};
    let table: &[(&str, &str, &[&str], Answer)] = &[
        ("5.6.24", "[mysqld]\nread_only=1\n", &[], Yes),
        ("5.6.24", "[mysqld]\nread-only\n", &[], Yes),
        ("5.6.24", "[mysqld]\nloose_read_only=ON\n", &[], Yes),
        ("5.6.24", "[mysqld]\nread_on=true\n", &[], Yes),
        ("5.6.24", "[mysqld]\nread_only=1\nskip-read-only\n", &[], No),
        ("5.6.24", "[mysqld]\nread_only=1\nread_only=0\n", &[], No),
        ("5.6.24", "[mysqld]\nread_only=maybe\n", &[], Unknown),
        ("5.6.24", "[mysqld]\nread_buffer_size=1\n", &[], No),
        ("5.6.24", "", &[], No),
        ("5.6.24", "[mysqld-5.6]\nread_only=1\n", &[], Yes),
        ("5.6.24", "[mysqld-5.7]\nread_only=1\n", &[], No),
        ("5.6.24", "[mariadb]\nread_only=1\n", &[], No),
        ("10.11.19-MariaDB", "[mariadb]\nread_only=1\n", &[], Yes),
        (
            "10.11.19-MariaDB",
            "[mariadbd-10.11]\nread_only=1\n",
            &[],
            Yes,
        ),
        ("12.0.2-MariaDB", "[server]\nread_only=NO_LOCK\n", &[], Yes),
        (
            "9.7.4",
            "[mysqld]\nsuper_read_only=1\nread_only=0\n",
            &[],
            Yes,
        ),
        ("5.6.24", "[mysqld]\nread_only=1\n", &["--read-only=0"], No),
        ("5.6.24", "", &["--port=1", "--read_only"], Yes),
        ("5.6.24", "[mysqld@2]\nread_only=1\n", &[], No),
    ];
    for (version, file, arguments, expected) in table {
        let found = answered(version, file, arguments, None);
        assert_eq!(found.answer, *expected, "{file:?} {arguments:?}: {found:?}");
        assert!(!found.evidence.is_empty());
    }
}

#[test]
fn what_is_persisted_comes_last() {
    let new = r#"{"Version": 2, "mysql_dynamic_variables":
        {"read_only": {"Value": "OFF", "Metadata": {"Timestamp": 1, "User": "root", "Host": "localhost"}}}}"#;
    let old =
        r#"{"Version": 1, "mysql_server": {"super_read_only": {"Value": "ON", "Metadata": {}}}}"#;
    let yes = "[mysqld]\nread_only=1\n";
    let off = answered("9.7.4", yes, &["--read-only=1"], Some(new));
    assert_eq!(off.answer, Answer::No, "{off:?}");
    assert!(off.evidence.contains("SET PERSIST"), "{off:?}");
    assert_eq!(answered("8.0.15", "", &[], Some(old)).answer, Answer::Yes);
    let not_loaded = answered("9.7.4", yes, &["--persisted-globals-load=OFF"], Some(new));
    assert_eq!(not_loaded.answer, Answer::Yes);
    // 10.x has no such file; one that is there is somebody else's.
    assert_eq!(
        answered("10.11.19-MariaDB", yes, &[], Some(new)).answer,
        Answer::Yes
    );
    let torn = answered("9.7.4", yes, &[], Some("{"));
    assert_eq!(torn.answer, Answer::Unknown, "{torn:?}");
}

#[test]
fn what_nobody_can_tell_is_unknown_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let gone = read_only(&start(folder.path(), "5.6.24", &[]));
    assert_eq!(gone.answer, Answer::Unknown);
    assert!(gone.evidence.contains("not there any more"), "{gone:?}");
    let mut relative = start(folder.path(), "5.6.24", &[]);
    relative.arguments = vec!["--defaults-file=my.cnf".to_owned()];
    assert_eq!(read_only(&relative).answer, Answer::Unknown);
}

#[test]
fn without_a_named_file_the_usual_places_and_the_home_of_the_server_count() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[mysqld]\nread_only=1\n";
    let mut bare = start(folder.path(), "5.6.24", &[]);
    bare.arguments = vec!["--defaults-group-suffix=@2".to_owned()];
    let home = folder.path().display().to_string();
    bare.environment = Some(BTreeMap::from([("MYSQL_HOME".to_owned(), home.clone())]));
    fs::write(folder.path().join("my.cnf"), text).unwrap();
    assert_eq!(read_only(&bare).answer, Answer::Yes);
    fs::write(folder.path().join("my.cnf"), "[mysqld@2]\nread_only=1\n").unwrap();
    assert_eq!(read_only(&bare).answer, Answer::Yes);
    bare.arguments = vec!["--no-defaults".to_owned()];
    assert_eq!(read_only(&bare).answer, Answer::No);
    // The environment could name another file.
    bare.arguments = Vec::new();
    bare.environment = None;
    assert_eq!(read_only(&bare).answer, Answer::Unknown);
    bare.environment = Some(BTreeMap::from([("HOME".to_owned(), home)]));
    fs::write(folder.path().join(".my.cnf"), text).unwrap();
    assert_eq!(read_only(&bare).answer, Answer::Yes);
}
