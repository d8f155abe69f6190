//! TLS: HTTP/1.1 and HTTP/2 by ALPN.

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
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::http2::{Http2, block_on};
use crate::harness::{Gateway, Setup, event, wire};

/// A certificate for `localhost` that vouches for itself, and its key.
struct Certificate {
    _dir: TempDir,
    cert: PathBuf,
    key: PathBuf,
}

impl Certificate {
    fn make() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
                         -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE";
        let openssl = Command::new("openssl").args(arguments.split_whitespace()).arg("-keyout").arg(&key).arg("-out").arg(&cert).output();
        let output = openssl.expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { _dir: dir, cert, key }
    }

    fn gateway(&self) -> Gateway {
        Setup::default().tls(&self.cert, &self.key).start()
    }

    /// Connects with these protocols on offer.
    async fn connect(&self, address: SocketAddr, offered: &[&[u8]]) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.cert).expect("PEM")).expect("a certificate");
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = TcpStream::connect(address).await.expect("it listens");
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS")
    }
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
