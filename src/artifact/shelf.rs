//! What is known of artifacts: each is hashed once, and again only when it changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::pack::{self, PackError};
use super::tree::{self, Entry, Kind};
use crate::home;
use crate::model::artifact::name_of;
use crate::model::secret::hex;

/// How long an artifact has to be left alone before it is taken. Nothing tells that a copy of a file is complete; that
/// nobody writes to it any more is the nearest thing. It also makes every change visible: one that falls into the same
/// tick of the file system's clock as the reading would not be.
const STILL: Duration = Duration::from_secs(1);

/// What an artifact holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The SHA-256 of its tar.
    pub address: String,
    /// The length of its tar.
    pub size: u64,
    /// The SHA-256 of its bytes, if it is a file.
    pub file_sha256: Option<String>,
}

impl Content {
    /// The digest that a person may state for it.
    pub fn sha256(&self) -> &str {
        self.file_sha256.as_ref().unwrap_or(&self.address)
    }
}

/// Why there is no content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// It is being written; it may be still after so long.
    Moving(Duration),
    /// It can't be an artifact, and why.
    Refused(String),
}

/// What is known of artifacts, by path.
#[derive(Debug, Default)]
pub struct Shelf {
    known: BTreeMap<String, ([u8; 32], Content)>,
}

impl Shelf {
    /// What the artifact at a path holds; `now` is the machine's time.
    ///
    /// # Errors
    /// See [`Unread`].
    pub fn read(&mut self, path: &str, now: SystemTime) -> Result<Content, Unread> {
        let root = home::expand(path);
        let name = name_of(path).map_err(Unread::Refused)?;
        let entries = tree::list(&root).map_err(Unread::Refused)?;
        let stamp = tree::stamp(&entries);
        if let Some((known, content)) = self.known.get(path)
            && *known == stamp
        {
            return Ok(content.clone());
        }
        if let Some(wait) = still_in(tree::newest(&entries), now) {
            return Err(Unread::Moving(wait));
        }
        let content = match measure(&root, &name, &entries) {
            Ok(content) => content,
            Err(PackError::Refused(why)) => return Err(Unread::Refused(why)),
            Err(PackError::Changed(_)) => return Err(Unread::Moving(STILL)),
            Err(PackError::Write(error)) => {
                return Err(Unread::Refused(format!("{} can't be read: {error}", root.display())));
            }
        };
        // What came or went while it was read is seen by looking again.
        match tree::list(&root) {
            Ok(after) if tree::stamp(&after) == stamp => {}
            Ok(_) | Err(_) => return Err(Unread::Moving(STILL)),
        }
        self.known.insert(path.to_owned(), (stamp, content.clone()));
        Ok(content)
    }

    /// Forgets all but these.
    pub fn keep(&mut self, paths: &BTreeSet<String>) {
        self.known.retain(|path, _| paths.contains(path));
    }
}

/// How long until what changed then has been still for long enough; none when it has been.
fn still_in(changed: SystemTime, now: SystemTime) -> Option<Duration> {
    match now.duration_since(changed) {
        Ok(age) => STILL.checked_sub(age).filter(|wait| !wait.is_zero()),
        // A clock that was set back, or another machine's: it tells nothing.
        Err(ahead) => (ahead.duration() < STILL).then_some(STILL),
    }
}

fn measure(root: &std::path::Path, name: &str, entries: &[Entry]) -> Result<Content, PackError> {
    let mut tar = Meter::default();
    pack::write(root, name, entries, &mut tar)?;
    let file_sha256 = match entries {
        [Entry { kind: Kind::File { .. }, .. }] => Some(of_file(root)?),
        _ => None,
    };
    Ok(Content { address: hex(&tar.digest.finalize()), size: tar.length, file_sha256 })
}

/// The digest of a file's bytes, as `sha256sum` prints it.
fn of_file(path: &std::path::Path) -> Result<String, PackError> {
    let gone = |_| PackError::Changed(path.to_owned());
    let mut file = std::fs::File::open(path).map_err(gone)?;
    let mut digest = Sha256::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match file.read(&mut chunk).map_err(gone)? {
            0 => return Ok(hex(&digest.finalize())),
            count => digest.update(&chunk[..count]),
        }
    }
}

/// Takes everything, keeps its digest and length.
#[derive(Default)]
struct Meter {
    digest: Sha256,
    length: u64,
}

impl Write for Meter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.digest.update(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
