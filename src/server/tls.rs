//! TLS: certificate, key and the CA of client certificates, read again when their files change, without a restart.
//!
//! A set that can be used takes the place of the one before as a whole: new connections get it, those that are open go on. Sessions
//! are not resumed across the change, so that nobody gets in on the strength of a CA that is not trusted any more. A set that
//! cannot be used changes nothing, and is tried again until it can.

mod validity;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::Signal;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::Ticketer;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

use crate::clock::{Clock, UnixMillis};
use crate::config::TlsConfig;
use crate::telemetry;

/// How often it is looked whether the files have changed.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Why certificate, key and CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("the {what} {} cannot be read: {error}", file.display())]
    Read {
        /// What it is.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        error: pem::Error,
    },
    /// The certificate is not that of the key, or one of both is of no known kind.
    #[error("certificate and key do not fit: {0}")]
    Pair(rustls::Error),
    /// There is no certificate in the file of the CA, or none that can be used.
    #[error("the CA of client certificates {} cannot be used: {error}", file.display())]
    ClientCa {
        /// The file.
        file: PathBuf,
        /// Why.
        error: String,
    },
    /// There is no randomness for the keys of session tickets.
    #[error("no session tickets: {0}")]
    Tickets(rustls::Error),
    /// A new certificate that nobody would accept.
    #[error("the certificate {} has expired already", file.display())]
    Expired {
        /// The file.
        file: PathBuf,
    },
}

/// What new connections get.
#[derive(Clone)]
pub struct Tls {
    current: Arc<ArcSwap<ServerConfig>>,
}

/// A set of files that fit each other.
struct Loaded {
    config: Arc<ServerConfig>,
    /// The end of the certificate that ends first, in seconds since 1970-01-01T00:00:00Z.
    not_after_s: Option<i64>,
}

/// Keeps a [`Tls`] as its files are.
pub struct Reloader {
    files: TlsConfig,
    clock: Clock,
    current: Arc<ArcSwap<ServerConfig>>,
    seen: Stamps,
    /// Why the newest files are not in use.
    failure: Option<String>,
}

impl Tls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// [`TlsError`]. A certificate that has expired is taken, with a warning.
    pub fn load(files: &TlsConfig, clock: &Clock) -> Result<(Self, Reloader), TlsError> {
        let seen = Stamps::of(files);
        let loaded = load(files)?;
        if loaded.has_expired(clock.now()) {
            tracing::warn!(file = %files.cert.display(), "the certificate has expired: clients will not accept it");
        }
        let current = Arc::new(ArcSwap::new(loaded.config));
        telemetry::set_tls_not_after(loaded.not_after_s);
        telemetry::set_tls_reload_failed(false);
        let reloader = Reloader { files: files.clone(), clock: clock.clone(), current: current.clone(), seen, failure: None };
        Ok((Self { current }, reloader))
    }

    /// Speaks TLS with one connection, as things stand now.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }
}

impl Reloader {
    /// Reads the files again when they change, and when `asked` comes. Does not end.
    pub async fn run(self, mut asked: Signal) {
        let mut this = self;
        loop {
            let is_asked = tokio::select! {
                _ = asked.recv() => true,
                () = tokio::time::sleep(CHECK_INTERVAL) => false,
            };
            let looked = tokio::task::spawn_blocking(move || {
                this.look(is_asked);
                this
            });
            match looked.await {
                Ok(back) => this = back,
                Err(_) => return tracing::error!("certificates are not read again any more: reading them panicked"),
            }
        }
    }

    fn look(&mut self, is_asked: bool) {
        // Before the files are read: a change while they are is seen the next time.
        let seen = Stamps::of(&self.files);
        if !is_asked && seen == self.seen && self.failure.is_none() {
            return;
        }
        self.seen = seen;
        match self.reload() {
            Ok(()) => {
                tracing::info!(cert = %self.files.cert.display(), "certificate and key were read again");
                self.failure = None;
            }
            Err(error) => {
                let failure = error.to_string();
                if is_asked || self.failure.as_ref() != Some(&failure) {
                    tracing::error!(%error, "the new certificate or key cannot be used; the last one stays in use");
                }
                self.failure = Some(failure);
            }
        }
        telemetry::set_tls_reload_failed(self.failure.is_some());
    }

    fn reload(&self) -> Result<(), TlsError> {
        let loaded = load(&self.files)?;
        if loaded.has_expired(self.clock.now()) {
            return Err(TlsError::Expired { file: self.files.cert.clone() });
        }
        self.current.store(loaded.config);
        telemetry::set_tls_not_after(loaded.not_after_s);
        Ok(())
    }
}

impl Loaded {
    fn has_expired(&self, now: UnixMillis) -> bool {
        self.not_after_s.is_some_and(|end| end < now.seconds())
    }
}

fn load(files: &TlsConfig) -> Result<Loaded, TlsError> {
    let chain = certificates("certificate", &files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(unreadable("private key", &files.key))?;
    let not_after_s = chain.iter().filter_map(|certificate| validity::not_after_s(certificate)).min();
    let builder = match &files.client_ca {
        None => ServerConfig::builder().with_no_client_auth(),
        Some(file) => {
            let unusable = |error: String| TlsError::ClientCa { file: file.clone(), error };
            let mut roots = RootCertStore::empty();
            for certificate in certificates("CA of client certificates", file)? {
                roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
            }
            // Required of everybody: without one there is no handshake.
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().map_err(|error| unusable(error.to_string()))?;
            ServerConfig::builder().with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Sessions are kept by clients, so any number can be resumed.
    config.ticketer = Ticketer::new().map_err(TlsError::Tickets)?;
    Ok(Loaded { config: Arc::new(config), not_after_s })
}

fn certificates(what: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(unreadable(what, file))
}

fn unreadable(what: &'static str, file: &Path) -> impl FnOnce(pem::Error) -> TlsError {
    move |error| TlsError::Read { what, file: file.to_owned(), error }
}

/// What tells one state of the files from another.
#[derive(Debug, PartialEq, Eq)]
struct Stamps(Vec<Option<Stamp>>);

/// Device, inode, size, and when content and inode changed, in seconds and nanoseconds.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl Stamps {
    fn of(files: &TlsConfig) -> Self {
        let stamp = |file: &PathBuf| {
            let found = fs::metadata(file).ok()?;
            Some((found.dev(), found.ino(), found.size(), (found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec())))
        };
        Self([&files.cert, &files.key].into_iter().chain(&files.client_ca).map(stamp).collect())
    }
}
