//! TLS from PEM files that may change while the server runs.
//!
//! The files are read anew on SIGHUP and when their content has changed. New
//! connections get the new certificate; a pair that does not hold together is
//! reported once and the old one stays. Clients may speak TLS 1.2 and 1.3, and
//! choose between `h2` and `http/1.1`.

use std::{
    convert::Infallible,
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    CertificateError, InconsistentKeys, RootCertStore, ServerConfig,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::aws_lc_rs,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem, pem::PemObject as _,
};
use sha2::{Digest as _, Sha256};
use tokio::{
    net::TcpStream,
    signal::unix::{SignalKind, signal},
    time::MissedTickBehavior,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// How often the files are looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Why a certificate and its key cannot serve, with the file that is to blame.
#[derive(Debug, thiserror::Error)]
#[error("the TLS {0}")]
pub struct Error(String);

/// The certificate and key file, and what was last read from them.
pub struct Acceptor {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<ServerConfig>,
    /// The digest of the files that are in use; locked while they are read,
    /// so that an older read never replaces a newer one.
    digest: Mutex<[u8; 32]>,
}

impl Acceptor {
    /// Reads the two files, and fails where they cannot serve.
    pub fn load(certificate: &Path, key: &Path) -> Result<Arc<Self>, Error> {
        let files = Files::read(certificate, key)?;
        Ok(Arc::new(Self {
            certificate: certificate.into(),
            key: key.into(),
            current: ArcSwap::from_pointee(files.parse()?),
            digest: Mutex::new(files.digest()),
        }))
    }

    /// Reads the files again; tells whether they had changed. After an error
    /// the certificate is the one of before. Blocks on the disk.
    pub fn reload(&self) -> Result<bool, Error> {
        let mut digest = self.digest.lock();
        let files = Files::read(&self.certificate, &self.key)?;
        let is_new = files.digest() != *digest;
        if is_new {
            self.current.store(Arc::new(files.parse()?));
            *digest = files.digest();
        }
        Ok(is_new)
    }

    /// Reloads on SIGHUP and on change, for as long as it is polled.
    pub(super) async fn watch(self: &Arc<Self>) -> Infallible {
        self.watch_every(POLL_INTERVAL).await
    }

    pub(super) async fn watch_every(self: &Arc<Self>, period: Duration) -> Infallible {
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
            let acceptor = Arc::clone(self);
            let reloaded = tokio::task::spawn_blocking(move || acceptor.reload()).await;
            match reloaded.unwrap_or_else(|error| Err(Error(format!("files: {error}")))) {
                Ok(changed) => {
                    reported = None;
                    if changed {
                        let file = self.certificate.display();
                        tracing::info!(%file, "TLS certificate reloaded");
                    }
                }
                Err(error) => {
                    let text = error.to_string();
                    if reported.as_ref() != Some(&text) {
                        tracing::error!(error = text, "TLS files not reloaded; the old ones stay");
                        reported = Some(text);
                    }
                }
            }
        }
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = self.current.load_full();
        TlsAcceptor::from(config).accept(stream).await
    }
}

/// When the first certificate of a PEM file ends to be valid, in seconds since the Unix
/// epoch.
///
/// # Errors
///
/// Why the file cannot be read so.
pub fn expires_at(certificate: &Path) -> Result<u64, Error> {
    let path = certificate.display();
    let certificate = CertificateDer::from_pem_file(certificate).map_err(|error| {
        Error(format!(
            "certificate file {path} holds no certificate in PEM: {error}"
        ))
    })?;
    end_of(&certificate)
        .ok_or_else(|| Error(format!("certificate in {path} does not say when it ends")))
}

/// When a certificate ends to be valid, in seconds since the Unix epoch: what the verifier
/// says of it in a time by which all have ended.
pub fn end_of(certificate: &CertificateDer<'_>) -> Option<u64> {
    /// The year 9999 is the last one that a certificate can name.
    const YEAR_10000: u64 = 253_402_300_800;
    let mut roots = RootCertStore::empty();
    // A verifier needs a root, and validity is looked at before the chain.
    roots.add(certificate.clone().into_owned()).ok()?;
    let provider = aws_lc_rs::default_provider().into();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    let verified = verifier.build().ok()?.verify_server_cert(
        certificate,
        &[],
        &ServerName::IpAddress(Ipv4Addr::LOCALHOST.into()),
        &[],
        UnixTime::since_unix_epoch(Duration::from_secs(YEAR_10000)),
    );
    match verified {
        Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
            not_after,
            ..
        })) => Some(not_after.as_secs()),
        _ => None,
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
            Err(error) => {
                let path = path.display();
                Err(Error(format!("{what} file {path} cannot be read: {error}")))
            }
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

    fn parse(&self) -> Result<ServerConfig, Error> {
        let (certificate, chain) = (self.certificate.0.display(), &self.certificate.1);
        let (key, private_key) = (self.key.0.display(), &self.key.1);
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .and_then(|chain| match chain.is_empty() {
                true => Err(pem::Error::NoItemsFound),
                false => Ok(chain),
            })
            .map_err(|error| {
                Error(format!(
                    "certificate file {certificate} holds no certificate in PEM: {error}"
                ))
            })?;
        let private_key = PrivateKeyDer::from_pem_slice(private_key).map_err(|error| {
            Error(format!(
                "private key file {key} holds no private key in PEM: {error}"
            ))
        })?;
        ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_no_client_auth()
                    .with_single_cert(chain, private_key)
            })
            .map(|mut config| {
                config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
                config
            })
            .map_err(|error| {
                Error(match error {
                    rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => format!(
                        "key in {key} does not belong to the first certificate in {certificate}"
                    ),
                    error => format!(
                        "certificate in {certificate} with the key in {key} cannot be used: {error}"
                    ),
                })
            })
    }
}
