//! Forms and pages: the text that people and old-fashioned endpoints exchange.
//! Must never put text from outside into a page as it came.

use crate::oauth::Fields;
use http::header::HeaderMap;
use serde_json::Value;
use std::fmt::Write as _;

/// Fields of a form (`application/x-www-form-urlencoded`); what cannot be decoded stays as it is.
pub(crate) fn form(text: &str) -> Fields {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

/// Fields of a request body: a JSON object when it says so, a form otherwise.
pub(crate) fn fields(headers: &HeaderMap, body: &[u8]) -> Fields {
    let kind = headers.get("content-type").map(|kind| kind.as_bytes());
    if kind.is_some_and(|kind| kind.starts_with(b"application/json")) {
        return serde_json::from_slice(body).unwrap_or_default();
    }
    form(&String::from_utf8_lossy(body))
}

/// A flat JSON object as a form.
pub(crate) fn to_form(object: &Value) -> String {
    let mut form = String::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(name);
        form.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => form.push(char::from(byte)),
                _ => write!(form, "%{byte:02X}").expect("a String takes everything"),
            }
        }
    }
    form
}

/// The page on which a person types the code and decides.
pub(crate) fn approval_page(user_code: Option<&String>) -> String {
    let harmless = |code: &&String| code.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
    let code = user_code.filter(harmless).map(String::as_str).unwrap_or_default();
    page(&format!(
        "<p>Type the code that your own terminal shows. Never one that somebody sent you.</p>\
         <form method=post><input name=user_code value=\"{code}\" autofocus autocomplete=off> \
         <button name=answer value=approve>Approve</button> <button name=answer value=deny>Deny</button></form>"
    ))
}

/// What the person sees afterwards.
pub(crate) fn decision_page(known: bool, yes: bool) -> String {
    page(match (known, yes) {
        (false, _) => "<p>There is no login with this code. It may have expired.</p>",
        (true, true) => "<p>Approved. You can close this page.</p>",
        (true, false) => "<p>Denied. You can close this page.</p>",
    })
}

fn page(content: &str) -> String {
    format!("<!doctype html><meta charset=utf-8><title>Practice provider</title><h1>Practice provider</h1>{content}")
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (first, escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
