//! The one HTTP client: TLS roots, the way through a proxy, the host check, limits, and an eye on our own client meanwhile.
//! Must never follow a redirect, add a header of its own, or send anything to a host that the caller did not allow.

pub use crate::origin::{Endpoint, Origin};

use crate::config::{Settings, system_bundle};
use crate::origin::is_below;
use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fmt, fs, io, io::Read as _};
use ureq::config::Config;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout};
use ureq::unversioned::transport::{RustlsConnector, TcpConnector, Transport};
use ureq::{Agent, BodyReader, Proxy, ProxyProtocol};
use zeroize::Zeroizing;

/// Time to open a connection, TLS included, and again to send the head of a request: beyond it the host is as good as down.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Time to open it once more with other roots: the host has just answered.
const AGAIN_TIME: Duration = Duration::from_secs(5);
/// Time to send a body: 32 MiB over a slow line.
const SEND_BODY_TIME: Duration = Duration::from_secs(120);
/// Time to the first byte of a reply: one that is not streamed comes only when the model is done.
const FIRST_BYTE_TIME: Duration = Duration::from_secs(600);
/// Longest silence inside a reply.
const IDLE_TIME: Duration = Duration::from_secs(300);
/// Time for a small call, from the look-up of the name to the last byte.
const CALL_TIME: Duration = Duration::from_secs(30);
/// Largest reply to a small call, in bytes; real ones have a few KiB.
const CALL_MAX_BYTES: u64 = 1 << 20;
/// Idle connections kept, in all and per host.
const IDLE_CONNECTIONS: usize = 64;
/// Age at which an idle connection is not used again; providers keep theirs longer, so they rarely close one under us.
const IDLE_AGE: Duration = Duration::from_secs(20);
/// Buffer of a connection for what comes, in bytes.
const BUFFER_BYTES: usize = 16 << 10;
/// The same for what goes, which is a whole conversation each time: smaller pieces cost a long one a third more of the time that we add.
const OUTPUT_BYTES: usize = 256 << 10;
/// Largest head of a reply, in bytes: a larger one fills the buffer, and ureq would say that the connection had closed.
const HEAD_BYTES: usize = BUFFER_BYTES - 1;
/// How often a silent provider makes us look whether our own client is still there.
const WATCH_TICK: Duration = Duration::from_millis(250);
/// What rustls says of a certificate that no root stands behind. All others are bad in themselves, whoever is trusted.
const UNKNOWN_ISSUER: &str = "invalid peer certificate: UnknownIssuer";

/// What can go wrong on the way to a provider. No text holds a path, a query, a header or a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// A setting, a URL or a host that may not be used: nothing was sent.
    Unusable(String),
    /// The host cannot be reached or trusted, or does not speak HTTP as we accept it.
    Failed(String),
    /// Our own client went away; the provider's connection is closed.
    ClientLeft,
}

/// Results of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// A request with its whole body and every header that goes out, except `host` and `content-length`.
pub type Request<'a> = http::Request<&'a [u8]>;

/// A reply of any status, redirects included, as the provider gave it; its body is unframed but not decoded. Dropped before its
/// end it closes the connection; [`Error::of`] reads its errors.
pub type Response = http::Response<BodyReader<'static>>;

/// The client. Threads share it by reference; connections are kept and used again.
#[derive(Debug)]
pub struct Upstream {
    agent: Agent,
    /// As `NO_PROXY` has it.
    no_proxy: String,
}

/// Asks whether our own client has left.
type Left = Box<dyn Fn() -> bool>;

/// A watch or its absence, see [`watch_client`]. Dropped, it brings back what was before.
pub struct Watching(Option<Left>);

thread_local! {
    /// Asked while this thread waits for a provider. ureq does all its work on the caller's thread.
    static CLIENT_LEFT: RefCell<Option<Left>> = const { RefCell::new(None) };
}

/// While the guard lives, every wait of this thread for a provider asks `left` four times a second and ends on true.
pub fn watch_client(left: impl Fn() -> bool + 'static) -> Watching {
    Watching(CLIENT_LEFT.replace(Some(Box::new(left))))
}

impl Drop for Watching {
    fn drop(&mut self) {
        // At the end of a thread its place may be gone already.
        let _ = CLIENT_LEFT.try_with(|now| now.replace(self.0.take()));
    }
}

impl Upstream {
    /// Reads the certificate files that the settings name; opens no connection. `ca_file` is a provider's own: its
    /// certificates are trusted and nothing else.
    pub fn new(settings: &Settings, ca_file: Option<&Path>) -> Result<Self> {
        let roots = settings.roots_file(ca_file).map_or(Ok(RootCerts::WebPki), certificates)?;
        let extra = settings.ca_file.as_deref().filter(|_| ca_file.is_none());
        let extra = extra.map(certificates).transpose()?;
        let chain = ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default());
        let cures = settings.cures(ca_file);
        let dial = Dial { chain: chain.chain(RustlsConnector::default()), extra, cures };
        let agent = Agent::with_parts(config(proxy(settings)?, roots), dial, DefaultResolver::default());
        let no_proxy = settings.no_proxy.clone().unwrap_or_default().to_ascii_lowercase();
        Ok(Self { agent, no_proxy })
    }

    /// Sends a request to a model; returns as soon as the head of the reply is there. The origin of its URL must be the
    /// `allowed` one. It is sent once: a model may have it in work.
    pub fn send(&self, allowed: &Origin, mut request: Request<'_>) -> Result<Response> {
        let origin = Origin::of(request.uri())?;
        if origin != *allowed {
            return Err(Error::Unusable(format!("{origin} is not allowed; type `infershield hosts`")));
        }
        if self.is_direct(&origin) {
            request = self.agent.configure_request(request).proxy(None).build();
        }
        // ureq takes no body, not even an empty one, where the method has none.
        let reply = match request.method() {
            &http::Method::GET => self.agent.run(request.map(|_| ())),
            _ => self.agent.run(request),
        };
        let reply = reply.map_err(|error| Error::of(origin.host(), error))?;
        Ok(reply.map(ureq::Body::into_reader))
    }

    /// A small call: at most 30 s and 1 MiB in all. Returns status and body.
    pub fn call(&self, allowed: &Origin, request: Request<'_>) -> Result<(u16, Zeroizing<Vec<u8>>)> {
        // Whoever leaves must not cut off a refresh: its reply may hold the only token that is still worth something.
        let _unwatched = Watching(CLIENT_LEFT.take());
        let limits = self.agent.configure_request(request).timeout_global(Some(CALL_TIME));
        // A refresh must not be sent twice: no kept connection, which may have died.
        let reply = self.send(allowed, limits.max_idle_age(Duration::ZERO).build())?;
        let status = reply.status().as_u16();
        let mut bytes = Zeroizing::new(Vec::new());
        match reply.into_body().take(CALL_MAX_BYTES + 1).read_to_end(&mut bytes) {
            Ok(length) if length as u64 <= CALL_MAX_BYTES => Ok((status, bytes)),
            Ok(_) => Err(Error::bad_reply(allowed.host(), "more than 1 MiB")),
            Err(error) => Err(Error::of(allowed.host(), error.into())),
        }
    }

    /// Loopback and the names of `NO_PROXY`, with what is below them, are called directly.
    fn is_direct(&self, to: &Origin) -> bool {
        let is_named = |name: &str| match name.trim().trim_start_matches("*.").trim_start_matches('.') {
            "" => false,
            "*" => true,
            name => to.host() == name || is_below(to.host(), name),
        };
        to.is_loopback() || self.no_proxy.split(',').any(is_named)
    }
}

fn certificates(path: &Path) -> Result<RootCerts> {
    let wrong = |why: &dyn fmt::Display| wrong_setting(format_args!("{}: {why}", path.display()));
    // `exec` is started in folders that others made.
    if path.is_relative() {
        return Err(wrong(&"not named from the root `/`"));
    }
    let pem = fs::read(path).map_err(|error| wrong(&error))?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(one) = item.map_err(|_| wrong(&"not a PEM file"))? {
            found.push(one);
        }
    }
    if found.is_empty() { Err(wrong(&"no PEM certificate in it")) } else { Ok(RootCerts::new_with_certs(&found)) }
}

fn proxy(settings: &Settings) -> Result<Option<Proxy>> {
    let Some(url) = settings.https_proxy.as_deref().filter(|url| !url.is_empty()) else { return Ok(None) };
    // Another kind would be passed over in silence, and the call would go out directly.
    let usable = |proxy: &Proxy| matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https);
    match Proxy::new(url).ok().filter(usable) {
        // The text may hold a password: none of it is repeated.
        None => Err(wrong_setting(format_args!("HTTPS_PROXY is not an http:// or https:// URL"))),
        proxy => Ok(proxy),
    }
}

fn wrong_setting(what: fmt::Arguments<'_>) -> Error {
    Error::Unusable(format!("{what}; type `infershield config show`"))
}

fn config(proxy: Option<Proxy>, roots: RootCerts) -> Config {
    // No limit for a whole exchange: it would cut long streams. No `https_only`: `Origin` knows where plain http may go.
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(proxy)
        .user_agent("")
        .accept("")
        .accept_encoding("")
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .timeout_connect(Some(CONNECT_TIME))
        .timeout_send_request(Some(CONNECT_TIME))
        .timeout_send_body(Some(SEND_BODY_TIME))
        .timeout_recv_response(Some(FIRST_BYTE_TIME))
        .timeout_per_read(Some(IDLE_TIME))
        .max_idle_connections(IDLE_CONNECTIONS)
        .max_idle_connections_per_host(IDLE_CONNECTIONS)
        .max_idle_age(IDLE_AGE)
        .input_buffer_size(BUFFER_BYTES)
        .output_buffer_size(OUTPUT_BYTES)
        .max_response_header_size(HEAD_BYTES)
        .build()
}

/// What the traits of ureq return.
type Tried<T> = std::result::Result<T, ureq::Error>;

/// Dials again with the additional roots when the first ones do not know the issuer, for ureq cannot add to Mozilla's list.
/// A handshake that failed carried nothing of a request, so this trusts the union and no more. When that fails too, one more
/// handshake, which carries nothing either and whose connection is dropped, tells the user whether the system knows the issuer.
#[derive(Debug)]
struct Dial<C> {
    chain: C,
    extra: Option<RootCerts>,
    /// What to do when the system's roots do not help, and when they do.
    cures: [String; 2],
}

impl<C: Connector> Connector for Dial<C> {
    type Out = Watch<C::Out>;

    fn connect(&self, to: &ConnectionDetails, _: Option<()>) -> Tried<Option<Self::Out>> {
        let connected = self.chain.connect(to, None).or_else(|error| match &self.extra {
            Some(extra) if is_tls(&error) => self.again(to, extra),
            _ => Err(error),
        });
        let explained = connected.map_err(|error| match is_tls(&error) && error.to_string().contains(UNKNOWN_ISSUER) {
            true => self.explained(to, &error),
            false => error,
        });
        Ok(explained?.map(Watch))
    }
}

impl<C: Connector> Dial<C> {
    fn again(&self, to: &ConnectionDetails, roots: &RootCerts) -> Tried<Option<C::Out>> {
        let again = ConnectionDetails {
            config: &config(to.config.proxy().cloned(), roots.clone()),
            // Else the connector would go by the roots that it met first.
            request_level: true,
            now: (to.current_time)(),
            timeout: NextTimeout { after: AGAIN_TIME.into(), ..to.timeout },
            addrs: to.addrs.clone(),
            current_time: to.current_time.clone(),
            run_connector: to.run_connector.clone(),
            register_shutdown: to.register_shutdown.clone(),
            ..*to
        };
        self.chain.connect(&again, None)
    }

    /// For a person, and of another kind: a proxy that is spoken to over TLS was dialed by this too, and is not asked again.
    fn explained(&self, to: &ConnectionDetails, error: &ureq::Error) -> ureq::Error {
        let helps = certificates(system_bundle()).is_ok_and(|system| self.again(to, &system).is_ok());
        let (host, [no, yes]) = (to.uri.host().unwrap_or_default(), &self.cures);
        let cure = if helps { yes } else { no };
        io::Error::other(Error::Failed(format!("no trust in {host}: {error}. {cure}"))).into()
    }
}

/// A connection that asks between waits whether our client has left. A wait that is cut short loses nothing: rustls keeps what
/// it has of a record.
#[derive(Debug)]
struct Watch<T>(T);

impl<T: Transport> Transport for Watch<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Tried<()> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Tried<bool> {
        let (mut limit, begun) = (timeout.for_read(), Instant::now());
        let whole = limit.not_zero().map_or(Duration::MAX, |whole| *whole);
        (limit.per_read, limit.per_write) = (None, None);
        loop {
            let left = whole.saturating_sub(begun.elapsed());
            limit.after = left.min(WATCH_TICK).into();
            match self.0.await_input(limit) {
                Err(ureq::Error::Timeout(_)) if left > WATCH_TICK => {}
                result => return result,
            }
            if CLIENT_LEFT.with_borrow(|left| left.as_ref().is_some_and(|left| left())) {
                return Err(io::Error::other(Error::ClientLeft).into());
            }
        }
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}

/// True when TLS failed: rustls reports through an I/O error of this kind, which nothing else makes here.
fn is_tls(error: &ureq::Error) -> bool {
    use ureq::Error::{Io, Rustls, Tls};
    matches!(error, Tls(_) | Rustls(_)) || matches!(error, Io(error) if error.kind() == io::ErrorKind::InvalidData)
}

impl Error {
    /// What an error means, also one of a body; `host` is for the text.
    pub fn of(host: &str, error: ureq::Error) -> Self {
        if is_tls(&error) {
            return Self::Failed(format!("no trust in {host}: {error}; type `infershield hosts`"));
        }
        let why = match error {
            ureq::Error::Io(error) => match error.downcast() {
                Ok(ours) => return ours,
                Err(error) => error.to_string(),
            },
            ureq::Error::Timeout(_) => "no answer in time".into(),
            ureq::Error::HostNotFound => "no such host".into(),
            ureq::Error::ConnectProxyFailed(_) => "the proxy refused".into(),
            ureq::Error::LargeResponseHeader(..) => return Self::bad_reply(host, "its head has 16 KiB or more"),
            // Texts of other errors may hold the URL.
            _ => return Self::bad_reply(host, "it breaks the rules of HTTP"),
        };
        Self::Failed(format!("cannot reach {host}: {why}; type `infershield doctor --online`"))
    }

    fn bad_reply(host: &str, why: &str) -> Self {
        Self::Failed(format!("bad reply from {host}: {why}; try again"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(what) | Self::Failed(what) => f.write_str(what),
            Self::ClientLeft => f.write_str("the client left before the reply"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_no_proxy_are_called_directly_with_what_is_below_them() {
        let is_direct = |no_proxy: &str, url: &str| {
            let settings = Settings { no_proxy: Some(no_proxy.to_owned()), ..Settings::default() };
            Upstream::new(&settings, None).unwrap().is_direct(&Origin::parse(url).unwrap())
        };
        for (no_proxy, url) in [
            ("", "http://127.9.9.9:8080"),
            ("", "http://[::1]/"),
            ("", "https://localhost"),
            ("a.example, Corp.Example", "https://corp.example/v1"),
            ("corp.example", "https://llm.corp.example"),
            (".corp.example", "https://llm.corp.example"),
            ("*.corp.example,", "https://corp.example:8443"),
            ("*", "https://api.example.com"),
        ] {
            assert!(is_direct(no_proxy, url), "{no_proxy} {url}");
        }
        for no_proxy in ["", ",", " ", ".", "*.", "corp.example.org", "corp.example", "com"] {
            assert!(!is_direct(no_proxy, "https://evilcorp.example.org"), "{no_proxy}");
        }
    }
}
