use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::*;
use crate::role::relay::registry::{Ledger, Registry, Request, encode};
use crate::wire::resource::ResourceId;

/// A directory that is gone after the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name =
            format!("cc-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        Self(std::env::temp_dir().join(name).join("state"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn open(&self) -> (Store, Vec<Vec<u8>>) {
        let (store, records) = Store::open(&self.0).unwrap();
        (store, records.iter().map(<[u8]>::to_vec).collect())
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_was_appended_is_there_after_a_restart() {
    let dir = Dir::new();
    let (mut store, records) = dir.open();
    assert!(records.is_empty());
    store.append(b"one").unwrap();
    store.append(b"two").unwrap();
    drop(store);
    let (mut store, records) = dir.open();
    assert_eq!(records, [b"one", b"two"]);
    store.append(b"three").unwrap();
    drop(store);
    assert_eq!(dir.open().1.len(), 3);
}

#[test]
fn a_second_process_is_refused_and_told_why() {
    let dir = Dir::new();
    let first = dir.open();
    let why = Store::open(&dir.0).unwrap_err().to_string();
    assert!(why.ends_with("is in use by another process"), "{why}");
    drop(first);
    dir.open();
}

#[test]
fn nobody_else_can_read_the_state() {
    let dir = Dir::new();
    let (store, _) = dir.open();
    store.admin_token().unwrap();
    assert_eq!(mode(&dir.0), 0o700);
    for name in [JOURNAL, "lock", ADMIN_TOKEN] {
        assert_eq!(mode(&dir.file(name)), 0o600, "{name}");
    }
    drop(store);
    fs::set_permissions(dir.file(JOURNAL), Permissions::from_mode(0o644)).unwrap();
    dir.open();
    assert_eq!(mode(&dir.file(JOURNAL)), 0o600, "a wide mode is narrowed");
}

#[test]
fn a_record_cut_short_is_dropped_and_damage_is_refused_with_file_and_offset() {
    let dir = Dir::new();
    let (mut store, _) = dir.open();
    store.append(b"one").unwrap();
    let second = store.journal.len();
    store.append(b"two").unwrap();
    drop(store);
    let bytes = fs::read(dir.file(JOURNAL)).unwrap();
    fs::write(dir.file(JOURNAL), &bytes[..bytes.len() - 1]).unwrap();
    let (mut store, records) = dir.open();
    assert_eq!(records, [b"one"]);
    store.append(b"two").unwrap();
    drop(store);
    let mut bytes = fs::read(dir.file(JOURNAL)).unwrap();
    bytes[usize::try_from(second).unwrap() + 9] ^= 1;
    fs::write(dir.file(JOURNAL), &bytes).unwrap();
    let why = Store::open(&dir.0).unwrap_err().to_string();
    assert!(why.contains(&format!("state/journal is damaged at byte {second}:")), "{why}");
    assert_eq!(fs::read(dir.file(JOURNAL)).unwrap(), bytes, "and left alone");
}

#[test]
fn a_newer_state_is_refused_and_left_alone() {
    let dir = Dir::new();
    drop(dir.open());
    let newer = b"cluster-connect journal 7\n\x00\x01\x02";
    fs::write(dir.file(JOURNAL), newer).unwrap();
    let why = Store::open(&dir.0).unwrap_err().to_string();
    assert!(why.contains("version 7"), "{why}");
    assert_eq!(fs::read(dir.file(JOURNAL)).unwrap(), newer);
}

#[test]
fn a_compaction_keeps_what_it_is_given_and_what_comes_after() {
    let dir = Dir::new();
    let (mut store, _) = dir.open();
    (0..100).for_each(|_| store.append(b"long-winded").unwrap());
    store.compact([b"short".to_vec()]).unwrap();
    store.append(b"after").unwrap();
    drop(store);
    assert_eq!(dir.open().1, [b"short", b"after"]);
}

#[test]
fn a_compaction_that_dies_at_any_byte_changes_nothing() {
    let dir = Dir::new();
    let (mut store, _) = dir.open();
    store.append(b"one").unwrap();
    drop(store);
    let mut unfinished = Vec::new();
    journal::write([b"state".to_vec()], &mut unfinished).unwrap();
    for cut in 0..=unfinished.len() {
        fs::write(dir.file(UNFINISHED), &unfinished[..cut]).unwrap();
        assert_eq!(dir.open().1, [b"one"]);
        assert!(!dir.file(UNFINISHED).exists());
    }
}

#[test]
fn a_failed_compaction_leaves_the_journal_usable_and_is_not_tried_with_each_record() {
    let dir = Dir::new();
    let (mut store, _) = dir.open();
    let long = vec![b'x'; 500_000];
    (0..3).for_each(|_| store.append(&long).unwrap());
    assert!(store.wants_compaction());
    // A directory of that name cannot be opened for writing.
    fs::create_dir(dir.file(UNFINISHED)).unwrap();
    assert!(store.compact([b"state".to_vec()]).is_err());
    store.append(b"two").unwrap();
    assert!(!store.wants_compaction());
    fs::remove_dir(dir.file(UNFINISHED)).unwrap();
    (0..7).for_each(|_| store.append(&long).unwrap());
    assert!(store.wants_compaction(), "but once it has grown as much again");
    drop(store);
    let found = dir.open().1;
    assert_eq!((found.len(), &found[3][..]), (11, &b"two"[..]));
}

#[test]
fn the_admin_token_is_made_once_and_a_short_one_is_refused() {
    let dir = Dir::new();
    let (store, _) = dir.open();
    let token = store.admin_token().unwrap();
    assert_eq!(token.expose().len(), 47);
    assert_eq!(store.admin_token().unwrap(), token);
    fs::write(store.admin_token_path(), "hunter2\n").unwrap();
    assert!(matches!(store.admin_token(), Err(StoreError::WeakToken(_))));
}

#[test]
fn ten_thousand_clusters_are_read_at_start() {
    let dir = Dir::new();
    let (mut store, _) = dir.open();
    let mut registry = Registry::default();
    let mut journal = Vec::new();
    for n in 0..10_000_u32 {
        let request = Request::PutCluster {
            resource: ResourceId::parse(&format!("edge-{n}")).unwrap(),
            location: None,
            tags: Some([("site".to_owned(), format!("plant {n}"))].into()),
            distribution: None,
            infrastructure: None,
            certificate: Some(vec![0x30; 500]),
            by: "operator".into(),
        };
        let changes = registry.plan(request, 1, &mut |into| into.fill(7)).unwrap();
        journal.push(encode(&changes));
        changes.into_iter().for_each(|change| registry.apply(change));
    }
    store.compact(journal).unwrap();
    let bytes = store.journal.len();
    drop(store);
    let start = Instant::now();
    let (_store, records) = Store::open(&dir.0).unwrap();
    let ledger = Ledger::replay(records.iter()).unwrap();
    let took = start.elapsed();
    println!("10,000 clusters, {bytes} bytes: read and replayed in {took:?}");
    assert_eq!(ledger.registry(), &registry);
}
