//! `serve`: put the proxy together, say where it listens, run it.

use super::context::{self, Context, policy, provider, unusable};
use super::terminal::{note, print};
use super::{Args, Done, Exit, Failure, key, repeated, rules, sidecar, usage};
use crate::audit::Event;
use crate::config::{self, Config, Mode, Settings};
use crate::detect::{Scanner, Stopped};
use crate::flow::provider::{Provider, table};
use crate::proxy::Proxy;
use crate::secret::sha256_hex;
use crate::server;
use crate::upstream::{Origin, Upstream};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::{fs, io, sync::Arc, thread, time::Duration};

/// What the line begins with that says that requests are accepted; the URL follows.
pub(super) const LISTENING_ON: &str = "infershield listening on ";
/// Characters of the policy's hash that stand in the audit log.
const POLICY_NAME_CHARS: usize = 8;
/// State of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

pub(super) fn serve(args: &Args) -> Done {
    // A core would hold tokens and prompts. Where there is no such file the system may still keep one.
    let _ = fs::write("/proc/self/coredump_filter", "0");
    let tie = args.has("tied-to").then(|| sidecar::Tie::take(args)).transpose()?;
    let context = Context::open(args)?;
    let address = usable(&context.config)?;
    if !address.ip().is_loopback() {
        if !args.has("insecure-plain-http") {
            return Err(usage(format_args!(
                "{address} can be reached from other machines and this is plain HTTP; listen on 127.0.0.1, or say --insecure-plain-http"
            )));
        }
        note("warning: keys and prompts travel unencrypted to this address (--insecure-plain-http)");
    }
    let proxy = Arc::new(proxy(&context, args)?);
    let limits = limits(&context.config.settings);
    let listener = TcpListener::bind(address).map_err(|error| cannot_listen(address, &error))?;
    let listening = listener.local_addr().map_err(|error| cannot_listen(address, &error))?;
    let key_id = tie.as_ref().map(|tie| tie.make_key(&context)).transpose()?;
    if context.store.keys(&context.user)?.is_empty() {
        key::named(&context, "default")?;
        note("made the local key `default`; to use it, type: eval \"$(infershield env CLIENT)\"");
    }
    if context.config.settings.mode == Mode::Monitor {
        note("monitor mode: everything is judged and written down, and nothing is stopped or changed");
    }
    let policy = Some(proxy.policy_name.clone());
    context.record(Event { policy, ..Event::new("serve.start") })?;
    context.audit.start_sync()?;
    let said = print(format_args!("{LISTENING_ON}http://{listening}"));
    let Some((tie, key_id)) = tie.zip(key_id) else {
        said?;
        server::run(&listener, limits, &proxy)
    };
    // A command that is gone already has no use for the line, but its key has to end.
    let handler = Arc::clone(&proxy);
    thread::Builder::new().spawn(move || server::run(&listener, limits, &handler))?;
    // Each connection holds the proxy, as do the server and this thread.
    tie.stay(&context, &key_id, || Arc::strong_count(&proxy) <= 2)
}

/// Where these settings, when all of them can be used, let the proxy listen.
pub(super) fn usable(config: &Config) -> Result<SocketAddr, Failure> {
    let settings = &config.settings;
    context::name("user", &settings.default_user)?;
    policy(config)?;
    Scanner::with(&rules::files(config)?).map_err(usage)?;
    let providers = table(&settings.providers)?;
    if let Some(name) = &settings.default_provider {
        provider(&providers, name).map_err(|failure| unusable("default_provider", failure.message))?;
    }
    for provider in &providers {
        Upstream::new(settings, provider.ca_file.as_deref())?;
    }
    for host in &settings.allowed_hosts {
        let origin = Origin::parse(&format!("https://{host}"));
        if !origin.is_ok_and(|origin| origin.host().eq_ignore_ascii_case(host)) {
            return Err(unusable("allowed_hosts", format_args!("`{host}` is no host name")));
        }
    }
    let limits = &settings.limits;
    if [limits.max_body_bytes, limits.max_inflight_bytes, limits.head_timeout_ms].contains(&0) {
        let what = "max_body_bytes, max_inflight_bytes and head_timeout_ms cannot be 0";
        return Err(unusable("limits", what));
    }
    context::rounds(config)?;
    if settings.mode == Mode::Monitor && config::variable("INFERSHIELD_EXEC")?.is_some() {
        return Err(usage(
            "what runs inside `infershield exec` is guarded, and does not switch that off: leave monitor mode out",
        ));
    }
    let address = address(&settings.listen)?;
    let open = providers.iter().find(|provider| provider.passthrough && !address.ip().is_loopback());
    if let Some(Provider { id, .. }) = open {
        let what = format_args!("`{id}` takes it from this machine only, and {address} can be reached from others");
        return Err(unusable("passthrough", what));
    }
    Ok(address)
}

fn proxy(context: &Context, args: &Args) -> Result<Proxy, Failure> {
    let settings = context.config.settings.clone();
    let mut policy = policy(&context.config)?;
    policy.monitor = settings.mode == Mode::Monitor;
    let rules = rules::files(&context.config)?;
    // What is left open follows from the version.
    let text =
        format!("{} {}", env!("CARGO_PKG_VERSION"), serde_json::to_string(&(&policy, &rules)).unwrap_or_default());
    let hash = sha256_hex(text.as_bytes());
    let mode = if policy.monitor { "monitor" } else { "enforce" };
    Ok(Proxy {
        policy_name: format!("{mode}:{}", hash.get(..POLICY_NAME_CHARS).unwrap_or_default()),
        store: Arc::clone(&context.store),
        session: context.session()?,
        audit: Arc::clone(&context.audit),
        scanner: Scanner::with(&rules).map_err(usage)?,
        seen: Default::default(),
        sent: Default::default(),
        policy,
        // Unlocks the keys before the first request has to wait for it, and fails here rather than there.
        stopped: Stopped::default(),
        fingerprint: context.keys.get("fingerprint")?.key,
        placeholder: context.keys.get("placeholder")?.key,
        verbose: args.has("verbose"),
        inflight: Default::default(),
        settings,
    })
}

/// The server's limits as the settings have them.
fn limits(settings: &Settings) -> server::Limits {
    let set = &settings.limits;
    let usual = server::Limits::default();
    let connections = if set.max_connections > 0 { set.max_connections } else { usual.connections };
    let head_time = Duration::from_millis(set.head_timeout_ms);
    server::Limits { body_bytes: set.max_body_bytes, head_time, connections, ..usual }
}

pub(super) fn address(listen: &str) -> Result<SocketAddr, Failure> {
    let resolved = listen.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    resolved.ok_or_else(|| {
        usage(format_args!("cannot listen on `{}`: write HOST:PORT, such as 127.0.0.1:8000", repeated(listen)))
    })
}

/// What a listener is called by: one on every address of this machine, by the name of it that `Host` may hold.
pub(super) fn called(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

pub(super) fn cannot_listen(address: SocketAddr, error: &io::Error) -> Failure {
    let who = match owner(address.port()) {
        Some(who) if error.kind() == io::ErrorKind::AddrInUse => format!(" ({who} has it)"),
        _ => String::new(),
    };
    let message = format!("cannot listen on {address}: {error}{who}; choose another with --listen HOST:PORT");
    Failure::new(Exit::Listen, message)
}

/// Who listens on this port, as far as this user may see: the socket's inode, then the process that has it open.
fn owner(port: u16) -> Option<String> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let ours = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()? == port;
        (ours && *state == LISTENING).then(|| format!("socket:[{inode}]"))
    })?;
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let mut open = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        open.find(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == inode.as_str()))?;
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        Some(format!("{}, process {}", name.trim(), process.file_name().to_string_lossy()))
    })
}
