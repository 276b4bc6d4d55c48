use proptest::prelude::*;

use super::*;
use crate::store::embedded::{self, Embedded};

fn item(key: &str, value: &[u8], created: Revision, modified: Revision) -> Item {
    Item { key: key.into(), value: value.to_vec(), create_revision: created, mod_revision: modified }
}

fn written(items: Vec<Item>, revision: Revision) -> Vec<u8> {
    let mut file = Vec::new();
    write(Lines::new(Listing { items, revision }, "now".into()), &mut file).unwrap();
    file
}

fn sample() -> Vec<u8> {
    written(vec![item("a", b"text", 2, 9), item("b", b"\xff\0", 3, 3), item("c", b"", 3, 3)], 12)
}

#[test]
fn a_file_is_as_it_is_documented() {
    let text = String::from_utf8(sample()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..4],
        [
            r#"{"mainstay-backup":1,"revision":12,"made":"now"}"#,
            r#"{"key":"b","base64":"/wA=","created":3,"modified":3}"#,
            r#"{"key":"c","text":"","created":3,"modified":3}"#,
            r#"{"key":"a","text":"text","created":2,"modified":9}"#,
        ]
    );
    assert!(lines[4].starts_with(r#"{"items":3,"sha256":""#));
    assert_eq!(lines.len(), 5);
}

#[test]
fn who_leads_is_in_no_backup_and_restored_from_none() {
    let items = vec![item("a", b"1", 2, 2), item(LEADER, b"{}", 3, 3)];
    let file = written(items.clone(), 3);
    assert!(!String::from_utf8(file.clone()).unwrap().contains(LEADER));
    // One that has it all the same.
    let mut lines = Lines::new(Listing { items: items[..1].to_vec(), revision: 3 }, "now".into());
    lines.items = items.clone().into_iter();
    lines.count = 2;
    let mut other = Vec::new();
    write(lines, &mut other).unwrap();
    for file in [file, other] {
        assert_eq!(read(&mut &file[..]).unwrap().items, items[..1]);
    }
}

#[test]
fn any_byte_changed_and_any_end_cut_off_is_noticed() {
    let good = sample();
    assert_eq!(read(&mut &good[..]).unwrap().items.len(), 3);
    for cut in 0..good.len() {
        assert!(read(&mut &good[..cut]).is_err(), "cut at {cut}");
    }
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 1;
        assert!(read(&mut &bad[..]).is_err(), "byte {place}");
    }
    let more = [&good[..], b"{}\n"].concat();
    assert!(read(&mut &more[..]).is_err());
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let newer = b"{\"mainstay-backup\":7,\"anything\":1}\n";
    let error = read(&mut &newer[..]).unwrap_err();
    assert!(matches!(error, BackupError::Format { found: 7 }), "{error:?}");
    assert!(error.to_string().contains("newer"));
}

#[tokio::test]
async fn what_was_written_together_is_restored_together_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    let backup = read(&mut &sample()[..]).unwrap();
    restore(backup.clone(), &store).await.unwrap();
    let mut items = store.list("", None).await.unwrap().items;
    items.sort_by_key(|item| item.mod_revision);
    let keys: Vec<&str> = items.iter().map(|item| item.key.as_str()).collect();
    assert_eq!(keys, ["b", "c", "a"]);
    assert_eq!(items[0].mod_revision, items[1].mod_revision);
    assert_eq!(items[2].mod_revision, items[1].mod_revision + 1);
    let again = restore(backup, &store).await;
    assert!(matches!(again, Err(BackupError::NotEmpty { .. })), "{again:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_is_written_is_read_and_restored_with_its_revisions(
        values in proptest::collection::btree_map("[a-z/é]{1,8}", (any::<Vec<u8>>(), 2..50_u64, 0..50_u64), 0..20),
    ) {
        let mut items: Vec<Item> = values
            .into_iter()
            .map(|(key, (value, created, later))| item(&key, &value, created, created + later))
            .collect();
        let read = read(&mut &written(items.clone(), 100)[..]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        embedded::restore(dir.path(), &read).unwrap();
        prop_assert!(embedded::restore(dir.path(), &read).is_err());
        let store = Embedded::open(dir.path()).unwrap();
        let listing = tokio::runtime::Runtime::new().unwrap().block_on(store.list("", None)).unwrap();
        items.sort_by(|a, b| a.key.cmp(&b.key));
        prop_assert_eq!(listing, Listing { items, revision: 100 });
    }
}
