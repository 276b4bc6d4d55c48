//! Secrets: sealed from the door on, clear only in the hands that need them.
//!
//! [`Sealer::seal`] is deterministic (AES-SIV, RFC 5297, without a nonce, bound to the place the secret stands in). That is on
//! purpose: admit stays a pure function, and a manifest that is read again without a change is the same document. What
//! it gives away is whether one field of one object holds the same secret as before, and nothing else.

use std::fmt;

use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes of a sealing key.
pub const KEY_BYTES: usize = 64;

/// A secret as documents and the store hold it: `v1.<key id>.<base64>`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Sealed(String);

impl Sealed {
    /// The id of the key it was sealed with; none when it is no sealed secret.
    pub fn sealed_with(&self) -> Option<&str> {
        self.0.strip_prefix("v1.")?.split_once('.').map(|(id, _)| id)
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(…)")
    }
}

/// A secret in clear. Shows itself to no formatter; [`Clear::expose`] is the one way to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Clear(String);

impl Clear {
    /// Takes a secret in.
    pub fn new(secret: impl Into<String>) -> Clear {
        Clear(secret.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Clear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clear(…)")
    }
}

/// Why a sealed secret can't be opened.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnsealError {
    /// Sealed under another key.
    #[error(
        "sealed with the key {sealed_with}, but the key given is {given}; give the key file it was sealed with (--secret-key)"
    )]
    OtherKey {
        /// Id of the key it was sealed with.
        sealed_with: String,
        /// Id of ours.
        given: String,
    },
    /// Not something that [`Sealer::seal`] made for this place.
    #[error("the sealed secret is damaged, or was moved here from another field")]
    Damaged,
}

/// Seals and opens secrets with one key.
#[derive(Clone)]
pub struct Sealer {
    key: [u8; KEY_BYTES],
    id: String,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({})", self.id)
    }
}

impl Sealer {
    /// A sealer with this key. The key's id is the start of its SHA-256, so it can be told which key a secret wants.
    pub fn new(key: [u8; KEY_BYTES]) -> Sealer {
        let digest = Sha256::digest(key);
        let id = hex(&digest[..4]);
        Sealer { key, id }
    }

    /// The key's id: enough to tell keys apart, nothing to find one by.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Seals a secret for one place, such as `Node IN1/ND1 password`.
    pub fn seal(&self, place: &str, clear: &Clear) -> Sealed {
        let sealed = Aes256Siv::new(&self.key.into())
            .encrypt([place.as_bytes()], clear.expose().as_bytes())
            .expect("sealing has no way to fail with one header");
        Sealed(format!("v1.{}.{}", self.id, URL_SAFE_NO_PAD.encode(sealed)))
    }

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    /// When it was sealed with another key or for another place, or was changed.
    pub fn open(&self, place: &str, sealed: &Sealed) -> Result<Clear, UnsealError> {
        let mut parts = sealed.0.splitn(3, '.');
        let (Some("v1"), Some(key_id), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(UnsealError::Damaged);
        };
        if key_id != self.id {
            return Err(UnsealError::OtherKey { sealed_with: key_id.into(), given: self.id.clone() });
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| UnsealError::Damaged)?;
        let clear = Aes256Siv::new(&self.key.into())
            .decrypt([place.as_bytes()], &bytes)
            .map_err(|_| UnsealError::Damaged)?;
        String::from_utf8(clear).map(Clear).map_err(|_| UnsealError::Damaged)
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_only_where_it_was_sealed_and_only_with_its_key() {
        let sealer = Sealer::new([7; KEY_BYTES]);
        let sealed = sealer.seal("Node IN1/ND1 password", &Clear::new("butter"));
        assert_eq!(sealer.open("Node IN1/ND1 password", &sealed), Ok(Clear::new("butter")));
        assert_eq!(sealer.open("Node IN1/ND2 password", &sealed), Err(UnsealError::Damaged));
        let other = Sealer::new([8; KEY_BYTES]);
        assert!(matches!(other.open("Node IN1/ND1 password", &sealed), Err(UnsealError::OtherKey { .. })));
        assert_eq!(sealer.open("x", &Sealed("rubbish".into())), Err(UnsealError::Damaged));
    }

    #[test]
    fn the_same_secret_in_the_same_place_is_the_same_document() {
        let sealer = Sealer::new([7; KEY_BYTES]);
        assert_eq!(sealer.seal("a", &Clear::new("x")), sealer.seal("a", &Clear::new("x")));
        assert_ne!(sealer.seal("a", &Clear::new("x")), sealer.seal("b", &Clear::new("x")));
    }

    #[test]
    fn no_formatter_shows_a_secret() {
        let sealer = Sealer::new([7; KEY_BYTES]);
        let clear = Clear::new("butter");
        let shown = format!("{clear:?} {:?} {sealer:?}", sealer.seal("a", &clear));
        assert!(!shown.contains("butter"));
    }
}
