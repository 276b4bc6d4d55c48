//! An artifact as a tar, the same bytes for the same content.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tar::{Builder, EntryType, Header};

use super::tree::{self, Entry, Kind};
use crate::home;
use crate::model::artifact::name_of;

/// Why an artifact could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// It can't be an artifact.
    #[error("{0}")]
    Refused(String),
    /// It was changed meanwhile, so that what was written is no state that it ever had.
    #[error("{0} was changed while it was read")]
    Changed(PathBuf),
    /// The other end did not take it.
    #[error("it could not be written")]
    Write(#[source] io::Error),
}

/// Writes the artifact at a path as a tar.
///
/// # Errors
/// See [`PackError`].
pub fn pack(path: &str, out: impl Write) -> Result<(), PackError> {
    let root = home::expand(path);
    let name = name_of(path).map_err(PackError::Refused)?;
    let entries = tree::list(&root).map_err(PackError::Refused)?;
    write(&root, &name, &entries, out)
}

/// Writes what was listed.
pub(super) fn write(root: &Path, name: &str, entries: &[Entry], out: impl Write) -> Result<(), PackError> {
    // Links at the top are followed; what is opened below must not be one.
    let top = root.canonicalize().map_err(|_| PackError::Changed(root.to_owned()))?;
    let mut builder = Builder::new(out);
    for entry in entries {
        let is_top = entry.within.as_os_str().is_empty();
        let [path, inside] = match is_top {
            true => [top.clone(), PathBuf::from(name)],
            false => [top.join(&entry.within), Path::new(name).join(&entry.within)],
        };
        // One format for ever: another would be another address for everything that was ever sent.
        let mut header = Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        match &entry.kind {
            Kind::Folder => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(0o755);
                header.set_size(0);
                builder.append_data(&mut header, inside, io::empty()).map_err(PackError::Write)?;
            }
            Kind::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                builder.append_link(&mut header, inside, target).map_err(PackError::Write)?;
            }
            Kind::File { is_executable } => {
                header.set_entry_type(EntryType::Regular);
                header.set_mode(if *is_executable { 0o755 } else { 0o644 });
                header.set_size(entry.metadata.len());
                let file = open(&path, entry)?;
                let mut content = Exactly { file, left: entry.metadata.len(), is_short: false };
                let appended = builder.append_data(&mut header, inside, &mut content);
                if content.is_short {
                    return Err(PackError::Changed(path));
                }
                appended.map_err(PackError::Write)?;
                unchanged(&content.file, &path, entry)?;
            }
        }
    }
    builder.finish().map_err(PackError::Write)
}

/// Opens the very file that was listed.
fn open(path: &Path, entry: &Entry) -> Result<File, PackError> {
    // What was a file may be a link or a pipe by now; neither is followed or waited for.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = std::fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let file = opened.map_err(|error| {
        if error.kind() == io::ErrorKind::PermissionDenied {
            PackError::Refused(format!("{} can't be read: {error}", path.display()))
        } else {
            PackError::Changed(path.to_owned())
        }
    })?;
    unchanged(&file, path, entry)?;
    Ok(file)
}

fn unchanged(file: &File, path: &Path, entry: &Entry) -> Result<(), PackError> {
    match file.metadata() {
        Ok(now) if tree::identity(&now) == tree::identity(&entry.metadata) => Ok(()),
        Ok(_) | Err(_) => Err(PackError::Changed(path.to_owned())),
    }
}

/// So many bytes of a file as its header says, whatever happens to the file: a tar that is out of step is no tar.
struct Exactly {
    file: File,
    left: u64,
    is_short: bool,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.file.read(&mut buffer[..most])?;
        if count == 0 {
            self.is_short = true;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}
