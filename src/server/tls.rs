//! TLS from PEM files that may change while the server runs.
//!
//! The files are read anew on SIGHUP and when their content has changed. New
//! connections get the new certificate; a pair that does not hold together is
//! reported once and the old one stays. Clients may speak TLS 1.2 and 1.3, and
//! choose between `h2` and `http/1.1`.

use std::{
    convert::Infallible,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    InconsistentKeys, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use tokio::{
    net::TcpStream,
    signal::unix::{SignalKind, signal},
    time::MissedTickBehavior,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// How often the files are looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Why a certificate and its key cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("the TLS {what} file {} cannot be read: {error}", path.display())]
    Unreadable {
        /// Certificate or key.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file holds nothing of its kind.
    #[error("the TLS {what} file {} holds no {what} in PEM: {error}", path.display())]
    NotPem {
        /// Certificate or key.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What was found instead.
        error: pem::Error,
    },
    /// The two files do not belong together.
    #[error(
        "the TLS key in {} does not belong to the first certificate in {}",
        key.display(),
        certificate.display()
    )]
    Mismatch {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        certificate: PathBuf,
    },
    /// The TLS library cannot use them.
    #[error(
        "the TLS certificate in {} with the key in {} cannot be used: {error}",
        certificate.display(),
        key.display()
    )]
    Unusable {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What the library said.
        error: rustls::Error,
    },
}

/// The certificate and key file, and what was last read from them.
#[derive(Clone)]
pub struct Acceptor(Arc<Inner>);

struct Inner {
    acceptor: TlsAcceptor,
    provider: Arc<CryptoProvider>,
    certificate: PathBuf,
    key: PathBuf,
    current: Arc<Current>,
    /// The digest of the files that are in use; locked while they are read,
    /// so that an older read never replaces a newer one.
    digest: Mutex<[u8; 32]>,
}

struct Current(ArcSwap<CertifiedKey>);

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Acceptor {
    /// Reads the two files, and fails where they cannot serve.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let files = Files::read(certificate, key)?;
        let current = Arc::new(Current(ArcSwap::from_pointee(files.parse(&provider)?)));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Unusable {
                certificate: certificate.into(),
                key: key.into(),
                error,
            })?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
        Ok(Self(Arc::new(Inner {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            provider,
            certificate: certificate.into(),
            key: key.into(),
            current,
            digest: Mutex::new(files.digest()),
        })))
    }

    /// Reads the files again; tells whether they had changed. After an error
    /// the certificate is the one of before. Blocks on the disk.
    pub fn reload(&self) -> Result<bool, Error> {
        let inner = &*self.0;
        let mut digest = inner.digest.lock().unwrap_or_else(PoisonError::into_inner);
        let files = Files::read(&inner.certificate, &inner.key)?;
        if files.digest() == *digest {
            return Ok(false);
        }
        let certified = files.parse(&inner.provider)?;
        inner.current.0.store(Arc::new(certified));
        *digest = files.digest();
        Ok(true)
    }

    /// Reloads on SIGHUP and on change, for as long as it is polled.
    pub(super) async fn watch(&self) -> Infallible {
        self.watch_every(POLL_INTERVAL).await
    }

    pub(super) async fn watch_every(&self, period: Duration) -> Infallible {
        let mut hangup = signal(SignalKind::hangup())
            .inspect_err(|error| {
                tracing::warn!(%error, "SIGHUP cannot be caught; TLS files reload on change only");
            })
            .ok();
        let mut poll = tokio::time::interval(period);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Files that stay broken are reported once, not at every look.
        let mut reported = None;
        loop {
            let hung_up = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => None,
                }
            };
            tokio::select! {
                Some(()) = hung_up => reported = None,
                _ = poll.tick() => {}
            }
            let acceptor = self.clone();
            match tokio::task::spawn_blocking(move || acceptor.reload()).await {
                Ok(Ok(changed)) => {
                    reported = None;
                    if changed {
                        let file = self.0.certificate.display();
                        tracing::info!(%file, "TLS certificate reloaded");
                    }
                }
                Ok(Err(error)) => {
                    let text = error.to_string();
                    if reported.as_ref() != Some(&text) {
                        tracing::error!(error = text, "TLS files not reloaded; the old ones stay");
                        reported = Some(text);
                    }
                }
                Err(error) => tracing::error!(%error, "reading the TLS files failed"),
            }
        }
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.0.acceptor.accept(stream).await
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("certificate", &self.0.certificate)
            .field("key", &self.0.key)
            .finish_non_exhaustive()
    }
}

struct Files<'a> {
    certificate: (&'a Path, Vec<u8>),
    key: (&'a Path, Vec<u8>),
}

impl<'a> Files<'a> {
    fn read(certificate: &'a Path, key: &'a Path) -> Result<Self, Error> {
        let read = |what, path: &'a Path| match std::fs::read(path) {
            Ok(bytes) => Ok((path, bytes)),
            Err(error) => Err(Error::Unreadable {
                what,
                path: path.into(),
                error,
            }),
        };
        Ok(Self {
            certificate: read("certificate", certificate)?,
            key: read("private key", key)?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(Sha256::digest(&self.certificate.1));
        digest.update(Sha256::digest(&self.key.1));
        digest.finalize().into()
    }

    fn parse(&self, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
        let not_pem = |what, path: &Path| {
            let path = path.into();
            move |error| Error::NotPem { what, path, error }
        };
        let (certificate, bytes) = &self.certificate;
        let chain = CertificateDer::pem_slice_iter(bytes)
            .collect::<Result<Vec<_>, _>>()
            .and_then(|chain| match chain.is_empty() {
                true => Err(pem::Error::NoItemsFound),
                false => Ok(chain),
            })
            .map_err(not_pem("certificate", certificate))?;
        let (key, bytes) = &self.key;
        let private_key =
            PrivateKeyDer::from_pem_slice(bytes).map_err(not_pem("private key", key))?;
        CertifiedKey::from_der(chain, private_key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Error::Mismatch {
                key: key.into(),
                certificate: certificate.into(),
            },
            error => Error::Unusable {
                certificate: certificate.into(),
                key: key.into(),
                error,
            },
        })
    }
}
