//! Reads a folder so that what was read stood there, all of it at one moment.
//!
//! Nothing locks a folder, so it is looked at twice: which files there are, what the file system says of each, and, of those that were
//! changed so lately that it could say the same of another content, the content again. If both looks saw the same, it was so between them.
//! Else it is read again.
//!
//! Every path is opened below the root's own descriptor, and the kernel (openat2 with `RESOLVE_BENEATH`; without it the library, link by
//! link) refuses what leads out of it, whoever changes links meanwhile. So a root that is a link, and is pointed elsewhere in the
//! middle, is still read as the one it was, and the second look tells.
//!
//! **Left over:** a file that is changed and changed back between the looks, with its old stamp put back (`touch -d` can't set the time of
//! a change). A file system whose clock is more than two seconds behind ours and has coarse times may hide a change that falls between.
//! A bind mount below the root is part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata, MetadataExt, OpenOptions, OpenOptionsExt};
use rustix::fs::OFlags;

use super::super::reading::{
    MAX_BYTES, MAX_FILES, Manifest, Stamps, Text, about, is_manifest, is_passed_over, text_of,
};
use crate::model::Problem;
use crate::model::locate::MAX_TEXT_BYTES;

/// Deepest folder within the folder that is read.
pub(super) const MAX_DEPTH: usize = 32;

/// How often a folder that keeps changing is read before that is given up for now.
const TRIES: usize = 5;

/// From this age on a file's stamp is sure to change with its content: no clock of a file system is coarser.
const STAMPED_AFTER: Duration = Duration::from_secs(2);

/// Why a folder was not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// Something in it has to be put right.
    Flaw(Problem),
    /// It never stood still.
    Moving,
}

/// Reads all manifests below a folder. Leaves out the text of what is known by its stamp.
pub(super) fn collect(root: &Path, known: &Stamps) -> Result<Vec<Manifest>, Unread> {
    let mut last = Unread::Moving;
    for _ in 0..TRIES {
        match try_collect(root, known) {
            Ok(Some(manifests)) => return Ok(manifests),
            Ok(None) => last = Unread::Moving,
            Err(flaw) => last = Unread::Flaw(flaw),
        }
        // What is wrong at one moment may be in the middle of a change; what still is at the next look stays.
        if let Unread::Flaw(flaw) = &last
            && Look::at(root).err().as_ref() == Some(flaw)
        {
            break;
        }
    }
    Err(last)
}

/// None when it changed meanwhile.
fn try_collect(root: &Path, known: &Stamps) -> Result<Option<Vec<Manifest>>, Problem> {
    let now = SystemTime::now();
    let look = Look::at(root)?;
    let mut size = 0;
    let mut read = BTreeMap::new();
    for (path, seen) in &look.files {
        let name = path.display().to_string();
        let is_known = seen.is_stamped(now) && known.get(&name).is_some_and(|known| *known == seen.stamp());
        let text = if is_known { Text::Known } else { look.read(path, seen) };
        if let Text::Read(text) = &text {
            size += text.len() as u64;
        }
        if size > MAX_BYTES {
            return Err(about(&root.display().to_string(), format!("holds more than {MAX_BYTES} bytes")));
        }
        read.insert(path.clone(), text);
    }
    let again = Look::at(root)?;
    if again.identity != look.identity || again.files != look.files {
        return Ok(None);
    }
    let is_same = |(path, text): (&PathBuf, &Text)| {
        let seen = &look.files[path];
        seen.is_stamped(now) || again.read(path, seen) == *text
    };
    if !read.iter().all(is_same) {
        return Ok(None);
    }
    let full = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    let manifest = |(path, text): (PathBuf, Text)| {
        let seen = &look.files[&path];
        Manifest {
            name: path.display().to_string(),
            stamp: seen.is_stamped(now).then(|| seen.stamp()),
            path: Some(full.join(path)),
            text,
        }
    };
    Ok(Some(read.into_iter().map(manifest).collect()))
}

/// The manifests below a folder as they stand in its lists, without what they say.
struct Look {
    root: Dir,
    /// Which folder it is.
    identity: (u64, u64),
    files: BTreeMap<PathBuf, Seen>,
}

/// What the file system says of a file.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    device: u64,
    inode: u64,
    size: u64,
    /// When it was written, and when anything of it was changed; seconds and nanoseconds.
    written: (i64, i64),
    changed: (i64, i64),
}

impl Seen {
    fn of(metadata: &Metadata) -> Seen {
        Seen {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn stamp(&self) -> String {
        let Seen { device, inode, size, written, changed } = self;
        format!("{device}.{inode}.{size}.{}.{}.{}.{}", written.0, written.1, changed.0, changed.1)
    }

    /// Whether every later content would have another stamp.
    fn is_stamped(&self, now: SystemTime) -> bool {
        let Ok(seconds) = u64::try_from(self.changed.0) else { return false };
        let changed = UNIX_EPOCH + Duration::from_secs(seconds + 1);
        now.duration_since(changed).is_ok_and(|age| age >= STAMPED_AFTER)
    }
}

impl Look {
    fn at(root: &Path) -> Result<Look, Problem> {
        let name = root.display().to_string();
        let unreadable = |error: io::Error| about(&name, format!("can't be read: {error}"));
        let dir = Dir::open_ambient_dir(root, ambient_authority()).map_err(unreadable)?;
        let metadata = dir.dir_metadata().map_err(unreadable)?;
        let identity = (metadata.dev(), metadata.ino());
        let mut walk = Walk {
            name: root,
            root: &dir,
            files: BTreeMap::new(),
            links: BTreeSet::new(),
            visited: BTreeSet::new(),
        };
        walk.visit(Path::new(""), 0)?;
        // A folder that is reached by a link is read where it stands; if that is hidden, as in a ConfigMap, then by the link. Read once, so
        // that a circle is no trap.
        while let Some(link) = walk.links.pop_first() {
            let depth = link.components().count();
            walk.visit(&link, depth)?;
        }
        let files = walk.files;
        Ok(Look { root: dir, identity, files })
    }

    /// What a file says.
    fn read(&self, path: &Path, seen: &Seen) -> Text {
        match self.try_read(path, seen) {
            Ok(text) => Text::Read(text),
            Err(why) => Text::Unreadable(why),
        }
    }

    fn try_read(&self, path: &Path, seen: &Seen) -> Result<String, String> {
        let cant = |error: io::Error| format!("can't be read: {error}");
        let mut options = OpenOptions::new();
        // Whatever was put in its place meanwhile, opening it waits for nobody and changes no terminal.
        options.read(true).custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed());
        let file = self.root.open_with(path, &options).map_err(cant)?;
        let metadata = file.metadata().map_err(cant)?;
        if !metadata.is_file() || Seen::of(&metadata) != *seen {
            return Err("was changed while it was read".into());
        }
        let mut bytes = Vec::new();
        file.take(MAX_TEXT_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(cant)?;
        if bytes.len() > MAX_TEXT_BYTES {
            return Err(format!("is over {MAX_TEXT_BYTES} bytes; split it into several files"));
        }
        text_of(bytes)
    }
}

/// A walk through a folder's lists.
struct Walk<'a> {
    name: &'a Path,
    root: &'a Dir,
    files: BTreeMap<PathBuf, Seen>,
    /// Links to folders within.
    links: BTreeSet<PathBuf>,
    /// Folders that were read, by what they are and not by how they are called.
    visited: BTreeSet<(u64, u64)>,
}

impl Walk<'_> {
    fn problem(&self, path: &Path, message: impl Into<String>) -> Problem {
        about(&self.name.join(path).display().to_string(), message.into())
    }

    /// Takes in one folder and those below it.
    fn visit(&mut self, path: &Path, depth: usize) -> Result<(), Problem> {
        let name = self.name.join(path);
        let unreadable =
            |error: io::Error| about(&name.display().to_string(), format!("can't be read: {error}"));
        if depth > MAX_DEPTH {
            return Err(self.problem(path, format!("is more than {MAX_DEPTH} folders deep")));
        }
        let own = Path::new(".");
        let folder =
            self.root.open_dir(if path.as_os_str().is_empty() { own } else { path }).map_err(unreadable)?;
        let metadata = folder.dir_metadata().map_err(unreadable)?;
        if !self.visited.insert((metadata.dev(), metadata.ino())) {
            return Ok(());
        }
        let mut names = BTreeSet::new();
        for entry in folder.entries().map_err(unreadable)? {
            names.insert(entry.map_err(unreadable)?.file_name());
        }
        for name in names {
            let text = name.to_string_lossy();
            if !is_passed_over(&text) {
                self.entry(&folder, &path.join(&name), &text, depth)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, folder: &Dir, path: &Path, name: &str, depth: usize) -> Result<(), Problem> {
        let entry = match folder.symlink_metadata(name_of(path)) {
            Ok(entry) => entry,
            // Gone since it was listed; the next look tells.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.problem(path, format!("can't be read: {error}"))),
        };
        if entry.is_dir() {
            return self.visit(path, depth + 1);
        }
        let is_link = entry.is_symlink();
        let is_manifest = is_manifest(name);
        let target = if is_link { self.root.metadata(path) } else { Ok(entry) };
        match target {
            Ok(target) if target.is_dir() => {
                self.links.insert(path.to_owned());
            }
            // What is not called like a manifest is not ours to judge.
            Ok(_) | Err(_) if !is_manifest => {}
            Ok(target) if target.is_file() => {
                self.files.insert(path.to_owned(), Seen::of(&target));
                if self.files.len() > MAX_FILES {
                    return Err(self.problem(Path::new(""), format!("holds more than {MAX_FILES} manifests")));
                }
            }
            Ok(_) => {
                return Err(self.problem(
                    path,
                    "is called like a manifest and is neither a file nor a folder; rename or remove it",
                ));
            }
            Err(error) if leads_out(&error) => {
                return Err(self.problem(path, "is a link out of the manifests folder; copy what it names"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.problem(path, "is a link to nothing; remove it, or put back what it names"));
            }
            Err(error) => return Err(self.problem(path, format!("can't be read: {error}"))),
        }
        Ok(())
    }
}

/// A path's last part.
fn name_of(path: &Path) -> &Path {
    path.file_name().map_or(path, Path::new)
}

/// Whether a path was refused because it leads out of the root: an error that is not the kernel's own.
fn leads_out(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}
