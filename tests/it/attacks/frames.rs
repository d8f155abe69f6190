//! HTTP/2 frame by frame (RFC 9113), for what no library sends.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::{ADMIN_KEY, DEADLINE, wait_for};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;

pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

/// What the other side said up to the end of the connection.
#[derive(Debug, Default, Clone)]
pub(super) struct Heard {
    /// Streams that were answered.
    pub(super) answered: Vec<u32>,
    /// Streams that are at their end.
    pub(super) ended: Vec<u32>,
    /// Of each DATA frame the stream and the bytes.
    pub(super) data: Vec<(u32, Vec<u8>)>,
    /// Streams that were reset, with the reason.
    pub(super) reset: Vec<(u32, u32)>,
    /// How often it was asked whether we are there.
    pub(super) asked: usize,
    /// Why the connection ended, if it was said.
    pub(super) goaway: Option<u32>,
    /// It ended within the time that a test has.
    pub(super) has_ended: bool,
}

/// A client's end of a connection, which HTTP/2 knows only as a whole. What the server says is read at any time.
pub(super) struct Frames {
    stream: TcpStream,
    heard: Arc<Mutex<Heard>>,
    reading: JoinHandle<()>,
}

/// A frame (RFC 9113, 4.1).
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    [&length.to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// An integer with a prefix of 7 bits (RFC 7541, 5.1).
fn length(value: usize) -> Vec<u8> {
    if value < 127 {
        return vec![value as u8];
    }
    let (mut bytes, mut rest) = (vec![127], value - 127);
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}

/// Fields as literals that enter no table (RFC 7541, 6.2.2).
pub(super) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(0, name, value)).collect()
}

/// One field with this first byte: 0 enters no table, 0x40 does.
pub(super) fn literal(kind: u8, name: &str, value: &str) -> Vec<u8> {
    [&[kind], length(name.len()).as_slice(), name.as_bytes(), length(value.len()).as_slice(), value.as_bytes()].concat()
}

/// A request's fields.
pub(super) fn head(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let begin = [(":method", method), (":scheme", "http"), (":authority", "tollgate"), (":path", path), ("x-api-key", ADMIN_KEY)];
    fields(&[&begin, more].concat())
}

/// A request without a body, as one frame.
pub(super) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("GET", path, &[]))
}

/// The head of a `POST /ingest`, as one frame.
pub(super) fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &head("POST", "/ingest", &[]))
}

/// A whole `POST /ingest`.
pub(super) fn ingest(stream: u32, body: &str) -> Vec<u8> {
    [post(stream), frame(DATA, END_STREAM, stream, body.as_bytes())].concat()
}

/// One setting.
pub(super) fn setting(name: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[name.to_be_bytes().as_slice(), &value.to_be_bytes()].concat())
}

impl Frames {
    /// Greets the server, with settings.
    pub(super) fn to(address: SocketAddr, settings: &[u8]) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_write_timeout(Some(DEADLINE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        let mut read = stream.try_clone().expect("a socket");
        read.set_read_timeout(Some(DEADLINE)).expect("a socket");
        let heard = Arc::new(Mutex::new(Heard::default()));
        let hearing = heard.clone();
        let reading = std::thread::spawn(move || while hear(&mut read, &hearing) {});
        let mut frames = Self { stream, heard, reading };
        frames.write([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", settings].concat());
        frames
    }

    /// What was heard so far.
    fn heard(&self) -> Heard {
        self.heard.lock().expect("nobody panics with it").clone()
    }

    /// Writes bytes; `false` once the other side has closed.
    pub(super) fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Writes the same bytes again and again until the other side closes, at most so often; says how often it was.
    pub(super) fn flood(&mut self, times: usize, bytes: impl AsRef<[u8]>) -> usize {
        // Many at a time: a flood is none that waits for each of its drops.
        let (at_a_time, bytes) = (100, bytes.as_ref().repeat(100));
        (0..times / at_a_time).take_while(|_| self.write(&bytes)).count() * at_a_time
    }

    /// Waits until these streams are answered or reset, or the connection ends; then ends it, and returns what was heard.
    #[track_caller]
    pub(super) fn end_after(self, streams: &[u32]) -> Heard {
        wait_for("streams to be answered", || {
            let heard = self.heard();
            let is_over = |stream: &u32| heard.ended.contains(stream) || heard.reset.iter().any(|(reset, _)| reset == stream);
            (heard.has_ended || streams.iter().all(is_over)).then_some(())
        });
        drop(self.stream.shutdown(Shutdown::Both));
        self.wait_for_end()
    }

    /// Returns what was heard up to the end that the other side makes.
    pub(super) fn wait_for_end(self) -> Heard {
        self.reading.join().expect("it reads");
        let heard = self.heard.lock().expect("nobody panics with it");
        heard.clone()
    }
}

/// Reads a frame; `false` when there is none any more.
fn hear(stream: &mut TcpStream, heard: &Mutex<Heard>) -> bool {
    let mut head = [0; 9];
    let read = stream.read_exact(&mut head);
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let on = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    let mut payload = vec![0; length];
    let read = read.and_then(|()| stream.read_exact(&mut payload));
    let mut heard = heard.lock().expect("nobody panics with it");
    if let Err(error) = read {
        heard.has_ended = !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
        return false;
    }
    let code = |at: usize| payload.get(at..at + 4).map(|code| u32::from_be_bytes([code[0], code[1], code[2], code[3]]));
    match head[3] {
        RST_STREAM => heard.reset.extend(code(0).map(|code| (on, code))),
        GOAWAY => heard.goaway = code(4).or(heard.goaway),
        HEADERS => heard.answered.push(on),
        PING if head[4] & ACK == 0 => heard.asked += 1,
        _ => {}
    }
    if matches!(head[3], HEADERS | DATA) && head[4] & END_STREAM != 0 {
        heard.ended.push(on);
    }
    if head[3] == DATA {
        heard.data.push((on, payload));
    }
    true
}

/// For clients that wait between two of their moves, as a slow one does. Not to wait for the server.
pub(super) fn pause(duration: Duration) {
    std::thread::park_timeout(duration);
}
