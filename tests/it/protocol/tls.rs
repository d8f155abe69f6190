//! TLS: HTTP/1.1 and HTTP/2 by ALPN, certificates of both sides, and new ones while the process runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};

use super::http2::{Http2, block_on};
use crate::harness::{Gateway, Setup, event, wait_for, wire};

/// A certificate and its key.
pub(crate) struct Certificate {
    dir: TempDir,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificate {
    /// For `localhost`, vouching for itself.
    pub(crate) fn make() -> Self {
        Self::for_days(2)
    }

    fn for_days(days: u32) -> Self {
        let own =
            format!("-days {days} -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE");
        Self::with(&own)
    }

    /// Of somebody who signs others.
    fn ca() -> Self {
        Self::with("-days 2 -subj /CN=ca -addext basicConstraints=critical,CA:TRUE")
    }

    /// Of a client, signed by this one.
    fn sign_client(&self) -> Self {
        let (cert, key) = (self.cert.display(), self.key.display());
        let purpose = "-addext basicConstraints=critical,CA:FALSE -addext extendedKeyUsage=clientAuth";
        Self::with(&format!("-days 2 -subj /CN=client {purpose} -CA {cert} -CAkey {key}"))
    }

    fn with(arguments: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let arguments = format!("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes {arguments}");
        let openssl = Command::new("openssl").args(arguments.split_whitespace()).arg("-keyout").arg(&key).arg("-out").arg(&cert).output();
        let output = openssl.expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { dir, cert, key }
    }

    fn gateway(&self) -> Gateway {
        Setup::default().tls(&self.cert, &self.key).start()
    }

    /// Puts certificate and key of another one into the files of this one, each as a whole.
    fn become_another(&self, other: &Self) {
        self.replace(&self.cert, &other.cert);
        self.replace(&self.key, &other.key);
    }

    fn replace(&self, file: &Path, by: &Path) {
        let new = self.dir.path().join("new.pem");
        std::fs::copy(by, &new).expect("copied");
        std::fs::rename(new, file).expect("renamed");
    }

    /// A client that knows this certificate, and has one of its own or none.
    fn client(&self, versions: &[&'static SupportedProtocolVersion], own: Option<&Self>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.cert).expect("PEM")).expect("a certificate");
        let builder = ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots);
        match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = vec![CertificateDer::from_pem_file(&own.cert).expect("PEM")];
                let key = PrivateKeyDer::from_pem_file(&own.key).expect("PEM");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        }
    }

    /// Connects with these protocols on offer.
    async fn connect(&self, address: SocketAddr, offered: &[&[u8]]) -> TlsStream<TcpStream> {
        let mut config = self.client(BOTH_VERSIONS, None);
        config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
        greet(&Arc::new(config), address).await.expect("TLS")
    }
}

const BOTH_VERSIONS: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

/// The client's side of a handshake.
async fn greet(config: &Arc<ClientConfig>, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.expect("it listens");
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(config.clone()).connect(name, stream).await
}

/// One event in a request of its own on a connection of its own; what came back, and how the handshake went.
async fn send_once(config: &Arc<ClientConfig>, address: SocketAddr) -> std::io::Result<(String, HandshakeKind)> {
    let mut stream = greet(config, address).await?;
    let kind = stream.get_ref().1.handshake_kind().expect("it is over");
    stream.write_all(&wire::ingest(&[("Connection", "close")], event("u-1").json())).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok((answer, kind))
}

/// Whether a client of this certificate gets an answer.
fn is_served(certificate: &Certificate, gateway: &Gateway) -> bool {
    let config = Arc::new(certificate.client(BOTH_VERSIONS, None));
    block_on(send_once(&config, gateway.address())).is_ok_and(|(answer, _)| answer.starts_with("HTTP/1.1 200 OK"))
}

/// One request, and what comes back until the end of the connection.
async fn http1(mut stream: TlsStream<TcpStream>, request: &[u8]) -> String {
    stream.write_all(request).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an orderly end");
    answer
}

#[test]
fn over_tls_both_versions_are_spoken_as_agreed() {
    let certificate = Certificate::make();
    let gateway = certificate.gateway();
    block_on(async {
        let both: [&[u8]; 2] = [b"h2", b"http/1.1"];
        let stream = certificate.connect(gateway.address(), &both).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()), "the server likes HTTP/2 better");
        Http2::on(stream).await.ingest(event("u-1").json()).await.logged(1);

        // HTTP/1.1, asked for and by default.
        for (offered, agreed) in [(&both[1..], Some(b"http/1.1".as_slice())), (&[], None)] {
            let stream = certificate.connect(gateway.address(), offered).await;
            assert_eq!(stream.get_ref().1.alpn_protocol(), agreed);
            let answer = http1(stream, &wire::ingest(&[("Connection", "close")], event("u-2").json())).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n1 records were ingested"), "{answer}");
        }
    });
    assert_eq!(gateway.metrics().outcome("logged") + gateway.metrics().outcome("known"), 3);
}

#[test]
fn a_client_that_speaks_no_tls_gets_no_answer_and_the_others_do() {
    let certificate = Certificate::make();
    let gateway = certificate.gateway();
    let mut plain = gateway.connect();
    plain.write(wire::ingest(&[], event("u-1").json()));
    // At most an alert.
    assert!(!plain.rest().starts_with(b"HTTP"));
    block_on(async {
        Http2::on(certificate.connect(gateway.address(), &[b"h2"]).await).await.ingest(event("u-2").json()).await.logged(1);
    });
    assert_eq!(gateway.metrics().outcome("logged"), 1);
}

#[test]
fn a_handshake_that_does_not_come_in_time_ends_the_connection() {
    let certificate = Certificate::make();
    let gateway = Setup::with("[http]\nheader_timeout = '300ms'").tls(&certificate.cert, &certificate.key).start();
    for begin in [&[][..], &[0x16, 0x03, 0x01]] {
        let mut wire = gateway.connect();
        wire.write(begin);
        wire.expect_end();
    }
}

#[test]
fn a_connection_that_says_nothing_behind_its_handshake_is_closed() {
    let certificate = Certificate::make();
    let gateway = Setup::with("[http]\nheader_timeout = '300ms'").tls(&certificate.cert, &certificate.key).start();
    block_on(async {
        let mut stream = certificate.connect(gateway.address(), &[b"http/1.1"]).await;
        let mut said = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut said)).await;
        // Whether it is an orderly end does not matter.
        assert!(end.is_ok(), "neither an answer nor an end");
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&said));
    });
}

#[test]
fn a_certificate_that_cannot_be_used_stops_the_start() {
    let certificate = Certificate::make();
    let mut gateway = Gateway::start();
    gateway.stop();
    let start_with = |gateway: &mut Gateway, cert: &Path, key: &Path| {
        gateway.change_settings(&format!("[tls]\ncert = '{}'\nkey = '{}'", cert.display(), key.display()));
        gateway.start_in_vain()
    };
    let missing = certificate.cert.with_extension("missing");
    start_with(&mut gateway, &missing, &certificate.key).because(&["the certificate", "cert.missing", "cannot be read"]);
    start_with(&mut gateway, &certificate.cert, &missing).because(&["the private key", "cert.missing", "cannot be read"]);
    let other = Certificate::make();
    start_with(&mut gateway, &certificate.cert, &other.key).because(&["certificate and key do not fit"]);
}

#[test]
fn both_versions_of_tls_are_spoken_and_sessions_are_resumed() {
    let certificate = Certificate::make();
    let gateway = certificate.gateway();
    for version in BOTH_VERSIONS {
        let config = Arc::new(certificate.client(&[version], None));
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let (answer, kind) = block_on(send_once(&config, gateway.address())).expect("TLS");
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
            assert_eq!(kind, expected, "{version:?}");
        }
    }
}

#[test]
fn a_new_certificate_is_used_from_the_next_connection_on_and_open_ones_go_on() {
    let (certificate, next) = (Certificate::for_days(2), Certificate::for_days(30));
    let before = Certificate::with("-days 2 -subj /CN=unused");
    before.become_another(&certificate);
    let gateway = certificate.gateway();
    let not_after = || gateway.metrics().total("tollgate_tls_not_after_seconds", &[]);
    let first_end = not_after();
    block_on(async {
        let open = Http2::on(before.connect(gateway.address(), &[b"h2"]).await).await;
        open.ingest(event("u-1").json()).await.logged(1);
        certificate.become_another(&next);
        // Seen without being asked to look.
        wait_for("the new certificate", || (not_after() > first_end + 20.0 * 86_400.0).then_some(()));
        open.ingest(event("u-2").json()).await.logged(1);
    });
    assert!(is_served(&next, &gateway));
    assert!(!is_served(&before, &gateway), "the one before is gone");
    assert_eq!(gateway.metrics().total("tollgate_tls_reload_failed", &[]), 0.0);
}

#[test]
fn a_pair_that_cannot_be_used_changes_nothing_and_is_said_so() {
    let (certificate, other) = (Certificate::make(), Certificate::make());
    let before = Certificate::with("-days 2 -subj /CN=unused");
    before.become_another(&certificate);
    let gateway = certificate.gateway();
    let failed = |expected: f64| {
        gateway.signal("HUP");
        wait_for("the metric", || (gateway.metrics().total("tollgate_tls_reload_failed", &[]) == expected).then_some(()));
    };
    // Half of the new pair.
    certificate.replace(&certificate.cert, &other.cert);
    failed(1.0);
    assert!(gateway.stderr().contains("certificate and key do not fit"), "{}", gateway.stderr());
    assert!(is_served(&before, &gateway));
    // The other half.
    certificate.replace(&certificate.key, &other.key);
    failed(0.0);
    assert!(is_served(&other, &gateway));
    // Something else altogether, and nothing.
    std::fs::write(&certificate.key, "no key").expect("written");
    failed(1.0);
    assert!(is_served(&other, &gateway));
    std::fs::remove_file(&certificate.cert).expect("removed");
    failed(1.0);
    assert!(is_served(&other, &gateway));
    certificate.become_another(&before);
    failed(0.0);
    assert!(is_served(&before, &gateway));
}

#[test]
fn with_a_ca_of_clients_nobody_connects_without_a_certificate_and_a_key_is_needed_as_well() {
    let (certificate, ca) = (Certificate::make(), Certificate::ca());
    let flags = ["--tls-client-ca", ca.cert.to_str().expect("text")];
    let gateway = Setup::default().tls(&certificate.cert, &certificate.key).flags(&flags).start();
    let (client, stranger) = (ca.sign_client(), Certificate::ca().sign_client());
    for version in BOTH_VERSIONS {
        let with = |own: Option<&Certificate>| Arc::new(certificate.client(&[version], own));
        let known = with(Some(&client));
        for _ in 0..2 {
            let (answer, _) = block_on(send_once(&known, gateway.address())).expect("TLS");
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        }
        for config in [with(None), with(Some(&stranger)), with(Some(&certificate))] {
            let refused = block_on(send_once(&config, gateway.address()));
            assert!(refused.is_err(), "{refused:?}");
        }
        let keyless = String::from_utf8(wire::head(&[("Content-Length", "0"), ("Connection", "close")])).expect("text");
        let keyless = keyless.replace(crate::harness::ADMIN_KEY, "unknown");
        let answer = block_on(async { http1(greet(&known, gateway.address()).await.expect("TLS"), keyless.as_bytes()).await });
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
    // Health and metrics have an address of their own, where nothing of this is asked for.
    assert_eq!(gateway.metrics().outcome("known") + gateway.metrics().outcome("logged"), 4);
}

#[test]
fn another_ca_of_clients_lets_nobody_in_by_the_one_before_not_even_by_an_old_session() {
    let (certificate, ca, next) = (Certificate::make(), Certificate::ca(), Certificate::ca());
    let flags = ["--tls-client-ca", ca.cert.to_str().expect("text")];
    let gateway = Setup::default().tls(&certificate.cert, &certificate.key).flags(&flags).start();
    let (old, new) = (ca.sign_client(), next.sign_client());
    let configs = [&old, &new].map(|own| Arc::new(certificate.client(BOTH_VERSIONS, Some(own))));
    let served = |at: usize| block_on(send_once(&configs[at], gateway.address())).is_ok();
    assert!(served(0) && served(0) && !served(1));
    ca.replace(&ca.cert, &next.cert);
    gateway.signal("HUP");
    wait_for("the new CA", || served(1).then_some(()));
    assert!(!served(0));
}

#[test]
fn a_ca_of_clients_that_cannot_be_used_stops_the_start() {
    let certificate = Certificate::make();
    let mut gateway = Gateway::start();
    gateway.stop();
    let (cert, key) = (certificate.cert.display(), certificate.key.display());
    gateway.change_settings(&format!("[tls]\ncert = '{cert}'\nkey = '{key}'\nclient_ca = '{key}'"));
    gateway.start_in_vain().because(&["the CA of client certificates", "key.pem"]);
    gateway.change_settings("");
    gateway.add_flags(&["--tls-client-ca", "ca.pem"]);
    gateway.start_in_vain().because(&["--tls-client-ca needs --tls-cert"]);
}

#[test]
fn a_hangup_without_certificates_ends_nothing() {
    let gateway = Gateway::start();
    gateway.signal("HUP");
    wait_for("the signal to be heard", || gateway.stderr().contains("SIGHUP").then_some(()));
    gateway.send(&[event("u-1")]).logged(1);
}
