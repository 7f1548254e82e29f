//! What real clients sent and were answered (`fixtures/clients/`), and a provider that answers with exactly the bytes of a test.

use super::process::PATIENCE;
use super::wire::Reply;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};

/// Everything that one client did for one job.
#[derive(Deserialize)]
pub struct Recording {
    pub client: String,
    pub scenario: String,
    /// What was forwarded and answered, in order.
    pub exchanges: Vec<Exchange>,
    /// What a guard must refuse: WebSocket upgrades and bodies that were compressed (here as they were before).
    #[serde(default)]
    pub refused: Vec<Exchange>,
}

/// One request and its reply.
#[derive(Deserialize)]
pub struct Exchange {
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    /// As it stands in the file, blanks and order of members included.
    body: Option<Box<RawValue>>,
    pub reply: RecordedReply,
}

#[derive(Deserialize)]
pub struct RecordedReply {
    pub status: u16,
    pub headers: Value,
    #[serde(default)]
    pub events: Vec<Value>,
    #[serde(default)]
    pub body: Value,
}

impl Exchange {
    pub fn body(&self) -> &[u8] {
        self.body.as_ref().map_or(b"", |body| body.get().as_bytes())
    }

    pub fn header(&self, wanted: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.next().map(|(_, value)| value.as_str())
    }
}

impl RecordedReply {
    /// The body, put together again; a stream has one event after the other.
    pub fn bytes(&self) -> Vec<u8> {
        if self.events.is_empty() {
            return self.body.to_string().into_bytes();
        }
        self.events.iter().map(event).collect::<String>().into_bytes()
    }
}

/// A recorded event as it stands in a stream.
pub fn event(event: &Value) -> String {
    let name = event["event"].as_str().map_or(String::new(), |name| format!("event: {name}\n"));
    let data = event["data"].as_str().map_or(event["data"].to_string(), str::to_owned);
    format!("{name}data: {data}\n\n")
}

/// All recordings, in the order of their names.
pub fn recordings() -> Vec<Recording> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/clients");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    files.iter().map(read).collect()
}

/// Answers each connection with the bytes that it was given last, and hands over what came.
pub struct Replay {
    pub addr: SocketAddr,
    reply: Arc<Mutex<Vec<u8>>>,
    arrived: Receiver<Arrived>,
}

/// A request as the provider got it.
pub struct Arrived {
    /// Method, path and query, version.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Replay {
    /// Starts one; its thread ends with the test program.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let reply = Arc::new(Mutex::new(Vec::new()));
        let (sender, arrived) = mpsc::channel();
        let replies = Arc::clone(&reply);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                if let Some(request) = read(&stream) {
                    let _ = sender.send(request);
                    // The proxy may have left already.
                    let _ = stream.write_all(&replies.lock().unwrap());
                }
            }
        });
        Self { addr, reply, arrived }
    }

    /// From now on every request is answered with these bytes, head and all.
    pub fn answer(&self, reply: Vec<u8>) {
        *self.reply.lock().unwrap() = reply;
    }

    /// The next request that came; fails the test when none does.
    pub fn request(&self) -> Arrived {
        self.arrived.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("nothing reached the provider: {error}"))
    }

    /// Whether nothing came that was not asked for.
    pub fn is_untouched(&self) -> bool {
        self.arrived.try_recv().is_err()
    }
}

fn read(stream: &TcpStream) -> Option<Arrived> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let mut headers = Vec::new();
    stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        match header.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Arrived { line: line.trim_end().to_owned(), headers, body })
}

/// Headers that pass unchanged, sorted: all but those of one connection, one credential, or the framing.
pub fn passing(headers: &[(String, String)]) -> Vec<(String, String)> {
    const STAY: [&str; 10] = [
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "date",
        "host",
        "keep-alive",
        "te",
        "transfer-encoding",
        "x-api-key",
    ];
    let lower = headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone()));
    let mut passing: Vec<_> =
        lower.filter(|(name, _)| !STAY.contains(&name.as_str()) && !name.starts_with("x-infershield-")).collect();
    passing.sort();
    passing
}

/// The headers of a reply that the provider set.
pub fn of_provider(reply: &Reply) -> Vec<(String, String)> {
    passing(&reply.headers)
}
