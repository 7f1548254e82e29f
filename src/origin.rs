//! Where a token may go: [`Origin`], scheme and host and port of a URL, and [`Endpoint`], a URL that has one.
//! Must never accept plain http beyond this machine, or a URL that two readers could understand differently.

use crate::upstream::Error;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Scheme, host and port (RFC 6454): what a token is bound to. Only https, or http to a loopback host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// As in a URL, without a usual port.
    text: String,
    host: String,
}

/// A URL that passed [`Origin::parse`], as text.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    text: String,
    origin: Origin,
}

impl Origin {
    /// The origin of a URL, or why it has none that we would call.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let odd = |byte: u8| !byte.is_ascii_graphic() || matches!(byte, b'#' | b'\\');
        if url.bytes().any(odd) {
            return Err(refused("it holds a blank, a `#` or a backslash"));
        }
        Self::of(&url.parse().map_err(|_| refused("it is malformed"))?)
    }

    /// The same for a URL that is already in parts.
    pub fn of(url: &http::Uri) -> Result<Self, Error> {
        let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else {
            return Err(refused("it does not begin with https://"));
        };
        if authority.as_str().contains('@') {
            return Err(refused("it holds a user name"));
        }
        let host = authority.host().to_ascii_lowercase();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let label = |label: &str| !label.is_empty() && label.bytes().all(plain);
        let v6 = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if !v6.map_or_else(|| host.split('.').all(label), |v6| v6.parse::<Ipv6Addr>().is_ok()) {
            return Err(refused("its host is neither a name nor an address"));
        }
        let usual = match scheme {
            "https" => 443,
            "http" => 80,
            _ => return Err(refused("its scheme is neither https nor http")),
        };
        let port = match authority.port_u16() {
            Some(port) if port != usual => format!(":{port}"),
            None if authority.as_str().len() != host.len() => {
                return Err(refused("its port is not a number up to 65535"));
            }
            _ => String::new(),
        };
        let origin = Self { text: format!("{scheme}://{host}{port}"), host };
        if scheme == "http" && !origin.is_loopback() {
            return Err(refused("plain http is for this machine only, write https://"));
        }
        Ok(origin)
    }

    /// The host, lower case; an IPv6 address stands in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// True for `localhost`, 127.0.0.0/8 and `[::1]`.
    pub fn is_loopback(&self) -> bool {
        let address = self.host.trim_matches(['[', ']']).parse::<IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

/// True for a host that is a part of the domain `name`, but not for `name` itself.
pub fn is_below(host: &str, name: &str) -> bool {
    host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}

fn refused(why: &str) -> Error {
    Error::Unusable(format!("not a URL that may be called: {why}"))
}

impl fmt::Display for Origin {
    /// As in a URL, without a usual port: `https://api.example.com`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Endpoint {
    /// The URL as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where it leads.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl TryFrom<String> for Endpoint {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        let origin = Origin::parse(&text)?;
        Ok(Self { text, origin })
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_only() {
        for url in ["http://localhost:8080/v1", "http://127.0.0.1/", "http://127.9.9.9:1", "http://[::1]:80/x"] {
            assert!(Origin::parse(url).unwrap().is_loopback(), "{url}");
        }
        for url in [
            "http://api.example.com/",
            "http://127.0.0.1.example.com/",
            "http://localhost.example.com/",
            "http://10.0.0.1/",
            "http://127.1/",
            "http://0x7f000001/",
            "http://[::2]/",
            "http://localhost./",
        ] {
            assert!(Origin::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_url_that_could_be_read_in_two_ways_is_refused() {
        for url in [
            "https://user@host.example/",
            "https://good.example\\@evil.example/",
            "https://good.example#@evil.example/",
            "https://good.example\t.evil.example/",
            "https://ho st/",
            "https://host:99999/",
            "https://host:/",
            "https://a..b/",
            "https://[::1/",
            "https://[::1]evil/",
            "https://h\u{f6}st.example/",
            "https:///path",
            "ftp://host/",
            "//host/",
            "host.example",
            "/path",
            "",
        ] {
            assert!(Origin::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn origins_are_equal_when_scheme_host_and_port_are() {
        let origin = |url| Origin::parse(url).unwrap();
        assert_eq!(origin("https://A.example/x?y"), origin("https://a.example:443"));
        assert_ne!(origin("https://a.example"), origin("https://a.example:444"));
        assert_ne!(origin("https://localhost:80"), origin("http://localhost:80"));
        assert_eq!(origin("https://A.example:8443/x").to_string(), "https://a.example:8443");
        assert_eq!(origin("http://[::1]:80/").to_string(), "http://[::1]");
    }
}
