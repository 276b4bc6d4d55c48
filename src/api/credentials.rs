//! Users' credentials: passwords that come in clear and are kept as hashes, client ids and secrets that are made here.
//!
//! **Invariant:** no clear secret is stored, logged, or answered, but for a client secret in the one answer that makes it.

use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::PasswordHash;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::error::Error;
use crate::model::Spec;
use crate::model::kinds::{Object, UserSpec};
use crate::model::secret::{Clear, hex};

/// The parameter that a user's password comes in.
pub(super) const PASSWORD: &str = "password";
/// Where the secret of a client stands in the one answer that shows it.
pub(super) const CLIENT_SECRET: &str = "client-secret";

/// Longest password in bytes: far more than people have, and not enough to keep a processor busy.
const MAX_PASSWORD_BYTES: usize = 1024;
/// Bytes of a client id: 32 characters, none of them padding.
const CLIENT_ID_BYTES: usize = 24;
/// Bytes of a client secret.
const CLIENT_SECRET_BYTES: usize = 32;
/// Bytes of a password's salt (RFC 9106, section 4).
const SALT_BYTES: usize = 16;

/// Each hash is made to take 19 MiB and a processor for a while; whoever sends many passwords waits, and nobody else does.
static HASHING: Semaphore = Semaphore::const_new(2);
/// How long that may be waited for.
const HASH_TIME: Duration = Duration::from_secs(30);

/// What is to be put into a user's document.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    password_hash: Option<String>,
    client_id: Option<String>,
    client_secret_hash: Option<String>,
}

impl Credentials {
    /// Those that a new user has beside the password: a client id, and a secret, which is told once.
    pub(super) fn of_new_client(password_hash: String) -> Result<(Credentials, Clear), Error> {
        let (mut credentials, secret) = Credentials::new_secret()?;
        credentials.password_hash = Some(password_hash);
        credentials.client_id = Some(STANDARD.encode(random::<CLIENT_ID_BYTES>()?));
        Ok((credentials, secret))
    }

    /// Another client secret; the one before is not valid any more.
    pub(super) fn new_secret() -> Result<(Credentials, Clear), Error> {
        // 256 random bits are not found by trying, so a fast hash protects them as well as a slow one. A password's entropy is what
        // people remember: there each try has to cost something.
        let secret = STANDARD.encode(random::<CLIENT_SECRET_BYTES>()?);
        let client_secret_hash = Some(hex(&Sha256::digest(&secret)));
        Ok((Credentials { client_secret_hash, ..Credentials::default() }, Clear::new(secret)))
    }

    /// Those that a change of the password brings.
    pub(super) fn of_password(password_hash: Option<String>) -> Credentials {
        Credentials { password_hash, ..Credentials::default() }
    }

    /// Puts them into a user's document, leaving what is not among them. A user that a manifest made may have no client id yet; its
    /// secret is of no use without.
    pub(super) fn put_into(&self, spec: &mut Spec) -> Result<(), Error> {
        let Spec::User(user) = spec else { return Ok(()) };
        let UserSpec { password_hash, client_id, client_secret_hash, .. } = user;
        for (held, new) in [
            (password_hash, &self.password_hash),
            (&mut *client_id, &self.client_id),
            (client_secret_hash, &self.client_secret_hash),
        ] {
            if new.is_some() {
                held.clone_from(new);
            }
        }
        if self.client_secret_hash.is_some() && client_id.is_none() {
            *client_id = Some(STANDARD.encode(random::<CLIENT_ID_BYTES>()?));
        }
        Ok(())
    }
}

/// Takes the password out of the parameters, where there is one.
pub(super) fn take_password(given: &mut Object) -> Result<Option<Clear>, Error> {
    match given.remove(PASSWORD) {
        None => Ok(None),
        Some(Value::String(password)) if (1..=MAX_PASSWORD_BYTES).contains(&password.len()) => {
            Ok(Some(Clear::new(password)))
        }
        // What was sent is not repeated: it may be a password all the same.
        Some(_) => Err(Error::BadRequest(format!(
            "{PASSWORD}: it has to be a string of 1 to {MAX_PASSWORD_BYTES} bytes; a user's password can't be taken away"
        ))),
    }
}

/// A client id is made here and stays; the same sent back is no change.
pub(super) fn check_client_id(current: Option<&str>, given: &Object) -> Result<(), Error> {
    match given.get("client-id") {
        Some(value) if value.as_str() != current => Err(Error::BadRequest(
            "client-id: it is generated and can't be chosen or changed; leave it out".into(),
        )),
        Some(_) | None => Ok(()),
    }
}

/// The Argon2id hash of a password, in PHC string form.
pub(super) async fn hash(password: Clear) -> Result<String, Error> {
    let permit = match tokio::time::timeout(HASH_TIME, HASHING.acquire()).await {
        Ok(Ok(permit)) => permit,
        Ok(Err(_)) | Err(_) => {
            return Err(Error::Unavailable("too many passwords are being hashed; try again".into()));
        }
    };
    let salt = random::<SALT_BYTES>()?;
    // The permit goes along: a client that hangs up does not end a hash that is being made.
    let hashing = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let hash: Result<PasswordHash, _> =
            Argon2::default().hash_password_with_salt(password.expose().as_bytes(), &salt);
        hash.map(|hash| hash.to_string())
    });
    match hashing.await {
        Ok(Ok(hash)) => Ok(hash),
        Ok(Err(error)) => Err(Error::Unavailable(format!("the password could not be hashed: {error}"))),
        Err(_) => Err(Error::Unavailable("the password could not be hashed; try again".into())),
    }
}

fn random<const BYTES: usize>() -> Result<[u8; BYTES], Error> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Unavailable(format!("the system has no randomness: {error}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::PasswordVerifier;

    use super::*;

    #[tokio::test]
    async fn a_password_is_kept_as_an_argon2id_hash_that_it_alone_fits() {
        let hash = hash(Clear::new("butter")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let parsed = PasswordHash::new(&hash).unwrap();
        assert!(Argon2::default().verify_password(b"butter", &parsed).is_ok());
        assert!(Argon2::default().verify_password(b"margarine", &parsed).is_err());
    }

    #[test]
    fn a_secret_is_known_again_by_its_hash_and_an_id_is_made_where_there_is_none() {
        let (credentials, secret) = Credentials::new_secret().unwrap();
        let mut spec = Spec::User(UserSpec { password_hash: Some("kept".into()), ..UserSpec::default() });
        credentials.put_into(&mut spec).unwrap();
        let Spec::User(user) = &spec else { panic!("a user") };
        assert_eq!(user.client_secret_hash, Some(hex(&Sha256::digest(secret.expose()))));
        assert_eq!(user.password_hash.as_deref(), Some("kept"));
        assert_eq!(user.client_id.as_ref().map(String::len), Some(32));
    }

    #[test]
    fn what_is_no_password_is_refused_and_not_repeated() {
        for wrong in [Value::Null, "".into(), "x".repeat(1025).into(), 4711.into()] {
            let mut given = Object::from_iter([(PASSWORD.to_owned(), wrong)]);
            let Err(Error::BadRequest(why)) = take_password(&mut given) else { panic!("{given:?}") };
            assert!(!why.contains("4711"), "{why}");
        }
    }
}
