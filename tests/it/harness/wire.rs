//! HTTP/1.1 byte by byte, for what no well-behaved client does.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::{ADMIN_KEY, Answer, DEADLINE};

/// One connection.
pub(crate) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
    patience: Duration,
}

/// The bytes of a `POST /ingest` with a `Content-Length` and these headers beside.
pub(crate) fn ingest(headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let length = body.as_ref().len().to_string();
    [head(&[headers, &[("Content-Length", &length)]].concat()).as_slice(), body.as_ref()].concat()
}

/// The bytes of the head of a `POST /ingest` with these headers, and the key.
pub(crate) fn head(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("POST /ingest HTTP/1.1\r\nHost: tollgate\r\nX-API-KEY: {ADMIN_KEY}\r\nContent-Type: application/json\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// A body in chunks of this size.
pub(crate) fn chunked(body: impl AsRef<[u8]>, chunk_bytes: usize) -> Vec<u8> {
    let chunks = body.as_ref().chunks(chunk_bytes);
    let framed = chunks.map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    [framed.collect::<Vec<_>>().concat().as_slice(), b"0\r\n\r\n"].concat()
}

impl Wire {
    /// Connects.
    pub(crate) fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        stream.set_write_timeout(Some(DEADLINE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, unread: Vec::new(), patience: DEADLINE }
    }

    /// Waits no longer than this: for what should come after a fraction of a second, or never.
    pub(crate) fn patient_for(mut self, patience: Duration) -> Self {
        self.stream.set_read_timeout(Some(patience)).expect("a socket");
        self.patience = patience;
        self
    }

    /// The socket.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Writes bytes. The other side may have closed: an answer, or its absence, says so.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        drop(self.stream.write_all(bytes.as_ref()));
    }

    /// The next answer, interim ones too.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        self.next_answer().expect("an answer before the end of the connection")
    }

    /// The next answer; `None` if the connection ends without one.
    #[track_caller]
    pub(crate) fn next_answer(&mut self) -> Option<Answer> {
        loop {
            if let Some(answer) = self.take_answer() {
                return Some(answer);
            }
            if !self.read_more() {
                return None;
            }
        }
    }

    /// Waits for the end of the connection, and expects that nothing more is said before.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "said before the end: {}", String::from_utf8_lossy(&rest));
    }

    /// Everything up to the end of the connection.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.read_more() {}
        std::mem::take(&mut self.unread)
    }

    /// Whether the other side has said something, or gone, within a moment.
    pub(crate) fn has_something_to_read(&mut self) -> bool {
        self.stream.set_read_timeout(Some(Duration::from_millis(10))).expect("a socket");
        let found = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(self.patience)).expect("a socket");
        !found.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// `false` at the end of the connection.
    #[track_caller]
    fn read_more(&mut self) -> bool {
        let mut bytes = [0; 16 << 10];
        match self.stream.read(&mut bytes) {
            Ok(read) => {
                self.unread.extend_from_slice(&bytes[..read]);
                read > 0
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("neither an answer nor an end within {:?}", self.patience)
            }
            // The other side closed with something of ours unread.
            Err(_) => false,
        }
    }

    fn take_answer(&mut self) -> Option<Answer> {
        let mut parsed = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut parsed);
        let httparse::Status::Complete(head_bytes) = head.parse(&self.unread).expect("HTTP/1.1") else { return None };
        let mut headers = HeaderMap::new();
        for header in head.headers.iter() {
            let name = HeaderName::from_bytes(header.name.as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_bytes(header.value).expect("a value"));
        }
        let status = head.code.expect("complete");
        let length =
            headers.get("content-length").map_or(0, |value| value.to_str().ok().and_then(|text| text.parse().ok()).expect("a length"));
        let end = head_bytes + length;
        let body = self.unread.get(head_bytes..end)?.to_vec();
        self.unread.drain(..end);
        Some(Answer::new(status, headers, body))
    }
}
