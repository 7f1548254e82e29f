//! `auth login | logout | status`: what a person sees of them. The work is `session`'s.

use super::args::Args;
use super::context::Context;
use super::terminal::{interactive, note, print as say, progress, read_key};
use super::{Done, Exit, Failure};
use crate::flow::{DeviceCode, Login, Provider};
use crate::secret::Secret;
use crate::session::{Revoke, Session, now};
use crate::store::Record;
use serde_json::json;
use std::process::{Command, Stdio};
use std::time::Duration;

pub(super) fn login(args: &Args) -> Done {
    let context = Context::open(&[])?;
    let mut provider = chosen(&context, args)?.clone();
    if let Some(id) = args.value("client-id") {
        provider.client_id = Some(id.to_owned());
    }
    if let Some(notice) = &provider.notice {
        note(notice);
    }
    let session = context.session()?;
    let user = context.user(args);
    let done = match provider.login {
        _ if args.has("with-key") => with_key(&session, &user, &provider),
        Login::Key if interactive() => with_key(&session, &user, &provider),
        Login::Device => with_code(&session, &user, &provider, args),
        Login::None => Err(Failure::usage(format_args!("provider `{}` needs no login", provider.id))),
        Login::Key | Login::Chatgpt => Err(Failure::usage(format_args!(
            "provider `{0}` takes an API key; pipe it to `infershield auth login {0} --with-key`",
            provider.id
        ))),
    };
    match done {
        Ok(record) => {
            context.audit.sync()?;
            let account = record.account.as_deref().unwrap_or(&user);
            if args.has("json") {
                let expires_at = record.expires_at;
                return say(
                    json!({"event": "authenticated", "provider": provider.id, "account": account, "expires_at": expires_at}),
                );
            }
            say(format_args!("✓ Authenticated as {account}"))
        }
        Err(failure) => {
            if args.has("json") {
                say(json!({"event": "failed", "error": failure.message}))?;
            }
            Err(failure)
        }
    }
}

pub(super) fn logout(args: &Args) -> Done {
    let context = Context::open(&[])?;
    let (session, user) = (context.session()?, context.user(args));
    let logins = session.logins(&user)?;
    let leaving = match (args.has("all"), args.word(0)) {
        (true, _) => logins,
        // A login whose row has left the configuration can still be ended, by its id.
        (false, Some(name)) if logins.iter().any(|id| id == name) => vec![name.to_owned()],
        (false, Some(name)) => vec![context.provider(name)?.id.clone()],
        (false, None) if logins.len() == 1 => logins,
        (false, None) if logins.is_empty() => {
            return Err(Failure::new(Exit::No, "nobody is logged in; type `infershield auth login PROVIDER`"));
        }
        (false, None) => {
            return Err(Failure::usage(format_args!(
                "name one of {}, or type `infershield auth logout --all`",
                logins.join(", ")
            )));
        }
    };
    let revoke = match (args.has("keep-remote"), args.has("revoke")) {
        (true, _) => Revoke::No,
        (false, true) => Revoke::Exposed,
        (false, false) => Revoke::Ordinary,
    };
    for id in leaving {
        if session.logout(&user, &id, revoke)? {
            say("✓ Token revoked. Re-authenticate to continue.")?;
            continue;
        }
        let row = context.providers.iter().find(|provider| provider.id == id);
        let page = row.and_then(|provider| provider.revoke_url.as_ref());
        let where_to = page.map_or("its account page", |page| page.as_str());
        say(format_args!("✓ Logged out. The credential stays valid at {id}: revoke it at {where_to}."))?;
    }
    Ok(context.audit.sync()?)
}

pub(super) fn status(args: &Args) -> Done {
    let context = Context::open(&[])?;
    let user = context.user(args);
    let rows = context.session()?.status(&user)?;
    let repair = |record: &Record, state: &str| {
        let with_key = if record.bound.token_endpoint.is_none() { " --with-key" } else { "" };
        (state != "valid").then(|| format!("infershield auth login {}{with_key}", record.provider))
    };
    if args.has("json") {
        let row = |(state, record): &(&str, Record)| {
            json!({"user_id": user, "provider": record.provider, "account": record.account, "state": state,
                "expires_at": record.expires_at, "refreshable": record.refresh_token.is_some(), "source": "login",
                "repair": repair(record, state)})
        };
        say(serde_json::Value::Array(rows.iter().map(row).collect()))?;
    } else {
        for (state, record) in &rows {
            let ends = match record.expires_at {
                Some(at) if at > now() => format!("token ends in {}", duration(Duration::from_secs(at - now()))),
                Some(_) => "token has ended".to_owned(),
                None => "token does not end".to_owned(),
            };
            let renewed = if record.refresh_token.is_some() { ", renewed by itself" } else { "" };
            let account = record.account.as_deref().unwrap_or("-");
            say(format_args!("{:12}  {account}  {state}  {ends}{renewed}", record.provider))?;
            if let Some(repair) = repair(record, state) {
                say(format_args!("{:12}  repair: {repair}", ""))?;
            }
        }
        if rows.is_empty() {
            note("nobody is logged in; type `infershield auth login PROVIDER`");
        }
    }
    if rows.iter().any(|(state, _)| *state == "valid") { Ok(()) } else { Err(Failure::no()) }
}

/// The provider named, or the default one, or the only one that the user has configured.
fn chosen<'a>(context: &'a Context, args: &Args) -> Result<&'a Provider, Failure> {
    let configured = || match context.config.settings.providers.as_slice() {
        [only] => only.get("id")?.as_str(),
        _ => None,
    };
    match args.word(0).or(context.config.settings.default_provider.as_deref()).or_else(configured) {
        Some(name) => context.provider(name),
        None => {
            let known: Vec<&str> = context.providers.iter().map(|provider| provider.id.as_str()).collect();
            Err(Failure::usage(format_args!("name a provider: {}", known.join(", "))))
        }
    }
}

fn with_key(session: &Session, user: &str, provider: &Provider) -> Result<Record, Failure> {
    let key = read_key(&format!("API key for {}: ", provider.id))?;
    Ok(session.login_key(user, provider, key)?)
}

fn with_code(session: &Session, user: &str, provider: &Provider, args: &Args) -> Result<Record, Failure> {
    let mut said = Ok(());
    let mut show = |code: &DeviceCode| said = announce(provider, code, args);
    let record = session.login_device(user, provider, &mut show, &mut |left| {
        progress(format_args!("waiting for you; the code lives {} more", duration(left)));
    });
    progress("");
    said.and(record.map_err(Failure::from))
}

fn announce(provider: &Provider, code: &DeviceCode, args: &Args) -> Done {
    let user_code = code.user_code.expose();
    if args.has("json") {
        let complete = code.verification_uri_complete.as_ref().map(Secret::expose);
        return say(json!({"event": "code", "verification_uri": code.verification_uri,
            "verification_uri_complete": complete, "user_code": user_code, "expires_in": code.expires_in}));
    }
    say(format_args!("Visit: {}", code.verification_uri))?;
    say(format_args!("Code: {user_code}"))?;
    note(format_args!(
        "This logs infershield on this machine in to {}. Enter the code on that page only, and only if you started this.\n\
         The code lives {}. Ctrl-C ends the login and leaves nothing behind.",
        provider.title.as_ref().unwrap_or(&provider.id),
        duration(Duration::from_secs(code.expires_in))
    ));
    if interactive() && !args.has("no-browser") {
        // The page without the code: a command line can be read by every program of this machine.
        let opener = Command::new("xdg-open")
            .arg(&code.verification_uri)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        // Without a browser the two lines above are enough.
        drop(opener);
    }
    Ok(())
}

/// A time as people say it.
fn duration(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}
