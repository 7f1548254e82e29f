//! `config show | check`, `route`, `hosts`, `rekey`: what is configured, and what follows from it.

use super::context::{self, Context};
use super::terminal::{answer, list, note, read_new_master};
use super::{Args, Done, no, serve, usage};
use crate::api::{Family, chatgpt_takes};
use crate::audit::Event;
use crate::config::{Config, unknown_variables, without_user};
use crate::flow::provider::{Provider, table};
use crate::keys::MasterSource;
use crate::proxy::{called, choose};
use serde_json::{Map, Value, json};

/// Settings of the way to providers.
const NETWORK: [&str; 5] = ["ca_file", "https_proxy", "no_proxy", "roots", "ssl_cert_file"];

pub(super) fn show(args: &Args) -> Done {
    let config = context::load(args)?;
    let mut members = Map::new();
    let mut lines = Vec::new();
    for (name, value, origin) in config.shown() {
        lines.push(format!("{name:30}  {value}  ({origin})"));
        members.insert(name, json!({"value": value, "origin": origin}));
    }
    answer(args, Value::Object(members), lines.join("\n"))
}

pub(super) fn check(args: &Args) -> Done {
    let config = context::load(args)?;
    context::keys(&config)?;
    let mut warnings = unknown_variables();
    if !serve::usable(&config)?.ip().is_loopback() {
        warnings.push("`serve` listens beyond this machine only with --insecure-plain-http".to_owned());
    }
    warnings.iter().for_each(|text| note(format_args!("warning: {text}")));
    let json = json!({"ok": true, "warnings": warnings});
    answer(args, json, format_args!("✓ the settings in {} can be used", config.dir.display()))
}

pub(super) fn route(args: &Args) -> Done {
    let context = Context::open(args)?;
    let session = context.session()?;
    let logins = session.logins(&context.user)?;
    let path = args.word().unwrap_or_default();
    let method = if path.ends_with("/models") { "GET" } else { "POST" };
    let model = || args.value("model").map(str::to_owned);
    let route = called(method, path, false)
        .and_then(|called| choose(&context.providers, &context.config.settings, None, &logins, called, model));
    let route = route.map_err(|stop| no(stop.message))?;
    // The rest of what such an account takes depends on the body.
    if route.family != Family::Responses && session.is_chatgpt_account(&context.user, route.provider)? {
        chatgpt_takes(route.family, b"").map_err(no)?;
    }
    let json = json!({"provider": route.provider.id, "api": route.family.action(), "why": route.why});
    answer(args, json, format_args!("{path} -> {} ({})", route.provider.id, route.why))
}

pub(super) fn hosts(args: &Args) -> Done {
    let config = context::load(args)?;
    let providers = table(&config.settings.providers)?;
    let row = |host: String, of: &str| (json!({"host": host, "provider": of}), format!("{host:45}  {of}"));
    let mut rows = Vec::new();
    for provider in &providers {
        rows.extend(provider.hosts().iter().map(|host| row(host.to_string(), &provider.id)));
        rows.extend(provider.domains().map(|domain| row(format!("https://*.{domain}"), &provider.id)));
    }
    rows.extend(config.settings.https_proxy.iter().map(|url| row(without_user(url), "https_proxy")));
    // The proxy is a host, and has its row.
    let is_new = |(name, value, _): &(String, Value, &str)| name != "https_proxy" && value != "built-in";
    for (setting, value, origin) in network(&config, &providers).into_iter().filter(is_new) {
        let text = format!("{:45}  {setting} ({origin})", value.as_str().unwrap_or_default());
        let of = providers.iter().find(|row| row.id == origin).map(|row| &row.id);
        rows.push((json!({"setting": setting, "value": value, "provider": of}), text));
    }
    list(args, rows, "no hosts")
}

/// The settings that decide which way connections go and who is trusted, without what is secret in them: name, value, and where
/// that comes from, which may be the row of the provider of this id.
pub(super) fn network<'a>(config: &'a Config, providers: &'a [Provider]) -> Vec<(String, Value, &'a str)> {
    let own = |row: &'a Provider| ("ca_file".to_owned(), json!(row.ca_file), row.id.as_str());
    let mut set: Vec<_> = config.shown().into_iter().chain(providers.iter().map(own)).collect();
    set.retain(|(name, value, _)| NETWORK.contains(&name.as_str()) && !value.is_null());
    set
}

pub(super) fn rekey(args: &Args) -> Done {
    let context = Context::open(args)?;
    let given = args.has("with-key");
    if !given && !matches!(context::master(&context.config)?, MasterSource::Home) {
        return Err(usage(
            "the master key comes from outside the home: pipe the new one to `infershield rekey --with-key`, then set it there",
        ));
    }
    let new = if given { Some(read_new_master()?) } else { None };
    context.keys.rekey(new.as_ref())?;
    context.record(Event::new("key.rekey"))?;
    if given {
        note("set the new master key where infershield finds it before the next command");
    }
    answer(args, json!({"ok": true}), "✓ Master key changed.")
}
