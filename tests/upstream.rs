//! The HTTP client against servers that behave, and against those that do not.

use crate::flow_support::{Responder, raw, read_request};
use infershield::config::{Roots, Settings};
use infershield::upstream::{Error, Origin, Response, Upstream, watch_client};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

fn client(settings: Settings) -> Upstream {
    Upstream::new(&settings, None).unwrap()
}

/// Trusts what this file holds and nothing else.
fn trusting(ca_file: &Path) -> Upstream {
    Upstream::new(&Settings::default(), Some(ca_file)).unwrap()
}

fn direct() -> Upstream {
    client(Settings::default())
}

/// Posts to `url`, which is allowed.
fn post(up: &Upstream, url: &str) -> Result<Response, Error> {
    let request = http::Request::post(url).header("x-ours", "1").body(&b"{}"[..]);
    up.send(&Origin::parse(url).unwrap(), request.unwrap())
}

fn error(up: &Upstream, url: &str) -> Error {
    post(up, url).err().unwrap()
}

/// True when a call failed in this way.
fn failed(error: &Error, how: &str) -> bool {
    matches!(error, Error::Failed(why) if why.starts_with(how))
}

fn text(response: Response) -> String {
    let mut text = String::new();
    let mut body = response.into_body();
    body.read_to_string(&mut text).unwrap();
    text
}

/// Serves one connection; what `serve` returns comes back through the channel.
fn one_connection<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (String, mpsc::Receiver<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/x", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(serve(listener.accept().unwrap().0)));
    (base, receiver)
}

#[test]
fn a_redirect_comes_back_as_it_is() {
    let reply = b"HTTP/1.1 307 Elsewhere\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 2\r\n\r\nno";
    let server = Responder::start(&[reply.to_vec()]);
    let response = post(&direct(), &server.base).unwrap();
    assert_eq!(response.status(), 307);
    assert_eq!(response.headers()["location"], "http://127.0.0.1:1/");
    assert_eq!(text(response), "no");
}

#[test]
fn only_our_own_headers_go_out() {
    let server = Responder::start(&[raw(200, "text/plain", "yes")]);
    assert_eq!(text(post(&direct(), &server.base).unwrap()), "yes");
    let requests = server.requests();
    let head = requests[0].split("\r\n\r\n").next().unwrap();
    let mut names: Vec<_> = head.lines().skip(1).map(|line| line.split(':').next().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "host", "x-ours"]);
}

#[test]
fn a_host_that_is_not_allowed_hears_nothing() {
    let server = Responder::start(&[raw(200, "text/plain", "")]);
    let request = http::Request::get(format!("{}/?key=hunter2", server.base)).body(&[][..]).unwrap();
    for other in ["https://api.example.com", "http://127.0.0.1:1"] {
        let error = direct().send(&Origin::parse(other).unwrap(), request.clone()).err().unwrap();
        assert!(matches!(&error, Error::Unusable(why) if why.contains("not allowed")));
        assert!(!error.to_string().contains("hunter2"));
    }
    assert!(server.requests().is_empty());
}

#[test]
fn nobody_there_is_unreachable_and_the_text_holds_no_query() {
    let gone = Responder::start(&[]);
    let error = error(&direct(), &format!("{}/?key=hunter2", gone.base));
    assert!(failed(&error, "cannot reach 127.0.0.1"), "{error:?}");
    assert!(!error.to_string().contains("hunter2"));
}

#[test]
fn a_client_that_leaves_a_silent_provider_closes_its_connection() {
    let (url, closed) = one_connection(|mut stream| {
        read_request(&mut stream);
        stream.read(&mut [0]).unwrap()
    });
    let _watching = watch_client(|| true);
    assert_eq!(error(&direct(), &url), Error::ClientLeft);
    assert_eq!(closed.recv().unwrap(), 0);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_stream_closes_its_connection() {
    let (url, closed) = one_connection(|mut stream| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").unwrap();
        stream.read(&mut [0]).unwrap_or(0)
    });
    let up = direct();
    let _watching = watch_client(|| true);
    let mut response = post(&up, &url).unwrap();
    let failure = response.body_mut().read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(Error::of("host", failure.into()), Error::ClientLeft);
    drop(response);
    assert_eq!(closed.recv().unwrap(), 0);
}

#[test]
fn a_head_beyond_its_limit_is_named_as_such() {
    for (bytes, is_refused) in [(15 << 10, false), (16 << 10, true), (70 << 10, true)] {
        let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 2\r\n\r\nok", "a".repeat(bytes));
        let server = Responder::start(&[head.into_bytes()]);
        match post(&direct(), &server.base) {
            Ok(response) => assert!(!is_refused && text(response) == "ok"),
            Err(error) => assert!(is_refused && error.to_string().contains("its head has 16 KiB or more"), "{error}"),
        }
    }
}

#[test]
fn the_watch_ends_with_its_guard() {
    let server = Responder::start(&[raw(200, "text/plain", "yes")]);
    drop(watch_client(|| true));
    assert_eq!(text(post(&direct(), &server.base).unwrap()), "yes");
}

#[test]
fn a_small_call_is_not_watched_and_leaves_the_watch_as_it_was() {
    let (url, served) = one_connection(|mut stream| {
        read_request(&mut stream);
        // Longer than the time between two looks: nobody looks.
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let left = stream.read(&mut [0]).is_ok();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        left
    });
    let _watching = watch_client(|| true);
    let request = http::Request::get(&url).body(&[][..]).unwrap();
    let (status, body) = direct().call(&Origin::parse(&url).unwrap(), request).unwrap();
    assert_eq!((status, body.as_slice()), (200, &b"ok"[..]));
    assert!(!served.recv().unwrap());
    let (url, closed) = one_connection(|mut stream| {
        read_request(&mut stream);
        stream.read(&mut [0]).unwrap()
    });
    assert_eq!(error(&direct(), &url), Error::ClientLeft);
    assert_eq!(closed.recv().unwrap(), 0);
}

#[test]
fn a_truncated_body_is_an_error() {
    let server = Responder::start(&[b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec()]);
    let mut response = post(&direct(), &server.base).unwrap();
    let failure = response.body_mut().read_to_end(&mut Vec::new()).unwrap_err();
    assert!(failed(&Error::of("host", failure.into()), "cannot reach host"));
}

#[test]
fn a_request_is_sent_once_though_a_kept_connection_had_died() {
    let (url, served) = one_connection(move |mut stream| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        read_request(&mut stream);
    });
    let up = direct();
    assert_eq!(text(post(&up, &url).unwrap()), "ok");
    assert!(failed(&error(&up, &url), "cannot reach "));
    served.recv().unwrap();
}

#[test]
fn garbage_instead_of_http_is_a_broken_protocol() {
    let server = Responder::start(&[b"SSH-2.0-OpenSSH\r\n\r\n".to_vec()]);
    assert!(failed(&error(&direct(), &server.base), "bad reply from "));
}

#[test]
fn loopback_never_goes_through_the_proxy_and_everything_else_does() {
    let target = Responder::start(&[raw(200, "text/plain", "yes")]);
    let proxy = Responder::start(&[raw(407, "text/plain", "")]);
    let up = client(Settings {
        https_proxy: Some(proxy.base.replace("http://", "http://user:hunter2@")),
        no_proxy: Some("other.example, .invalid".into()),
        ..Settings::default()
    });
    assert_eq!(text(post(&up, &target.base).unwrap()), "yes");
    assert!(failed(&error(&up, "https://api.invalid/"), "cannot reach "));
    assert!(proxy.requests().is_empty());
    let error = error(&up, "https://api.example.com/?q=hunter3");
    assert!(failed(&error, "cannot reach api.example.com: the proxy refused"), "{error:?}");
    let asked = proxy.requests();
    assert!(asked[0].starts_with("CONNECT api.example.com:443 HTTP/1.1\r\n"), "{asked:?}");
    assert!(asked[0].contains("Proxy-Authorization: Basic dXNlcjpodW50ZXIy\r\n"));
    assert!(!asked[0].contains("hunter3"));
}

#[test]
fn a_proxy_that_would_be_passed_over_in_silence_is_refused() {
    for url in ["socks5://127.0.0.1:1080", "ftp://127.0.0.1", "http://", "::"] {
        let settings = Settings { https_proxy: Some(url.into()), ..Settings::default() };
        let error = Upstream::new(&settings, None).err().unwrap();
        assert!(matches!(error, Error::Unusable(_)), "{url}");
    }
}

#[test]
fn a_certificate_file_that_is_none_is_refused_by_name() {
    for path in ["/nonexistent/ca.pem", "/etc/hostname", "Cargo.toml"] {
        let settings = Settings { ca_file: Some(path.into()), ..Settings::default() };
        let error = Upstream::new(&settings, None).err().unwrap();
        assert!(error.to_string().contains(path), "{error}");
    }
}

#[test]
fn garbage_instead_of_tls_is_a_tls_error() {
    let (url, _served) = one_connection(|mut stream| stream.write_all(b"220 mail.example ESMTP\r\n"));
    assert!(failed(&error(&direct(), &url.replace("http", "https")), "no trust in "));
}

/// `openssl s_server` with a certificate of its own for localhost.
pub struct TlsServer {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl TlsServer {
    pub fn start(name: &str, mode: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("infershield-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "key.pem", "-out", "ca.pem"])
            .current_dir(&folder)
            .stderr(Stdio::null())
            .status();
        assert!(made.expect("the test needs the openssl command").success());
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "ca.pem", "-key", "key.pem"])
            .args(mode)
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.find(|line| line.as_ref().unwrap().starts_with("ACCEPT ")).unwrap().unwrap();
        // Whatever it says later must have somebody who reads it.
        thread::spawn(move || lines.count());
        let port = line.rsplit_once(':').unwrap().1.parse().unwrap();
        Self { child, port, folder }
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}/", self.port)
    }

    pub fn certificate(&self) -> Option<PathBuf> {
        Some(self.folder.join("ca.pem"))
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_certificate_is_trusted_by_its_issuer_only() {
    let server = TlsServer::start("trust", &["-www"]);
    let get = |up: &Upstream| {
        let request = http::Request::get(server.url()).body(&[][..]).unwrap();
        let response = up.send(&Origin::parse(&server.url()).unwrap(), request)?;
        Ok::<_, Error>(response.status().as_u16())
    };
    let is_distrusted = |up: &Upstream| failed(&get(up).unwrap_err(), "no trust in ");
    assert!(is_distrusted(&direct()));
    // Nobody is at this proxy, and nobody needs to be.
    let https_proxy = Some("http://127.0.0.1:1".to_owned());
    let beside = client(Settings { ca_file: server.certificate(), https_proxy, ..Settings::default() });
    assert_eq!((get(&beside), get(&beside)), (Ok(200), Ok(200)));
    assert_eq!(get(&trusting(&server.certificate().unwrap())), Ok(200));
    let file = client(Settings { ssl_cert_file: server.certificate(), ..Settings::default() });
    assert_eq!(get(&file), Ok(200));
    let bundle = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if bundle.is_file() {
        let system = Settings { roots: Roots::System, ..Settings::default() };
        assert!(is_distrusted(&client(system.clone())));
        let replaced = Settings { ca_file: server.certificate(), ..system };
        assert!(is_distrusted(&Upstream::new(&replaced, Some(bundle)).unwrap()));
    }
}

#[test]
fn a_proxy_that_is_not_trusted_is_named_itself_and_asked_once_more() {
    let server = TlsServer::start("proxy", &["-www"]);
    let port = server.port;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let https_proxy = Some(format!("https://localhost:{}", listener.local_addr().unwrap().port()));
    let (came, connections) = mpsc::channel();
    thread::spawn(move || {
        for client in listener.incoming() {
            came.send(()).unwrap();
            let (mut from_client, mut to_client) = (client.as_ref().unwrap().try_clone().unwrap(), client.unwrap());
            let mut tls = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let mut to_tls = tls.try_clone().unwrap();
            thread::spawn(move || std::io::copy(&mut from_client, &mut to_tls));
            thread::spawn(move || std::io::copy(&mut tls, &mut to_client));
        }
    });
    let up = client(Settings { https_proxy, ..Settings::default() });
    let error = error(&up, "https://api.example.com/");
    assert!(failed(&error, "no trust in localhost: "), "{error}");
    assert_eq!(error.to_string().matches("The system ").count(), 1, "{error}");
    assert_eq!(connections.try_iter().count(), 2);
}

#[test]
fn a_wait_that_is_looked_into_loses_nothing_of_a_tls_record() {
    let server = TlsServer::start("record", &["-www"]);
    let port = server.port;
    let (looked, looks) = mpsc::channel();
    // Between client and server: once the request is through, half of the reply, then two looks, then the rest.
    let (url, _) = one_connection(move |mut client| {
        let mut tls = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut from_client, mut to_tls) = (client.try_clone().unwrap(), tls.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut from_client, &mut to_tls));
        let mut chunk = [0; 16 << 10];
        while let Ok(length @ 1..) = tls.read(&mut chunk) {
            let (first, rest) = chunk[..length].split_at(length / 2);
            client.write_all(first).unwrap();
            looks.recv().unwrap();
            looks.recv().unwrap();
            client.write_all(rest).unwrap();
        }
    });
    let url = url.replace("http://127.0.0.1", "https://localhost");
    let up = trusting(&server.certificate().unwrap());
    // The handshake is not looked into; from its first flight on, a second voice says that time passed.
    let early = looked.clone();
    thread::spawn(move || (0..6).for_each(|_| early.send(()).unwrap_or_default()));
    let _watching = watch_client(move || looked.send(()).is_err());
    let request = http::Request::get(&url).body(&[][..]).unwrap();
    let response = up.send(&Origin::parse(&url).unwrap(), request).unwrap();
    assert!(text(response).contains("s_server"));
}

#[test]
fn a_client_that_leaves_a_silent_tls_provider_closes_its_connection() {
    let server = TlsServer::start("silent", &[]);
    let port = server.port;
    let (url, closed) = one_connection(move |mut client| {
        let mut tls = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut from_tls, mut to_client) = (tls.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut from_tls, &mut to_client));
        // Ends when the client closes.
        std::io::copy(&mut client, &mut tls).is_ok()
    });
    let up = trusting(&server.certificate().unwrap());
    let _watching = watch_client(|| true);
    let url = url.replace("http://127.0.0.1", "https://localhost");
    assert_eq!(error(&up, &url), Error::ClientLeft);
    assert!(closed.recv().unwrap());
}
