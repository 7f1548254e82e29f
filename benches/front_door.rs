//! Why the front door is ours: what one cheap request does to tiny_http 0.12 and to us, and how fast both are. `make front-door` runs it.
//! Each server is a process of its own (this program again, with an argument), because some of the requests end it.
//! The exit code speaks of our side only; when tiny_http's column turns good, think again.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench stops at the first surprise and prints its table"
)]

use http::HeaderMap;
use infershield::server::{self, Exchange, Handler, Limits, Refusal};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// After this long without a reply a client counts as forgotten; our deadlines are set to half of it, tiny_http has none to set.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long each throughput figure is measured; four of them make one ratio.
const MEASURED: Duration = Duration::from_millis(1_500);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("serve-ours") => serve_ours(),
        Some("serve-tiny_http") => serve_tiny_http(),
        Some("serve-tiny_http-pool") => serve_tiny_http_pool(),
        _ => compare(),
    }
}

/// What became of one server in one case.
struct Outcome {
    good: bool,
    text: String,
}

type Case = (&'static str, fn(&str) -> Outcome);

const CASES: [Case; 11] = [
    ("Content-Length: 4611686018427387904, refused unread", |name| huge_length(name, "4611686018427387904")),
    ("Content-Length: 18446744073709551615, refused unread", |name| huge_length(name, "18446744073709551615")),
    ("100 idle connections with 64 descriptors, then they leave", descriptors),
    ("5 connections at once on one core: all are served", burst),
    ("half a head, then silence", |name| silence(name, b"GET / HTTP/1.1\r\nHo")),
    ("half a body, then silence", |name| {
        silence(name, b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\nhalf")
    }),
    ("a head with bare line feeds", |name| silence(name, b"GET / HTTP/1.1\nHost: x\n\n")),
    ("HTTP/2.0 in the first line", |name| silence(name, b"GET / HTTP/2.0\r\nHost: x\r\n\r\n")),
    ("Connection: Upgrade with a body", |name| {
        silence(
            name,
            b"POST /read HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nhi",
        )
    }),
    ("4,000 pipelined requests behind a slow one", pipelined),
    ("the provider dies inside a stream: the client sees it", |name| {
        silence(name, b"GET /cut HTTP/1.1\r\nHost: x\r\n\r\n")
    }),
];

fn compare() -> ExitCode {
    let mut ours_is_good = true;
    println!("{:<58} {:<34} ours", "", "tiny_http 0.12");
    for (what, case) in CASES {
        let (theirs, ours) = (case("tiny_http"), case("ours"));
        let mark = |outcome: &Outcome| format!("{} {}", if outcome.good { "✓" } else { "✗" }, outcome.text);
        println!("{what:<58} {:<34} {}", mark(&theirs), mark(&ours));
        ours_is_good &= ours.good;
    }
    for connections in [1, 16, 64] {
        let what = format!("requests a second, {connections} connections, against tiny_http");
        let (theirs, ours) = throughput(connections);
        println!("{what:<58} {:<34} {:.2}", "1", ours as f64 / theirs.max(1) as f64);
        ours_is_good &= ours > 0;
    }
    if ours_is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

// --- cases -----------------------------------------------------------------------------------------------------------

fn huge_length(name: &str, length: &str) -> Outcome {
    let mut server = Process::start(name, "");
    let request = format!("POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    let reply = ask(server.addr, request.as_bytes());
    // Dying takes a moment; a reply to the next client proves life.
    thread::sleep(PATIENCE / 10);
    let alive = ask(server.addr, GET).is_some();
    let text = match (server.process.try_wait().unwrap(), reply) {
        (Some(_), _) => "the process is dead".to_owned(),
        (None, Some(status)) if server.complained() => format!("{status}, the thread panicked"),
        (None, Some(status)) => status,
        (None, None) => "no reply".to_owned(),
    };
    Outcome { good: alive && !text.contains("panicked") && text != "no reply", text }
}

fn descriptors(name: &str) -> Outcome {
    let server = Process::start(name, "ulimit -n 64;");
    let idle: Vec<_> = (0..100).filter_map(|_| TcpStream::connect_timeout(&server.addr, PATIENCE / 20).ok()).collect();
    thread::sleep(PATIENCE / 4);
    drop(idle);
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if ask(server.addr, GET).is_some_and(|status| status == "200") {
            return Outcome { good: true, text: "serves on".to_owned() };
        }
        thread::sleep(PATIENCE / 20);
    }
    Outcome { good: false, text: "the port is shut for ever".to_owned() }
}

fn burst(name: &str) -> Outcome {
    let answered = (0..3).map(|_| {
        let server = Process::start(name, "command -v taskset >/dev/null && set -- taskset -c 0 \"$@\";");
        let clients: Vec<_> = (0..5).map(|_| TcpStream::connect(server.addr).unwrap()).collect();
        for mut client in &clients {
            client.write_all(GET).unwrap();
        }
        clients.iter().filter(|client| status(client).is_some()).count()
    });
    let worst = answered.min().unwrap_or_default();
    Outcome { good: worst == 5, text: format!("{worst} of 5 in the worst of 3 rounds") }
}

/// Good is a reply or a close; bad is a client that waits for ever.
fn silence(name: &str, request: &[u8]) -> Outcome {
    let server = Process::start(name, "");
    let mut client = connect(server.addr).unwrap();
    client.write_all(request).unwrap();
    let mut reply = Vec::new();
    let ended = client.read_to_end(&mut reply).is_ok();
    let status = String::from_utf8_lossy(&reply).split(' ').nth(1).map(str::to_owned);
    match (ended, status) {
        (true, Some(status)) => Outcome { good: true, text: format!("{status} and a close") },
        (true, None) => Outcome { good: true, text: "a close".to_owned() },
        (false, Some(status)) => Outcome { good: false, text: format!("{status}, then waits for ever") },
        (false, None) => Outcome { good: false, text: "waits for ever".to_owned() },
    }
}

fn pipelined(name: &str) -> Outcome {
    let server = Process::start(name, "");
    let mut client = connect(server.addr).unwrap();
    client.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let _ = client.write_all(&GET.repeat(4_000));
    let begun = Instant::now();
    let mut threads = 0;
    while begun.elapsed() < PATIENCE / 2 {
        let table = std::fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap_or_default();
        let line = table.lines().find_map(|line| line.strip_prefix("Threads:"));
        threads = threads.max(line.and_then(|count| count.trim().parse().ok()).unwrap_or(0));
        thread::sleep(PATIENCE / 100);
    }
    Outcome { good: threads < 20, text: format!("{threads} threads") }
}

/// Requests answered by tiny_http at its fastest and by us, in turns so that both see the same weather.
fn throughput(connections: usize) -> (u64, u64) {
    let (theirs, ours) = (Process::start("tiny_http-pool", ""), Process::start("ours", ""));
    let mut sums = (0, 0);
    for _ in 0..2 {
        sums.0 += answered(theirs.addr, connections);
        sums.1 += answered(ours.addr, connections);
    }
    sums
}

fn answered(addr: SocketAddr, connections: usize) -> u64 {
    let (count, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..connections)
        .map(|_| {
            let (count, stop) = (Arc::clone(&count), Arc::clone(&stop));
            thread::spawn(move || {
                let Ok(mut client) = connect(addr) else {
                    return;
                };
                while !stop.load(Ordering::Relaxed) && client.write_all(GET).is_ok() && status(&client).is_some() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    thread::sleep(MEASURED);
    let answered = count.load(Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    answered
}

// --- the two servers ---------------------------------------------------------------------------------------------------

struct Routes;

impl Handler for Routes {
    fn handle(&self, exchange: &mut Exchange, refused: Option<Refusal>) {
        let none = HeaderMap::new();
        if let Some(refusal) = refused {
            let _ = exchange.respond(refusal.status, &none, refusal.reason.as_bytes());
            return;
        }
        let path = exchange.head().path.clone();
        // A client that is gone is the client's affair.
        let _ = match path.as_str() {
            "/refuse" => exchange.respond(403, &none, b"no"),
            "/read" => match exchange.read_body() {
                Ok(body) => exchange.respond(200, &none, &body),
                Err(refusal) => exchange.respond(refusal.status, &none, b"no"),
            },
            "/slow" => {
                thread::sleep(PATIENCE / 2);
                exchange.respond(200, &none, b"ok")
            }
            "/cut" => exchange.start(200, &none, None).and_then(|mut writer| writer.write(b"event")),
            _ => exchange.respond(200, &none, b"ok"),
        };
    }
}

fn serve_ours() -> ExitCode {
    let limits = Limits {
        head_time: PATIENCE / 2,
        body_read_time: PATIENCE / 2,
        linger_time: PATIENCE / 4,
        body_bytes: 1 << 20,
        ..Limits::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    server::run(&listener, limits, &Arc::new(Routes))
}

/// A thread for each request, as its own documentation suggests for slow handlers.
fn serve_tiny_http() -> ExitCode {
    let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
    println!("{}", server.server_addr().to_ip().unwrap());
    loop {
        if let Ok(request) = server.recv() {
            let _ = thread::Builder::new().spawn(move || answer(request));
        }
    }
}

/// At its fastest: nothing is started for a request. But the 65th stream would wait for one of the 64 to end.
fn serve_tiny_http_pool() -> ExitCode {
    let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
    println!("{}", server.server_addr().to_ip().unwrap());
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                loop {
                    let _ = server.recv().and_then(answer);
                }
            });
        }
    });
    ExitCode::SUCCESS
}

fn answer(mut request: tiny_http::Request) -> io::Result<()> {
    let path = request.url().to_owned();
    match path.as_str() {
        "/refuse" => request.respond(tiny_http::Response::from_string("no").with_status_code(403)),
        "/read" => {
            let mut body = Vec::new();
            request.as_reader().read_to_end(&mut body)?;
            request.respond(tiny_http::Response::from_data(body))
        }
        "/slow" => {
            thread::sleep(PATIENCE / 2);
            request.respond(tiny_http::Response::from_string("ok"))
        }
        "/cut" => {
            let mut writer = request.into_writer();
            writer.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n")?;
            writer.flush()
        }
        _ => request.respond(tiny_http::Response::from_string("ok")),
    }
}

// --- helpers -----------------------------------------------------------------------------------------------------------

/// One server in its own process, ended on drop.
struct Process {
    process: Child,
    addr: SocketAddr,
    complaints: Arc<AtomicBool>,
}

impl Process {
    /// `before` is shell that runs before the server.
    fn start(name: &str, before: &str) -> Self {
        let mut process = Command::new("sh")
            .args(["-c", &format!("{before} exec \"$@\""), "sh"])
            .arg(std::env::current_exe().unwrap())
            .arg(format!("serve-{name}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let complaints = Arc::new(AtomicBool::new(false));
        let (seen, stderr) = (Arc::clone(&complaints), process.stderr.take().unwrap());
        // Its panics are part of the table, not of our output.
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                seen.fetch_or(line.contains("panicked"), Ordering::SeqCst);
            }
        });
        Self { process, addr: line.trim().parse().unwrap(), complaints }
    }

    fn complained(&self) -> bool {
        self.complaints.load(Ordering::SeqCst)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let client = TcpStream::connect(addr)?;
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    Ok(client)
}

/// The status of the reply to one request.
fn ask(addr: SocketAddr, request: &[u8]) -> Option<String> {
    let mut client = connect(addr).ok()?;
    client.write_all(request).ok()?;
    status(&client)
}

/// The status of one short reply, which both servers write at once; its body is taken with it.
fn status(mut client: &TcpStream) -> Option<String> {
    client.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut reply = Vec::new();
    let mut place = [0; 1_024];
    loop {
        let came = client.read(&mut place).ok().filter(|came| *came > 0)?;
        reply.extend(place.iter().take(came));
        let text = String::from_utf8_lossy(&reply);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let lower = head.to_ascii_lowercase();
        let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return head.split(' ').nth(1).map(str::to_owned);
        }
    }
}
