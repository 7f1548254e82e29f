//! HTTP/1.1 by hand: what goes out is exactly what the test says, what comes back is read piece by piece.

use serde_json::Value;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long a read waits before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection.
pub struct Wire {
    stream: TcpStream,
    /// Read from the socket and not yet used.
    raw: Vec<u8>,
    /// Of the current body, decoded and not yet handed out.
    decoded: Vec<u8>,
    framing: Framing,
}

#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
    /// Until the other side closes.
    Close,
    /// The body is over.
    Over,
}

/// The connection ended in the middle of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

/// A reply; `body` is empty until it was read.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        found.next().map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; fails the test when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }
}

/// The bytes of a request. `host` and `content-length` are added unless they are among the headers.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let has = |wanted: &str| headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    if !has("host") {
        head += "host: 127.0.0.1\r\n";
    }
    if !has("content-length") && !has("transfer-encoding") && (method == "POST" || !body.is_empty()) {
        head += &format!("content-length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    [head.as_bytes(), body].concat()
}

impl Wire {
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, raw: Vec::new(), decoded: Vec::new(), framing: Framing::Over }
    }

    /// One request on a connection of its own, and its whole reply.
    pub fn call(addr: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut wire = Self::connect(addr);
        wire.send(&request(method, target, headers, body));
        wire.reply()
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Like [`Wire::send`], for a server that may have closed already.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Closes the sending half.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The next reply, whole; fails the test when it is cut.
    pub fn reply(&mut self) -> Reply {
        let mut reply = self.head();
        reply.body = self.body().unwrap_or_else(|Cut| panic!("cut after {reply:?}"));
        reply
    }

    /// Status and headers of the next reply; interim replies (1xx) are replies of their own, without a body.
    pub fn head(&mut self) -> Reply {
        self.try_head().unwrap_or_else(|Cut| panic!("closed before a reply; so far {:?}", self.raw))
    }

    /// Like [`Wire::head`]; `Cut` when the connection ends first.
    pub fn try_head(&mut self) -> Result<Reply, Cut> {
        let end = self.until(b"\r\n\r\n")?;
        let head: Vec<u8> = self.raw.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap();
        let pair =
            |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        let reply = Reply {
            status: status.parse().unwrap(),
            headers: lines.map(|line| pair(line).unwrap()).collect(),
            body: Vec::new(),
        };
        self.decoded.clear();
        self.framing = match (reply.status, reply.header("transfer-encoding"), reply.header("content-length")) {
            (100..200 | 204 | 304, _, _) => Framing::Over,
            (_, Some("chunked"), _) => Framing::Chunked,
            (_, _, Some(length)) => Framing::Length(length.parse().unwrap()),
            _ => Framing::Close,
        };
        Ok(reply)
    }

    /// The rest of the current body.
    pub fn body(&mut self) -> Result<Vec<u8>, Cut> {
        while self.piece()? {}
        Ok(std::mem::take(&mut self.decoded))
    }

    /// The next event of a stream with its blank line; `None` after a proper end.
    pub fn event(&mut self) -> Result<Option<String>, Cut> {
        loop {
            if let Some(end) = find(&self.decoded, b"\n\n") {
                let event: Vec<u8> = self.decoded.drain(..end + 2).collect();
                return Ok(Some(String::from_utf8(event).unwrap()));
            }
            if !self.piece()? {
                return Ok(None);
            }
        }
    }

    /// Everything until the other side closes, undecoded.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more().is_ok() {}
        std::mem::take(&mut self.raw)
    }

    /// Decodes the next piece of the body; false when it is over.
    fn piece(&mut self) -> Result<bool, Cut> {
        match self.framing {
            Framing::Over | Framing::Length(0) => {
                self.framing = Framing::Over;
                return Ok(false);
            }
            Framing::Length(left) => {
                if self.raw.is_empty() {
                    self.more()?;
                }
                let taken = left.min(self.raw.len());
                self.decoded.extend(self.raw.drain(..taken));
                self.framing = Framing::Length(left - taken);
            }
            Framing::Close => {
                self.decoded.append(&mut self.raw);
                if self.more().is_err() {
                    self.framing = Framing::Over;
                }
            }
            Framing::Chunked => {
                let line_end = self.until(b"\r\n")?;
                let line = String::from_utf8_lossy(&self.raw[..line_end]).into_owned();
                let size = usize::from_str_radix(line.split(';').next().unwrap(), 16).unwrap();
                while self.raw.len() < line_end + 2 + size + 2 {
                    self.more()?;
                }
                self.raw.drain(..line_end + 2);
                self.decoded.extend(self.raw.drain(..size));
                assert_eq!(self.raw.drain(..2).as_slice(), b"\r\n", "a chunk ends with a line end");
                if size == 0 {
                    self.framing = Framing::Over;
                }
            }
        }
        Ok(true)
    }

    fn until(&mut self, end: &[u8]) -> Result<usize, Cut> {
        loop {
            if let Some(at) = find(&self.raw, end) {
                return Ok(at);
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> Result<(), Cut> {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(Cut),
            Ok(bytes) => {
                self.raw.extend(&buffer[..bytes]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(Cut),
            Err(error) => panic!("nothing to read: {error}"),
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
