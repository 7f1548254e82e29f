//! The strict reader of request heads (RFC 9112 sections 2 to 6).
//! Must never repair what is not clear: a head that two programs could read in two ways is refused.

use super::Refusal;
use super::body::Body;
use super::connection::{Connection, deadline};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};
use std::io::ErrorKind;

/// Bytes of a head: several times what any known client sends, small enough to hold for every connection.
const MAX_BYTES: usize = 64 << 10;
/// Header lines in one head: several times what the busiest known client sends.
const MAX_HEADERS: usize = 256;

/// A request without its body. The default stands in for one that is refused.
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
    pub(super) body: Body,
}

/// Waits for one whole head; `None` when the client leaves before its end or keeps silent before its first byte. Bytes are judged as they
/// come: what cannot become a request is refused at once and not by the deadline.
pub(super) fn read(connection: &mut Connection) -> Result<Option<Head>, Refusal> {
    let (mut judged, mut end) = (0, deadline(connection.limits.idle_time));
    loop {
        let bytes = connection.unused();
        let bytes = bytes.get(..MAX_BYTES).unwrap_or(bytes);
        if let Some((head, used)) = parse(bytes, judged, connection.limits.body_bytes)? {
            connection.consume(used);
            return Ok(Some(head));
        }
        if judged == 0 && !bytes.is_empty() {
            end = deadline(connection.limits.head_time);
        }
        judged = bytes.len();
        if judged >= MAX_BYTES {
            return Err(Refusal::HEAD_TOO_LARGE);
        }
        match connection.fill(end) {
            Ok(1..) => {}
            Err(error) if judged > 0 && error.kind() == ErrorKind::TimedOut => return Err(Refusal::TOO_SLOW),
            Ok(0) | Err(_) => return Ok(None),
        }
    }
}

/// What stands in for a head that is refused: the path when it is there and allowed, and a body that nobody reads.
pub(super) fn refused(bytes: &[u8]) -> Head {
    // A third word has begun: so the second is whole.
    let target = word(bytes, 2).and(word(bytes, 1)).and_then(|target| std::str::from_utf8(target).ok());
    let path = target.and_then(|target| target.split('?').next()).filter(|path| is_plain(path));
    let method = if bytes.starts_with(b"HEAD ") { Method::HEAD } else { Method::GET };
    Head { method, path: path.unwrap_or_default().to_owned(), ..Head::default() }
}

/// The head that `bytes` begin with and its length; `None` while it may still become one. The first `judged` bytes were judged before.
fn parse(bytes: &[u8], judged: usize, max_body: u64) -> Result<Option<(Head, usize)>, Refusal> {
    let mut places = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut places);
    let parsed = request.parse(bytes).map_err(|error| match error {
        httparse::Error::TooManyHeaders => Refusal::HEAD_TOO_LARGE,
        httparse::Error::Version if word(bytes, 2).is_some_and(|word| word.starts_with(b"HTTP/")) => Refusal::VERSION,
        _ => Refusal::malformed("not an HTTP request, or a malformed header line"),
    })?;
    let end = if let httparse::Status::Complete(end) = parsed { end } else { bytes.len() };
    let new = bytes.get(judged.saturating_sub(1)..end).unwrap_or_default();
    if matches!(bytes.first(), Some(b'\r' | b'\n')) || !new.windows(2).all(is_clean) {
        return Err(Refusal::malformed("a byte that no head may hold"));
    }
    let begun = word(bytes, 1).unwrap_or_default();
    let elsewhere = begun.first().is_some_and(|byte| *byte != b'/');
    let unclear = begun.contains(&b'#') || begun.contains(&b'\\');
    let whole = request.path.and_then(|target| target.split('?').next());
    if elsewhere || unclear || whole.is_some_and(|path| !is_plain(path)) {
        return Err(Refusal::malformed("the target must be a plain path"));
    }
    let (Some(method), Some(target), true) = (request.method, request.path, parsed.is_complete()) else {
        return Ok(None);
    };
    let mut headers = HeaderMap::new();
    for line in request.headers {
        let name = HeaderName::from_bytes(line.name.as_bytes());
        let value = HeaderValue::from_bytes(line.value);
        let (Ok(name), Ok(mut value)) = (name, value) else {
            return Err(Refusal::malformed("a malformed header line"));
        };
        value.set_sensitive(true);
        headers.append(name, value);
    }
    let method = Method::from_bytes(method.as_bytes());
    let method = method.map_err(|_| Refusal::malformed("not an HTTP request"))?;
    let version = if request.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let body = judge(&headers, &method, version, max_body)?;
    let mut target = target.splitn(2, '?').map(str::to_owned);
    let (path, query) = (target.next().unwrap_or_default(), target.next());
    Ok(Some((Head { method, path, query, version, headers, body }, end)))
}

/// What the headers say about the body.
fn judge(headers: &HeaderMap, method: &Method, version: Version, max_body: u64) -> Result<Body, Refusal> {
    let only = |name: &str| {
        let mut values = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(Refusal::malformed("a header is repeated")),
        }
    };
    if only("host")?.is_none() {
        return Err(Refusal::malformed("no Host"));
    }
    // Told before anything else about the route: clients then fall back to plain requests at once.
    if headers.contains_key(header::UPGRADE) {
        return Err(Refusal::UPGRADE);
    }
    // These say who asks and what the body is; a second one could be read by somebody else.
    for name in ["authorization", "x-api-key", "content-type"] {
        only(name)?;
    }
    if only("expect")?.is_some_and(|value| !value.eq_ignore_ascii_case("100-continue")) {
        return Err(Refusal::EXPECTATION);
    }
    match (only("content-length")?, only("transfer-encoding")?) {
        // Digits only (RFC 9112 section 6.2); a number too large for a `u64` is over any cap.
        (Some(digits), None) if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(Refusal::malformed("a Content-Length that is not a number"))
        }
        (Some(digits), None) => match digits.parse() {
            Ok(length) if length <= max_body => Ok(Body::Known(length)),
            _ => Err(Refusal::BODY_TOO_LARGE),
        },
        (None, Some("chunked")) if version == Version::HTTP_11 => Ok(Body::Chunked),
        (None, None) if !matches!(*method, Method::POST | Method::PUT | Method::PATCH) => Ok(Body::Known(0)),
        (None, None) => Err(Refusal::NO_LENGTH),
        (Some(_), Some(_)) => Err(Refusal::malformed("two lengths for one body")),
        (None, Some(_)) => Err(Refusal::malformed("an unknown Transfer-Encoding")),
    }
}

/// Word number `place` of the first line, as far as it came.
fn word(bytes: &[u8], place: usize) -> Option<&[u8]> {
    let line = bytes.split(|byte| *byte == b'\r').next()?;
    line.split(|byte| *byte == b' ').nth(place)
}

/// Whether the second of two bytes may follow the first in a head: CR and LF only together, nothing that is not ASCII text.
fn is_clean(pair: &[u8]) -> bool {
    match pair {
        [b'\r', next] => *next == b'\n',
        [_, next] => matches!(next, b'\t' | b'\r' | b' '..=b'~'),
        _ => false,
    }
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

    const HEAD: &[u8] = b"POST /v1/a?b=c HTTP/1.1\r\nHost: x\r\nAuthorization: isk_secret\r\n\
        Content-Length: 5\r\nConnection: a, Close\r\n\r\nhello";

    #[test]
    fn a_head_is_read_into_its_parts_and_the_body_is_left_alone() {
        let (head, used) = parse(HEAD, 0, 5).unwrap().unwrap();
        assert_eq!(HEAD.len() - used, 5);
        assert_eq!((head.path.as_str(), head.query.as_deref()), ("/v1/a", Some("b=c")));
        assert_eq!((head.method, head.version, head.body), (Method::POST, Version::HTTP_11, Body::Known(5)));
        assert!(!format!("{:?}", head.headers).contains("isk_secret"));
    }

    #[test]
    fn a_refused_head_has_a_path_only_when_it_is_whole_and_plain() {
        for (bytes, path) in [
            ("GET /a?b HTTP/1.1\r\nHost", "/a"),
            ("GET /a HTTP/9", "/a"),
            ("GET /a", ""),
            ("GET /a\r\nHost: b c", ""),
            ("GET /a/../b HTTP/1.1\r\n", ""),
            ("", ""),
        ] {
            assert_eq!(refused(bytes.as_bytes()).path, path, "{bytes}");
        }
    }

    #[test]
    fn judging_byte_by_byte_never_differs_from_judging_the_whole() {
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
            let whole = parse(&bytes, 0, 5);
            let stepwise = (1..=bytes.len())
                .map(|end| parse(&bytes[..end], end - 1, 5))
                .find(|outcome| !matches!(outcome, Ok(None)));
            match (whole, stepwise) {
                (Ok(Some((_, whole))), Some(Ok(Some((_, stepwise))))) if whole == stepwise => taken += 1,
                (Err(_), Some(Err(_))) => refused += 1,
                (Ok(None), None) => unfinished += 1,
                _ => panic!("{}", hex(&bytes)),
            }
        }
        assert!(taken > 500 && refused > 500 && unfinished > 100, "{taken} {refused} {unfinished}");
    }
}
