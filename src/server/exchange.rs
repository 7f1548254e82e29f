//! One request and its one reply, as the handler sees them.
//! Must never send a second reply, let a header of the handler change the framing, end a broken reply as if it were whole, or leave a
//! connection open whose next byte is not the beginning of a request.

use super::Refusal;
use super::connection::Connection;
use super::request::{self, Head};
use http::header::{self, HeaderMap, HeaderName};
use http::{Method, StatusCode, Version};
use std::io;
use std::rc::Rc;

/// Asks for a body (RFC 9110 section 15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Headers that frame a reply: the handler's are left out.
const FRAMING: [HeaderName; 3] = [header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING];

/// One request and its one reply.
pub struct Exchange {
    pub(super) head: Head,
    pub(super) connection: Connection,
    /// A reply was begun.
    pub(super) replied: bool,
    /// It is whole.
    pub(super) done: bool,
    /// Another request may follow it.
    pub(super) keep_alive: bool,
}

impl Exchange {
    /// The request without its body.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Reads the whole body; asks the client for it when it waits to be asked (`Expect: 100-continue`). Empty when there is none and
    /// when it was read before. After an error, and when the body was not read, the connection closes with the reply.
    pub fn read_body(&mut self) -> Result<Vec<u8>, Refusal> {
        // An HTTP/1.0 client cannot read a 100 (RFC 9110 section 10.1.1).
        let asks = self.head.version == Version::HTTP_11 && self.head.headers.contains_key(header::EXPECT);
        if asks && self.head.body != Some(0) {
            self.connection.write(CONTINUE).map_err(|_| Refusal::CLIENT_LEFT)?;
        }
        let whole = request::read_body(self.head.body, &mut self.connection)?;
        self.head.body = Some(0);
        Ok(whole)
    }

    /// Sends a whole reply. A `connection: close` among `headers` closes the connection after it; other headers of framing are ours and
    /// are left out. Fails when the client does not read, when `status` is not 200 to 999, and when there was a reply before.
    pub fn respond(&mut self, status: u16, headers: &HeaderMap, body: &[u8]) -> io::Result<()> {
        let (mut bytes, bodiless) = self.open(status, headers, Some(body.len() as u64))?;
        if !bodiless {
            bytes.extend(body);
        }
        self.connection.write(&bytes)?;
        self.done = true;
        Ok(())
    }

    /// Sends the head of a reply at once; the body follows through the [`Writer`]. Without a `length` in bytes it goes in chunks; to an
    /// HTTP/1.0 client, which knows none, up to the end of the connection: it cannot tell a broken reply from a whole one. Headers and
    /// errors as with [`Exchange::respond`].
    pub fn start(&mut self, status: u16, headers: &HeaderMap, length: Option<u64>) -> io::Result<Writer<'_>> {
        let (bytes, bodiless) = self.open(status, headers, length)?;
        self.connection.write(&bytes)?;
        Ok(Writer { exchange: self, left: length, last: None, bodiless })
    }

    /// The head of the one reply, and whether it is all of it, whatever is written (RFC 9112 section 6.3).
    fn open(&mut self, status: u16, headers: &HeaderMap, length: Option<u64>) -> io::Result<(Vec<u8>, bool)> {
        if self.replied {
            return Err(io::Error::other("there was a reply before"));
        }
        let status = StatusCode::from_u16(status).ok().filter(|status| !status.is_informational());
        let status = status.ok_or_else(|| io::Error::other("not the status of a reply"))?;
        self.replied = true;
        // The rest of a body that nobody read would be taken for the next request.
        let clear = self.head.version == Version::HTTP_11 && self.head.body == Some(0);
        self.keep_alive = clear && !asks_to_close(&self.head.headers) && !asks_to_close(headers);
        let reason = status.canonical_reason().unwrap_or_default();
        let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
        for (name, value) in headers.iter().filter(|(name, _)| !FRAMING.contains(name)) {
            bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        let unframed = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        match length {
            _ if unframed => {}
            Some(length) => bytes.extend(format!("content-length: {length}\r\n").bytes()),
            None if self.head.version == Version::HTTP_11 => bytes.extend(b"transfer-encoding: chunked\r\n"),
            None => {}
        }
        if !self.keep_alive {
            // RFC 9110 section 7.8.
            let option = if headers.contains_key(header::UPGRADE) { ", upgrade" } else { "" };
            bytes.extend(format!("connection: close{option}\r\n").bytes());
        }
        bytes.extend(b"\r\n");
        Ok((bytes, unframed || self.head.method == Method::HEAD))
    }

    /// Tells, whenever it is called on this thread, whether the client has left: no thread, no byte taken. A client that closes
    /// its sending half after the request looks as if it had left.
    pub fn watcher(&self) -> impl Fn() -> bool + 'static {
        let stream = Rc::clone(&self.connection.stream);
        move || {
            let gone = match stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0])) {
                Ok(bytes) => bytes == 0,
                Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            };
            stream.set_nonblocking(false).is_err() || gone
        }
    }
}

/// Whether a `connection` header holds the word `close`.
fn asks_to_close(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.any(|value| value.to_ascii_lowercase().split(',').any(|word| word.trim() == "close"))
}

/// The body of a reply that was started. Dropped before [`Writer::finish`] it cuts the connection, so that the client sees a broken
/// reply and not a short or a whole one: what ends the reply, the last byte or the last chunk, goes with `finish`.
pub struct Writer<'a> {
    exchange: &'a mut Exchange,
    /// Bytes that are still to come; `None` when they go in chunks, or up to the end of the connection.
    left: Option<u64>,
    /// The last byte of an announced length.
    last: Option<u8>,
    bodiless: bool,
}

impl Writer<'_> {
    /// Sends these bytes at once, all but the last of an announced length; as one chunk where the reply is chunked. Fails when the client does not take
    /// them within [`super::Limits::write_time`], and when they are more than the announced length.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // An empty chunk would end the reply.
        if self.bodiless || bytes.is_empty() {
            return Ok(());
        }
        let Exchange { head, connection, .. } = &*self.exchange;
        if let Some(left) = &mut self.left {
            let rest = left.checked_sub(bytes.len() as u64);
            *left = rest.ok_or_else(|| io::Error::other("more bytes than announced"))?;
            if let (0, Some((last, before))) = (*left, bytes.split_last()) {
                self.last = Some(*last);
                return connection.write(before);
            }
        } else if head.version == Version::HTTP_11 {
            let size = format!("{:x}\r\n", bytes.len());
            // In one write: more would cost a packet each.
            return connection.write(&[size.as_bytes(), bytes, b"\r\n"].concat());
        }
        connection.write(bytes)
    }

    /// Ends the reply. Fails when fewer bytes were written than announced; the connection is cut then.
    pub fn finish(self) -> io::Result<()> {
        match self.left {
            _ if self.bodiless => {}
            Some(1..) => return Err(io::Error::other("fewer bytes than announced")),
            None if self.exchange.head.version == Version::HTTP_11 => self.exchange.connection.write(b"0\r\n\r\n")?,
            Some(0) | None => self.exchange.connection.write(self.last.as_slice())?,
        }
        self.exchange.done = true;
        Ok(())
    }
}
