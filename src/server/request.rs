//! The strict reader of requests: heads (RFC 9112 sections 2 to 6) and bodies (section 7).
//! Must never repair what is not clear: what two programs could read in two ways is refused. Must never read past the end of a body or
//! hold more than the cap.

use super::Refusal;
use super::connection::Connection;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};

/// Bytes of a head: several times what any known client sends, small enough to hold for every connection.
const MAX_BYTES: u64 = 64 << 10;
/// Header lines in one head: several times what the busiest known client sends.
const MAX_HEADERS: usize = 256;
/// Where a request goes, who asks and what its body is: a second one could be read by somebody else.
const ONCE: [&str; 7] =
    ["host", "authorization", "x-api-key", "content-type", "content-length", "transfer-encoding", "expect"];

/// Hexadecimal digits of a chunk's size: those of a `u64`.
const MAX_SIZE_DIGITS: usize = 16;
/// Bytes of a body that there is room for before any has come: most are shorter, and an announced length costs nothing to write.
const FIRST_ROOM: usize = 1 << 20;
/// Bytes of a chunk extension with its semicolon; nobody sends any, and they mean nothing to us.
const MAX_EXTENSION: usize = 257;
/// Bytes of all trailer lines together, with the empty line after them; they are thrown away.
const MAX_TRAILERS: u64 = 8 << 10;

/// A request without its body.
#[derive(Clone, Default)]
pub struct Head {
    /// The method, case kept.
    pub method: Method,
    /// The target before the first `?` as the client wrote it: begins with `/`, escapes not decoded, no `.` or `..` segment, no `//`,
    /// no escaped slash or backslash.
    pub path: String,
    /// The target after the first `?`, as written.
    pub query: Option<String>,
    /// HTTP/1.1 or HTTP/1.0.
    pub version: Version,
    /// All headers. None of the values shows in a `Debug` print.
    pub headers: HeaderMap,
    /// Bytes of the body that nobody has read yet, at most [`super::Limits::body_bytes`]; `None` when it comes in chunks.
    pub body: Option<u64>,
}

impl Head {
    /// Waits for one whole head. Each byte is judged as it comes: what cannot become a request is refused at once and not by the
    /// deadline. Of a head that is refused, method and path are there as far as they came and are allowed.
    pub(super) fn read(&mut self, connection: &mut Connection) -> Result<(), Refusal> {
        let limits = connection.limits;
        connection.allow(MAX_BYTES, limits.idle_time, limits.idle_time);
        connection.next().map_err(|_| Refusal::CLIENT_LEFT)?;
        connection.allow(MAX_BYTES, limits.head_time, limits.head_time);
        let method = connection.text(usize::MAX, is_token)?;
        connection.exactly(b" ", Refusal::FIRST_LINE)?;
        self.method = Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::FIRST_LINE)?;
        connection.exactly(b"/", Refusal::TARGET)?;
        // No program on the way may end it at `#`, or take `\` for a slash.
        let target = connection.text(usize::MAX, |byte| byte.is_ascii_graphic() && !b"#\\".contains(byte))?;
        connection.exactly(b" ", Refusal::TARGET)?;
        let mut parts = target.splitn(2, '?');
        let path = format!("/{}", parts.next().unwrap_or_default());
        if !is_plain(&path) {
            return Err(Refusal::TARGET);
        }
        self.path = path;
        self.query = parts.next().map(str::to_owned);
        connection.exactly(b"HTTP/", Refusal::FIRST_LINE)?;
        connection.exactly(b"1.", Refusal::VERSION)?;
        self.version = match connection.text(1, u8::is_ascii_digit)?.as_str() {
            "0" => Version::HTTP_10,
            "1" => Version::HTTP_11,
            _ => return Err(Refusal::VERSION),
        };
        connection.exactly(b"\r\n", Refusal::FIRST_LINE)?;
        let mut headers = HeaderMap::new();
        while connection.next()? != b'\r' {
            let name = connection.text(usize::MAX, is_token)?;
            connection.exactly(b":", Refusal::HEADER_LINE)?;
            let value = connection.text(usize::MAX, is_text)?;
            connection.exactly(b"\r\n", Refusal::HEADER_LINE)?;
            if headers.len() == MAX_HEADERS {
                return Err(Refusal::HEAD_TOO_LARGE);
            }
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Refusal::HEADER_LINE)?;
            let mut value = HeaderValue::from_str(value.trim()).map_err(|_| Refusal::HEADER_LINE)?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        connection.exactly(b"\r\n", Refusal::HEADER_LINE)?;
        self.body = self.body_length(&headers, limits.body_bytes)?;
        self.headers = headers;
        Ok(())
    }

    /// What the headers say about the body.
    fn body_length(&self, headers: &HeaderMap, max_body: u64) -> Result<Option<u64>, Refusal> {
        if ONCE.iter().any(|name| headers.get_all(*name).iter().count() > 1) {
            return Err(Refusal::REPEATED);
        }
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        if text(header::HOST).is_none() {
            return Err(Refusal::NO_HOST);
        }
        // Told before anything else about the route: clients then fall back to plain requests at once. An offer of HTTP/2 needs no answer (RFC 9113
        // section 3.1), and its clients would take this one for the end.
        if text(header::UPGRADE).is_some_and(|protocol| !protocol.eq_ignore_ascii_case("h2c")) {
            return Err(Refusal::UPGRADE);
        }
        if text(header::EXPECT).is_some_and(|value| !value.eq_ignore_ascii_case("100-continue")) {
            return Err(Refusal::EXPECTATION);
        }
        match (text(header::CONTENT_LENGTH), text(header::TRANSFER_ENCODING)) {
            (None, None) if matches!(self.method, Method::POST | Method::PUT | Method::PATCH) => {
                Err(Refusal::NO_LENGTH)
            }
            (None, None) => Ok(Some(0)),
            (None, Some("chunked")) if self.version == Version::HTTP_11 => Ok(None),
            // Digits only (RFC 9112 section 6.2).
            (Some(digits), None) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                // A number too large for a `u64` is over any cap.
                let length = digits.parse().ok().filter(|length| *length <= max_body);
                length.map(Some).ok_or(Refusal::BODY_TOO_LARGE)
            }
            _ => Err(Refusal::LENGTH),
        }
    }
}

/// Reads a whole body: so many bytes, or chunks.
pub(super) fn read_body(length: Option<u64>, connection: &mut Connection) -> Result<Vec<u8>, Refusal> {
    let limits = connection.limits;
    connection.allow(u64::MAX, limits.body_time, limits.body_read_time);
    let mut whole = Vec::new();
    if let Some(bytes) = length {
        whole.reserve(usize::try_from(bytes).unwrap_or(usize::MAX).min(FIRST_ROOM));
        connection.take(bytes, &mut whole)?;
        return Ok(whole);
    }
    loop {
        let digits = connection.text(MAX_SIZE_DIGITS, u8::is_ascii_hexdigit)?;
        let size = u64::from_str_radix(&digits, 16).map_err(|_| Refusal::CHUNK)?;
        let extension = if connection.next()? == b';' { MAX_EXTENSION } else { 0 };
        connection.text(extension, is_text)?;
        connection.exactly(b"\r\n", Refusal::CHUNK)?;
        if size == 0 {
            break;
        }
        if size > limits.body_bytes.saturating_sub(whole.len() as u64) {
            return Err(Refusal::BODY_TOO_LARGE);
        }
        connection.take(size, &mut whole)?;
        connection.exactly(b"\r\n", Refusal::CHUNK)?;
    }
    connection.allow(MAX_TRAILERS, limits.body_read_time, limits.body_read_time);
    while !connection.text(usize::MAX, is_text)?.is_empty() {
        connection.exactly(b"\r\n", Refusal::CHUNK)?;
    }
    connection.exactly(b"\r\n", Refusal::CHUNK)?;
    Ok(whole)
}

/// A byte of a method or a header's name (RFC 9110 section 5.6.2).
fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

/// A byte of a value, or of what stands beside chunks: nothing that another program could take for a line end.
fn is_text(byte: &u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~')
}

/// Whether everybody reads this path in the same way: nothing in it that a program on the way could shorten or decode.
fn is_plain(path: &str) -> bool {
    let path = path.to_ascii_lowercase().replace("%2e", ".");
    let unclear = ["//", "%2f", "%5c"].iter().any(|part| path.contains(part));
    let mut segments = path.split('/');
    path.starts_with('/') && !unclear && !segments.any(|segment| matches!(segment, "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::hex;
    use crate::server::Limits;
    use std::io::{Read as _, Write as _};
    use std::net::{Shutdown, TcpListener, TcpStream};

    const HEAD: &[u8] = b"POST /v1/a?b=c HTTP/1.1\r\nHost: x\r\nAuthorization: isk_secret\r\n\
        Content-Length: 5\r\nConnection: a, Close\r\n\r\nhello";

    /// What is read of these bytes and then the end; and what comes after the head.
    fn read(bytes: &[u8]) -> (Result<(), Refusal>, Head, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(bytes).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut connection = Connection::new(listener.accept().unwrap().0, Limits::default());
        let mut head = Head::default();
        let read = head.read(&mut connection);
        connection.allow(u64::MAX, Limits::default().idle_time, Limits::default().idle_time);
        let mut rest = Vec::new();
        while let Ok(byte) = connection.next() {
            rest.push(byte);
            connection.take(1, &mut Vec::new()).unwrap();
        }
        drop(connection);
        // Nothing was written, so that there is nothing to lose.
        assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0);
        (read, head, rest)
    }

    #[test]
    fn a_head_is_read_into_its_parts_and_the_body_is_left_alone() {
        let (outcome, head, rest) = read(HEAD);
        assert_eq!((outcome, rest.as_slice()), (Ok(()), b"hello".as_slice()));
        assert_eq!((head.path.as_str(), head.query.as_deref()), ("/v1/a", Some("b=c")));
        assert_eq!((head.method, head.version, head.body), (Method::POST, Version::HTTP_11, Some(5)));
        assert!(!format!("{:?}", head.headers).contains("isk_secret"));
    }

    #[test]
    fn a_refused_head_has_a_path_only_when_it_is_whole_and_plain_and_no_headers() {
        for (bytes, path) in [
            ("GET /a?b HTTP/1.1\r\nHost", "/a"),
            ("GET /a HTTP/9", "/a"),
            ("GET /a HTTP/1.1\r\nHost: x\r\nUpgrade: y\r\n\r\n", "/a"),
            ("GET /a", ""),
            ("GET /a\r\nHost: b c", ""),
            ("GET /a/../b HTTP/1.1\r\n", ""),
            ("", ""),
        ] {
            let (outcome, head, _) = read(bytes.as_bytes());
            assert_eq!((outcome.is_err(), head.path.as_str(), head.headers.len()), (true, path, 0), "{bytes}");
        }
    }

    #[test]
    fn what_is_taken_means_the_same_to_another_parser() {
        let mut random: u64 = 3;
        let mut below = |bound: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize % bound
        };
        let (mut taken, mut refused, mut unfinished) = (0, 0, 0);
        for _ in 0..5_000 {
            let mut bytes = HEAD.to_vec();
            for _ in 0..below(3) {
                let place = below(bytes.len());
                match below(4) {
                    0 => bytes[place] = below(256) as u8,
                    1 => drop(bytes.remove(place)),
                    2 => bytes.insert(place, b" \t\r\n:/.%#"[below(9)]),
                    _ => bytes.truncate(place + 1),
                }
            }
            let (outcome, head, rest) = read(&bytes);
            let mut places = [httparse::EMPTY_HEADER; 16];
            let mut other = httparse::Request::new(&mut places);
            let parsed = other.parse(&bytes);
            match outcome {
                Ok(()) => {
                    assert_eq!(parsed, Ok(httparse::Status::Complete(bytes.len() - rest.len())), "{}", hex(&bytes));
                    let target = [Some(head.path), head.query].into_iter().flatten().collect::<Vec<_>>().join("?");
                    assert_eq!((other.method, other.path), (Some(head.method.as_str()), Some(target.as_str())));
                    assert_eq!(other.version, Some(u8::from(head.version == Version::HTTP_11)));
                    assert_eq!(other.headers.len(), head.headers.len());
                    let same = |line: &httparse::Header<'_>| {
                        head.headers.get_all(line.name).iter().any(|value| value.as_bytes() == line.value)
                    };
                    assert!(other.headers.iter().all(same), "{}", hex(&bytes));
                    taken += 1;
                }
                // Only a head that never came to its end is waited for.
                Err(Refusal::CLIENT_LEFT) => {
                    assert!(!matches!(parsed, Ok(httparse::Status::Complete(_))), "{}", hex(&bytes));
                    unfinished += 1;
                }
                Err(_) => refused += 1,
            }
        }
        assert!(taken > 500 && refused > 500 && unfinished > 100, "{taken} {refused} {unfinished}");
    }
}
