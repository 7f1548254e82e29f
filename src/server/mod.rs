//! The front door: accepts connections, reads strict HTTP/1.1 requests (RFC 9112) and writes replies, under limits and deadlines.
//! Must never know a provider or a policy, trust a length or a name that a client sends, or stop accepting.

mod connection;
mod exchange;
mod request;

pub use exchange::{Exchange, Writer};
pub use request::Head;

use connection::Connection;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Connections at once, whatever the descriptors allow: twice the number of streams that were measured.
const MAX_CONNECTIONS: usize = 2_048;
/// Connections at once, however few the descriptors are: one tool opens about this many.
const MIN_CONNECTIONS: usize = 8;
/// Connections above the cap that are being told so; any more are closed without a word.
const MAX_TURNED_AWAY: usize = 16;
/// Pause after a connection that could not be accepted: out of descriptors or threads, trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Stack of a connection's thread, in bytes: regex and serde run on it; only touched pages cost memory.
const STACK_BYTES: usize = 1 << 20;

/// What one request and one connection may cost. The default is what the product uses; tests take shorter times.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections served at once; one more gets a 503.
    pub connections: usize,
    /// From the first byte of a head to its end, 408 beyond.
    pub head_time: Duration,
    /// Silence before and between requests; then the connection ends without a reply.
    pub idle_time: Duration,
    /// Bytes of a body, 413 beyond.
    pub body_bytes: u64,
    /// Silence inside a body, 408 beyond.
    pub body_read_time: Duration,
    /// A whole body, 408 beyond.
    pub body_time: Duration,
    /// One write of the handler; then the connection is cut.
    pub write_time: Duration,
    /// How long bytes that nobody wants are read after the last reply, so that the client sees the reply.
    pub linger_time: Duration,
    /// How many bytes are read in that time.
    pub linger_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let files = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        Self {
            connections: connections(&files),
            // No honest client needs a tenth of it.
            head_time: Duration::from_secs(10),
            // As long as common clients keep a connection for reuse.
            idle_time: Duration::from_secs(60),
            // The largest that the known providers take.
            body_bytes: 32 << 20,
            // A packet that is lost several times over comes again within it.
            body_read_time: Duration::from_secs(10),
            // The largest body at 280 KiB a second.
            body_time: Duration::from_secs(120),
            // Longer than any pause of a client that still reads.
            write_time: Duration::from_secs(30),
            // A client that ends its request in this time or in this size sees its refusal.
            linger_time: Duration::from_secs(2),
            linger_bytes: 64 << 20,
        }
    }
}

/// What the server asks of its user. A panic in `handle` ends that connection only.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request with one reply. Returning without one closes the connection. One that the server has `refused` by itself
    /// is only to be told so, and the connection closes after it: of its head there are only method and path, the path empty unless
    /// it came whole and is allowed.
    fn handle(&self, exchange: &mut Exchange, refused: Option<Refusal>);

    /// Told, on the accepting thread, when a connection could not be accepted or served. The server goes on by itself.
    fn trouble(&self, _error: &io::Error) {}
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status that says so; 0 when nobody is left to be told.
    pub status: u16,
    /// A word for programs.
    pub code: &'static str,
    /// What is wrong with the request, for people.
    pub reason: &'static str,
}

impl Refusal {
    /// More connections than [`Limits::connections`].
    pub const BUSY: Self = Self::new(503, "unavailable", "too many connections at once; try again");
    /// The client left before its request was complete: nobody will read the reply.
    pub const CLIENT_LEFT: Self = Self::new(0, "client_left", "the client left before its request was complete");
    const TOO_SLOW: Self = Self::new(408, "timeout", "the request took too long; try again");
    const NO_LENGTH: Self = Self::new(411, "length_required", "no body length; send Content-Length or chunks");
    const BODY_TOO_LARGE: Self = Self::new(413, "too_large", "the request body is too large; send less");
    const EXPECTATION: Self = Self::new(417, "expectation", "an Expect other than 100-continue; leave it out");
    const UPGRADE: Self = Self::new(426, "no_websocket", "no other protocol is spoken here; use plain HTTP/1.1");
    const HEAD_TOO_LARGE: Self = Self::new(431, "head_too_large", "the request head is too large; send fewer headers");
    const VERSION: Self = Self::new(505, "http_version", "only HTTP/1.1 and HTTP/1.0 are spoken here");
    const FIRST_LINE: Self = Self::malformed("the first line must be METHOD /PATH HTTP/1.1");
    const TARGET: Self = Self::malformed("the target must be a plain path");
    const HEADER_LINE: Self = Self::malformed("a malformed header line");
    const REPEATED: Self = Self::malformed("a header is repeated that may be there only once");
    const NO_HOST: Self = Self::malformed("no Host");
    const LENGTH: Self = Self::malformed("send Content-Length in digits or Transfer-Encoding: chunked");
    const CHUNK: Self = Self::malformed("a malformed line between chunks, or one that is too long");

    /// Not a request that RFC 9112 and our stricter rules allow; which rule.
    const fn malformed(rule: &'static str) -> Self {
        Self::new(400, "bad_request", rule)
    }

    const fn new(status: u16, code: &'static str, reason: &'static str) -> Self {
        Self { status, code, reason }
    }
}

/// Accepts and serves as long as the process lives: a thread for each connection, and no error ends it.
pub fn run<H: Handler>(listener: &TcpListener, limits: Limits, handler: &Arc<H>) -> ! {
    // Each connection holds a clone of one of these, which it gives back also when its thread panics: so they count.
    let (served, turned_away) = (Arc::new(()), Arc::new(()));
    let accept = || {
        let (stream, _) = listener.accept()?;
        let full = Arc::strong_count(&served) > limits.connections;
        if full && Arc::strong_count(&turned_away) > MAX_TURNED_AWAY {
            return Ok(());
        }
        let place = Arc::clone(if full { &turned_away } else { &served });
        let handler = Arc::clone(handler);
        let thread = thread::Builder::new().stack_size(STACK_BYTES);
        thread.spawn(move || {
            let _place = place;
            serve(&*handler, limits, stream, full);
        })?;
        Ok(())
    };
    loop {
        if let Err(error) = accept() {
            handler.trouble(&error);
            thread::sleep(ACCEPT_PAUSE);
        }
    }
}

/// Request after request, in order, until one side ends it; one refusal when all places are taken.
fn serve(handler: &impl Handler, limits: Limits, stream: TcpStream, full: bool) {
    // Where this fails, so does the first read.
    let _ = stream.set_nodelay(true);
    let mut connection = Connection::new(stream, limits);
    loop {
        let mut head = Head::default();
        let read = if full { Err(Refusal::BUSY) } else { head.read(&mut connection) };
        if read == Err(Refusal::CLIENT_LEFT) {
            return;
        }
        let mut exchange = Exchange { head, connection, replied: false, done: false, keep_alive: false };
        handler.handle(&mut exchange, read.err());
        connection = exchange.connection;
        if !(exchange.done && exchange.keep_alive) {
            return connection.linger();
        }
    }
}

/// A third of the descriptors that this process may have, after a reserve of 64 for files: client, provider, and one to spare each. std
/// cannot ask the system, so Linux's table of limits is read; 1,024 is the usual default.
fn connections(table: &str) -> usize {
    let soft = table.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    let soft: usize = soft.and_then(|soft| soft.parse().ok()).unwrap_or(1_024);
    (soft.saturating_sub(64) / 3).clamp(MIN_CONNECTIONS, MAX_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_a_third_of_the_descriptors_within_fixed_bounds() {
        let table = |soft: &str| format!("Limit  Soft Limit\nMax open files   {soft}   4096   files\n");
        assert_eq!(connections(&table("1024")), 320);
        assert_eq!(connections(&table("64")), MIN_CONNECTIONS);
        assert_eq!(connections(&table("1048576")), MAX_CONNECTIONS);
        assert_eq!(connections(&table("unlimited")), 320);
        assert_eq!(connections(""), 320);
    }
}
