//! Where an etcd cluster is and who we are there: what was typed, to what is meant.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::edge::private::{self, PrivateError};
use crate::store::etcd::{Config, Login, Tls};

/// Where in etcd, unless said otherwise.
const PREFIX: &str = "/mainstay/";

#[derive(Debug, Clone, Args)]
pub(super) struct EtcdArguments {
    /// Keep the documents in this etcd cluster instead of the data folder.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    etcd: Vec<String>,
    /// Where in etcd.
    #[arg(long, value_name = "PREFIX", default_value = PREFIX, requires = "etcd")]
    etcd_prefix: String,
    #[command(flatten)]
    identity: EtcdIdentity,
}

#[derive(Debug, Clone, Args)]
pub(super) struct EtcdIdentity {
    /// Speak TLS with etcd, and trust certificates that are signed by those in this file (PEM).
    #[arg(long, value_name = "FILE")]
    etcd_ca: Option<PathBuf>,
    /// Our certificate for etcd (PEM).
    #[arg(long, value_name = "FILE", requires_all = ["etcd_ca", "etcd_key"])]
    etcd_cert: Option<PathBuf>,
    /// The key of our certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "etcd_cert")]
    etcd_key: Option<PathBuf>,
    /// Log in to etcd as this user.
    #[arg(long, value_name = "NAME", requires = "etcd_password_file")]
    etcd_user: Option<String>,
    /// Where the password of that user stands, on one line of a file that nobody else can read.
    #[arg(long, value_name = "FILE", requires = "etcd_user")]
    etcd_password_file: Option<PathBuf>,
}

/// Why etcd can't be used as it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum EtcdError {
    #[error("{path} can't be read")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Private(#[from] PrivateError),
    #[error("{path} holds no password: it should be its first line")]
    NoPassword { path: PathBuf },
    #[error("{text:?} names no etcd: write etcd://HOST:PORT,HOST:PORT/PREFIX")]
    Url { text: String },
}

impl EtcdArguments {
    /// None where no etcd was named.
    pub(super) fn config(&self) -> Result<Option<Config>, EtcdError> {
        if self.etcd.is_empty() {
            return Ok(None);
        }
        self.identity.config(self.etcd.clone(), self.etcd_prefix.clone()).map(Some)
    }
}

impl EtcdIdentity {
    /// Of `etcd://HOST:PORT,HOST:PORT/PREFIX`; none for what does not begin so.
    pub(super) fn at(&self, text: &str) -> Result<Option<Config>, EtcdError> {
        let Some(rest) = text.strip_prefix("etcd://") else { return Ok(None) };
        let (hosts, prefix) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, PREFIX),
        };
        let endpoints: Vec<String> = hosts.split(',').map(str::to_owned).collect();
        if endpoints.iter().any(String::is_empty) {
            return Err(EtcdError::Url { text: text.to_owned() });
        }
        let prefix = if prefix == "/" { PREFIX } else { prefix };
        self.config(endpoints, prefix.to_owned()).map(Some)
    }

    fn config(&self, endpoints: Vec<String>, prefix: String) -> Result<Config, EtcdError> {
        let tls = match &self.etcd_ca {
            None => None,
            Some(ca) => {
                let identity = match (&self.etcd_cert, &self.etcd_key) {
                    (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
                    _ => None,
                };
                Some(Tls { ca: read(ca)?, identity })
            }
        };
        let login = match (&self.etcd_user, &self.etcd_password_file) {
            (Some(user), Some(path)) => Some(Login { user: user.clone(), password: password(path)? }),
            _ => None,
        };
        Ok(Config { endpoints, prefix, tls, login })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, EtcdError> {
    std::fs::read(path).map_err(|source| EtcdError::File { path: path.to_owned(), source })
}

fn password(path: &Path) -> Result<String, EtcdError> {
    match private::read(path)?.lines().next() {
        Some(password) if !password.is_empty() => Ok(password.to_owned()),
        Some(_) | None => Err(EtcdError::NoPassword { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn nobody() -> EtcdIdentity {
        EtcdIdentity {
            etcd_ca: None,
            etcd_cert: None,
            etcd_key: None,
            etcd_user: None,
            etcd_password_file: None,
        }
    }

    #[test]
    fn a_url_names_hosts_and_a_prefix() {
        let of =
            |text: &str| nobody().at(text).unwrap().map(|config| (config.endpoints.join(" "), config.prefix));
        assert_eq!(of("etcd://a:1,b:2/x/y"), Some(("a:1 b:2".into(), "/x/y".into())));
        assert_eq!(of("etcd://a:1"), Some(("a:1".into(), "/mainstay/".into())));
        assert_eq!(of("etcd://a:1/"), Some(("a:1".into(), "/mainstay/".into())));
        assert_eq!(of("mainstay-data"), None);
        assert!(nobody().at("etcd://").is_err());
    }

    #[test]
    fn a_password_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, "butter\n").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(matches!(password(&path), Err(EtcdError::Private(PrivateError::Open { .. }))));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(password(&path).unwrap(), "butter");
    }
}
