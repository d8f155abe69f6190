//! Requests that two readers could take for different ones. Behind each strange request comes a good one: it is answered if the
//! end of the first is beyond doubt, else the connection has ended. What is hidden in a body never happens.

use crate::harness::{ADMIN_KEY, Gateway, Setup, event, wire};

/// What must become of a strange request.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// It is answered so, and the connection goes on.
    Taken(u16),
    /// It is answered so, and the connection ends.
    Last(u16),
}

use Expected::{Last, Taken};

/// A strange request; `{hidden}` in it is a request in the place of a body, `{body}` an event, `{hidden#}` and `{body#}` their lengths, `{chunked}`
/// the event in one chunk, `{auth}` host and key.
type Case = (&'static str, String, Expected);

fn case(name: &'static str, request: &str, expected: Expected) -> Case {
    (name, request.to_owned(), expected)
}

/// With these headers behind the usual ones.
fn ingest(name: &'static str, rest: &str, expected: Expected) -> Case {
    (name, format!("POST /ingest HTTP/1.1\r\n{{auth}}{rest}"), expected)
}

/// With a body in chunks, written out.
fn chunks(name: &'static str, body: &str, expected: Expected) -> Case {
    ingest(name, &format!("Transfer-Encoding: chunked\r\n\r\n{body}"), expected)
}

/// With this request line.
fn line(name: &'static str, line: &str, expected: Expected) -> Case {
    (name, format!("{line}\r\n{{auth}}Content-Length: {{body#}}\r\n\r\n{{body}}"), expected)
}

/// With these headers in the place of the Host.
fn host(name: &'static str, hosts: &str, expected: Expected) -> Case {
    (name, format!("POST /ingest HTTP/1.1\r\nX-API-KEY: {ADMIN_KEY}\r\n{hosts}Content-Length: {{body#}}\r\n\r\n{{body}}"), expected)
}

fn lengths() -> Vec<Case> {
    let length = |name, value: &str, expected| ingest(name, &format!("Content-Length: {value}\r\n\r\n{{body}}"), expected);
    vec![
        ingest("two lengths, the shorter first", "Content-Length: 0\r\nContent-Length: {hidden#}\r\n\r\n{hidden}", Last(400)),
        ingest("two lengths, the longer first", "Content-Length: {hidden#}\r\nContent-Length: 0\r\n\r\n{hidden}", Last(400)),
        ingest("the same length twice", "Content-Length: {body#}\r\nContent-Length: {body#}\r\n\r\n{body}", Taken(200)),
        length("a list of one length", "{body#}, {body#}", Last(400)),
        length("a list of lengths", "{body#}, 0", Last(400)),
        length("a length with a plus", "+{body#}", Last(400)),
        length("a negative length", "-1", Last(400)),
        length("a length in hex", "0x10", Last(400)),
        length("a length of 20 digits", "18446744073709551616", Last(400)),
        length("a length of 2^64 - 1", "18446744073709551615", Last(431)),
        length("a length of 2^63", "9223372036854775808", Last(413)),
        length("an empty length", "", Last(400)),
        length("a length with a space in it", "1 1", Last(400)),
        length("a length with a parameter", "{body#};x", Last(400)),
        length("a length with a fraction", "{body#}.0", Last(400)),
        length("a length with zeros before it", "000{body#}", Taken(200)),
        length("a length between spaces", "  {body#}  \t", Taken(200)),
        ingest("a space before the colon of a length", "Content-Length : {body#}\r\n\r\n{body}", Last(400)),
        ingest("no length and no coding: no body", "\r\n", Taken(400)),
        ingest(
            "a length in a header that only looks like one",
            "Content_Length: {hidden#}\r\nContent-Length: {body#}\r\n\r\n{body}",
            Taken(200),
        ),
    ]
}

fn codings() -> Vec<Case> {
    let coding = |name, header: &str, expected| ingest(name, &format!("{header}\r\n\r\n{{chunked}}"), expected);
    vec![
        // RFC 9112, 6.1: the coding decides, and the connection ends.
        ingest("a length and a coding", "Content-Length: {all#}\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}{hidden}", Last(200)),
        ingest("a coding and a length", "Transfer-Encoding: chunked\r\nContent-Length: {all#}\r\n\r\n{chunked}{hidden}", Last(200)),
        ingest("a coding and a length that ends early", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n{chunked}", Last(200)),
        ingest("a coding and a length that is none", "Transfer-Encoding: chunked\r\nContent-Length: x\r\n\r\n{chunked}", Last(200)),
        coding("chunked", "Transfer-Encoding: chunked", Taken(200)),
        coding("chunked in capitals", "TRANSFER-ENCODING: CHUNKED", Taken(200)),
        coding("a tab before chunked", "Transfer-Encoding:\tchunked", Taken(200)),
        coding("spaces behind chunked", "Transfer-Encoding: chunked  ", Taken(200)),
        coding("a space before the colon", "Transfer-Encoding : chunked", Last(400)),
        coding("a tab before the colon", "Transfer-Encoding\t: chunked", Last(400)),
        coding("a vertical tab before chunked", "Transfer-Encoding: \x0bchunked", Last(400)),
        coding("a line break before the colon", "Transfer-Encoding\r\n: chunked", Last(400)),
        coding("a folded chunked", "Transfer-Encoding:\r\n chunked", Last(400)),
        coding("a space before the name", "X: y\r\n Transfer-Encoding: chunked", Last(400)),
        coding("xchunked", "Transfer-Encoding: xchunked", Last(400)),
        coding("chunked in quotes", "Transfer-Encoding: \"chunked\"", Last(400)),
        coding("chunked with a parameter", "Transfer-Encoding: chunked;q=1", Last(400)),
        coding("chunked, then identity", "Transfer-Encoding: chunked, identity", Last(400)),
        coding("identity, then chunked", "Transfer-Encoding: identity, chunked", Last(400)),
        coding("gzip, then chunked", "Transfer-Encoding: gzip, chunked", Last(400)),
        coding("chunked twice in a list", "Transfer-Encoding: chunked, chunked", Last(400)),
        coding("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Last(400)),
        coding("chunked and identity in two headers", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", Last(400)),
        coding("an empty coding", "Transfer-Encoding:", Last(400)),
        ingest("identity alone", "Transfer-Encoding: identity\r\nContent-Length: {body#}\r\n\r\n{body}", Last(400)),
        ingest(
            "a coding in a header that only looks like one",
            "Transfer_Encoding: chunked\r\nContent-Length: {body#}\r\n\r\n{body}",
            Taken(200),
        ),
        case("chunked in HTTP/1.0", "POST /ingest HTTP/1.0\r\n{auth}Transfer-Encoding: chunked\r\n\r\n{chunked}", Last(400)),
    ]
}

fn chunk_framings() -> Vec<Case> {
    let long = |bytes: usize| "x".repeat(bytes);
    vec![
        chunks("zeros before a size", "000{body%}\r\n{body}\r\n0\r\n\r\n", Taken(200)),
        chunks("a small extension", "{body%};a=b\r\n{body}\r\n0;c=\"d\"\r\n\r\n", Taken(200)),
        chunks("an extension of 10 KiB", &format!("{{body%}};{}\r\n{{body}}\r\n0\r\n\r\n", long(10 << 10)), Taken(200)),
        chunks("an extension of 20 KiB", &format!("{{body%}};{}\r\n{{body}}\r\n0\r\n\r\n", long(20 << 10)), Last(400)),
        chunks("a line feed in an extension", "{body%};a\n{body}\r\n0\r\n\r\n", Last(400)),
        chunks("a carriage return in an extension", "{body%};a\rb\r\n{body}\r\n0\r\n\r\n", Last(400)),
        chunks("a negative size", "-1\r\n{body}\r\n0\r\n\r\n", Last(400)),
        chunks("a size with a plus", "+{body%}\r\n{body}\r\n0\r\n\r\n", Last(400)),
        chunks("a size with 0x", "0x{body%}\r\n{body}\r\n0\r\n\r\n", Last(400)),
        chunks("a space before a size", " {body%}\r\n{body}\r\n0\r\n\r\n", Last(400)),
        chunks("a space in a size", "{body%} 0\r\n{body}\r\n0\r\n\r\n", Last(400)),
        chunks("an empty size", "\r\n{body}\r\n0\r\n\r\n", Last(400)),
        chunks("a size of 2^64", "10000000000000000\r\n{body}\r\n0\r\n\r\n", Last(400)),
        // The rest of the connection is its body, and does not come.
        chunks("a size of 2^64 - 1", "ffffffffffffffff\r\n{body}\r\n0\r\n\r\n{hidden}", Last(408)),
        chunks("only a line feed behind a size", "{body%}\n{body}\r\n0\r\n\r\n", Last(400)),
        chunks("nothing behind a chunk", "{body%}\r\n{body}0\r\n\r\n", Last(400)),
        chunks("only a line feed behind a chunk", "{body%}\r\n{body}\n0\r\n\r\n", Last(400)),
        chunks("more than a chunk's size", "1\r\n{body}\r\n0\r\n\r\n{hidden}", Last(400)),
        chunks("something behind the last chunk", "{body%}\r\n{body}\r\n0\r\nsomething\r\n\r\n", Last(400)),
        chunks("a last chunk with line feeds", "{body%}\r\n{body}\r\n0\n\n", Last(400)),
        chunks("a trailer", "{body%}\r\n{body}\r\n0\r\nChecksum: 7\r\n\r\n", Taken(200)),
        chunks(
            "framing in a trailer",
            "{body%}\r\n{body}\r\n0\r\nContent-Length: {hidden#}\r\nTransfer-Encoding: identity\r\n\r\n",
            Taken(200),
        ),
        chunks("a key in a trailer", "{body%}\r\n{body}\r\n0\r\nX-API-KEY: another\r\n\r\n", Taken(200)),
        chunks("a NUL in a trailer", "{body%}\r\n{body}\r\n0\r\nChecksum: \0\r\n\r\n", Last(400)),
        chunks("a trailer of 40 KiB", &format!("{{body%}}\r\n{{body}}\r\n0\r\nX: {}\r\n\r\n", long(40 << 10)), Last(400)),
        chunks("a thousand trailers", &format!("{{body%}}\r\n{{body}}\r\n0\r\n{}\r\n", "X: 1\r\n".repeat(1_000)), Last(400)),
    ]
}

fn request_lines() -> Vec<Case> {
    let uri = format!("POST /ingest?{} HTTP/1.1", "x".repeat(64 << 10));
    vec![
        line("absolute form", "POST http://tollgate/ingest HTTP/1.1", Taken(200)),
        line("absolute form with another authority", "POST http://elsewhere.example/ingest HTTP/1.1", Taken(200)),
        line("authority form", "POST tollgate:80 HTTP/1.1", Last(400)),
        line("an asterisk", "POST * HTTP/1.1", Last(400)),
        line("an asterisk for OPTIONS", "OPTIONS * HTTP/1.1", Taken(404)),
        line("no slash", "POST ingest HTTP/1.1", Last(400)),
        line("two spaces", "POST  /ingest HTTP/1.1", Last(400)),
        line("two spaces before the version", "POST /ingest  HTTP/1.1", Last(400)),
        line("a space in the path", "POST /ing est HTTP/1.1", Last(400)),
        line("a space behind the version", "POST /ingest HTTP/1.1 ", Last(400)),
        line("a space before the method", " POST /ingest HTTP/1.1", Last(400)),
        line("tabs", "POST\t/ingest\tHTTP/1.1", Last(400)),
        line("an empty line before it", "\r\nPOST /ingest HTTP/1.1", Taken(200)),
        line("a NUL in the path", "POST /ingest\0 HTTP/1.1", Last(400)),
        line("a NUL in the path, escaped", "POST /ingest%00 HTTP/1.1", Taken(404)),
        line("a carriage return in the path", "POST /ingest\rx HTTP/1.1", Last(400)),
        line("a line break in the path, escaped", "POST /x%0d%0aHost:%20x HTTP/1.1", Taken(404)),
        line("64 KiB", &uri, Last(431)),
        line("no version", "POST /ingest", Last(400)),
        line("HTTP/0.9", "POST /ingest HTTP/0.9", Last(400)),
        line("HTTP/1.2", "POST /ingest HTTP/1.2", Last(400)),
        line("HTTP/2.0", "POST /ingest HTTP/2.0", Last(400)),
        line("the name of the protocol in small letters", "POST /ingest http/1.1", Last(400)),
        line("HTTP/1.0", "POST /ingest HTTP/1.0", Last(200)),
        line("the method in small letters", "post /ingest HTTP/1.1", Taken(405)),
        line("a method that nobody knows", "BREW /ingest HTTP/1.1", Taken(405)),
        line("a method with a colon", "PO:ST /ingest HTTP/1.1", Last(400)),
        line("CONNECT", "CONNECT tollgate:80 HTTP/1.1", Last(405)),
        line("CONNECT with a path", "CONNECT /ingest HTTP/1.1", Last(405)),
        line("TRACE", "TRACE /ingest HTTP/1.1", Last(405)),
    ]
}

fn heads() -> Vec<Case> {
    let header = |name, header: &str, expected| ingest(name, &format!("{header}Content-Length: {{body#}}\r\n\r\n{{body}}"), expected);
    let get = |name, path: &str, rest: &str, expected| case(name, &format!("GET {path} HTTP/1.1\r\n{{auth}}{rest}"), expected);
    vec![
        host("no Host", "", Last(400)),
        host("two Hosts", "Host: tollgate\r\nHost: elsewhere\r\n", Last(400)),
        host("the same Host twice", "Host: tollgate\r\nHost: tollgate\r\n", Last(400)),
        host("a list of Hosts", "Host: tollgate, elsewhere\r\n", Last(400)),
        host("a Host with a path", "Host: tollgate/ingest\r\n", Last(400)),
        host("a Host with a user", "Host: user@tollgate\r\n", Last(400)),
        host("a Host with a space", "Host: toll gate\r\n", Last(400)),
        host("an empty Host", "Host:\r\n", Taken(200)),
        host("a Host of IPv6", "Host: [::1]:8080\r\n", Taken(200)),
        header("a NUL in a value", "X: a\0b\r\n", Last(400)),
        header("a carriage return in a value", "X: a\rb\r\n", Last(400)),
        header("a carriage return, then a header", "X: a\rTransfer-Encoding: chunked\r\n", Last(400)),
        header("a folded value", "X: a\r\n b\r\n", Last(400)),
        header("a header without a colon", "X\r\n", Last(400)),
        header("a header without a name", ": x\r\n", Last(400)),
        header("a name with a space", "X Y: z\r\n", Last(400)),
        header("a name with a NUL", "X\0: z\r\n", Last(400)),
        header("bytes beyond ASCII in a value", "X: \u{e9}\r\n", Taken(200)),
        // A line feed alone ends a line (RFC 9112, 2.2: a recipient may).
        header("a line feed alone", "X: a\n", Taken(200)),
        header("a coding behind a line feed", "X: a\nTransfer-Encoding: chunked\r\n", Last(400)),
        ingest("line feeds alone at the end", "Content-Length: {body#}\n\n{body}", Taken(200)),
        header("an expectation that nobody knows", "Expect: 200-ok\r\n", Taken(200)),
        header("an expectation to continue", "Expect: 100-continue\r\n", Taken(200)),
        header("h2c", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", Taken(200)),
        header("a web socket", "Connection: Upgrade\r\nUpgrade: websocket\r\n", Taken(200)),
        header("a length as a header of this connection", "Connection: Content-Length\r\n", Taken(200)),
        header("the end of the connection", "Connection: close\r\n", Last(200)),
        header("the end of the connection, and not", "Connection: close\r\nConnection: keep-alive\r\n", Last(200)),
        header("another method in a header", "X-HTTP-Method-Override: DELETE\r\n", Taken(200)),
        get("a body of GET", "/v1/events", "Content-Length: {hidden#}\r\n\r\n{hidden}", Taken(200)),
        get("a body of GET in chunks", "/v1/events", "Transfer-Encoding: chunked\r\n\r\n{hidden%}\r\n{hidden}\r\n0\r\n\r\n", Taken(200)),
        get("a body for whom nobody is interested in it", "/healthz", "Content-Length: {hidden#}\r\n\r\n{hidden}", Taken(200)),
        get("a body of a path that is not there", "/no/such/path", "Content-Length: {hidden#}\r\n\r\n{hidden}", Taken(404)),
        get("a body of a method that is not there", "/ingest", "Content-Length: {hidden#}\r\n\r\n{hidden}", Taken(405)),
        case("a body of a stranger", "POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: {hidden#}\r\n\r\n{hidden}", Taken(401)),
        ingest("a body of a kind that is not known", "Content-Encoding: br\r\nContent-Length: {hidden#}\r\n\r\n{hidden}", Taken(415)),
        ingest("a body that is a request", "Content-Length: {hidden#}\r\n\r\n{hidden}", Taken(400)),
    ]
}

fn usual(body: &str) -> Vec<u8> {
    wire::ingest(&[], body)
}

/// Sends a case and a good request behind it, checks the answers, and returns how many events must have been taken.
fn run(gateway: &Gateway, (name, request, expected): Case) -> u64 {
    let body = event(&format!("of {name}")).json();
    let hidden = String::from_utf8(usual(&event(&format!("hidden in {name}")).json())).expect("text");
    let chunked = String::from_utf8(wire::chunked(&body, body.len())).expect("text");
    let auth = format!("Host: tollgate\r\nX-API-KEY: {ADMIN_KEY}\r\n");
    let places = [
        ("{auth}", auth),
        ("{body#}", body.len().to_string()),
        ("{body%}", format!("{:x}", body.len())),
        ("{hidden#}", hidden.len().to_string()),
        ("{hidden%}", format!("{:x}", hidden.len())),
        ("{all#}", (chunked.len() + hidden.len()).to_string()),
        ("{chunked}", chunked),
        ("{body}", body),
        ("{hidden}", hidden),
    ];
    let request = places.iter().fold(request, |request, (place, text)| request.replace(place, text));
    let probe = usual(&event(&format!("behind {name}")).json());
    let mut wire = gateway.connect();
    wire.write([request.as_bytes(), &probe].concat());
    let mut answers = Vec::new();
    let wanted = match expected {
        Taken(_) => 2,
        Last(_) => usize::MAX,
    };
    while answers.len() < wanted
        && let Some(answer) = wire.next_answer()
    {
        answers.extend((answer.status != 100).then_some(answer.status));
    }
    let (must, taken) = match expected {
        Taken(status) => (vec![status, 200], 1 + u64::from(status == 200 && !request.starts_with("GET"))),
        Last(status) => (vec![status], u64::from(status == 200)),
    };
    assert_eq!(answers, must, "{name}: {request}");
    if matches!(expected, Taken(_)) {
        assert!(!wire.has_something_to_read(), "{name}: there is more than two answers");
    }
    taken
}

#[test]
fn no_byte_of_a_body_is_ever_a_request_and_no_request_has_two_readings() {
    let gateway = Setup::with("[http]\nbody_idle_timeout = '500ms'").start();
    let cases: Vec<_> = [lengths(), codings(), chunk_framings(), request_lines(), heads()].into_iter().flatten().collect();
    let tried = cases.len();
    let mut taken = 0;
    for case in cases {
        let name = case.0;
        taken += run(&gateway, case);
        assert_eq!(gateway.metrics().outcome("logged"), taken, "{name}: what it brought, and nothing else");
    }
    println!("{tried} cases, {taken} events taken");
    assert_eq!(gateway.usage("m").count() as u64, taken);
}
