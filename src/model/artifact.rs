//! An artifact's names: the digest that it is known by, and what it is called on a node. Pure; who reads files is
//! [`crate::artifact`].

/// Length of a SHA-256 in hexadecimal.
pub const DIGEST_LENGTH: usize = 64;

/// Longest name of an artifact on a node; a file system's limit is 255.
const MAX_NAME_BYTES: usize = 128;

/// Checks that this is a SHA-256 in lower-case hexadecimal.
///
/// # Errors
/// What is wrong, for people.
pub fn check_digest(digest: &str) -> Result<(), String> {
    let is_hex = |b: u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
    if digest.len() == DIGEST_LENGTH && digest.bytes().all(is_hex) {
        Ok(())
    } else {
        Err(format!("not a SHA-256: it has {DIGEST_LENGTH} hexadecimal digits, as `sha256sum` prints them"))
    }
}

/// What the artifact at a path is called on the nodes: as the file or folder, but for characters that some shell, tar or
/// log would read as something else.
///
/// # Errors
/// When the path names no file or folder.
pub fn name_of(path: &str) -> Result<String, String> {
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if matches!(last, "" | "." | ".." | "~") {
        return Err("not the path of a file or folder".into());
    }
    let mut name = String::new();
    for c in last.chars() {
        let is_plain = c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-');
        let is_first_dash = c == '-' && name.is_empty();
        name.push(if is_plain && !is_first_dash { c } else { '_' });
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(format!("its name is longer than {MAX_NAME_BYTES} characters"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_but_for_what_something_would_read_otherwise() {
        for (path, name) in [
            ("/srv/auth-2.1.jar", "auth-2.1.jar"),
            ("/srv/My App (new).jar", "My_App__new_.jar"),
            ("/srv/folder/", "folder"),
            ("/srv/-rf", "_rf"),
            ("/srv/$(reboot)'", "__reboot__"),
            ("~/café", "caf_"),
        ] {
            assert_eq!(name_of(path).as_deref(), Ok(name), "{path}");
        }
        for path in ["", "/", "~/", "~", "/srv/.."] {
            assert!(name_of(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_digest_has_64_hexadecimal_digits() {
        assert_eq!(check_digest(&"0a".repeat(32)), Ok(()));
        for wrong in ["", "0a", &"0g".repeat(32), &"0A".repeat(32), &"0a".repeat(33)] {
            assert!(check_digest(wrong).is_err(), "{wrong}");
        }
    }
}
