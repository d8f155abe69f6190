//! A payment provider that does what a test says, on a port of this machine.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{Setup, wait_for};

/// The key that it is called with.
pub(crate) const STRIPE_KEY: &str = "sk_test_not_to_be_seen";

/// What it does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// Answers with a status, further header lines (each ended by CRLF) and a body.
    Says(u16, &'static str, String),
    /// Does not answer, until it is told to end that.
    Hangs,
    /// Closes the connection.
    HangsUp,
    /// Answers 200 and sends bytes for ever.
    NeverEnds,
}

impl Behaviour {
    pub(crate) fn says(status: u16, body: impl Into<String>) -> Self {
        Self::Says(status, "", body.into())
    }
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Called {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Called {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

#[derive(Debug, Default)]
struct State {
    /// One a request; then all are answered with a customer.
    script: VecDeque<Behaviour>,
    called: Vec<Called>,
    /// Kept open.
    hanging: Vec<TcpStream>,
}

/// It; gone with its connections when the test is.
#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Provider {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let provider = Self { address, state: state.clone() };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = state.clone();
                thread::spawn(move || serve(stream, &state));
            }
        });
        provider
    }

    /// What it does with the requests to come, one after the other.
    pub(crate) fn will(&self, script: impl IntoIterator<Item = Behaviour>) {
        self.state.lock().expect("no panic").script.extend(script);
    }

    /// All requests so far.
    pub(crate) fn called(&self) -> Vec<Called> {
        self.state.lock().expect("no panic").called.clone()
    }

    /// Hangs up on all whom it does not answer, and on whom it was not to answer.
    pub(crate) fn end_hanging(&self) {
        let mut state = self.state.lock().expect("no panic");
        for behaviour in state.script.iter_mut().filter(|behaviour| matches!(behaviour, Behaviour::Hangs)) {
            *behaviour = Behaviour::HangsUp;
        }
        for stream in state.hanging.drain(..) {
            stream.shutdown(Shutdown::Both).expect("a connection");
        }
    }

    /// Waits until so many requests have come.
    #[track_caller]
    pub(crate) fn wait_for_calls(&self, calls: usize) {
        wait_for("calls of the provider", || (self.called().len() >= calls).then_some(()));
    }

    /// A gateway that is set up to call it.
    pub(crate) fn setup(&self, timeout: &str) -> Setup {
        Setup::with(&format!("[stripe]\ntimeout = '{timeout}'\n"))
            .variable("TOLLGATE_STRIPE_API_KEY", STRIPE_KEY)
            .variable("TOLLGATE_STRIPE_API_BASE", &format!("http://{}", self.address))
    }
}

/// Answers one request after the other.
fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    while let Some(called) = next_request(&mut reader) {
        let behaviour = {
            let mut state = state.lock().expect("no panic");
            state.called.push(called);
            let customer = format!(r#"{{"id":"cus_{}","object":"customer"}}"#, state.called.len());
            state.script.pop_front().unwrap_or(Behaviour::says(200, customer))
        };
        if !behave(&stream, behaviour, state) {
            return;
        }
    }
}

/// Whether the connection goes on.
fn behave(mut stream: &TcpStream, behaviour: Behaviour, state: &Mutex<State>) -> bool {
    match behaviour {
        Behaviour::Says(status, headers, body) => {
            let length = body.len();
            write!(stream, "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}")
                .is_ok()
        }
        Behaviour::Hangs => {
            state.lock().expect("no panic").hanging.push(stream.try_clone().expect("a socket"));
            false
        }
        Behaviour::HangsUp => false,
        Behaviour::NeverEnds => {
            let mut goes_on = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_ok();
            while goes_on {
                goes_on = stream.write_all(format!("10000\r\n{}\r\n", " ".repeat(0x10000)).as_bytes()).is_ok();
            }
            false
        }
    }
}

fn next_request(reader: &mut BufReader<TcpStream>) -> Option<Called> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().expect("a length"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Called { line: line.trim_end().into(), headers, body: String::from_utf8(body).expect("text") })
}
