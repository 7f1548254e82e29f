//! No bytes make the front door panic, and what it takes for a request another parser reads in the same way.

use http::header::HeaderMap;
use infershield::server::{self, Exchange, Handler, Limits, Refusal};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

/// Longer than any answer takes: a hang becomes a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers with what it was asked.
struct Echo;

impl Handler for Echo {
    fn handle(&self, exchange: &mut Exchange, refused: Option<Refusal>) {
        let body = exchange.read_body();
        let head = exchange.head().clone();
        let (status, bytes) = match (refused, body) {
            (None, Ok(body)) => {
                let target = [Some(head.path), head.query].into_iter().flatten().collect::<Vec<_>>().join("?");
                let headers: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
                let line = format!("{} {target} {:?} {headers}\n", head.method, head.version);
                (200, [line.as_bytes(), &body].concat())
            }
            (Some(refusal), _) | (_, Err(refusal)) => (refusal.status, Vec::new()),
        };
        let _ = exchange.respond(status, &HeaderMap::new(), &bytes);
    }
}

static DOOR: LazyLock<SocketAddr> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let limits = Limits { body_bytes: 1 << 16, ..Limits::default() };
    thread::spawn(move || server::run(&listener, limits, &Arc::new(Echo)));
    addr
});

/// Holds for every input: the bytes of a client that then has no more to say.
pub fn check(bytes: &[u8]) {
    let mut client = TcpStream::connect(*DOOR).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = client.write_all(bytes).and_then(|()| client.shutdown(Shutdown::Write));
    let mut replies = Vec::new();
    client.read_to_end(&mut replies).expect("the connection ends");
    // Who waits to be asked for the body was asked.
    let replies = replies.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&replies);
    let mut headers = [httparse::EMPTY_HEADER; 300];
    let mut other = httparse::Request::new(&mut headers);
    let parsed = other.parse(bytes);
    let named = |name: &str| other.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let has_body = named("content-length").or(named("transfer-encoding")).is_some();
    let Some(status) = replies.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3)) else {
        // Only who has not asked to the end gets no answer.
        assert!(has_body || !parsed.is_ok_and(|parsed| parsed.is_complete()), "no answer to {}", bytes.escape_ascii());
        return;
    };
    if status != b"200" {
        return;
    }
    let httparse::Status::Complete(length) = parsed.expect("another parser takes it too") else {
        panic!("another parser does not see its end")
    };
    let is_line_end = |pair: &[u8]| (pair[0] == b'\r') == (pair[1] == b'\n');
    assert!(bytes[..length].windows(2).all(is_line_end), "a line end that is none: {}", bytes.escape_ascii());
    let size: usize = other.headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    let version = if other.version == Some(1) { "HTTP/1.1" } else { "HTTP/1.0" };
    let mut expected = format!("{} {} {version} {size}\n", other.method.unwrap(), other.path.unwrap()).into_bytes();
    if let Some(digits) = named("content-length") {
        let body: usize = std::str::from_utf8(digits.value).unwrap().parse().unwrap();
        expected.extend(&bytes[length..length + body]);
    }
    let is_answered = |reply: &[u8]| reply.starts_with(&expected) || other.method == Some("HEAD");
    let begins = replies.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert!(is_answered(&replies[begins..]), "{} for {}", replies.escape_ascii(), bytes.escape_ascii());
}
