//! Invariant 6: loopback is not a trust boundary. Every route but `/health` needs a local key, only our own names and pages
//! are listened to, and no route tells a secret.

use crate::support::{Fixture, POSTED, Reply, SECRETS, Wire, code, hello};
use serde_json::json;
use std::fs;

/// Every route that there is, also below a provider and without `/v1`.
fn routes() -> Vec<(&'static str, String)> {
    let mut routes = vec![("GET", "/v1/models".to_owned())];
    routes.extend(POSTED.map(|path| ("POST", path.to_owned())));
    let below =
        |prefix: &str| routes.iter().map(|(method, path)| (*method, format!("{prefix}{path}"))).collect::<Vec<_>>();
    let short = |(method, path): &(&'static str, String)| (*method, path.trim_start_matches("/v1").to_owned());
    [below(""), below("/practice"), below("/anthropic"), routes.iter().map(short).collect()].concat()
}

fn call(proxy: &Fixture, (method, path): &(&str, String), headers: &[(&str, &str)]) -> Reply {
    let body = if *method == "POST" { hello().to_string() } else { String::new() };
    Wire::call(proxy.addr, method, path, headers, body.as_bytes())
}

#[test]
fn invariant_6_every_route_but_health_needs_a_local_key() {
    let proxy = Fixture::start("needs-key");
    let master = proxy.master.clone();
    for route in routes() {
        for headers in [&[][..], &[("x-api-key", "practice")], &[("authorization", &format!("Bearer {master}"))]] {
            let reply = call(&proxy, &route, headers);
            assert_eq!(code(&route.1, &reply), "infershield_key_unknown", "{route:?}");
        }
    }
    for path in
        ["/", "/admin", "/metrics", "/v1", "/.well-known/openid-configuration", "/healthz", "/health/", "/HEALTH"]
    {
        let reply = Wire::call(proxy.addr, "GET", path, &[], b"");
        assert_eq!((reply.status, code(path, &reply).as_str()), (400, "infershield_key_unknown"), "{path}");
    }
    for method in ["POST", "PUT", "DELETE"] {
        let reply = Wire::call(proxy.addr, method, "/health", &[("content-length", "0")], b"");
        assert_eq!(code("/health", &reply), "infershield_key_unknown", "{method} /health");
    }
    assert_eq!(proxy.forwarded(), 0);
    let health = Wire::call(proxy.addr, "GET", "/health", &[], b"");
    assert!(health.header("x-infershield-request-id").is_some(), "like every reply");
    assert_eq!((health.status, health.json()), (200, json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")})));
}

#[test]
fn invariant_6_only_our_own_names_are_answered_to() {
    let mut plan = Fixture::plan("host-names");
    plan.config = json!({"allowed_hosts": ["devbox.internal"]});
    let proxy = plan.start();
    let bearer = proxy.bearer();
    let status = |host: &str, path: &str| {
        Wire::call(proxy.addr, "GET", path, &[("host", host), ("authorization", &bearer)], b"").status
    };
    for host in
        ["localhost", "LocalHost:9", "127.0.0.1:8000", "[::1]", "[::1]:8000", "devbox.internal", "DEVBOX.internal:80"]
    {
        assert_eq!(status(host, "/v1/models"), 200, "{host}");
        assert_eq!(status(host, "/health"), 200, "{host}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "evil.example:127",
        "xdevbox.internal",
        "127.0.0.1@evil.example",
        "::1",
    ] {
        assert_eq!(status(host, "/v1/models"), 403, "{host}");
        let reply = Wire::call(proxy.addr, "GET", "/health", &[("host", host)], b"");
        assert_eq!((reply.status, code("/health", &reply).as_str()), (403, "infershield_host"), "{host}");
        assert!(!reply.text().contains("version"), "{host}: a page that took over a name learns nothing");
    }
}

#[test]
fn invariant_6_pages_of_other_origins_are_refused_even_with_a_key() {
    let mut plan = Fixture::plan("origins");
    plan.config = json!({"allowed_hosts": ["devbox.internal"]});
    let proxy = plan.start();
    let bearer = proxy.bearer();
    let call = |path: &str, origin: &str| {
        let headers = [("origin", origin), ("authorization", &bearer)];
        Wire::call(proxy.addr, "GET", path, &headers, b"")
    };
    let ask = |origin: &str| call("/v1/models", origin);
    for origin in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:1", "https://devbox.internal"] {
        assert_eq!(ask(origin).status, 200, "{origin}");
    }
    for origin in [
        "https://evil.example",
        "null",
        "",
        "http://localhost.evil.example",
        "http://evil.example@localhost.x",
        "localhost",
    ] {
        let reply = ask(origin);
        assert_eq!((reply.status, code("", &reply).as_str()), (403, "infershield_origin"), "{origin}");
        assert!(reply.headers.iter().all(|(name, _)| !name.starts_with("access-control-")), "no page is invited");
        let reply = call("/health", origin);
        assert_eq!((reply.status, code("", &reply).as_str()), (403, "infershield_origin"), "{origin}");
        assert!(!reply.text().contains("version"), "{origin}");
    }
    let two = [("origin", "http://localhost"), ("origin", "https://evil.example"), ("authorization", &bearer)];
    assert_eq!(Wire::call(proxy.addr, "GET", "/v1/models", &two, b"").status, 403, "the second one counts too");
}

#[test]
fn invariant_6_no_route_tells_a_secret() {
    let proxy = Fixture::start("tells-nothing");
    let bearer = proxy.bearer();
    let mut replies: Vec<Reply> = Vec::new();
    for route in routes() {
        replies.push(call(&proxy, &route, &[("authorization", &bearer)]));
        replies.push(call(&proxy, &route, &[]));
    }
    for path in ["/health", "/v1/config", "/tokens.json", "/v1/keys", "/env", "/debug"] {
        replies.push(proxy.fetch(path));
    }
    proxy.practice.fail("*", &json!({"kind": "status", "status": 401, "times": 2}));
    replies.push(proxy.post("/v1/messages", &hello()));
    let list = fs::read_to_string(proxy.run.dir.join(SECRETS)).unwrap();
    for reply in replies {
        let told = format!("{:?} {}", reply.headers, reply.text());
        assert!(list.lines().all(|secret| !told.contains(secret)), "{told}");
    }
}

#[test]
fn invariant_6_other_machines_are_not_listened_to_without_a_persons_word() {
    let mut proxy = Fixture::start("beyond-loopback");
    proxy.serve.kill();
    for address in ["0.0.0.0:0", "[::]:0"] {
        let done = proxy.cli(&["serve", "--listen", address]);
        assert_eq!(done.code, 2, "{address}: {done:?}");
        assert!(done.stderr.contains("--insecure-plain-http"), "{}", done.stderr);
    }
    let mut open = proxy.cli_start(&["serve", "--listen", "0.0.0.0:0", "--insecure-plain-http"]);
    open.line_after("infershield listening on http://");
    open.kill();
}
