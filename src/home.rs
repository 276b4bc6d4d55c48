//! Paths of the controller's machine that people write from their home.

use std::path::PathBuf;

/// The path with `~/` replaced by the home of the account that the controller runs under; any other path as it is.
pub fn expand(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}
