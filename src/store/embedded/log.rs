//! The embedded store on disk: one SQLite table to which events are appended.
//!
//! A row is one key's change; its id is the revision and the place in the transaction, so that a plain append is the
//! only kind of write, and a scan in id order is the history. Rows at or below the oldest readable revision are the
//! base: each is the newest of its key. What a compaction leaves behind is deleted bit by bit, after the revision
//! itself has been recorded, and a crash between the two is repaired at the next opening.
//!
//! **Invariant:** a `store.db` of zero length is never ours: a new one is made under another name and renamed.
//! **Invariant:** [`Log::commit`] returns when everything is on the disk (WAL, `synchronous=FULL`).
//! **Invariant:** damage is said at opening: each row carries a checksum (SQLite has none, and reads the missing end of a
//! cut file as zeros), and no revision may be missing.
//! **Absent here:** vacuum. Pages of deleted rows are used again, but the file does not shrink.

use std::fs::{self, DirBuilder, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::state::{EARLIER, Event, RowId, State};
use crate::store::backup::{Backup, BackupError};
use crate::store::{Item, Revision, StoreError};

/// Marks an SQLite file as ours: "MNST".
const APPLICATION_ID: i32 = 0x4D4E_5354;

/// Of the rows' encoding and the tables. A newer one is refused. 1 had no leased rows, which is all that has changed since.
const FORMAT: i32 = 2;
const OLDEST_FORMAT: i32 = 1;

const PUT: u8 = 0;
const DELETE: u8 = 1;
/// A put under a lease. Which one is not kept, for it has ended when this is read.
const LEASED: u8 = 2;
/// Kind, creation revision, key length.
const HEADER: usize = 1 + 8 + 4;
/// Comes before the header, of all that follows and of the row's id.
const CHECKSUM: usize = 8;

/// Holds the data directory for as long as it lives.
#[derive(Debug)]
pub(super) struct DirLock {
    // The kernel lets go of the lock when the file is closed, however that comes about.
    _file: fs::File,
}

/// Makes the directory if need be and takes it for this process.
pub(super) fn take(dir: &Path) -> Result<DirLock, StoreError> {
    let failed = |what: &str, error: std::io::Error| {
        StoreError::Open(format!("can't {what} the data directory {}: {error}", dir.display()))
    };
    if !dir.exists() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .and_then(|()| {
                sync_dir(dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(".".as_ref()))
            })
            .map_err(|error| failed("create", error))?;
    }
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(dir.join("store.lock"))
        .map_err(|error| failed("open store.lock in", error))?;
    match file.try_lock() {
        Ok(()) => {
            // For who finds it locked. Not needed for anything else, so that a full disk is no reason to fail.
            let told = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
            drop(told);
            Ok(DirLock { _file: file })
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            drop(file.read_to_string(&mut holder));
            Err(StoreError::InUse { dir: dir.display().to_string(), holder: holder.trim().parse().ok() })
        }
        Err(TryLockError::Error(error)) => Err(failed("lock", error)),
    }
}

fn sync_dir(dir: &Path) -> std::io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

/// The open file.
#[derive(Debug)]
pub(super) struct Log {
    db: Connection,
    path: PathBuf,
}

impl Log {
    /// Opens `store.db` in a directory that has been taken, or makes it.
    pub(super) fn open(dir: &Path) -> Result<Log, StoreError> {
        let path = dir.join("store.db");
        if !path.exists() {
            create(dir, &path, None)?;
        }
        let log = Log { db: Connection::open(&path).map_err(|error| damaged(&path, &error))?, path };
        log.check_format()?;
        log.configure().map_err(|error| damaged(&log.path, &error))?;
        Ok(log)
    }

    fn check_format(&self) -> Result<(), StoreError> {
        let pragma = |name: &str| {
            self.db
                .pragma_query_value(None, name, |row| row.get::<_, i32>(0))
                .map_err(|error| damaged(&self.path, &error))
        };
        let path = self.path.display();
        if pragma("application_id")? != APPLICATION_ID {
            return Err(StoreError::Open(format!(
                "{path} is not a store of mainstay's, or it has lost its contents; restore it from a backup, or move it \
                 away to start with an empty store"
            )));
        }
        match pragma("user_version")? {
            OLDEST_FORMAT..=FORMAT => Ok(()),
            other if other > FORMAT => Err(StoreError::Open(format!(
                "{path} has format {other}, and this mainstay knows format {FORMAT}; use the mainstay that wrote it, or a \
                 newer one"
            ))),
            other => Err(StoreError::Open(format!(
                "{path} says that it has format {other}, which no mainstay has written; restore it from a backup"
            ))),
        }
    }

    /// Says that the file is of our format from now on, so that an older mainstay refuses it instead of calling it damaged.
    pub(super) fn upgrade(&self) -> Result<(), StoreError> {
        let upgraded =
            self.db.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0)).and_then(|is| {
                if is == FORMAT { Ok(()) } else { self.db.pragma_update(None, "user_version", FORMAT) }
            });
        upgraded
            .map_err(|error| StoreError::Open(format!("{} can't be written: {error}", self.path.display())))
    }

    fn configure(&self) -> rusqlite::Result<()> {
        // Exclusive: no shared-memory file, and no other SQLite can interfere. It has to come before the WAL is used.
        self.db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        self.db.pragma_update(None, "journal_mode", "WAL")?;
        self.db.pragma_update(None, "synchronous", "FULL")?;
        // 32 MiB of log between checkpoints: with SQLite's 1000 pages, p99 of a busy store is 17 times higher.
        self.db.pragma_update(None, "wal_autocheckpoint", 4096)
    }

    /// Reads everything back, with the rows that a compaction had no time to delete.
    pub(super) fn load(&self) -> Result<(State, Vec<RowId>), StoreError> {
        let mut state = State::empty();
        let mut dead = Vec::new();
        self.replay(&mut state, &mut dead).map_err(|error| match error {
            LoadError::Sqlite(error) => damaged(&self.path, &error),
            LoadError::Damaged(why) => damaged(&self.path, &why),
        })?;
        Ok((state, dead))
    }

    fn replay(&self, state: &mut State, dead: &mut Vec<RowId>) -> Result<(), LoadError> {
        let oldest: Option<i64> =
            self.db.query_row("SELECT oldest FROM compaction", [], |r| r.get(0)).optional()?;
        if let Some(oldest) = oldest {
            state.oldest = oldest as u64;
            state.revision = state.oldest;
        }
        let mut revision = state.oldest;
        let mut events = Vec::new();
        let mut select = self.db.prepare("SELECT id, v FROM ev ORDER BY id")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let id = RowId(row.get(0)?);
            let nonsense = || LoadError::Damaged(format!("row {} is damaged", id.0));
            let row = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            let change = decode(id, row).ok_or_else(nonsense)?;
            let event = change.apply(state, id);
            if id.revision() <= state.oldest {
                match event {
                    Some(event) => dead.extend(event.superseded()),
                    // A delete whose put was cleaned up before the crash, and which was next.
                    None => dead.push(id),
                }
                continue;
            }
            let event = event.ok_or_else(nonsense)?;
            if id.revision() != revision {
                if id.revision() != revision + 1 {
                    return Err(LoadError::Damaged(format!("revision {} is missing", revision + 1)));
                }
                flush(state, revision, &mut events);
                revision = id.revision();
            }
            events.push(event);
        }
        flush(state, revision, &mut events);
        Ok(())
    }

    /// Reads everything, going on after what is damaged.
    pub(super) fn survey(&self) -> Survey {
        let mut survey = Survey::default();
        if let Err(error) = self.look(&mut survey) {
            survey
                .damages
                .push(Damage { key: None, what: format!("the file can't be read further: {error}") });
        }
        survey
    }

    fn look(&self, survey: &mut Survey) -> rusqlite::Result<()> {
        let mut found = Vec::new();
        self.db.pragma_query(None, "integrity_check", |row| {
            found.push(row.get::<_, String>(0)?);
            Ok(())
        })?;
        let damage = |what: String| Damage { key: None, what };
        survey.damages.extend(found.into_iter().filter(|said| said != "ok").map(damage));
        let oldest: Option<i64> =
            self.db.query_row("SELECT oldest FROM compaction", [], |r| r.get(0)).optional()?;
        let mut state = State::empty();
        survey.oldest = oldest.map_or(state.oldest, |oldest| oldest as u64);
        survey.revision = survey.oldest;
        let mut select = self.db.prepare("SELECT id, v FROM ev ORDER BY id")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            survey.rows += 1;
            let id = RowId(row.get(0)?);
            let row = row.get_ref(1)?.as_bytes().unwrap_or_default();
            let next = survey.revision.max(id.revision());
            if next > survey.revision + 1 {
                let what = format!("revisions {} to {} are missing", survey.revision + 1, next - 1);
                survey.damages.push(Damage { key: None, what });
            }
            survey.revision = next;
            match decode(id, row) {
                Some(change) => drop(change.apply(&mut state, id)),
                None => survey.damages.push(Damage {
                    key: key_of(row.get(CHECKSUM..).unwrap_or_default()),
                    what: format!("the write at revision {} is damaged", id.revision()),
                }),
            }
        }
        survey.items = state.everything();
        Ok(())
    }

    /// Makes events durable, all or nothing, and records and cleans up after a compaction on the way.
    pub(super) fn commit(
        &mut self,
        events: &[Arc<[Event]>],
        oldest: Option<Revision>,
        dead: &[RowId],
    ) -> rusqlite::Result<()> {
        let transaction = self.db.transaction()?;
        if let Some(oldest) = oldest {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO compaction (only, oldest) VALUES (1, ?1)")?
                .execute([oldest as i64])?;
        }
        {
            let mut insert = transaction.prepare_cached("INSERT INTO ev (id, v) VALUES (?1, ?2)")?;
            let mut row = Vec::new();
            for event in events.iter().flat_map(|events| events.iter()) {
                encode(event, &mut row);
                insert.execute(params![event.row.0, row])?;
            }
            let mut delete = transaction.prepare_cached("DELETE FROM ev WHERE id = ?1")?;
            for id in dead {
                delete.execute([id.0])?;
            }
        }
        transaction.commit()
    }
}

/// What a file holds, damage included.
#[derive(Debug, Default)]
pub struct Survey {
    /// What is readable: each key as its last readable write left it.
    pub items: Vec<Item>,
    /// The newest revision.
    pub revision: Revision,
    /// The oldest one that can be read.
    pub oldest: Revision,
    /// Writes in the file, history included.
    pub rows: usize,
    /// What is wrong, in the order of the file.
    pub damages: Vec<Damage>,
}

/// One place that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The key that is concerned, as far as it can be read.
    pub key: Option<String>,
    /// What is wrong.
    pub what: String,
}

/// Puts a backup into a directory that has been taken and holds no store. Revisions stay what they were; what was
/// written before them can't be read.
pub(super) fn restore(dir: &Path, backup: &Backup) -> Result<(), BackupError> {
    for name in ["store.db", "store.db-wal"] {
        if dir.join(name).exists() {
            return Err(BackupError::NotEmpty { key: dir.join(name).display().to_string() });
        }
    }
    Ok(create(dir, &dir.join("store.db"), Some(backup))?)
}

/// Lays a backup's rows into a new file, as the base that a compaction leaves behind.
fn fill(db: &mut Connection, backup: &Backup) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    transaction.execute("INSERT INTO compaction (only, oldest) VALUES (1, ?1)", [backup.revision as i64])?;
    {
        let mut insert = transaction.prepare("INSERT INTO ev (id, v) VALUES (?1, ?2)")?;
        let mut row = Vec::new();
        for together in backup.items.chunk_by(|a, b| a.mod_revision == b.mod_revision) {
            for (sub, item) in together.iter().enumerate() {
                let id = RowId::new(item.mod_revision, sub);
                encode_as(id, PUT, item.create_revision, &item.key, &item.value, &mut row);
                insert.execute(params![id.0, row])?;
            }
        }
    }
    transaction.commit()
}

enum LoadError {
    Sqlite(rusqlite::Error),
    Damaged(String),
}

impl From<rusqlite::Error> for LoadError {
    fn from(error: rusqlite::Error) -> Self {
        LoadError::Sqlite(error)
    }
}

fn flush(state: &mut State, revision: Revision, events: &mut Vec<Event>) {
    if !events.is_empty() {
        state.remember(revision, std::mem::take(events).into());
    }
}

/// Makes a store, an empty one unless a backup is given, under another name, so that a crash leaves either none or a whole one.
fn create(dir: &Path, path: &Path, backup: Option<&Backup>) -> Result<(), StoreError> {
    let orphan = dir.join("store.db-wal");
    if orphan.exists() {
        // SQLite would read the other file's log into the new one.
        return Err(StoreError::Open(format!(
            "{} is gone, but its log {} is there; restore both, or move the log away to start with an empty store",
            path.display(),
            orphan.display()
        )));
    }
    let new = dir.join("store.db.new");
    let failed = |error: &dyn std::fmt::Display| {
        StoreError::Open(format!("can't create a store in {}: {error}", dir.display()))
    };
    for leftover in [new.clone(), dir.join("store.db.new-journal")] {
        match fs::remove_file(&leftover) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&error)),
            Ok(()) | Err(_) => {}
        }
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(|error| failed(&error))?;
    let lay = || {
        let mut db = Connection::open(&new)?;
        db.pragma_update(None, "page_size", 8192)?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.execute_batch(
            "BEGIN;
             CREATE TABLE ev (id INTEGER PRIMARY KEY, v BLOB NOT NULL);
             CREATE TABLE compaction (only INTEGER PRIMARY KEY CHECK (only = 1), oldest INTEGER NOT NULL);
             COMMIT;",
        )?;
        if let Some(backup) = backup {
            fill(&mut db, backup)?;
        }
        db.pragma_update(None, "user_version", FORMAT)?;
        db.pragma_update(None, "application_id", APPLICATION_ID)?;
        db.close().map_err(|(_, error)| error)
    };
    lay().map_err(|error| failed(&error))?;
    fs::rename(&new, path).and_then(|()| sync_dir(dir)).map_err(|error| failed(&error))
}

fn damaged(path: &Path, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Open(format!(
        "can't read {}: {why}; restore it from a backup, or move it and its -wal file away to start with an empty store",
        path.display()
    ))
}

fn encode(event: &Event, row: &mut Vec<u8>) {
    let (kind, created, value) = match &event.after {
        Some(entry) => (if entry.lease.is_some() { LEASED } else { PUT }, entry.created, &*entry.value),
        None => (DELETE, 0, &[][..]),
    };
    encode_as(event.row, kind, created, &event.key, value, row);
}

fn encode_as(id: RowId, kind: u8, created: Revision, key: &str, value: &[u8], row: &mut Vec<u8>) {
    row.clear();
    row.extend_from_slice(&[0; CHECKSUM]);
    row.push(kind);
    row.extend_from_slice(&created.to_le_bytes());
    row.extend_from_slice(&(key.len() as u32).to_le_bytes());
    row.extend_from_slice(key.as_bytes());
    row.extend_from_slice(value);
    let (sum, content) = row.split_at_mut(CHECKSUM);
    sum.copy_from_slice(&checksum(id, content));
}

/// The key of a row whose sum is wrong, if it looks like one.
fn key_of(content: &[u8]) -> Option<String> {
    let length = u32::from_le_bytes(content.get(9..HEADER)?.try_into().ok()?);
    let key = content.get(HEADER..)?.get(..length as usize)?;
    let key = std::str::from_utf8(key).ok()?;
    (!key.is_empty() && !key.chars().any(char::is_control)).then(|| key.to_owned())
}

/// FNV-1a over words instead of bytes: fast, and a change within one word always shows. Against damage, not malice.
fn checksum(id: RowId, content: &[u8]) -> [u8; CHECKSUM] {
    const PRIME: u64 = 0x0000_0100_0000_01B3;
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(PRIME).rotate_left(32);
    let mut hash = mix(0xCBF2_9CE4_8422_2325, id.0 as u64);
    for chunk in content.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash, u64::from_le_bytes(word));
    }
    mix(hash, content.len() as u64).to_le_bytes()
}

enum Row {
    Put { key: String, created: Revision, value: Arc<[u8]>, is_leased: bool },
    Delete { key: String },
}

/// None for what was not written by [`encode`] under this id.
fn decode(id: RowId, row: &[u8]) -> Option<Row> {
    let (sum, content) = row.split_at_checked(CHECKSUM)?;
    if checksum(id, content) != sum {
        return None;
    }
    let (header, rest) = content.split_at_checked(HEADER)?;
    let (kind, numbers) = header.split_first()?;
    let (created, length) = numbers.split_at_checked(8)?;
    let created = u64::from_le_bytes(created.try_into().ok()?);
    let length = u32::from_le_bytes(length.try_into().ok()?);
    let (key, value) = rest.split_at_checked(length as usize)?;
    let key = std::str::from_utf8(key).ok()?.to_owned();
    match *kind {
        PUT | LEASED => Some(Row::Put { key, created, value: value.into(), is_leased: *kind == LEASED }),
        DELETE => Some(Row::Delete { key }),
        _ => None,
    }
}

impl Row {
    /// None for a delete of what does not exist.
    fn apply(self, state: &mut State, id: RowId) -> Option<Event> {
        match self {
            Row::Put { key, created, value, is_leased } => {
                Some(state.put(id, key, value, Some(created), is_leased.then_some(EARLIER)))
            }
            Row::Delete { key } => state.delete(id, &key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Txn, Write};

    fn run(state: &mut State, then: Vec<Write>) -> Arc<[Event]> {
        let (reply, events) = state.run(Txn { when: vec![], then });
        assert!(reply.succeeded);
        events
    }

    #[test]
    fn a_crash_anywhere_in_cleaning_up_is_repaired() {
        let mut state = State::empty();
        let put = |key: &str, value: &str| Write::Put(key.into(), value.into());
        let delete = |key: &str| Write::Delete(key.into());
        let events = [
            run(&mut state, vec![put("a", "1"), put("b", "1"), put("c", "1")]),
            run(&mut state, vec![put("a", "2"), delete("b")]),
            run(&mut state, vec![put("b", "3"), delete("a"), put("c", "3")]),
            run(&mut state, vec![delete("b"), put("d", "4")]),
            run(&mut state, vec![put("b", "5")]),
        ];
        let last = state.revision;
        let before = state.list("", None).unwrap();
        let dead = state.compact(last - 1).unwrap();
        assert_eq!(dead.len(), 8);

        for cleaned in 0..=dead.len() {
            let dir = tempfile::tempdir().unwrap();
            let mut log = Log::open(dir.path()).unwrap();
            log.commit(&events, Some(last - 1), &dead[..cleaned]).unwrap();
            let (read, left) = log.load().unwrap();
            assert_eq!((read.oldest, read.revision), (last - 1, last));
            assert_eq!(read.list("", None).unwrap(), before, "after {cleaned} rows");
            assert_eq!(left, dead[cleaned..], "after {cleaned} rows");
            log.commit(&[], None, &left).unwrap();
            assert_eq!(log.load().unwrap().1, []);
        }
    }

    #[test]
    fn a_row_is_read_as_it_was_written_or_not_at_all() {
        let mut state = State::empty();
        let events = run(&mut state, vec![Write::Put("key".into(), b"value".to_vec())]);
        let mut row = Vec::new();
        encode(&events[0], &mut row);
        let id = events[0].row;
        assert!(matches!(
            decode(id, &row),
            Some(Row::Put { key, created: 2, value, is_leased: false }) if key == "key" && *value == *b"value"
        ));
        assert!(decode(RowId(id.0 + 1), &row).is_none());
        for byte in 0..row.len() {
            for bit in 0..8 {
                let mut bad = row.clone();
                bad[byte] ^= 1 << bit;
                assert!(decode(id, &bad).is_none(), "bit {bit} of byte {byte}");
            }
            assert!(decode(id, &row[..byte]).is_none(), "cut at {byte}");
        }
    }
}
