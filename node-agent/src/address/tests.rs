use super::*;

fn kept(epoch: u64, held: bool) -> Kept {
    Kept {
        ip: "192.0.2.100".parse().unwrap(),
        prefix: 24,
        interface: "eth0".to_owned(),
        operation: "op".to_owned(),
        epoch,
        held,
        lost: false,
    }
}

#[test]
fn table_of_restarts() {
    use Restore::{BringUp, Leave, TakeDown};
    let table = [
        ("nothing happened", true, false, 7, None, BringUp),
        ("named anew since", true, false, 9, Some(9), BringUp),
        ("claimed since", true, false, 9, None, Leave),
        ("claimed after it was named", true, false, 9, Some(8), Leave),
        (
            "an epoch that cannot be read",
            true,
            false,
            u64::MAX,
            None,
            Leave,
        ),
        ("deposed", true, true, 7, None, TakeDown),
        ("deposed and named", true, true, 7, Some(7), TakeDown),
        ("given away", false, false, 7, None, TakeDown),
    ];
    for (what, held, deposed, stored, named_in, expected) in table {
        let found = restore(&kept(7, held), deposed, stored, named_in);
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn what_is_kept_survives_and_a_torn_record_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let open = || ServerAddress::open("db1".to_owned(), folder.path());
    let address = open().unwrap();
    assert_eq!(address.kept(), None);
    assert_eq!(address.given_up(false), None);
    address.store(kept(7, true)).unwrap();
    let again = open().unwrap();
    assert_eq!(again.kept(), Some(kept(7, true)));
    let lost = again.given_up(true).unwrap();
    assert!(lost.lost && !lost.held, "{lost:?}");
    assert_eq!(again.given_up(true), None, "once");
    std::fs::write(folder.path().join("address.json"), "{").unwrap();
    assert!(open().is_err());
}

#[tokio::test]
async fn an_interface_that_is_not_there_is_named_before_anything_is_done() {
    let address = VirtualAddress::new("192.0.2.100/24", "no-such-one").unwrap();
    let seen = look(address.clone()).await;
    assert_eq!(seen.up, Some(false), "{seen:?}");
    // Either this process may not, or the interface is missing: both are said.
    let trouble = seen.trouble.unwrap();
    assert!(
        trouble.contains("no interface no-such-one") || trouble.contains("CAP_NET_ADMIN"),
        "{trouble}"
    );
    assert!(!down(&address).unwrap(), "nothing to take down");
}
