//! Files that are their owner's alone.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Largest file that is read.
const MAX_BYTES: u64 = 1024 * 1024;

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// It can't be read.
    #[error("{path} can't be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others can read it.
    #[error("others can read {path}, which holds what they must not know; run: chmod 600 {path}")]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// It is something else.
    #[error("{path} is larger than {MAX_BYTES} bytes; it can't be what it should be")]
    Large {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a file that only its owner may.
///
/// # Errors
/// When it can't be read, or others could.
pub fn read(path: &Path) -> Result<String, PrivateError> {
    let failed = |source| PrivateError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
        return Err(PrivateError::Open { path: path.to_owned() });
    }
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    match u64::try_from(text.len()) {
        Ok(length) if length <= MAX_BYTES => Ok(text),
        Ok(_) | Err(_) => Err(PrivateError::Large { path: path.to_owned() }),
    }
}
