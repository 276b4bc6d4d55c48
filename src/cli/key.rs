//! The key file: the key that secrets are sealed with.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::model::secret::{KEY_BYTES, Sealer};

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    /// The file can't be read or made.
    #[error("the key file {path} can't be used")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{path} is no key file: it should hold {KEY_BYTES} bytes in base64")]
    Content { path: PathBuf },
    /// Others can read it.
    #[error("others can read the key file {path}; run: chmod 600 {path}")]
    Open { path: PathBuf },
    /// There are secrets that were sealed with a key that is not there.
    #[error(
        "the key file {path} is missing, and this store's secrets are sealed with the key {wanted}; \
         put the file back, or name it with --secret-key"
    )]
    Missing { path: PathBuf, wanted: String },
}

/// Reads the key file; makes it where there is none and no store needs an older one.
pub(super) fn sealer(path: &Path, wanted: Option<&str>) -> Result<Sealer, KeyError> {
    match existing(path) {
        Err(KeyError::File { source, .. }) if source.kind() == ErrorKind::NotFound => match wanted {
            Some(wanted) => Err(KeyError::Missing { path: path.to_owned(), wanted: wanted.to_owned() }),
            None => make(path).map_err(|source| KeyError::File { path: path.to_owned(), source }),
        },
        other => other,
    }
}

/// Reads a key file that has to be there.
pub(super) fn existing(path: &Path) -> Result<Sealer, KeyError> {
    let failed = |source| KeyError::File { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode();
    if mode & 0o077 != 0 {
        return Err(KeyError::Open { path: path.to_owned() });
    }
    let mut text = String::new();
    Read::by_ref(&mut file).take(1024).read_to_string(&mut text).map_err(failed)?;
    let key: Option<[u8; KEY_BYTES]> =
        STANDARD.decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
    key.map(Sealer::new).ok_or_else(|| KeyError::Content { path: path.to_owned() })
}

fn make(path: &Path) -> std::io::Result<Sealer> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(std::io::Error::other)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", STANDARD.encode(key))?;
    file.sync_all()?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        File::open(folder)?.sync_all()?;
    }
    Ok(Sealer::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_only_and_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret.key");
        let made = sealer(&path, None).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(sealer(&path, Some("any")).unwrap().id(), made.id());
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(sealer(&path, Some(made.id())), Err(KeyError::Missing { .. })));
        assert!(!path.exists());
    }
}
