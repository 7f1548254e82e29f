//! The body of a request (RFC 9112 section 7).
//! Must never read past the end of a body, hold more than the cap, or wait past a deadline.

use super::Refusal;
use super::connection::{Connection, deadline};
use std::io::ErrorKind;
use std::time::Instant;

/// Hexadecimal digits of a chunk's size: those of a `u64`.
const MAX_SIZE_DIGITS: usize = 16;
/// Bytes of a chunk extension with its semicolon; nobody sends any, and they mean nothing to us.
const MAX_EXTENSION: usize = 257;
/// Bytes of all trailer lines together; they are thrown away.
const MAX_TRAILERS: usize = 8 << 10;

/// What is to come of a request's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes; 0 is also a body that was read.
    Known(u64),
    /// Chunks, from the first size line on.
    #[default]
    Chunked,
}

/// Reads a whole body; chunks together may have `max_bytes`.
pub(super) fn read(body: Body, connection: &mut Connection, max_bytes: u64) -> Result<Vec<u8>, Refusal> {
    let end = deadline(connection.limits.body_time);
    let mut reader = Reader { connection, end, whole: Vec::new() };
    match body {
        Body::Known(bytes) => reader.take(bytes)?,
        Body::Chunked => reader.take_chunks(max_bytes)?,
    }
    Ok(reader.whole)
}

struct Reader<'a> {
    connection: &'a mut Connection,
    end: Instant,
    whole: Vec<u8>,
}

impl Reader<'_> {
    fn take_chunks(&mut self, max_bytes: u64) -> Result<(), Refusal> {
        loop {
            let size = self.size_line()?;
            if size == 0 {
                break;
            }
            if size > max_bytes.saturating_sub(self.whole.len() as u64) {
                return Err(Refusal::BODY_TOO_LARGE);
            }
            self.take(size)?;
            self.rest_of_line(&mut 0)?;
        }
        let mut left = MAX_TRAILERS;
        while self.rest_of_line(&mut left)? {
            // The line end counts too.
            left = left.saturating_sub(2);
        }
        Ok(())
    }

    fn size_line(&mut self) -> Result<u64, Refusal> {
        let (mut size, mut digits): (u64, usize) = (0, 0);
        while digits <= MAX_SIZE_DIGITS
            && let Some(digit) = char::from(self.next()?).to_digit(16)
        {
            self.connection.consume(1);
            digits = digits.saturating_add(1);
            size = size << 4 | u64::from(digit);
        }
        if !(1..=MAX_SIZE_DIGITS).contains(&digits) {
            return Err(Refusal::malformed("a chunk size that is not a number, or too long"));
        }
        let mut room = if self.next()? == b';' { MAX_EXTENSION } else { 0 };
        self.rest_of_line(&mut room)?;
        Ok(size)
    }

    /// Skips text and the line end after it; takes at most `left` bytes of text and counts them down. Tells whether
    /// there was any.
    fn rest_of_line(&mut self, left: &mut usize) -> Result<bool, Refusal> {
        let before = *left;
        while matches!(self.next()?, b'\t' | b' '..=b'~') {
            let rest = left.checked_sub(1);
            *left = rest.ok_or(Refusal::malformed("too many bytes beside the chunks"))?;
            self.connection.consume(1);
        }
        for byte in *b"\r\n" {
            if self.next()? != byte {
                return Err(Refusal::malformed("a chunk line without its end"));
            }
            self.connection.consume(1);
        }
        Ok(*left < before)
    }

    fn take(&mut self, mut bytes: u64) -> Result<(), Refusal> {
        while bytes > 0 {
            self.next()?;
            let came = self.connection.unused();
            let wanted = usize::try_from(bytes).unwrap_or(usize::MAX);
            let part = came.get(..wanted).unwrap_or(came);
            let taken = part.len();
            self.whole.extend_from_slice(part);
            self.connection.consume(taken);
            bytes = bytes.saturating_sub(taken as u64);
        }
        Ok(())
    }

    /// The next byte, waited for and not taken.
    fn next(&mut self) -> Result<u8, Refusal> {
        loop {
            if let Some(byte) = self.connection.unused().first() {
                return Ok(*byte);
            }
            let end = deadline(self.connection.limits.body_read_time).min(self.end);
            match self.connection.fill(end) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => return Err(Refusal::TOO_SLOW),
                Ok(0) | Err(_) => return Err(Refusal::CLIENT_LEFT),
            }
        }
    }
}
