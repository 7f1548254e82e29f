//! What we do not know passes byte for byte, in both directions: members, events, headers, content types, statuses.

use crate::support::{Dice, Exchange, Fixture, Login, Replay, event, of_provider, passing, recordings, request};
use serde_json::{Value, json};

/// Where the dice begin: a failure comes again.
const SEED: u64 = 20;
/// How often each recorded exchange is sent, each time with other additions.
const ROUNDS: usize = 2;
/// Words of which names and texts are made: none that a rule knows.
const WORDS: [&str; 12] =
    ["amber", "basalt", "cedar", "delta", "ember", "fjord", "grüß", "harbour", "日本", "juniper", "kelp", "🦀"];
/// Types that no table of ours holds.
const TYPES: [&str; 6] = [
    "application/x-ndjson",
    "application/vnd.zz.v9+json; profile=\"a;b\"",
    "text/plain; charset=iso-8859-1",
    "application/octet-stream",
    "text/event-streams",
    "multipart/mixed; boundary=zz",
];
/// Statuses that pass, most of them in no registry. Not 401, which is an answer to our own credential.
const STATUSES: [u16; 10] = [200, 203, 207, 299, 402, 418, 499, 521, 529, 599];

impl Dice {
    /// JSON as nobody's serialiser writes it, so that every byte that is written anew differs.
    fn json(&mut self, depth: usize) -> String {
        let space = self.pick(&["", " ", "\t", "\n  ", "\r\n"]);
        match self.below(if depth == 0 { 5 } else { 7 }) {
            0 => self.pick(&["null", "true", "false"]).to_owned(),
            1 => self.pick(&["-0", "1.0", "1E5", "0.10", "12345678901234567890123", "-1.5e-07"]).to_owned(),
            2 => format!("\"{}\"", self.pick(&[r"\u0061\u00DF", r"\/", r"\ud83e\udd80", r"a\tb\nc", "", "\u{7f}"])),
            3 | 4 => format!("\"{} {}\"", self.pick(&WORDS), self.pick(&WORDS)),
            5 => format!("[{}{space},{}]", self.json(depth - 1), self.json(depth - 1)),
            _ => format!("{{{space}{}:{space}{}}}", self.name(), self.json(depth - 1)),
        }
    }

    /// The name of a member that no API has.
    fn name(&mut self) -> String {
        let number = self.below(1 << 30);
        format!("\"zz_{}_{number}\"", self.pick(&WORDS))
    }

    /// The same document with a member more in some of its objects. All other bytes stay as they are.
    fn with_members(&mut self, document: &str) -> String {
        let bytes = document.as_bytes();
        let (mut grown, mut quoted, mut escaped) = (String::new(), false, false);
        for (at, letter) in document.char_indices() {
            grown.push(letter);
            match letter {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '{' if !quoted && (at == 0 || self.below(6) == 0) => {
                    let empty = bytes[at + 1..].trim_ascii_start().starts_with(b"}");
                    grown += &format!("{}: {}{}", self.name(), self.json(3), if empty { "" } else { " ," });
                }
                _ => {}
            }
        }
        grown
    }

    /// Header lines that no table of ours holds.
    fn headers(&mut self) -> Vec<(String, String)> {
        let value = |dice: &mut Self| -> String {
            let length = dice.below(200);
            let text: String = (0..length).map(|_| char::from(b' ' + dice.below(95) as u8)).collect();
            text.trim().to_owned()
        };
        let count = self.below(4) + 1;
        (0..count).map(|number| (format!("x-zz-{}-{number}", self.below(1000)), value(self))).collect()
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.below(256) as u8).collect()
    }

    /// A recorded stream with further members, and with events, comments and fields that no API sends.
    fn stream(&mut self, events: &[Value]) -> Vec<u8> {
        let mut stream = String::new();
        for recorded in events {
            match self.below(8) {
                0 => stream += &format!(": {}\n\n", self.pick(&WORDS)),
                1 => stream += &format!("event: zz.{}\ndata: {}\n\n", self.pick(&WORDS), self.json(0)),
                2 => stream += &format!("id: {}\nretry: 1000\nzz: 1\n\n", self.below(99)),
                3 => stream += "event: zz\r\ndata:no JSON {\r\ndata:\r\n\r\n",
                _ => {}
            }
            let mut recorded = recorded.clone();
            if !recorded["data"].is_string() && self.below(2) == 0 {
                recorded["data"] = json!(self.with_members(&recorded["data"].to_string()).replace(['\r', '\n'], " "));
            }
            stream += &event(&recorded);
        }
        stream.into_bytes()
    }

    /// A reply as a provider sends it: whole with its length, or in chunks of any size.
    fn reply(&mut self, status: u16, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {status} {}\r\nconnection: close\r\n", self.pick(&["OK", "", "Zz top"]));
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if self.below(2) == 0 {
            return [format!("{head}content-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat();
        }
        let mut sent = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
        let mut rest = body;
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(rest.len().min(self.below(300) + 1));
            sent.extend([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
            rest = later;
        }
        sent.extend(b"0\r\n\r\n");
        sent
    }
}

/// A proxy, the provider behind it, and the dice.
struct Bench {
    provider: Replay,
    proxy: Fixture,
    dice: Dice,
}

impl Bench {
    fn start(name: &'static str) -> Self {
        let provider = Replay::start();
        let mut plan = Fixture::plan(name);
        plan.login = Login::Key;
        plan.provider = json!({"api_base": format!("http://{}/v1", provider.addr)});
        Self { proxy: plan.start(), provider, dice: Dice::new(SEED) }
    }

    /// Sends a request and compares what arrived, then what came back.
    fn compare(&mut self, exchange: &Exchange, body: &[u8], status: u16, content_type: &str, answer: &[u8]) {
        let query =
            format!("{}zz={}&b=%2F+%3D", if exchange.path.contains('?') { "&" } else { "?" }, self.dice.below(99));
        let target = format!("{}{query}", exchange.path);
        let mut headers: Vec<(String, String)> = passing(&exchange.headers);
        headers.extend(self.dice.headers());
        let mut answered = vec![("content-type".to_owned(), content_type.to_owned())];
        answered.extend(self.dice.headers());
        self.provider.answer(self.dice.reply(status, &answered, answer));

        let bearer = self.proxy.bearer();
        let mut sent: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        sent.push(("authorization", &bearer));
        let mut wire = self.proxy.connect();
        wire.send(&request(&exchange.method, &target, &sent, body));
        let reply = wire.reply();
        let what = || format!("{} {target} {status} {content_type}: {}", exchange.method, reply.text());
        assert_eq!(reply.status, status, "{}", what());
        let arrived = self.provider.request();
        assert_eq!(arrived.line, format!("{} {target} HTTP/1.1", exchange.method));
        assert!(arrived.body == body, "another body arrived: {}", what());
        headers.sort();
        assert_eq!(passing(&arrived.headers), headers, "{}", what());
        assert!(reply.body == answer, "another reply came back: {}", what());
        answered.sort();
        assert_eq!(of_provider(&reply), answered, "{}", what());
    }

    fn grown(&mut self, exchange: &Exchange) -> Vec<u8> {
        self.dice.with_members(std::str::from_utf8(exchange.body()).unwrap()).into_bytes()
    }
}

#[test]
fn members_events_and_headers_that_nobody_knows_pass_in_both_directions() {
    let mut bench = Bench::start("unknown-members");
    let mut compared = 0;
    for recording in recordings() {
        for exchange in &recording.exchanges {
            for _ in 0..ROUNDS {
                let body = bench.grown(exchange);
                let (content_type, answer) = match exchange.reply.events.as_slice() {
                    [] => {
                        let grown = bench.dice.with_members(&exchange.reply.body.to_string());
                        ("application/json", grown.into_bytes())
                    }
                    events => ("text/event-stream; charset=utf-8", bench.dice.stream(events)),
                };
                bench.compare(exchange, &body, exchange.reply.status, content_type, &answer);
                compared += 1;
            }
        }
    }
    assert!(compared >= 200, "{compared}");
}

#[test]
fn content_types_and_statuses_that_nobody_knows_pass_with_any_bytes() {
    let mut bench = Bench::start("unknown-types");
    for recording in recordings() {
        for exchange in &recording.exchanges {
            let body = bench.grown(exchange);
            let status = STATUSES[bench.dice.below(STATUSES.len())];
            let content_type = bench.dice.pick(&TYPES);
            let answer = bench.dice.bytes(40_000);
            bench.compare(exchange, &body, status, content_type, &answer);
        }
    }
}

#[test]
fn a_reply_of_any_bytes_that_says_it_is_json_or_a_stream_passes_when_its_framing_is_whole() {
    let mut bench = Bench::start("unknown-bytes");
    let recordings = recordings();
    for exchange in recordings.iter().flat_map(|recording| &recording.exchanges) {
        let body = bench.grown(exchange);
        let content_type = bench.dice.pick(&["application/json", "text/event-stream", "application/problem+json"]);
        let answer = bench.dice.bytes(4000);
        bench.compare(exchange, &body, 200, content_type, &answer);
    }
}

#[test]
fn a_reply_without_length_or_type_passes_as_its_connection_ends() {
    let bench = Bench::start("unknown-framing");
    let mut dice = Dice::new(SEED);
    for _ in 0..20 {
        let answer = dice.bytes(20_000);
        bench.provider.answer([b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", answer.as_slice()].concat());
        let reply = bench.proxy.post("/v1/responses", &json!({"model": "m", "input": "Hello."}));
        assert_eq!((reply.status, reply.header("content-type")), (200, None));
        assert!(reply.body == answer);
        bench.provider.request();
    }
}
