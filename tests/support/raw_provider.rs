//! A provider that answers with exactly these bytes: for what no honest HTTP server can be made to send.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};

/// Answers each connection with the same bytes and closes it; `@P` there stands for the first placeholder of the request.
pub struct RawProvider {
    pub addr: SocketAddr,
}

impl RawProvider {
    /// Starts one; its thread ends with the test program.
    pub fn start(original: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut seen = Vec::new();
                let mut place = [0; 4096];
                // All requests of these tests end with the closing brace of their body; a TLS handshake begins with 22.
                while !seen.ends_with(b"}") && seen.first() != Some(&22) {
                    match stream.read(&mut place) {
                        Ok(read @ 1..) => seen.extend_from_slice(&place[..read]),
                        _ => break,
                    }
                }
                let seen = String::from_utf8_lossy(&seen);
                let place = seen.find("INFERSHIELD_").and_then(|at| seen.get(at..at + 35));
                let reply = place.map(|place| String::from_utf8_lossy(original).replace("@P", place).into_bytes());
                // The proxy may have left already.
                let _ = stream.write_all(reply.as_deref().unwrap_or(original));
            }
        });
        Self { addr }
    }
}
