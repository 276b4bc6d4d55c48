//! Names: what may be an id, and what the id of a derived object is.

use uuid::Uuid;

/// Longest id in bytes (DESIGN section 1: one leading character and up to 62 more).
pub const MAX_ID_BYTES: usize = 63;

/// Longest email address in bytes (RFC 5321, section 4.5.3.1.3, the path without its brackets).
pub const MAX_EMAIL_BYTES: usize = 254;

/// Namespace of the UUIDs of processes that a service's placement makes.
const PROCESS_NAMESPACE: Uuid = Uuid::from_u128(0x6d61_696e_7374_4179_8000_7072_6f63_6573);

/// Checks an id against the grammar `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`. The grammar keeps every id safe as one path
/// segment, one file name and one word of a shell.
///
/// # Errors
/// A sentence that says what is wrong and what is allowed.
pub fn check_id(id: &str) -> Result<(), String> {
    let allowed = "an id starts with a letter or digit and has up to 63 letters, digits, `.`, `_` or `-`";
    if id.is_empty() {
        return Err(format!("the id is empty; {allowed}"));
    }
    if id.len() > MAX_ID_BYTES {
        return Err(format!("the id has {} bytes; {allowed}", id.len()));
    }
    for (at, c) in id.char_indices() {
        let fine = c.is_ascii_alphanumeric() || (at > 0 && matches!(c, '.' | '_' | '-'));
        if !fine {
            return Err(format!("{c:?} can't be at position {} of the id {id:?}; {allowed}", at + 1));
        }
    }
    Ok(())
}

/// Checks an email address, the id of a user: something before and after one `@`, no white space or control
/// characters, and none of the characters that end a path segment.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn check_email(email: &str) -> Result<(), String> {
    let bad =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '?' | '#' | '%' | '\\' | '"');
    match email.split_once('@') {
        _ if email.len() > MAX_EMAIL_BYTES => Err(format!("{email:?} is over {MAX_EMAIL_BYTES} bytes")),
        Some((local, domain)) if !local.is_empty() && !domain.is_empty() && !domain.contains('@') => {
            match email.chars().find(|&c| bad(c)) {
                Some(c) => Err(format!("{c:?} can't be in the email address {email:?}")),
                None => Ok(()),
            }
        }
        _ => Err(format!("{email:?} is not an email address; write name@domain")),
    }
}

/// The id of the process that a service's placement makes on a node: the same inputs are always the same process, so
/// that making it twice makes one (UUIDv5, RFC 9562 section 5.5).
pub fn process_id(instance: &str, service: &str, node: &str, ordinal: u32) -> String {
    let of = [instance, service, node, &ordinal.to_string()].join("/");
    let id = Uuid::new_v5(&PROCESS_NAMESPACE, of.as_bytes()).hyphenated();
    id.encode_lower(&mut Uuid::encode_buffer()).to_owned()
}

/// Of the `known` names, the one that `typed` was most likely meant to be.
pub fn did_you_mean<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(typed, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

/// What the names of a service's revisions begin with. No id holds a `:`, so they are nothing else's.
pub fn revision_prefix(service: &str) -> String {
    format!("{service}:")
}

/// The name of a service's revision; by name they are in the order of their numbers.
pub fn revision_name(service: &str, number: u64) -> String {
    format!("{service}:{number:012}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_a_shell_or_a_path_would_read_is_refused() {
        for id in ["a;reboot", "", ".hidden", "-rf", "a/b", "a b", "a\nb", "ä", &"x".repeat(64)] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
        for id in ["IN1", "web-1.eu_west", "9", &"x".repeat(63)] {
            assert_eq!(check_id(id), Ok(()), "{id:?}");
        }
    }

    #[test]
    fn an_email_address_is_one_path_segment() {
        assert_eq!(check_email("ian@userevents.com"), Ok(()));
        for email in ["ian", "@x", "a@", "a@b@c", "a b@c", "a/b@c", "a@c\n"] {
            assert!(check_email(email).is_err(), "{email:?}");
        }
    }

    #[test]
    fn a_made_process_has_one_id_for_ever() {
        assert_eq!(process_id("IN1", "SV1", "ND1", 0), "ac6b26c1-394f-5f7e-b663-40dca5e20a8d");
        assert_ne!(process_id("IN1", "SV1", "ND1", 0), process_id("IN1", "SV1", "ND1", 1));
    }

    #[test]
    fn a_near_name_is_offered_and_a_far_one_is_not() {
        assert_eq!(did_you_mean("optoins", ["name", "options"]), Some("options"));
        assert_eq!(did_you_mean("qqq", ["name", "options"]), None);
    }
}
