//! `config show | check`, `route`, `hosts`, `rekey`: what is configured, and what follows from it.

use super::args::Args;
use super::context::{self, Context};
use super::serve::policy;
use super::terminal::{note, print as say, read_key};
use super::{Done, Failure};
use crate::audit::Event;
use crate::home::Home;
use crate::keys::{MasterSource, NewMaster};
use crate::proxy::{Choices, choose};
use serde_json::{Map, Value, json};

pub(super) fn show(args: &Args) -> Done {
    let config = context::load(&[])?;
    let rows = config.shown();
    if args.has("json") {
        let row = |(key, value, origin): (String, Value, crate::config::Origin)| {
            (key, json!({"value": value, "origin": origin.to_string()}))
        };
        return say(Value::Object(rows.into_iter().map(row).collect::<Map<_, _>>()));
    }
    for (key, value, origin) in rows {
        say(format_args!("{key:30}  {value}  ({origin})"))?;
    }
    Ok(())
}

pub(super) fn check(_: &Args) -> Done {
    let config = context::load(&[])?;
    context::providers(&config)?;
    policy(&config.settings)?;
    say(format_args!("✓ the settings in {} can be used", config.dir.display()))
}

pub(super) fn route(args: &Args) -> Done {
    let context = Context::open(&[])?;
    let logins = context.session()?.logins(&context.user(args))?;
    let choices = Choices {
        providers: &context.providers,
        key_provider: None,
        default_provider: context.config.settings.default_provider.as_deref(),
        logins: &logins,
    };
    let path = args.word(0).unwrap_or_default();
    let method = if path.ends_with("/models") { "GET" } else { "POST" };
    let route = choose(&choices, method, path).map_err(|(_, why)| Failure::new(super::Exit::No, why))?;
    if args.has("json") {
        return say(json!({"provider": route.provider.id, "api": route.family.action(), "why": route.why}));
    }
    say(format_args!("{path} -> {} ({})", route.provider.id, route.why))
}

pub(super) fn hosts(args: &Args) -> Done {
    let config = context::load(&[])?;
    let providers = context::providers(&config)?;
    let mut rows: Vec<(String, String)> = Vec::new();
    for provider in &providers {
        rows.extend(provider.hosts().iter().map(|origin| (origin.to_string(), provider.id.clone())));
    }
    if let Some((_, proxy, _)) =
        config.shown().into_iter().find(|(key, value, _)| key == "https_proxy" && value.is_string())
    {
        rows.push((proxy.as_str().unwrap_or_default().to_owned(), "https_proxy".to_owned()));
    }
    if args.has("json") {
        let row = |(host, of): (String, String)| json!({"host": host, "provider": of});
        return say(Value::Array(rows.into_iter().map(row).collect()));
    }
    rows.iter().try_for_each(|(host, of)| say(format_args!("{host:45}  {of}")))
}

pub(super) fn rekey(args: &Args) -> Done {
    let config = context::load(&[])?;
    let home = Home::open(config.dir.clone())?;
    let keys = context::keys(&config, &home)?;
    let given = args.has("with-key");
    if !given && !matches!(context::master(&config)?, MasterSource::Home) {
        return Err(Failure::usage(
            "the master key comes from outside the home: pipe the new one to `infershield rekey --with-key`, then set it there",
        ));
    }
    let new = if given { NewMaster::Given(read_key("New master key: ")?) } else { NewMaster::Home };
    keys.rekey(&new)?;
    let audit = context::open_audit(&home, &keys)?;
    let mut event = Event::new("key.rekey");
    event.user_id = Some(config.settings.default_user.clone());
    audit.append(&event)?;
    audit.sync()?;
    if given {
        note("set the new master key where infershield finds it before the next command");
    }
    say("✓ Master key changed.")
}
