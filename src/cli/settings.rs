//! `config show | check`, `route`, `hosts`, `rekey`: what is configured, and what follows from it.

use super::context::{self, Context};
use super::terminal::{answer, list, note, read_key};
use super::{Args, Done, no, serve, usage};
use crate::audit::Event;
use crate::config::{unknown_variables, without_user};
use crate::flow::provider::table;
use crate::home::Home;
use crate::keys::MasterSource;
use crate::proxy::{called, choose};
use serde_json::{Map, Value, json};

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
    context::keys(&config, &Home::open(config.dir.clone())?)?;
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
    let logins = context.session()?.logins(&context.user)?;
    let path = args.word().unwrap_or_default();
    let method = if path.ends_with("/models") { "GET" } else { "POST" };
    let model = || args.value("model").map(str::to_owned);
    let route = called(method, path, false)
        .and_then(|called| choose(&context.providers, &context.config.settings, None, &logins, called, model));
    let route = route.map_err(|stop| no(stop.message))?;
    let json = json!({"provider": route.provider.id, "api": route.family.action(), "why": route.why});
    answer(args, json, format_args!("{path} -> {} ({})", route.provider.id, route.why))
}

pub(super) fn hosts(args: &Args) -> Done {
    let config = context::load(args)?;
    let mut hosts = Vec::new();
    for provider in table(&config.settings.providers)? {
        hosts.extend(provider.hosts().iter().map(|host| (host.to_string(), provider.id.clone())));
        hosts.extend(provider.domains().map(|domain| (format!("https://*.{domain}"), provider.id.clone())));
    }
    if let Some(url) = &config.settings.https_proxy {
        hosts.push((without_user(url), "https_proxy".to_owned()));
    }
    let row = |(host, of)| (json!({"host": host, "provider": of}), format!("{host:45}  {of}"));
    list(args, hosts.into_iter().map(row), "no hosts")
}

pub(super) fn rekey(args: &Args) -> Done {
    let context = Context::open(args)?;
    let given = args.has("with-key");
    if !given && !matches!(context::master(&context.config)?, MasterSource::Home) {
        return Err(usage(
            "the master key comes from outside the home: pipe the new one to `infershield rekey --with-key`, then set it there",
        ));
    }
    let new = if given { Some(read_key("New master key: ")?) } else { None };
    context.keys.rekey(new.as_ref())?;
    context.record(&Event { user_id: Some(context.user.clone()), ..Event::new("key.rekey") })?;
    if given {
        note("set the new master key where infershield finds it before the next command");
    }
    answer(args, json!({"ok": true}), "✓ Master key changed.")
}
