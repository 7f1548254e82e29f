//! One connection's bytes, in and out: each is judged as it comes and used once.
//! Must never wait past a deadline, take more than is allowed, nor give its buffer back with a byte of a request in it.

use super::{Limits, Refusal};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Bytes asked of the system at once: a good part of what a socket buffer holds.
const READ_BYTES: usize = 64 << 10;

/// A client's socket, and the bytes that were read from it and not yet used.
pub(super) struct Connection {
    /// `Rc` keeps everything that touches its flags on one thread.
    pub(super) stream: Rc<TcpStream>,
    pub(super) limits: Limits,
    /// Heads hold credentials: wiped on drop.
    bytes: Zeroizing<Vec<u8>>,
    unused: Range<usize>,
    /// How many bytes may still be used, by when they must have come, and the longest silence before any of them.
    left: u64,
    end: Instant,
    silence: Duration,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, limits: Limits) -> Self {
        let (stream, bytes) = (Rc::new(stream), Zeroizing::new(vec![0; READ_BYTES]));
        Self { stream, limits, bytes, unused: 0..0, left: 0, end: Instant::now(), silence: Duration::ZERO }
    }

    /// From here on so many bytes may be used; they must come in this time, and none after a longer silence.
    pub(super) fn allow(&mut self, bytes: u64, time: Duration, silence: Duration) {
        self.left = bytes;
        self.end = deadline(time);
        self.silence = silence;
    }

    /// The next byte, waited for and not used.
    pub(super) fn next(&mut self) -> Result<u8, Refusal> {
        if self.left == 0 {
            return Err(Refusal::HEAD_TOO_LARGE);
        }
        if self.unused.is_empty() {
            let came = until(self.end.min(deadline(self.silence)), |left| {
                self.stream.set_read_timeout(Some(left))?;
                (&*self.stream).read(&mut self.bytes)
            });
            self.unused = 0..came.map_err(|error| match error.kind() {
                ErrorKind::TimedOut => Refusal::TOO_SLOW,
                _ => Refusal::CLIENT_LEFT,
            })?;
        }
        self.unused().first().copied().ok_or(Refusal::CLIENT_LEFT)
    }

    /// Uses bytes as long as they fit, at most so many.
    pub(super) fn text(&mut self, max_bytes: usize, fits: fn(&u8) -> bool) -> Result<Zeroizing<String>, Refusal> {
        let mut text = Zeroizing::new(String::new());
        while text.len() < max_bytes && fits(&self.next()?) {
            text.push(char::from(self.next()?));
            self.consume(1);
        }
        Ok(text)
    }

    /// Uses exactly these bytes; refuses at the first other one.
    pub(super) fn exactly(&mut self, bytes: &[u8], refusal: Refusal) -> Result<(), Refusal> {
        for byte in bytes {
            if self.next()? != *byte {
                return Err(refusal);
            }
            self.consume(1);
        }
        Ok(())
    }

    /// Uses so many bytes, whatever they are.
    pub(super) fn take(&mut self, mut bytes: u64, whole: &mut Vec<u8>) -> Result<(), Refusal> {
        while bytes > 0 {
            self.next()?;
            let wanted = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.unused.len());
            whole.extend_from_slice(self.unused().get(..wanted).unwrap_or_default());
            self.consume(wanted);
            bytes = bytes.saturating_sub(wanted as u64);
        }
        Ok(())
    }

    fn unused(&self) -> &[u8] {
        self.bytes.get(self.unused.clone()).unwrap_or_default()
    }

    fn consume(&mut self, bytes: usize) {
        self.unused.start = self.unused.start.saturating_add(bytes);
        self.left = self.left.saturating_sub(bytes as u64);
    }

    /// Writes all bytes under one deadline. The system's timeout begins anew with each call, so a reader that takes a byte
    /// now and then would never meet it.
    pub(super) fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        let end = deadline(self.limits.write_time);
        while !bytes.is_empty() {
            let sent = until(end, |left| {
                self.stream.set_write_timeout(Some(left))?;
                (&*self.stream).write(bytes)
            })?;
            bytes = bytes.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Ends our half, then reads and forgets what the client still sends: otherwise the system resets the connection, and
    /// the client may lose the last reply.
    pub(super) fn linger(&mut self) {
        // Where this fails, so does the first read.
        let _ = self.stream.shutdown(Shutdown::Write);
        self.allow(self.limits.linger_bytes, self.limits.linger_time, self.limits.linger_time);
        while self.next().is_ok() {
            self.consume(self.unused.len());
        }
    }
}

/// The moment after which nobody waits any more.
fn deadline(wait: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(wait).unwrap_or(now)
}

/// Calls with the time that is left, again when the system broke off only for now. `TimedOut` when there is none left,
/// since the system takes a timeout of zero for an error.
fn until(end: Instant, mut call: impl FnMut(Duration) -> io::Result<usize>) -> io::Result<usize> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        match call(left) {
            Err(error)
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::TimedOut | ErrorKind::WouldBlock) => {}
            result => return result,
        }
    }
}
