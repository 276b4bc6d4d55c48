//! The backup file: everything that a store holds at one revision, in a form that belongs to no engine.
//!
//! Lines of JSON, each an object: a header, one line for each key in the order of its last write, a trailer.
//!
//! ```text
//! {"mainstay-backup":1,"revision":42,"made":"2026-11-24T10:00:00Z"}
//! {"key":"doc/Node/IN1/ND1","text":"{…}","created":7,"modified":40}
//! {"key":"doc/Process/IN1/x","base64":"…","created":41,"modified":41}
//! {"items":2,"sha256":"…"}
//! ```
//!
//! `text` is a value in UTF-8, `base64` any other. The sum is of all bytes before the trailer's line, so that a file that was
//! cut short or changed is never taken for a whole one. A number in the header that we don't know is a newer format, and
//! refused.
//!
//! **Invariant:** nothing is made of a file before its trailer was right.
//! **Invariant:** [`LEADER`] is in no backup and is restored from none: a copy of it would be under no lease, and keep
//! everybody from leading for good.
//! **Absent here:** history; what was written over is not in it. Time: the caller says when it was made.

use std::io::{BufRead, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Item, Listing, MAX_TXN_BYTES, MAX_TXN_OPS, Revision, Store, StoreError, Txn, fitting};

/// The format that is written, and the only one there has been so far.
const FORMAT: u32 = 1;

/// Longest line that is read: a value of [`super::MAX_VALUE_BYTES`] of which each byte is escaped, and its key.
const MAX_LINE: u64 = 16 * 1024 * 1024;

/// A store's key while it is being restored: there from the first write to the last, so that what is only half there is
/// not taken for a whole.
pub const RESTORING: &str = "meta/restoring";

/// The key of who leads; under a lease, and so only worth something in the store that granted it.
pub const LEADER: &str = "meta/leader";

/// The header of an answer that says which process made the backup in it.
pub const PROCESS_HEADER: &str = "mainstay-process";

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// When it was made, in RFC 3339.
    pub made: String,
    /// The revision that was read.
    pub revision: Revision,
    /// All keys, in the order of their last write.
    pub items: Vec<Item>,
}

/// Why a backup can't be read, written or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file can't be read or written.
    #[error("the backup can't be read or written")]
    File(#[from] std::io::Error),
    /// It is something else, damaged, or cut short.
    #[error("line {line} of the backup: {why}; take another copy of it")]
    Damaged {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// It was written by a newer version.
    #[error(
        "the backup has format {found}, and this mainstay knows format {FORMAT}; use the mainstay that made it, or a newer one"
    )]
    Format {
        /// The format it says it has.
        found: u32,
    },
    /// The target holds something.
    #[error("the target is not empty: it holds {key}; restore into an empty one")]
    NotEmpty {
        /// One of its keys.
        key: String,
    },
    /// The store did not take it.
    #[error("the store can't be used")]
    Store(#[from] StoreError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    #[serde(rename = "mainstay-backup")]
    format: u32,
    revision: Revision,
    made: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    created: Revision,
    modified: Revision,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trailer {
    items: usize,
    sha256: String,
}

impl From<Item> for Line {
    fn from(item: Item) -> Line {
        let (text, base64) = match String::from_utf8(item.value) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
        };
        Line { key: item.key, text, base64, created: item.create_revision, modified: item.mod_revision }
    }
}

impl Line {
    fn item(self) -> Result<Item, String> {
        let value = match (self.text, self.base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(base64)) => STANDARD.decode(base64).map_err(|error| error.to_string())?,
            (Some(_), Some(_)) | (None, None) => return Err("a key has either `text` or `base64`".into()),
        };
        if self.created > self.modified {
            return Err(format!("{} was changed before it was made", self.key));
        }
        let (create_revision, mod_revision) = (self.created, self.modified);
        Ok(Item { key: self.key, value, create_revision, mod_revision })
    }
}

/// The lines of a backup, one at a time, so that it can be sent while it is made.
#[derive(Debug)]
pub struct Lines {
    header: Option<(Revision, String)>,
    items: std::vec::IntoIter<Item>,
    count: usize,
    /// None once the trailer was given.
    sum: Option<Sha256>,
}

impl Lines {
    /// Of everything that a listing of the empty prefix has found.
    pub fn new(listing: Listing, made: String) -> Lines {
        let Listing { mut items, revision } = listing;
        items.retain(|item| item.key != LEADER);
        items.sort_by(|a, b| (a.mod_revision, &a.key).cmp(&(b.mod_revision, &b.key)));
        let count = items.len();
        Lines { header: Some((revision, made)), items: items.into_iter(), count, sum: Some(Sha256::new()) }
    }
}

impl Iterator for Lines {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let sum = self.sum.as_mut()?;
        if let Some((revision, made)) = self.header.take() {
            let line = line(&Header { format: FORMAT, revision, made });
            sum.update(&line);
            return Some(line);
        }
        if let Some(item) = self.items.next() {
            let line = line(&Line::from(item));
            sum.update(&line);
            return Some(line);
        }
        let sha256 = hex(&self.sum.take()?.finalize());
        Some(line(&Trailer { items: self.count, sha256 }))
    }
}

fn line<T: Serialize>(value: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("a line has string keys and no failing parts");
    line.push(b'\n');
    line
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a backup.
///
/// # Errors
/// When it can't be written.
pub fn write(lines: Lines, file: &mut impl Write) -> std::io::Result<()> {
    for line in lines {
        file.write_all(&line)?;
    }
    file.flush()
}

/// Reads a backup, and checks all of it.
///
/// # Errors
/// When it can't be read, is damaged or cut short, or has a newer format.
pub fn read(file: &mut impl BufRead) -> Result<Backup, BackupError> {
    let mut sum = Sha256::new();
    let mut number = 0;
    let mut line = Vec::new();
    let mut header: Option<Header> = None;
    let mut items: Vec<Item> = Vec::new();
    loop {
        line.clear();
        number += 1;
        let damaged = |why: String| BackupError::Damaged { line: number, why };
        let read = std::io::Read::take(&mut *file, MAX_LINE).read_until(b'\n', &mut line)?;
        if read == 0 || line.last() != Some(&b'\n') {
            return Err(damaged("the file ends before its trailer".into()));
        }
        let Some(Header { revision, made, .. }) = &header else {
            let value: serde_json::Value = serde_json::from_slice(&line)
                .map_err(|_| damaged("this is no backup of mainstay's".into()))?;
            let format = value["mainstay-backup"].as_u64().and_then(|format| u32::try_from(format).ok());
            match format {
                Some(FORMAT) => {}
                Some(found) => return Err(BackupError::Format { found }),
                None => return Err(damaged("this is no backup of mainstay's".into())),
            }
            header = Some(serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?);
            sum.update(&line);
            continue;
        };
        if let Ok(trailer) = serde_json::from_slice::<Trailer>(&line) {
            if trailer.items != items.len() || trailer.sha256 != hex(&sum.finalize()) {
                return Err(damaged("the sum is not that of the file: it was changed, or damaged".into()));
            }
            if !file.fill_buf()?.is_empty() {
                return Err(damaged("something follows the trailer".into()));
            }
            items.retain(|item| item.key != LEADER);
            return Ok(Backup { made: made.clone(), revision: *revision, items });
        }
        sum.update(&line);
        let item = serde_json::from_slice::<Line>(&line).map_err(|error| error.to_string());
        let item = item.and_then(Line::item).map_err(damaged)?;
        let in_order = |last: &Item| {
            (last.mod_revision, &last.key) < (item.mod_revision, &item.key) && item.mod_revision <= *revision
        };
        if !items.last().is_none_or(in_order) {
            return Err(damaged(format!("{} is out of order", item.key)));
        }
        items.push(item);
    }
}

/// Restores a backup into any empty store. The order of the last writes is kept, what was written together stays together,
/// and revisions are the store's own. Where the engine can take the revisions, too, as
/// [`super::embedded::restore`] does, that is better.
///
/// # Errors
/// [`BackupError::NotEmpty`]; or when the store does not take it. It is not to be used then: it is left with [`RESTORING`] in
/// it, and a restore has to begin with an empty one.
pub async fn restore(backup: Backup, store: &dyn Store) -> Result<(), BackupError> {
    if let Some(item) = store.list("", None).await?.items.into_iter().next() {
        return Err(BackupError::NotEmpty { key: item.key });
    }
    let begin = Txn {
        when: vec![super::Compare::Absent(RESTORING.into())],
        then: vec![super::Write::Put(RESTORING.into(), backup.made.into_bytes())],
    };
    put(store, begin).await?;
    for together in backup.items.chunk_by(|a, b| a.mod_revision == b.mod_revision) {
        // More than one transaction could have written comes from an engine without that bound.
        for part in parts(together) {
            let then = part.iter().map(|item| super::Write::Put(item.key.clone(), item.value.clone()));
            put(store, Txn { when: vec![], then: then.collect() }).await?;
        }
    }
    put(store, Txn { when: vec![], then: vec![super::Write::Delete(RESTORING.into())] }).await
}

async fn put(store: &dyn Store, txn: Txn) -> Result<(), BackupError> {
    let key = txn.then.first().map_or("", |write| write.part().0).to_owned();
    if store.txn(txn).await?.succeeded { Ok(()) } else { Err(BackupError::NotEmpty { key }) }
}

/// Parts that fit in one transaction each.
fn parts(items: &[Item]) -> Vec<&[Item]> {
    let mut parts = Vec::new();
    let mut rest = items;
    while !rest.is_empty() {
        let bytes = |item: &Item| item.key.len() + item.value.len();
        let (part, left) = rest.split_at(fitting(rest, MAX_TXN_OPS, MAX_TXN_BYTES, bytes));
        parts.push(part);
        rest = left;
    }
    parts
}

#[cfg(test)]
mod tests;
