//! TLS: the certificate and its key, read again when we are told to.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use super::private::{self, PrivateError};

/// A certificate with its key, as the files have them, or had them when they were last read without a mistake.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    config: RwLock<Arc<ServerConfig>>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificates can't be read.
    #[error("{path} can't be read as certificates in PEM")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// There is none.
    #[error("{path} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The key's file can't be used.
    #[error("the key of the certificate can't be used")]
    KeyFile(#[from] PrivateError),
    /// The key's file holds something else.
    #[error("{path} holds no private key in PEM (-----BEGIN PRIVATE KEY-----)")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// They do not go together.
    #[error("{certificate} and {key} can't be used together")]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

impl Tls {
    /// Reads the files: the certificate with those between it and the authority, and the key, which only its owner may read.
    ///
    /// # Errors
    /// When they can't be used.
    pub fn load(certificate: &Path, key: &Path) -> Result<Tls, TlsError> {
        let config = RwLock::new(config(certificate, key)?);
        Ok(Tls { certificate: certificate.to_owned(), key: key.to_owned(), config })
    }

    /// Reads the files again. Connections that there are stay as they are.
    ///
    /// # Errors
    /// When they can't be used; then what was read before goes on.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = config(&self.certificate, &self.key)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

fn config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let unread = |source| TlsError::Certificate { path: certificate.to_owned(), source };
    let chain = CertificateDer::pem_file_iter(certificate).map_err(unread)?;
    let chain: Vec<CertificateDer<'static>> = chain.collect::<Result<_, _>>().map_err(unread)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path: certificate.to_owned() });
    }
    let secret = PrivateKeyDer::from_pem_slice(private::read(key)?.as_bytes())
        .map_err(|source| TlsError::Key { path: key.to_owned(), source })?;
    let unfit = |source| TlsError::Pair { certificate: certificate.to_owned(), key: key.to_owned(), source };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(unfit)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
