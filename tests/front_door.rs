//! The front door keeps its limits, deadlines, refusals and close rules: raw bytes into real sockets.

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use infershield::server::{self, Exchange, Handler, Limits, Refusal};
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Longer than any test may take: a hang becomes a failure.
const PATIENCE: Duration = Duration::from_secs(30);
/// A deadline under test.
const SHORT: Duration = Duration::from_millis(200);
const CHILD_ADDR: &str = "INFERSHIELD_TEST_DOOR_ADDR_FILE";
const CHILD_CONNECTIONS: &str = "INFERSHIELD_TEST_DOOR_CONNECTIONS";

// --- heads -----------------------------------------------------------------------------------------------------------

#[test]
fn a_first_line_that_cannot_become_valid_is_refused_before_it_ends() {
    let addr = door(Limits::default()).addr;
    let beginnings: [&[u8]; 14] = [
        b"\x16\x03\x01\x02\x00\x01",
        b"\r\n",
        b"\n",
        b" GET",
        b"GE(T",
        b"GET  ",
        b"GET x",
        b"GET http://localhost/",
        b"OPTIONS *",
        b"GET /a#",
        b"GET /a\\",
        b"GET /a\xc3\xa9 ",
        b"GET /a HTTQ",
        b"GET /a HTTP/1.1x",
    ];
    for beginning in beginnings {
        assert_refused(&ask(addr, beginning), 400, beginning);
    }
}

#[test]
fn a_line_end_that_is_not_cr_lf_is_refused_at_once() {
    let addr = door(Limits::default()).addr;
    for beginning in
        ["GET / HTTP/1.1\n", "GET / HTTP/1.1\r\nHost: x\n", "GET / HTTP/1.1\r\nHost: x\ry", "GET / HTTP/1.1\rHost"]
    {
        assert_refused(&ask(addr, beginning.as_bytes()), 400, beginning.as_bytes());
    }
}

#[test]
fn other_versions_get_505() {
    let addr = door(Limits::default()).addr;
    for version in ["HTTP/2.0", "HTTP/3.0", "HTTP/1.2", "HTTP/0.9"] {
        let request = format!("GET / {version}\r\nHost: x\r\n\r\n");
        assert_refused(&ask(addr, request.as_bytes()), 505, request.as_bytes());
    }
}

#[test]
fn a_target_that_others_could_read_differently_is_refused() {
    let addr = door(Limits::default()).addr;
    for target in [
        "//a",
        "/a//b",
        "/.",
        "/..",
        "/a/../b",
        "/a/.",
        "/%2e%2E/a",
        "/a/.%2e",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a#b",
        "/a\\b",
        "/a b",
        "a",
        "*",
        "/a\tb",
        "/a\x7f",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_refused(&ask(addr, request.as_bytes()), 400, request.as_bytes());
    }
}

#[test]
fn path_and_query_reach_the_handler_as_written() {
    let addr = door(Limits::default()).addr;
    let reply = ask(addr, b"GET /say/.well%20known/a..b?x=//../ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(reply.ends_with("/say/.well%20known/a..b|x=//../"), "{reply}");
}

#[test]
fn a_malformed_header_line_is_refused() {
    let addr = door(Limits::default()).addr;
    let lines: [&[u8]; 8] = [
        b"Name : value",
        b": value",
        b"Name",
        b"Na me: value",
        b"Name: a\r\n folded",
        b"Name: a\x00b",
        b"Name: a\x7f",
        b"Name: \xc3\xa9",
    ];
    for line in lines {
        let request = [b"GET / HTTP/1.1\r\nHost: x\r\n", line, b"\r\n\r\n"].concat();
        assert_refused(&ask(addr, &request), 400, &request);
    }
}

#[test]
fn a_header_that_decides_may_not_be_repeated() {
    let addr = door(Limits::default()).addr;
    for name in ["Host", "Authorization", "X-Api-Key", "Content-Type", "Content-Length", "Expect"] {
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\n{name}: 0\r\n{}: 0\r\n\r\n", name.to_lowercase());
        assert_refused(&ask(addr, request.as_bytes()), 400, request.as_bytes());
    }
    let request = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_refused(&ask(addr, request), 400, request);
    let request = b"GET / HTTP/1.1\r\n\r\n";
    assert_refused(&ask(addr, request), 400, request);
}

#[test]
fn a_content_length_is_digits_and_within_the_cap() {
    let addr = door(Limits::default()).addr;
    for (length, status) in [
        ("x", 400),
        ("+5", 400),
        ("-1", 400),
        ("5, 5", 400),
        ("0x5", 400),
        ("", 400),
        ("33554433", 413),
        ("4611686018427387904", 413),
        ("18446744073709551615", 413),
        ("18446744073709551616", 413),
        ("99999999999999999999999999999999999999999", 413),
    ] {
        let request = format!("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        assert_refused(&ask(addr, request.as_bytes()), status, request.as_bytes());
    }
}

#[test]
fn a_transfer_encoding_is_chunked_alone_and_only_in_http_1_1() {
    let addr = door(Limits::default()).addr;
    for (version, lines) in [
        ("1.1", "Transfer-Encoding: identity"),
        ("1.1", "Transfer-Encoding: gzip, chunked"),
        ("1.1", "Transfer-Encoding: chunked, chunked"),
        ("1.1", "Transfer-Encoding: chunked;q=1"),
        ("1.1", "Transfer-Encoding: chunked\r\nContent-Length: 5"),
        ("1.1", "Content-Length: 5\r\nTransfer-Encoding: chunked"),
        ("1.0", "Transfer-Encoding: chunked"),
    ] {
        let request = format!("POST /echo HTTP/{version}\r\nHost: x\r\n{lines}\r\n\r\n");
        assert_refused(&ask(addr, request.as_bytes()), 400, request.as_bytes());
    }
}

#[test]
fn a_body_without_a_length_an_upgrade_and_a_strange_expectation_have_their_own_status() {
    let addr = door(Limits::default()).addr;
    for (request, status) in [
        ("POST /echo HTTP/1.1\r\nHost: x\r\n\r\n", 411),
        ("PUT /echo HTTP/1.1\r\nHost: x\r\n\r\n", 411),
        ("GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 426),
        ("POST /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n", 426),
        // An offer of HTTP/2, as Java and `curl --http2` make it, is none of these.
        ("POST /echo HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\n\r\n", 411),
        ("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 200-ok\r\n\r\n", 417),
    ] {
        assert_refused(&ask(addr, request.as_bytes()), status, request.as_bytes());
    }
}

#[test]
fn a_head_may_have_64_kib_and_256_lines_and_no_more() {
    let addr = door(Limits::default()).addr;
    let sized = |bytes: usize| {
        let frame = "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\nA: \r\n\r\n";
        frame.replace("A: ", &format!("A: {}", "a".repeat(bytes - frame.len())))
    };
    assert_eq!(status(&ask(addr, sized(64 << 10).as_bytes())), 200);
    assert_eq!(status(&ask(addr, sized((64 << 10) + 1).as_bytes())), 431);
    let lined = |lines: usize| {
        format!("GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}\r\n", "A: a\r\n".repeat(lines - 2))
    };
    assert_eq!(status(&ask(addr, lined(256).as_bytes())), 200);
    assert_eq!(status(&ask(addr, lined(257).as_bytes())), 431);
}

#[test]
fn half_a_head_then_silence_gets_408() {
    let addr = door(Limits { head_time: SHORT, ..Limits::default() }).addr;
    let half = b"GET /hello HTTP/1.1\r\nHo";
    assert_refused(&ask(addr, half), 408, half);
}

#[test]
fn a_head_that_trickles_in_gets_408_by_one_deadline() {
    let addr = door(Limits { head_time: SHORT, ..Limits::default() }).addr;
    let mut client = connect(addr);
    let writer = client.try_clone().unwrap();
    let trickle = thread::spawn(move || trickle(writer, b"GET /", b'a'));
    assert_eq!(status(&rest(&mut client)), 408);
    drop(client);
    trickle.join().unwrap();
}

#[test]
fn a_silent_connection_ends_without_a_word() {
    let addr = door(Limits { idle_time: SHORT, ..Limits::default() }).addr;
    assert_eq!(ask(addr, b""), "");
    let after_one = ask(addr, b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(after_one.matches("HTTP/1.1").count(), 1);
    assert!(after_one.ends_with("hello"));
}

#[test]
fn pipelined_requests_are_answered_in_order_on_one_connection() {
    let addr = door(Limits::default()).addr;
    let mut requests = Vec::new();
    for number in 0..1_000 {
        requests.extend(format!("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n{number:04}").bytes());
    }
    requests.extend(b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut client = connect(addr);
    let mut writer = client.try_clone().unwrap();
    let sender = thread::spawn(move || writer.write_all(&requests).unwrap());
    let replies = rest(&mut client);
    sender.join().unwrap();
    let bodies: Vec<_> = replies
        .split("HTTP/1.1 200 OK")
        .skip(1)
        .map(|reply| reply.rsplit("\r\n\r\n").next().unwrap().to_owned())
        .collect();
    assert_eq!(bodies.len(), 1_001);
    assert!((0..1_000).all(|number| bodies[number] == format!("{number:04}")));
}

#[test]
fn random_damage_to_a_request_never_stops_the_door() {
    let addr = door(Limits {
        head_time: SHORT,
        idle_time: SHORT,
        body_read_time: SHORT,
        linger_time: SHORT,
        ..Limits::default()
    })
    .addr;
    let whole = b"POST /echo?a=b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n";
    let mut random = Random(7);
    for _ in 0..400 {
        let mut bytes = whole.to_vec();
        for _ in 0..=random.below(3) {
            let place = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[place] = random.below(256) as u8,
                1 => drop(bytes.remove(place)),
                _ => bytes.insert(place, random.below(256) as u8),
            }
        }
        let mut client = connect(addr);
        let _ = client.write_all(&bytes);
        let _ = client.shutdown(Shutdown::Write);
        let reply = rest(&mut client);
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 "), "{reply}");
    }
    assert_alive(addr);
}

#[test]
fn the_handler_words_a_refusal_and_is_told_the_path_if_there_is_one() {
    struct Shaped;
    impl Handler for Shaped {
        fn handle(&self, exchange: &mut Exchange, refused: Option<Refusal>) {
            let refusal = refused.unwrap();
            let said = format!("{} {}|{}", refusal.status, refusal.code, exchange.head().path);
            exchange.respond(418, &HeaderMap::new(), said.as_bytes()).unwrap();
        }
    }
    let addr = open(Limits::default(), Shaped);
    for (request, path) in [
        ("GET /v1/a?b HTTP/1.1\r\nHost: x\r\nUpgrade: y\r\n\r\n", "426 no_websocket|/v1/a"),
        ("GET /v1/../a HTTP/1.1\r\n", "400 bad_request|"),
    ] {
        let reply = ask(addr, request.as_bytes());
        assert_refused(&reply, 418, request.as_bytes());
        assert!(reply.ends_with(path), "{reply}");
    }
}

// --- bodies ----------------------------------------------------------------------------------------------------------

#[test]
fn a_body_arrives_whole_however_it_is_cut() {
    let addr = door(Limits::default()).addr;
    let requests = [
        "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 11\r\n\r\nhello world",
        "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n00000005;x=\"y\"\r\nworld\r\n0\r\nTrailer: t\r\n\r\n",
    ];
    for request in requests {
        for cut in 0..request.len() {
            let (first, second) = request.split_at(cut);
            let mut client = connect(addr);
            client.set_nodelay(true).unwrap();
            client.write_all(first.as_bytes()).unwrap();
            client.write_all(second.as_bytes()).unwrap();
            let reply = rest(&mut client);
            assert!(reply.ends_with("\r\n\r\nhello world"), "cut at {cut}: {reply}");
        }
    }
}

#[test]
fn random_chunks_come_together_to_the_body() {
    let addr = door(Limits::default()).addr;
    let mut random = Random(11);
    for _ in 0..50 {
        let body: String = (0..random.below(40_000)).map(|_| char::from(b'a' + random.below(26) as u8)).collect();
        let mut request =
            b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let mut left = body.as_bytes();
        while !left.is_empty() {
            let (chunk, rest) = left.split_at(1 + random.below(left.len()));
            request.extend(format!("{:X}\r\n", chunk.len()).bytes());
            request.extend(chunk);
            request.extend(b"\r\n");
            left = rest;
        }
        request.extend(b"0\r\n\r\n");
        assert!(ask(addr, &request).ends_with(&format!("\r\n\r\n{body}")));
    }
}

#[test]
fn a_chunk_line_that_breaks_the_rules_is_refused_at_once() {
    let addr = door(Limits::default()).addr;
    let long_extension = format!("5;{}", "a".repeat(257));
    for chunks in [
        "g",
        "\r",
        "\n",
        " 5",
        "-5",
        "0x5",
        "5 ",
        "5\n",
        "5\rx",
        "5;a\n",
        "5;\x01",
        "11111111111111111",
        "5\r\nhello!",
        "5\r\nhello\n",
        "0\r\n\n",
        "0\r\nA: b\n",
        &long_extension,
    ] {
        let request = format!("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        assert_refused(&ask(addr, request.as_bytes()), 400, request.as_bytes());
    }
    let trailers = "A: b\r\n".repeat(2_000);
    let request = format!("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{trailers}");
    assert_refused(&ask(addr, request.as_bytes()), 431, request.as_bytes());
}

#[test]
fn an_extension_may_have_256_bytes_and_trailers_8_kib() {
    let addr = door(Limits::default()).addr;
    let extension = "a".repeat(256);
    let trailers = "A: b\r\n".repeat(1_000);
    let request = format!(
        "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5;{extension}\r\nhello\r\n0\r\n{trailers}\r\n"
    );
    let reply = ask(addr, request.as_bytes());
    assert!(reply.ends_with("\r\n\r\nhello"), "{reply}");
}

#[test]
fn a_body_over_the_cap_gets_413_whether_announced_or_chunked() {
    let addr = door(Limits { body_bytes: 64 << 10, ..Limits::default() }).addr;
    for body in [
        "Content-Length: 65537\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\n\r\n10001\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_owned(),
        format!("Transfer-Encoding: chunked\r\n\r\nffff\r\n{}\r\n2\r\n", "a".repeat(0xffff)),
    ] {
        let request = format!("POST /echo HTTP/1.1\r\nHost: x\r\n{body}");
        assert_refused(&ask(addr, request.as_bytes()), 413, request.as_bytes());
    }
}

#[test]
fn a_body_that_stops_gets_408() {
    let addr = door(Limits { body_read_time: SHORT, ..Limits::default() }).addr;
    for body in [
        "Content-Length: 5\r\n\r\nhe",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
        "Transfer-Encoding: chunked\r\n\r\n5",
    ] {
        let request = format!("POST /echo HTTP/1.1\r\nHost: x\r\n{body}");
        assert_refused(&ask(addr, request.as_bytes()), 408, request.as_bytes());
    }
}

#[test]
fn a_body_that_trickles_in_gets_408_by_one_deadline() {
    let addr = door(Limits { body_time: SHORT, ..Limits::default() }).addr;
    let mut client = connect(addr);
    let writer = client.try_clone().unwrap();
    let head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n";
    let trickle = thread::spawn(move || trickle(writer, head, b'a'));
    assert_eq!(status(&rest(&mut client)), 408);
    drop(client);
    trickle.join().unwrap();
}

#[test]
fn a_client_that_leaves_inside_its_body_is_reported_and_harms_nobody() {
    let door = door(Limits::default());
    let mut client = connect(door.addr);
    client.write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe").unwrap();
    drop(client);
    assert_eq!(door.news(), Refusal::CLIENT_LEFT.reason);
    assert_alive(door.addr);
}

#[test]
fn a_body_is_asked_for_once_and_only_when_the_handler_wants_it() {
    let addr = door(Limits { body_bytes: 64 << 10, ..Limits::default() }).addr;
    let mut client = connect(addr);
    client
        .write_all(
            b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n",
        )
        .unwrap();
    let mut asked = [0; 25];
    client.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hello").unwrap();
    let reply = rest(&mut client);
    assert!(reply.starts_with("HTTP/1.1 200") && reply.ends_with("hello"), "{reply}");

    for (path, length, status) in [("/unread", "5", 403), ("/echo", "65537", 413)] {
        let request =
            format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n");
        assert_refused(&ask(addr, request.as_bytes()), status, request.as_bytes());
    }
    let old = ask(addr, b"POST /echo HTTP/1.0\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello");
    assert!(old.starts_with("HTTP/1.1 200"), "{old}");
}

#[test]
fn a_refusal_reaches_a_client_that_sends_8_mib_first() {
    let addr = door(Limits::default()).addr;
    let mut request = format!("POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 8 << 20).into_bytes();
    request.resize(request.len() + (8 << 20), b'a');
    assert_refused(&ask(addr, &request), 403, b"8 MiB");
}

#[test]
fn a_client_that_never_stops_sending_is_cut_by_size_and_by_time() {
    for limits in [
        Limits { linger_bytes: 1 << 20, linger_time: PATIENCE * 10, ..Limits::default() },
        Limits { linger_bytes: u64::MAX, linger_time: SHORT, ..Limits::default() },
    ] {
        let mut client = connect(door(limits).addr);
        client.write_all(b"POST /unread HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        while client.write_all(&[b'a'; 4_096]).is_ok() {}
    }
}

#[test]
fn a_body_that_nobody_read_is_never_the_next_request() {
    let addr = door(Limits::default()).addr;
    let inner = "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
    for body in [
        format!("Content-Length: {}\r\n\r\n{inner}", inner.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()),
    ] {
        let reply = ask(addr, format!("POST /unread HTTP/1.1\r\nHost: x\r\n{body}").as_bytes());
        assert_eq!(reply.matches("HTTP/1.1").count(), 1, "{reply}");
        assert!(reply.contains("connection: close\r\n"), "{reply}");
    }
}

// --- replies ---------------------------------------------------------------------------------------------------------

#[test]
fn a_stream_is_one_chunk_for_each_event_and_the_connection_lives_on() {
    let addr = door(Limits::default()).addr;
    let replies = ask(
        addr,
        b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\nGET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    let (stream, next) = replies.split_once("0\r\n\r\n").unwrap();
    assert_eq!(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\nb\r\ntwo is more\r\n");
    assert!(next.starts_with("HTTP/1.1 200 OK\r\n") && next.ends_with("hello"), "{next}");
}

#[test]
fn each_event_arrives_before_the_next_one_is_made() {
    let door = door(Limits::default());
    let mut client = connect(door.addr);
    client.write_all(b"GET /stepped HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    read_until(&mut client, "\r\n\r\n");
    for _ in 0..3 {
        door.step.send(()).unwrap();
        read_until(&mut client, "4\r\nstep\r\n");
    }
    drop(door.step);
    assert_eq!(rest(&mut client), "0\r\n\r\n");
}

#[test]
fn a_broken_stream_looks_broken() {
    let addr = door(Limits::default()).addr;
    let chunked = ask(addr, b"GET /cut HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(chunked.ends_with("\r\n\r\n3\r\none\r\n"), "{chunked}");
    let known = ask(addr, b"GET /cut-known HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(known.contains("content-length: 10\r\n") && known.ends_with("\r\n\r\none"), "{known}");
}

#[test]
fn a_head_request_gets_the_head_only() {
    let addr = door(Limits::default()).addr;
    for path in ["/hello", "/stream", "/unread"] {
        let reply = ask(addr, format!("HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
        assert!(reply.starts_with("HTTP/1.1 ") && reply.ends_with("\r\n\r\n"), "{reply}");
        assert_eq!(reply.matches("\r\n\r\n").count(), 1, "{reply}");
    }
    let refused = ask(addr, b"HEAD /hello HTTP/1.1\r\nHost: x\r\nUpgrade: y\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 426") && refused.ends_with("\r\n\r\n"), "{refused}");
}

#[test]
fn an_http_1_0_client_gets_no_chunks_and_a_close() {
    let addr = door(Limits::default()).addr;
    let reply = ask(addr, b"GET /stream HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(reply, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nonetwo is more");
}

#[test]
fn a_reply_without_content_has_no_framing() {
    let addr = door(Limits::default()).addr;
    let replies =
        ask(addr, b"GET /empty HTTP/1.1\r\nHost: x\r\n\r\nGET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(replies.starts_with("HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n"), "{replies}");
}

#[test]
fn the_handler_can_close_but_not_change_the_framing() {
    let addr = door(Limits::default()).addr;
    let reply = ask(addr, b"GET /close HTTP/1.1\r\nHost: x\r\n\r\nGET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(reply, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbye");
}

#[test]
fn there_is_one_reply_and_a_known_length_is_kept() {
    let door = door(Limits::default());
    ask(door.addr, b"GET /twice HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(door.news(), "there was a reply before");
    ask(door.addr, b"GET /too-much HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(door.news(), "more bytes than announced");
    ask(door.addr, b"GET /too-little HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(door.news(), "fewer bytes than announced");
}

#[test]
fn a_handler_that_panics_or_says_nothing_ends_its_own_connection_only() {
    let addr = door(Limits { connections: 1, ..Limits::default() }).addr;
    for _ in 0..20 {
        assert_alive(addr);
        assert_eq!(until_served(addr, b"GET /panic HTTP/1.1\r\nHost: x\r\n\r\n"), "");
        assert_eq!(until_served(addr, b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"), "");
    }
    assert_alive(addr);
}

#[test]
fn a_client_that_does_not_read_is_cut_by_the_deadline_of_the_event() {
    let door = door(Limits { write_time: SHORT, ..Limits::default() });
    let mut client = connect(door.addr);
    client.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(door.news(), "TimedOut");
}

#[test]
fn a_client_that_reads_a_little_now_and_then_is_cut_too() {
    let door = door(Limits { write_time: SHORT, ..Limits::default() });
    let mut client = connect(door.addr);
    client.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let reader = thread::spawn(move || {
        while matches!(client.read(&mut [0; 256]), Ok(1..)) {
            thread::sleep(Duration::from_millis(10));
        }
    });
    assert_eq!(door.news(), "TimedOut");
    drop(reader);
}

#[test]
fn a_handler_can_see_that_its_client_has_left() {
    let door = door(Limits::default());
    let mut client = connect(door.addr);
    client.write_all(b"GET /watch HTTP/1.1\r\nHost: x\r\n\r\nGET /pipelined").unwrap();
    assert_eq!(door.news(), "here");
    drop(client);
    assert_eq!(door.news(), "left");
}

// --- connections -----------------------------------------------------------------------------------------------------

#[test]
fn a_connection_over_the_cap_gets_503_and_the_place_is_free_again() {
    let door = door(Limits { connections: 2, ..Limits::default() });
    let holders = [hold(door.addr), hold(door.addr)];
    let reply = ask(door.addr, b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_refused(&reply, 503, b"third");
    assert!(reply.ends_with(Refusal::BUSY.reason), "{reply}");
    drop(holders);
    assert_alive(door.addr);
}

#[test]
fn three_hundred_idle_connections_leave_the_door_alive() {
    // With the cap that follows from 64 descriptors; then with none, so that the descriptors themselves run out.
    for connections in ["", "1000"] {
        let child = Child::start(connections);
        let idle: Vec<_> = (0..300).filter_map(|_| TcpStream::connect_timeout(&child.addr, SHORT / 10).ok()).collect();
        assert!(idle.len() > 64, "{}", idle.len());
        drop(idle);
        assert_alive(child.addr);
    }
}

#[test]
#[ignore = "the process under test of the promise above"]
fn child() {
    let Ok(file) = std::env::var(CHILD_ADDR) else {
        return;
    };
    let mut limits = Limits::default();
    if let Ok(connections) = std::env::var(CHILD_CONNECTIONS).unwrap().parse() {
        limits.connections = connections;
    }
    let door = door(limits);
    std::fs::write(format!("{file}.tmp"), door.addr.to_string()).unwrap();
    std::fs::rename(format!("{file}.tmp"), file).unwrap();
    loop {
        thread::park();
    }
}

// --- helpers ---------------------------------------------------------------------------------------------------------

struct Door {
    addr: SocketAddr,
    news: Receiver<String>,
    step: Sender<()>,
}

impl Door {
    fn news(&self) -> String {
        self.news.recv_timeout(PATIENCE).unwrap()
    }
}

struct Routes {
    news: Mutex<Sender<String>>,
    steps: Mutex<Receiver<()>>,
}

impl Routes {
    fn tell(&self, news: impl ToString) {
        let _ = self.news.lock().unwrap().send(news.to_string());
    }

    fn route(&self, exchange: &mut Exchange) -> io::Result<()> {
        let none = HeaderMap::new();
        let path = exchange.head().path.clone();
        match path.as_str() {
            "/echo" => match exchange.read_body() {
                Ok(body) => exchange.respond(200, &none, &body),
                Err(refusal) => {
                    self.tell(refusal.reason);
                    self.handle(exchange, Some(refusal));
                    Ok(())
                }
            },
            "/unread" => exchange.respond(403, &none, b"no"),
            "/empty" => exchange.respond(204, &none, b"never sent"),
            "/stream" => {
                let mut writer = exchange.start(200, &none, None)?;
                writer.write(b"one")?;
                writer.write(b"")?;
                writer.write(b"two is more")?;
                writer.finish()
            }
            "/stepped" => {
                let mut writer = exchange.start(200, &none, None)?;
                let steps = self.steps.lock().unwrap();
                while steps.recv().is_ok() {
                    writer.write(b"step")?;
                }
                writer.finish()
            }
            "/cut" => exchange.start(200, &none, None)?.write(b"one"),
            "/cut-known" => exchange.start(200, &none, Some(10))?.write(b"one"),
            "/too-much" => {
                let error = exchange.start(200, &none, Some(2))?.write(b"one");
                self.tell(error.unwrap_err());
                Ok(())
            }
            "/too-little" => {
                let writer = exchange.start(200, &none, Some(2))?;
                self.tell(writer.finish().unwrap_err());
                Ok(())
            }
            "/twice" => {
                exchange.respond(200, &none, b"once")?;
                self.tell(exchange.respond(200, &none, b"twice").unwrap_err());
                Ok(())
            }
            "/close" => {
                let mut headers = HeaderMap::new();
                headers.insert(CONNECTION, HeaderValue::from_static("x, Close"));
                headers.insert(CONTENT_LENGTH, HeaderValue::from_static("9"));
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
                exchange.respond(200, &headers, b"bye")
            }
            "/endless" => {
                let mut writer = exchange.start(200, &none, None)?;
                let error = loop {
                    if let Err(error) = writer.write(&[b'a'; 16 << 10]) {
                        break error;
                    }
                };
                self.tell(format!("{:?}", error.kind()));
                Ok(())
            }
            "/watch" => {
                let left = exchange.watcher();
                self.tell(if left() { "left" } else { "here" });
                while !left() {
                    thread::yield_now();
                }
                self.tell("left");
                Ok(())
            }
            "/panic" => panic!("as the test wants"),
            "/nothing" => Ok(()),
            "/hello" => exchange.respond(200, &none, b"hello"),
            _ => {
                let said = format!("{path}|{}", exchange.head().query.clone().unwrap_or_default());
                exchange.respond(200, &none, said.as_bytes())
            }
        }
    }
}

impl Handler for Routes {
    fn handle(&self, exchange: &mut Exchange, refused: Option<Refusal>) {
        let _ = match refused {
            Some(refusal) => exchange.respond(refusal.status, &HeaderMap::new(), refusal.reason.as_bytes()),
            None => self.route(exchange),
        };
    }
}

/// A front door of its own on a free port.
fn door(limits: Limits) -> Door {
    let ((tell, news), (step, steps)) = (channel(), channel());
    let addr = open(limits, Routes { news: Mutex::new(tell), steps: Mutex::new(steps) });
    Door { addr, news, step }
}

fn open(limits: Limits, handler: impl Handler) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || server::run(&listener, limits, &Arc::new(handler)));
    addr
}

/// The same in a process that may have 64 descriptors.
struct Child {
    process: std::process::Child,
    addr: SocketAddr,
}

impl Child {
    fn start(connections: &str) -> Self {
        let file = std::env::temp_dir().join(format!("infershield-door-{}-{connections}", std::process::id()));
        let _ = std::fs::remove_file(&file);
        let process = Command::new("sh")
            .args(["-c", "ulimit -n 64; exec \"$0\" front_door::child --exact --ignored"])
            .arg(std::env::current_exe().unwrap())
            .env(CHILD_ADDR, &file)
            .env(CHILD_CONNECTIONS, connections)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let addr = loop {
            match std::fs::read_to_string(&file) {
                Ok(addr) => break addr.parse().unwrap(),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        };
        let _ = std::fs::remove_file(&file);
        Self { process, addr }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A connection that has been served and keeps its place.
fn hold(addr: SocketAddr) -> TcpStream {
    let mut client = connect(addr);
    client.write_all(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    read_until(&mut client, "hello");
    client
}

/// Sends bytes and reads what comes until the server ends the connection.
fn ask(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut client = connect(addr);
    client.write_all(bytes).unwrap();
    rest(&mut client)
}

/// [`ask`] again while the places are taken.
fn until_served(addr: SocketAddr, bytes: &[u8]) -> String {
    loop {
        let reply = ask(addr, bytes);
        if !reply.starts_with("HTTP/1.1 503") {
            return reply;
        }
    }
}

fn rest(client: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match client.read_to_end(&mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            panic!("the server neither answers nor closes")
        }
        // A reset also ends a connection; what came before it counts.
        _ => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

fn read_until(client: &mut TcpStream, end: &str) {
    let mut seen = Vec::new();
    while !seen.ends_with(end.as_bytes()) {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        seen.extend(byte);
    }
}

/// Sends a byte every few milliseconds until the server has had enough.
fn trickle(mut client: TcpStream, first: &[u8], byte: u8) {
    client.write_all(first).unwrap();
    while client.write_all(&[byte]).is_ok() {
        thread::sleep(Duration::from_millis(5));
    }
}

fn status(reply: &str) -> u16 {
    reply.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no reply: {reply:?}"))
}

/// One reply with this status, its body whole, and a close.
fn assert_refused(reply: &str, wanted: u16, request: &[u8]) {
    let request = String::from_utf8_lossy(request);
    assert_eq!(status(reply), wanted, "{request:.200}\n{reply}");
    assert!(reply.contains("connection: close\r\n"), "{request:.200}\n{reply}");
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", body.len())), "{request:.200}\n{reply}");
}

/// A new client is served, as soon as those that were there before are gone.
fn assert_alive(addr: SocketAddr) {
    let mut tries = 0;
    loop {
        let asked = TcpStream::connect_timeout(&addr, PATIENCE).and_then(|mut client| {
            client.set_read_timeout(Some(PATIENCE))?;
            client.write_all(b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
            Ok(rest(&mut client))
        });
        match asked {
            Ok(reply) if reply.starts_with("HTTP/1.1 200") && reply.ends_with("hello") => return,
            _ if tries < 500 => thread::sleep(Duration::from_millis(10)),
            other => panic!("the door is shut: {other:?}"),
        }
        tries += 1;
    }
}

/// SplitMix64: the same sequence in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) % bound as u64) as usize
    }
}
