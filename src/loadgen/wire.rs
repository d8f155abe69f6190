//! HTTP/1.1 towards the server: where it is, one connection, one exchange.
//!
//! By hand instead of by hyper's client, since the generator shares its cores with the server that it measures:
//! a request is one write of bytes that are there already, its answer usually one read. Only what servers
//! answer to a POST is understood: lengths, chunks, or the end of the connection.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use hyper::Uri;
use hyper::header::HeaderValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A loopback server takes a connection at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than the server's own limit of 25 s a request.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Answers to `/ingest` are short.
const ANSWER_BYTES_MAX: usize = 256 * 1_024;
const HEADERS_MAX: usize = 64;
/// How much of an error body is kept for the report.
const EXCERPT_CHARS_MAX: usize = 300;

/// Header that says how many events of a batch were not taken (contract `amberflo.md`, section 2).
const REJECTED: &str = "tollgate-rejected";

/// The server, found and checked.
#[derive(Debug, Clone)]
pub(super) struct Target {
    addresses: Vec<SocketAddr>,
    /// Request line and headers of `POST …/ingest` but for the body's length and encoding.
    head: String,
}

/// Whether a server on another machine may be put under load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// This machine only.
    Loopback,
    /// Whatever the URL names.
    Anywhere,
}

impl Target {
    /// Finds the server. `url` is `http://host[:port][/prefix]`. Blocks while the name is looked up.
    ///
    /// # Errors
    /// The URL is not of that form, the key is no header value, the name is unknown, or the address is beyond `reach`.
    pub(super) fn find(url: &str, key: Option<&str>, reach: Reach) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("--url {url:?} is not a URL"))?;
        ensure!(uri.scheme_str() == Some("http"), "--url {url:?} must start with http:// (https is not supported)");
        ensure!(uri.query().is_none(), "--url {url:?} must not have a query");
        let authority = uri.authority().with_context(|| format!("--url {url:?} names no host"))?;
        ensure!(!authority.as_str().contains('@'), "--url must not hold a user name; give the key by --key");
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(80);
        let addresses: Vec<_> = (host, port).to_socket_addrs().with_context(|| format!("cannot find the host {host:?}"))?.collect();
        ensure!(!addresses.is_empty(), "the host {host:?} has no address");
        if let (Reach::Loopback, Some(remote)) = (reach, addresses.iter().find(|address| !address.ip().is_loopback())) {
            bail!("{host:?} is {}, not this machine; to put load on it all the same, add --allow-remote", remote.ip());
        }
        let path = uri.path().trim_end_matches('/');
        let mut head = format!("POST {path}/ingest HTTP/1.1\r\nHost: {authority}\r\n");
        if let Some(key) = key {
            let is_header_value = HeaderValue::from_str(key).is_ok_and(|value| value.to_str().is_ok());
            ensure!(is_header_value, "the key holds characters that a header cannot");
            head.push_str(&format!("X-API-KEY: {key}\r\n"));
        }
        head.push_str("Content-Type: application/json\r\n");
        Ok(Self { addresses, head })
    }

    /// Request line and headers, each ended by CRLF, without the body's length and the blank line.
    pub(super) fn head(&self) -> &str {
        &self.head
    }

    /// Opens a connection, to the first of the addresses that takes it.
    ///
    /// # Errors
    /// [`Failure::Connect`]: none does, within 5 s.
    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        let opening = TcpStream::connect(&self.addresses[..]);
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, opening).await.map_err(|_| Failure::Connect)?;
        let stream = stream.map_err(|_| Failure::Connect)?;
        stream.set_nodelay(true).map_err(|_| Failure::Connect)?;
        Ok(Connection { stream, received: Vec::with_capacity(4_096) })
    }
}

/// Why there is no answer. But for `Connect`, the request may have been carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Failure {
    /// No connection; nothing was sent.
    Connect,
    /// The connection broke while the request was sent.
    Send,
    /// The connection broke or ended before the whole answer was there.
    Receive,
    /// No whole answer within 30 s.
    Timeout,
    /// What came is not an answer in HTTP/1.1, or is longer than 256 KiB.
    NotHttp,
}

impl Failure {
    /// Its name in a report.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Timeout => "timeout",
            Self::NotHttp => "not http",
        }
    }

    /// Whether the server may have got the request.
    pub(super) fn may_have_arrived(self) -> bool {
        match self {
            Self::Connect => false,
            Self::Send | Self::Receive | Self::Timeout | Self::NotHttp => true,
        }
    }
}

/// What the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// The HTTP status, 200 or above.
    pub(super) status: u16,
    /// Events of a 2xx that were not taken.
    pub(super) rejected: u64,
    /// The header, if it is in seconds.
    pub(super) retry_after: Option<Duration>,
    /// Start of the body, if the status is not 2xx.
    pub(super) excerpt: String,
}

impl Answer {
    /// Whether the events were taken.
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// An open connection without a request on its way.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    /// Sends a request and waits for the whole answer. Gives the connection back if another request may follow.
    ///
    /// # Errors
    /// [`Failure`]. Dropping the future closes the connection; what became of the request is unknown then.
    pub(super) async fn exchange(mut self, request: &[u8]) -> Result<(Answer, Option<Self>), Failure> {
        let exchange = async {
            let unsent = self.send(request).await;
            let (answer, keeps_open) = match (&unsent, self.receive().await) {
                // A server that refuses a large body may answer and hang up without reading it: the answer counts.
                (_, Ok(answer)) => answer,
                (Err(failure), Err(_)) => return Err(*failure),
                (Ok(_), Err(failure)) => return Err(failure),
            };
            let is_whole = match unsent {
                Ok([]) => true,
                // One that takes it without a look, as nginx does with `return 200`, reads the rest behind its answer.
                Ok(rest) if keeps_open && answer.is_success() => self.stream.write_all(rest).await.is_ok(),
                Ok(_) | Err(_) => false,
            };
            Ok((answer, keeps_open && is_whole))
        };
        let (answer, is_reusable) = tokio::time::timeout(EXCHANGE_TIMEOUT, exchange).await.map_err(|_| Failure::Timeout)??;
        Ok((answer, is_reusable.then_some(self)))
    }

    /// Sends until all is sent or the server begins to answer. Gives what is not sent yet.
    async fn send<'r>(&mut self, request: &'r [u8]) -> Result<&'r [u8], Failure> {
        self.received.clear();
        let (mut reader, mut writer) = self.stream.split();
        let mut unsent = request;
        tokio::select! {
            biased; // a small request is sent at the first poll, and nothing else is tried
            written = writer.write_all_buf(&mut unsent) => written.map_err(|_| Failure::Send)?,
            read = reader.read_buf(&mut self.received) => if !matches!(read, Ok(1..)) {
                return Err(Failure::Send);
            },
        }
        Ok(unsent)
    }

    /// Reads the final answer. The flag says whether the server keeps the connection open.
    async fn receive(&mut self) -> Result<(Answer, bool), Failure> {
        let mut has_ended = false;
        loop {
            match parse(&self.received, has_ended).map_err(|NotHttp| Failure::NotHttp)? {
                Parsed::Answer { answer, keeps_open } => return Ok((answer, keeps_open && !has_ended)),
                Parsed::Interim { bytes } => {
                    self.received.drain(..bytes);
                    continue;
                }
                Parsed::Incomplete if has_ended => return Err(Failure::Receive),
                Parsed::Incomplete if self.received.len() > ANSWER_BYTES_MAX => return Err(Failure::NotHttp),
                Parsed::Incomplete => {}
            }
            let read = self.stream.read_buf(&mut self.received).await.map_err(|_| Failure::Receive)?;
            has_ended = read == 0;
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    Answer {
        answer: Answer,
        keeps_open: bool,
    },
    /// A 1xx of this many bytes; the answer comes behind it.
    Interim {
        bytes: usize,
    },
    Incomplete,
}

#[derive(Debug, PartialEq, Eq)]
struct NotHttp;

impl From<httparse::Error> for NotHttp {
    fn from(_: httparse::Error) -> Self {
        Self
    }
}

/// Reads one answer from its beginning. `has_ended`: nothing more will come.
fn parse(bytes: &[u8], has_ended: bool) -> Result<Parsed, NotHttp> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = response.parse(bytes)? else {
        return Ok(Parsed::Incomplete);
    };
    let status = response.code.ok_or(NotHttp)?;
    if status < 200 {
        return Ok(Parsed::Interim { bytes: head_bytes });
    }
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok().map(str::trim)
    };
    let rest = &bytes[head_bytes..];
    let body = if status == 204 || status == 304 {
        Some(&rest[..0])
    } else if header("transfer-encoding").is_some() {
        chunked(rest)?.map(|end| &rest[..end])
    } else if let Some(length) = header("content-length") {
        rest.get(..length.parse().map_err(|_| NotHttp)?)
    } else {
        has_ended.then_some(rest)
    };
    let Some(body) = body else {
        return Ok(Parsed::Incomplete);
    };
    let is_closing = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    // Bytes behind the answer to the only request belong to nothing.
    let keeps_open = !is_closing && response.version == Some(1) && body.len() == rest.len();
    let excerpt = match status {
        200..300 => String::new(),
        _ => String::from_utf8_lossy(body).chars().take(EXCERPT_CHARS_MAX).collect(),
    };
    let answer = Answer {
        status,
        rejected: header(REJECTED).and_then(|value| value.parse().ok()).unwrap_or(0),
        retry_after: header("retry-after").and_then(|value| value.parse().ok()).map(Duration::from_secs),
        excerpt,
    };
    Ok(Parsed::Answer { answer, keeps_open })
}

/// Length of a whole chunked body, its frame included; `None` while some is missing.
fn chunked(bytes: &[u8]) -> Result<Option<usize>, NotHttp> {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let httparse::Status::Complete((line_bytes, size)) = httparse::parse_chunk_size(rest).map_err(|_| NotHttp)? else {
            return Ok(None);
        };
        let size = usize::try_from(size).ok().filter(|size| *size <= ANSWER_BYTES_MAX).ok_or(NotHttp)?;
        if size == 0 {
            // The trailer ends with an empty line; the line end of the last chunk's size may be its beginning.
            let trailer_at = at + line_bytes - 2;
            let end = bytes[trailer_at..].windows(4).position(|window| window == b"\r\n\r\n");
            return Ok(end.map(|end| trailer_at + end + 4));
        }
        at += line_bytes + size + 2;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    fn target(url: &str) -> anyhow::Result<Target> {
        Target::find(url, Some("k1"), Reach::Loopback)
    }

    fn refusal(url: &str) -> String {
        target(url).expect_err("refused").to_string()
    }

    fn complete(bytes: &[u8], has_ended: bool) -> (Answer, bool) {
        match parse(bytes, has_ended).expect("HTTP") {
            Parsed::Answer { answer, keeps_open } => (answer, keeps_open),
            Parsed::Interim { .. } | Parsed::Incomplete => panic!("not whole"),
        }
    }

    #[test]
    fn the_request_goes_to_ingest_below_the_prefix() {
        let head = |url: &str| target(url).expect("accepted").head().to_owned();
        assert_eq!(
            head("http://127.0.0.1:8080/"),
            "POST /ingest HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nX-API-KEY: k1\r\nContent-Type: application/json\r\n"
        );
        assert!(head("http://[::1]:81/a/b/").starts_with("POST /a/b/ingest HTTP/1.1\r\nHost: [::1]:81\r\n"));
        assert!(head("http://127.0.0.1").starts_with("POST /ingest HTTP/1.1\r\nHost: 127.0.0.1\r\n"));
    }

    #[test]
    fn other_machines_need_permission() {
        assert!(refusal("http://192.0.2.1:8080").contains("--allow-remote"));
        assert!(refusal("http://[2001:db8::1]").contains("--allow-remote"));
        assert!(Target::find("http://192.0.2.1:8080", None, Reach::Anywhere).is_ok());
    }

    #[test]
    fn urls_and_keys_that_cannot_be_sent_are_refused() {
        assert!(refusal("https://127.0.0.1").contains("https"));
        assert!(refusal("127.0.0.1:8080").contains("http"));
        assert!(refusal("http://127.0.0.1/?a=b").contains("query"));
        assert!(refusal("http://me@127.0.0.1/").contains("--key"));
        assert!(Target::find("http://127.0.0.1", Some("a\r\nHost: b"), Reach::Loopback).is_err());
    }

    #[test]
    fn an_answer_is_whole_at_its_last_byte_and_not_before() {
        let answers: [&[u8]; 3] = [
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
        ];
        for bytes in answers {
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end], false), Ok(Parsed::Incomplete), "{end} of {}", bytes.escape_ascii());
            }
            let (answer, keeps_open) = complete(bytes, false);
            assert_eq!((answer.status, keeps_open), (200, true));
        }
    }

    #[test]
    fn a_server_that_says_yes_before_it_has_read_gets_the_rest_and_the_connection_is_kept() {
        const HEAD: &[u8] = b"POST / HTTP/1.1\r\n\r\n";
        let request = [HEAD, &vec![b'x'; 32 << 20]].concat(); // more than the sockets' buffers hold
        for (status, says_yes) in [("200 OK", true), ("413 Too Large", false)] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let url = format!("http://{}", listener.local_addr().expect("an address"));
            let server = std::thread::spawn(move || {
                let mut stream = listener.accept().expect("a connection").0;
                stream.read_exact(&mut [0; HEAD.len()]).expect("a head");
                stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\nhello").as_bytes()).expect("written");
                // Read to the end by who said yes; of the other, the client hangs up.
                let mut rest = vec![0; 32 << 20];
                stream.read_exact(&mut rest).is_ok()
            });
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let (answer, is_kept) = runtime.block_on(async {
                let connection = target(&url).expect("accepted").connect().await.expect("a connection");
                let (answer, connection) = connection.exchange(&request).await.expect("an answer");
                (answer, connection.is_some())
            });
            assert_eq!((answer.is_success(), is_kept), (says_yes, says_yes), "{status}");
            assert_eq!(server.join().expect("no panic"), says_yes, "{status}");
        }
    }

    #[test]
    fn an_answer_without_a_length_ends_with_the_connection() {
        let bytes = b"HTTP/1.1 503 Busy\r\nRetry-After: 3\r\n\r\nbusy";
        assert_eq!(parse(bytes, false), Ok(Parsed::Incomplete));
        let (answer, _) = complete(bytes, true);
        assert_eq!(answer.retry_after, Some(Duration::from_secs(3)));
        assert_eq!(answer.excerpt, "busy");
    }

    #[test]
    fn a_connection_is_kept_only_if_the_server_keeps_it() {
        assert!(!complete(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", false).1);
        assert!(!complete(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false).1);
        assert!(!complete(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP", false).1);
        assert!(complete(b"HTTP/1.1 204 No Content\r\n\r\n", false).1);
    }

    #[test]
    fn interim_answers_are_skipped_and_rejected_events_are_counted() {
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\n";
        assert_eq!(parse(bytes, false), Ok(Parsed::Interim { bytes: bytes.len() }));
        let (answer, _) = complete(b"HTTP/1.1 200 OK\r\nTollgate-Rejected: 12\r\nContent-Length: 0\r\n\r\n", false);
        assert_eq!(answer.rejected, 12);
    }

    #[test]
    fn what_is_not_http_is_said_to_be() {
        assert_eq!(parse(b"220 mail.example ESMTP\r\n", false), Err(NotHttp));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", false), Err(NotHttp));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\n", false), Err(NotHttp));
    }
}
