//! Tokens: who asks, and what each may.
//!
//! The file has a line a token, `NAME ROLE SHA256`, and comments after `#`. It holds the digest of each token and never a token, so that
//! whoever gets the file has none. A fast digest is enough: a token is 256 random bits, which nobody guesses one by one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::answer::Refusal;
use super::private::{self, PrivateError};
use crate::api::Need;

/// What every token begins with, so that people, and programs that look for leaked ones, know it for what it is.
const PREFIX: &str = "mainstay-";
/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;
/// Longest name of a token, in bytes.
const MAX_NAME_BYTES: usize = 63;

/// What one may, each with all that comes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read everything but secrets.
    Viewer,
    /// Start, stop, ping, trust.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    /// What is needed for a request; none for what says no more than that we are there, and who leads.
    pub(super) fn needed(method: &Method, path: &str) -> Option<Role> {
        match Need::of(method, path) {
            Need::Nothing => None,
            Need::Read => Some(Role::Viewer),
            Need::Operate => Some(Role::Operator),
            Need::Change | Need::Secrets => Some(Role::Admin),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        [Role::Viewer, Role::Operator, Role::Admin]
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| format!("{text:?} is no role; write viewer, operator or admin"))
    }
}

/// Whose a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) name: Arc<str>,
    pub(super) role: Role,
}

struct Entry {
    holder: Holder,
    digest: [u8; 32],
}

/// The tokens of a file, as it has them, or had them when it was last read without a mistake.
pub struct Tokens {
    path: PathBuf,
    entries: RwLock<Vec<Entry>>,
}

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The file can't be used.
    #[error("the tokens can't be used")]
    File(#[from] PrivateError),
    /// A line is none of ours.
    #[error("{path}:{line}: {why}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody could do anything.
    #[error("{path} holds no token; make one with: mainstay token --name NAME --role admin")]
    None {
        /// The file.
        path: PathBuf,
    },
}

impl Tokens {
    /// Reads a file that only its owner may read.
    ///
    /// # Errors
    /// When it can't be used.
    pub fn load(path: &Path) -> Result<Tokens, TokensError> {
        Ok(Tokens { path: path.to_owned(), entries: RwLock::new(read(path)?) })
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// When it can't be used; then what was read before goes on.
    pub fn reload(&self) -> Result<(), TokensError> {
        let entries = read(&self.path)?;
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = entries;
        Ok(())
    }

    /// Whose token a request shows.
    pub(super) fn holder(&self, headers: &HeaderMap) -> Result<Holder, Refusal> {
        let refused = |message: &str| Refusal::unauthorized(message);
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let (Some(header), None) = (given.next(), given.next()) else {
            return Err(refused(
                "this server wants a token: send one header `Authorization: Bearer TOKEN`; mainstay's commands take --token-file",
            ));
        };
        let token = header
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .and_then(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()));
        let token = token.ok_or_else(|| refused("the header Authorization is no `Bearer TOKEN`"))?;
        let digest: [u8; 32] = Sha256::digest(token).into();
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        // All are compared, whichever it is.
        let mut found = 0u64;
        for (number, entry) in (1u64..).zip(entries.iter()) {
            let is_this: Choice = digest.ct_eq(&entry.digest);
            found.conditional_assign(&number, is_this);
        }
        let entry = usize::try_from(found).ok().and_then(|found| entries.get(found.checked_sub(1)?));
        entry.map(|entry| entry.holder.clone()).ok_or_else(|| refused("that token is not known here"))
    }
}

/// Whether somebody may do what a role is needed for.
pub(super) fn check(holder: &Holder, needed: Role) -> Result<(), Refusal> {
    if holder.role >= needed {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        format!("that takes a token of the role {needed}; {} is {}", holder.name, holder.role),
    ))
}

/// A new token, and the line that a file of tokens has for it.
///
/// # Errors
/// When the name can't be one, or the machine has no randomness.
pub fn make(name: &str, role: Role) -> Result<(String, String), String> {
    check_name(name)?;
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| format!("there is no randomness here: {error}"))?;
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let digest: String = Sha256::digest(&token).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((token, format!("{name} {role} {digest}")))
}

fn read(path: &Path) -> Result<Vec<Entry>, TokensError> {
    let mut entries: Vec<Entry> = Vec::new();
    for (number, line) in (1..).zip(private::read(path)?.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let wrong = |why| TokensError::Line { path: path.to_owned(), line: number, why };
        let entry = entry(line).map_err(wrong)?;
        if entries.iter().any(|known| known.holder.name == entry.holder.name) {
            return Err(wrong(format!(
                "{:?} is there twice; give each token a name of its own",
                entry.holder.name
            )));
        }
        entries.push(entry);
    }
    if entries.is_empty() { Err(TokensError::None { path: path.to_owned() }) } else { Ok(entries) }
}

fn entry(line: &str) -> Result<Entry, String> {
    let [name, role, digest] = line.split_whitespace().collect::<Vec<_>>()[..] else {
        return Err("write NAME ROLE SHA256, as `mainstay token` prints it".into());
    };
    check_name(name)?;
    // The line may hold a token by mistake, so none of it is shown.
    let digest = unhex(digest).ok_or("the third word is no SHA-256: 64 hexadecimal digits")?;
    Ok(Entry { holder: Holder { name: name.into(), role: role.parse()? }, digest })
}

fn check_name(name: &str) -> Result<(), String> {
    let is_name = (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte));
    if is_name {
        Ok(())
    } else {
        Err(format!("a token's name is 1 to {MAX_NAME_BYTES} letters, digits and . _ - @"))
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let bytes: Vec<u8> = digits?.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    (text.len() == 64).then_some(bytes)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use axum::http::HeaderValue;

    use super::*;

    fn load(text: &str) -> Result<Tokens, TokensError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Tokens::load(&path)
    }

    #[test]
    fn a_token_is_known_by_its_digest_and_by_nothing_else() {
        let (one, line) = make("ci", Role::Operator).unwrap();
        let (other, more) = make("eve@example.org", Role::Viewer).unwrap();
        assert!(!line.contains(&one) && one.len() == 52, "{one}");
        let tokens = load(&format!("# who\n\n{line}  # the builds\n{more}\n")).unwrap();
        let holder = |value: &str| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value).unwrap())]);
            tokens.holder(&headers).map(|holder| (holder.name.to_string(), holder.role)).ok()
        };
        assert_eq!(holder(&format!("Bearer {one}")), Some(("ci".into(), Role::Operator)));
        assert_eq!(holder(&format!("bearer {other}")), Some(("eve@example.org".into(), Role::Viewer)));
        let digest = line.rsplit(' ').next().unwrap();
        for wrong in
            [format!("Basic {one}"), one.clone(), format!("Bearer {digest}"), "Bearer ".into(), String::new()]
        {
            assert_eq!(holder(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_line_that_is_none_of_ours_is_named_and_not_shown() {
        let digest = "a".repeat(64);
        for (text, why) in [
            (format!("ci viewer {digest}\nci admin {digest}\n"), "2: \"ci\" is there twice"),
            (format!("ci root {digest}"), "1: \"root\" is no role"),
            ("ci admin mainstay-secret".to_owned(), "1: the third word is no SHA-256"),
            ("ci admin".to_owned(), "1: write NAME ROLE SHA256"),
            (format!("a/b admin {digest}"), "1: a token's name"),
            ("# none\n".to_owned(), "holds no token"),
        ] {
            let error = load(&text).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(why) && !error.contains("mainstay-secret"), "{error}");
        }
    }

    #[test]
    fn what_a_role_is_needed_for() {
        let needed = |method, path| Role::needed(&method, path);
        assert_eq!(needed(Method::GET, "/healthz"), None);
        assert_eq!(needed(Method::GET, "/metrics"), Some(Role::Viewer));
        assert_eq!(needed(Method::HEAD, "/1.0/processes/x/logs"), Some(Role::Viewer));
        assert_eq!(needed(Method::POST, "/1.0/instances/IN1/services/start"), Some(Role::Operator));
        assert_eq!(needed(Method::POST, "/1.0/instances/IN1/nodes/ND1/trust"), Some(Role::Operator));
        for (method, path) in [
            (Method::POST, "/1.0/instances"),
            (Method::PUT, "/1.0/instances/start"),
            (Method::DELETE, "/1.0/instances/IN1"),
            (Method::POST, "/1.0/instances/IN1/services/%73tart"),
            (Method::PATCH, "/healthz2"),
            (Method::GET, "/store/backup"),
        ] {
            assert_eq!(needed(method, path), Some(Role::Admin), "{path}");
        }
    }
}
