//! From a URL to a connection: what of it is ours to decide, and what every session is set to.
//!
//! `postgres://user:password@host:port/database?sslmode=verify-full`, as libpq takes it. TLS by `sslmode`, with libpq's meaning:
//!
//! | sslmode | |
//! |---|---|
//! | `disable` | none |
//! | `prefer` (default) | if the server has it; the certificate is not checked |
//! | `require` | the certificate is not checked, unless `sslrootcert` is given: then as `verify-ca` |
//! | `verify-ca` | signed by a CA of `sslrootcert` (a PEM file), or one that the system trusts |
//! | `verify-full` | that, and it is the host's |
//!
//! A socket in the file system (`host=/path`) has no TLS.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme};

use super::{OpenError, Timeouts};

/// Silence after which the system asks whether the other side is there, and between two questions.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long what was sent may stay unconfirmed before the connection is given up.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(20);

/// How connections are made. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connector {
    config: Arc<Config>,
    tls: Option<MakeRustlsConnect>,
    session: Arc<str>,
    pub(super) timeouts: Timeouts,
}

impl Connector {
    /// Takes a URL apart. What is wrong with it is said without it: it has a password.
    pub(super) fn new(url: &str, timeouts: Timeouts) -> Result<Self, OpenError> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(OpenError::Url("it does not begin with postgres://".into()));
        }
        let (url, sslmode, root) = take_tls_parameters(url)?;
        let mut config = Config::from_str(&url).map_err(|error| OpenError::Url(describe(&error)))?;
        let mode = sslmode.as_deref().unwrap_or("prefer");
        let trust = match (mode, root) {
            ("disable", _) => None,
            ("prefer", _) | ("require", None) => Some(Trust::Anyone),
            ("require" | "verify-ca", root) => Some(Trust::Signed(roots(root.as_deref())?)),
            ("verify-full", root) => Some(Trust::SignedForHost(roots(root.as_deref())?)),
            (other, _) => {
                return Err(OpenError::Url(format!("sslmode={other} is none of disable, prefer, require, verify-ca, verify-full")));
            }
        };
        config.ssl_mode(match mode {
            "disable" => SslMode::Disable,
            "prefer" => SslMode::Prefer,
            _ => SslMode::Require,
        });
        let is_remote = config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(_)));
        if config.get_application_name().is_none() {
            config.application_name("tollgate");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(timeouts.connect);
        }
        config
            // After a failover, never the one that only reads.
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(UNCONFIRMED_MAX);
        let tls = trust.filter(|_| is_remote).map(|trust| trust.connector()).transpose()?;
        Ok(Self { config: Arc::new(config), tls, session: session(&timeouts).into(), timeouts })
    }

    /// A new connection, set up; `drive` starts what moves its bytes.
    pub(super) async fn connect<D: Driver>(&self, driver: D) -> Result<Client, tokio_postgres::Error> {
        let client = match &self.tls {
            Some(tls) => self.connect_by(tls.clone(), driver).await?,
            None => self.connect_by(NoTls, driver).await?,
        };
        client.batch_execute(&self.session).await?;
        Ok(client)
    }

    async fn connect_by<T, D: Driver>(&self, tls: T, driver: D) -> Result<Client, tokio_postgres::Error>
    where
        T: MakeTlsConnect<Socket> + Send,
        T::Stream: Send + 'static,
    {
        let (client, connection) = self.config.connect(tls).await?;
        driver.drive(connection);
        Ok(client)
    }
}

/// Starts a task that moves the bytes of a connection.
pub(super) trait Driver {
    fn drive<S>(self, connection: Connection<Socket, S>)
    where
        S: tokio_postgres::tls::TlsStream + Unpin + Send + 'static,
        Connection<Socket, S>: Send;
}

/// What a session is set to, whatever the server, the database or the role say.
fn session(timeouts: &Timeouts) -> String {
    let Timeouts { statement, lock, .. } = timeouts;
    format!(
        // An answer to a commit means that it is durable; more than that (remote_apply) is left as it is.
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') <> 'remote_apply';
         SET statement_timeout = {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {};
         SET client_min_messages = warning; SET TimeZone = 'UTC'; SET plan_cache_mode = force_generic_plan; SET jit = off",
        statement.as_millis(),
        lock.as_millis(),
        2 * statement.as_millis(),
    )
}

/// Takes `sslmode` and `sslrootcert` out of a URL: the client knows neither all of the one nor the other.
fn take_tls_parameters(url: &str) -> Result<(String, Option<String>, Option<String>), OpenError> {
    let Some((base, query)) = url.split_once('?') else { return Ok((url.to_owned(), None, None)) };
    let (mut sslmode, mut root, mut others) = (None, None, Vec::new());
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("sslmode", mode)) => sslmode = Some(mode.to_owned()),
            Some(("sslrootcert", file)) => root = Some(unescape(file)?),
            Some(("target_session_attrs", _)) => {}
            _ => others.push(pair),
        }
    }
    let url = if others.is_empty() { base.to_owned() } else { format!("{base}?{}", others.join("&")) };
    Ok((url, sslmode, root))
}

fn unescape(text: &str) -> Result<String, OpenError> {
    let wrong = || OpenError::Url("sslrootcert is not a path with %XX for what must be escaped".into());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2).ok_or_else(wrong)?;
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = behind;
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

fn roots(file: Option<&str>) -> Result<RootCertStore, OpenError> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file.filter(|file| *file != "system") else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return if roots.is_empty() { Err(OpenError::Url("the system trusts no CA; name one with sslrootcert".into())) } else { Ok(roots) };
    };
    let wrong = |error: String| OpenError::Url(format!("sslrootcert {file} cannot be used: {error}"));
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))? {
        roots.add(certificate.map_err(|error| wrong(error.to_string()))?).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("it has no certificate".into())) } else { Ok(roots) }
}

/// Whose certificates are taken.
enum Trust {
    Anyone,
    Signed(RootCertStore),
    SignedForHost(RootCertStore),
}

impl Trust {
    fn connector(self) -> Result<MakeRustlsConnect, OpenError> {
        let provider = Arc::new(ring::default_provider());
        let wrong = |error: &dyn std::fmt::Display| OpenError::Url(format!("TLS: {error}"));
        let builder =
            ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().map_err(|error| wrong(&error))?;
        let signed = |roots: RootCertStore| {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().map_err(|error| wrong(&error))
        };
        let config = match self {
            Self::SignedForHost(roots) => builder.with_root_certificates(roots),
            Self::Signed(roots) => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyHost { signed: Some(signed(roots)?), provider }))
            }
            Self::Anyone => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyHost { signed: None, provider })),
        };
        Ok(MakeRustlsConnect::new(config.with_no_client_auth()))
    }
}

/// Takes a certificate whatever host it is for: of whom the CA trusts, or of anybody.
#[derive(Debug)]
struct AnyHost {
    signed: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let Some(signed) = &self.signed else { return Ok(ServerCertVerified::assertion()) };
        match signed.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(TlsError::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// An error with what caused it, for people.
pub(super) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        match Connector::new(url, Timeouts::default()) {
            Ok(_) => panic!("{url} was taken"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_is_refused_without_its_password() {
        for url in [
            "mysql://u:secret@h/d",
            "postgres://u:secret@h/d?sslmode=maybe",
            "postgres://u:secret@h/d?sslmode=verify-full&sslrootcert=/nowhere.pem",
            "postgres://u:secret@h/d?sslmode=verify-full&sslrootcert=%g0",
            "postgres://u:secret@h/d?no_such_parameter=1",
            "postgres://u:secret@h:port/d",
        ] {
            let said = refused(url);
            assert!(said.contains("TOLLGATE_DATABASE_URL") && !said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn only_what_is_about_tls_is_taken_out_of_a_url() {
        let (url, mode, root) =
            take_tls_parameters("postgres://h/d?connect_timeout=3&sslmode=verify-ca&sslrootcert=%2Fa%20b.pem&application_name=x")
                .expect("a URL");
        assert_eq!(url, "postgres://h/d?connect_timeout=3&application_name=x");
        assert_eq!((mode.as_deref(), root.as_deref()), (Some("verify-ca"), Some("/a b.pem")));
    }
}
