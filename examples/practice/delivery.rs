//! How a reply goes out: whole or event by event, as it should or spoiled by a fault.
//! Must never end a reply properly that a fault was to break.

use crate::faults::{self, Kind};
use crate::oauth;
use crate::room::Room;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use infershield::server::Exchange;
use std::io;

/// A reply before it is sent.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Content,
}

/// What a reply carries.
pub(crate) enum Content {
    /// Everything at once, with its length.
    Whole(Vec<u8>),
    /// Frames of an event stream, sent one by one.
    Events(Vec<String>),
}

impl Answer {
    pub(crate) fn new(status: u16, content_type: &'static str, body: String) -> Self {
        let answer = Self { status, headers: HeaderMap::new(), content: Content::Whole(body.into_bytes()) };
        answer.with("content-type", content_type)
    }

    pub(crate) fn json((status, body): oauth::Reply) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    pub(crate) fn page(body: String) -> Self {
        Self::new(200, "text/html; charset=utf-8", body)
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).expect("a header name");
        let value = HeaderValue::try_from(value).expect("a header value");
        self.headers.insert(name, value);
        self
    }
}

/// Sends an answer, spoiled by the fault where there is one, and says what became of it; an error when the client left.
pub(crate) fn deliver(
    room: &Room,
    exchange: &mut Exchange,
    answer: Answer,
    fault: Option<&Kind>,
) -> io::Result<&'static str> {
    let left = exchange.watcher();
    let answer = match fault {
        Some(Kind::Gzip) => faults::gzip(answer),
        Some(Kind::Close) => return Ok("closed"),
        Some(Kind::Silence { after: None }) => {
            room.hold(left)?;
            answer
        }
        Some(Kind::Endless) => return flood(exchange, &answer, left),
        _ => answer,
    };
    match answer.content {
        Content::Events(events) => stream(room, exchange, answer.status, &answer.headers, &events, fault),
        Content::Whole(body) if matches!(fault, Some(Kind::Cut { .. })) => {
            let length = body.len().try_into().unwrap_or(u64::MAX);
            let mut writer = exchange.start(answer.status, &answer.headers, Some(length))?;
            writer.write(&body[..body.len() / 2])?;
            Ok("cut")
        }
        Content::Whole(body) => {
            exchange.respond(answer.status, &answer.headers, &body)?;
            Ok("answered")
        }
    }
}

fn stream(
    room: &Room,
    exchange: &mut Exchange,
    status: u16,
    headers: &HeaderMap,
    events: &[String],
    fault: Option<&Kind>,
) -> io::Result<&'static str> {
    let left = exchange.watcher();
    let lock_step = room.state().settings.lock_step;
    let mut writer = exchange.start(status, headers, None)?;
    for (number, event) in events.iter().enumerate() {
        match fault {
            Some(Kind::Cut { after }) if *after == number => return Ok("cut"),
            Some(Kind::Silence { after: Some(after) }) if *after == number => room.hold(&left)?,
            _ => {}
        }
        if lock_step && number > 0 {
            room.step(&left)?;
        }
        room.count("events");
        writer.write(event.as_bytes())?;
    }
    writer.finish()?;
    Ok("answered")
}

fn flood(exchange: &mut Exchange, answer: &Answer, left: impl Fn() -> bool) -> io::Result<&'static str> {
    let mut writer = exchange.start(answer.status, &answer.headers, None)?;
    while !left() {
        writer.write(&[b' '; 1024])?;
    }
    Err(io::Error::other("left"))
}
