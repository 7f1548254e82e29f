//! A provider's OAuth endpoints as a script: each connection gets the next raw reply. It is the outside world, not ours.

use std::cell::{Cell, RefCell};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// Serves the script and remembers what it was asked.
pub struct Responder {
    pub base: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Responder {
    /// Replies in order; an empty reply closes the connection without a word. After the last one nobody listens any more.
    pub fn start(replies: &[Vec<u8>]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, own_base, replies) = (requests.clone(), base.clone(), replies.to_vec());
        std::thread::spawn(move || {
            for reply in replies {
                let (mut stream, _) = listener.accept().unwrap();
                seen.lock().unwrap().push(read_request(&mut stream));
                let text = String::from_utf8_lossy(&reply).replace("BASE", &own_base);
                // The caller may have gone: that is its right.
                let _ = stream.write_all(&with_length(&text));
            }
        });
        Self { base, requests }
    }

    /// Every request so far, head and body.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn with_length(reply: &str) -> Vec<u8> {
    let Some((head, body)) = reply.split_once("\r\n\r\n") else {
        return reply.as_bytes().to_vec();
    };
    head.replace("LENGTH", &body.len().to_string())
        .into_bytes()
        .into_iter()
        .chain(*b"\r\n\r\n")
        .chain(body.bytes())
        .collect()
}

/// Reads one request, by its content-length.
pub fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        match stream.read(&mut chunk).unwrap() {
            0 => return text,
            length => bytes.extend_from_slice(&chunk[..length]),
        }
    }
}

/// A reply from `fixtures/oauth/`.
pub fn recorded(provider: &str, name: &str) -> Vec<u8> {
    let text = match provider {
        "rfc" => include_str!("../fixtures/oauth/rfc.json"),
        "github" => include_str!("../fixtures/oauth/github.json"),
        "entra" => include_str!("../fixtures/oauth/entra.json"),
        _ => include_str!("../fixtures/oauth/openai.json"),
    };
    let all: serde_json::Value = serde_json::from_str(text).unwrap();
    let one = &all[name];
    raw(one["status"].as_u64().unwrap(), "application/json", &one["body"].to_string())
}

/// Any reply.
pub fn raw(status: u64, kind: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Whatever\r\ncontent-type: {kind}\r\ncontent-length: LENGTH\r\nconnection: close\r\n\r\n{body}")
        .into_bytes()
}

/// Time that passes only when somebody sleeps, or when a test says so.
pub struct FakeClock {
    base: (Instant, SystemTime),
    now: Cell<Duration>,
    wall: Cell<Duration>,
    /// Added to the wall clock by each sleep: a machine that was shut meanwhile.
    pub suspended: Cell<Duration>,
    pub slept: RefCell<Vec<u64>>,
}

impl FakeClock {
    pub fn new() -> Self {
        Self {
            base: (Instant::now(), SystemTime::now()),
            now: Cell::default(),
            wall: Cell::default(),
            suspended: Cell::default(),
            slept: RefCell::default(),
        }
    }

    /// Every sleep so far, in whole seconds.
    pub fn slept(&self) -> Vec<u64> {
        self.slept.borrow().clone()
    }
}

impl infershield::flow::Clock for FakeClock {
    fn now(&self) -> (Instant, SystemTime) {
        (self.base.0 + self.now.get(), self.base.1 + self.wall.get())
    }

    fn sleep(&self, time: Duration) {
        self.slept.borrow_mut().push(time.as_secs());
        self.now.set(self.now.get() + time);
        self.wall.set(self.wall.get() + time + self.suspended.get());
    }
}
