//! One connection's bytes, in and out.
//! Must never wait past a deadline, nor leave a byte of a request in memory that was given back.

use super::Limits;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Bytes asked of the system at once: a good part of what a socket buffer holds.
const READ_BYTES: usize = 16 << 10;
/// Bytes that are written under one deadline: more than any event, so that only a long reply is written in pieces.
const PIECE_BYTES: usize = 64 << 10;

/// A client's socket, and the bytes that were read from it and not yet used. Heads hold credentials: wiped on drop.
pub(super) struct Connection {
    /// `Rc` keeps everything that touches its flags on one thread.
    pub(super) stream: Rc<TcpStream>,
    pub(super) limits: Limits,
    bytes: Zeroizing<Vec<u8>>,
    used: usize,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, limits: Limits) -> Self {
        Self { stream: Rc::new(stream), limits, bytes: Zeroizing::default(), used: 0 }
    }

    /// What was read and not yet used.
    pub(super) fn unused(&self) -> &[u8] {
        self.bytes.get(self.used..).unwrap_or_default()
    }

    pub(super) fn consume(&mut self, bytes: usize) {
        self.used = self.used.saturating_add(bytes).min(self.bytes.len());
    }

    /// Waits for more bytes. Returns how many came: 0 is the end. Late is `TimedOut`.
    pub(super) fn fill(&mut self, end: Instant) -> io::Result<usize> {
        self.bytes.drain(..self.used);
        self.used = 0;
        let before = self.bytes.len();
        self.bytes.resize(before.saturating_add(READ_BYTES), 0);
        let place = self.bytes.get_mut(before..).unwrap_or_default();
        let mut stream = &*self.stream;
        let result = until(end, |left| {
            stream.set_read_timeout(Some(left))?;
            stream.read(place)
        });
        self.bytes.truncate(before.saturating_add(*result.as_ref().unwrap_or(&0)));
        result
    }

    /// Writes all bytes, each piece under a deadline of its own. The system's timeout begins anew with each call, so a
    /// reader that takes a byte now and then would never meet it.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = &*self.stream;
        for mut piece in bytes.chunks(PIECE_BYTES) {
            let end = deadline(self.limits.write_time);
            while !piece.is_empty() {
                let sent = until(end, |left| {
                    stream.set_write_timeout(Some(left))?;
                    stream.write(piece)
                })?;
                piece = piece.get(sent..).unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Ends our half, then reads and forgets what the client still sends: otherwise the system resets the connection, and
    /// the client may lose the last reply.
    pub(super) fn linger(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        let end = deadline(self.limits.linger_time);
        let mut left = self.limits.linger_bytes;
        while left > 0 {
            self.used = self.bytes.len();
            match self.fill(end)? {
                0 => return Ok(()),
                came => left = left.saturating_sub(came as u64),
            }
        }
        Ok(())
    }
}

/// The moment after which nobody waits any more.
pub(super) fn deadline(wait: Duration) -> Instant {
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
