//! What is in a file or folder, in an order that is the same everywhere.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

/// Most files, folders and links of one artifact.
const MAX_ENTRIES: usize = 50_000;

/// Most bytes of one artifact.
const MAX_BYTES: u64 = 16 << 30;

/// Deepest folder within an artifact.
const MAX_DEPTH: usize = 64;

/// A file, folder or link.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its path within the artifact; empty for the artifact itself.
    pub(super) within: PathBuf,
    pub(super) kind: Kind,
    pub(super) metadata: Metadata,
}

#[derive(Debug)]
pub(super) enum Kind {
    Folder,
    File { is_executable: bool },
    Link(PathBuf),
}

/// Whether two looks at a file found the same content: whatever changes that changes one of these.
pub(super) fn identity(metadata: &Metadata) -> [i64; 8] {
    #[expect(clippy::cast_possible_wrap, reason = "compared and hashed, never counted with")]
    let [dev, ino, size] = [metadata.dev(), metadata.ino(), metadata.size()].map(|number| number as i64);
    let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
    [dev, ino, size, times[0], times[1], times[2], times[3], i64::from(metadata.mode())]
}

/// A digest of what all entries are: as long as it is the same, so is the content.
pub(super) fn stamp(entries: &[Entry]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for entry in entries {
        let within = entry.within.as_os_str().as_bytes();
        digest.update((within.len() as u64).to_le_bytes());
        digest.update(within);
        for part in identity(&entry.metadata) {
            digest.update(part.to_le_bytes());
        }
    }
    digest.finalize().into()
}

/// When the newest of the entries was last changed, by the clock of its file system.
pub(super) fn newest(entries: &[Entry]) -> SystemTime {
    let changed = |metadata: &Metadata| {
        let seconds = Duration::from_secs(u64::try_from(metadata.ctime()).unwrap_or(0));
        let rest = Duration::from_nanos(u64::try_from(metadata.ctime_nsec()).unwrap_or(0));
        SystemTime::UNIX_EPOCH + seconds + rest
    };
    entries.iter().map(|entry| changed(&entry.metadata)).max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Lists a file, or a folder with all that is in it. The path itself may be a link; within, links are kept as links.
///
/// # Errors
/// Why it can't be an artifact, for people.
pub(super) fn list(root: &Path) -> Result<Vec<Entry>, String> {
    let metadata = std::fs::metadata(root).map_err(|error| unreadable(root, &error))?;
    let mut entries = Vec::new();
    let mut bytes = 0;
    visit(root, PathBuf::new(), metadata, &mut entries, &mut bytes)?;
    Ok(entries)
}

fn visit(
    root: &Path,
    within: PathBuf,
    metadata: Metadata,
    entries: &mut Vec<Entry>,
    bytes: &mut u64,
) -> Result<(), String> {
    let path = if within.as_os_str().is_empty() { root.to_owned() } else { root.join(&within) };
    let shown = path.display();
    let file_type = metadata.file_type();
    let kind = if file_type.is_dir() {
        Kind::Folder
    } else if file_type.is_file() {
        *bytes = bytes.saturating_add(metadata.size());
        Kind::File { is_executable: metadata.mode() & 0o111 != 0 }
    } else if file_type.is_symlink() {
        let target = std::fs::read_link(&path).map_err(|error| unreadable(&path, &error))?;
        if !stays_inside(&within, &target) {
            return Err(format!(
                "{shown} is a link to {}, out of the artifact; copy what it names, or link to it by a relative path",
                target.display()
            ));
        }
        Kind::Link(target)
    } else {
        return Err(format!("{shown} is neither a file, a folder nor a link"));
    };
    if *bytes > MAX_BYTES {
        return Err(format!("{} holds more than {} GB", root.display(), MAX_BYTES >> 30));
    }
    if entries.len() >= MAX_ENTRIES {
        return Err(format!("{} holds more than {MAX_ENTRIES} files and folders", root.display()));
    }
    if within.components().count() > MAX_DEPTH {
        return Err(format!("{shown} is more than {MAX_DEPTH} folders deep"));
    }
    let is_folder = matches!(kind, Kind::Folder);
    entries.push(Entry { within: within.clone(), kind, metadata });
    if !is_folder {
        return Ok(());
    }
    // Sorted, for the order in a folder is its file system's own.
    let mut names: Vec<OsString> = Vec::new();
    for entry in std::fs::read_dir(&path).map_err(|error| unreadable(&path, &error))? {
        names.push(entry.map_err(|error| unreadable(&path, &error))?.file_name());
        if names.len() > MAX_ENTRIES {
            return Err(format!("{shown} holds more than {MAX_ENTRIES} files and folders"));
        }
    }
    names.sort();
    for name in names {
        let within = within.join(name);
        let path = root.join(&within);
        let metadata = std::fs::symlink_metadata(&path).map_err(|error| unreadable(&path, &error))?;
        visit(root, within, metadata, entries, bytes)?;
    }
    Ok(())
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        format!("{} does not exist", path.display())
    } else {
        format!("{} can't be read: {error}", path.display())
    }
}

/// Whether a link, read from where it stands, names something of the artifact.
fn stays_inside(link: &Path, target: &Path) -> bool {
    let mut depth = link.components().count().saturating_sub(1);
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            // The artifact's top can be named; what is beside it is not ours.
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}
