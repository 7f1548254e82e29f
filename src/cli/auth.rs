//! `auth login | logout | status`: what a person sees of them. The work is `session`'s.

use super::context::{Context, addressed, provider};
use super::terminal::{answer, duration, end, interactive, list, note, print, progress, read_answer, read_key};
use super::{Args, Done, Failure, no, usage};
use crate::audit;
use crate::flow::{DeviceCode, Login, Provider};
use crate::secret::Secret;
use crate::session::{self, Revoke};
use crate::store::Record;
use serde_json::json;
use std::process::{Command, Stdio};

/// What to do when nobody is logged in.
const NOBODY: &str = "nobody is logged in; type `infershield auth login PROVIDER`";

/// The bad answer during a login that is told: the first may be chance, and the later ones are no news.
const TELLING_FAULT: usize = 2;

pub(super) fn login(args: &Args) -> Done {
    let done = attempt(args).map_err(|failure| addressed(failure, args));
    if let (Err(failure), true) = (&done, args.has("json")) {
        print(json!({"event": "failed", "error": failure.message}))?;
    }
    done
}

fn attempt(args: &Args) -> Done {
    let context = Context::open(args)?;
    let Some(name) = args.word().or(context.config.settings.default_provider.as_deref()) else {
        return Err(usage("name a provider; type `infershield hosts` for those that are known"));
    };
    let mut provider = provider(&context.providers, name)?.clone();
    if let Some(id) = args.value("client-id") {
        provider.client_id = Some(id.to_owned());
    }
    if let Some(host) = args.value("host") {
        provider = provider.at(host)?;
    }
    if let Some(notice) = provider.notice.as_ref().filter(|_| !args.has("with-key")) {
        note(notice);
    }
    let record = log_in(&context, &provider, args);
    // A login that failed has its line too.
    let synced = context.audit.sync();
    let record = record?;
    synced?;
    let account = record.account.as_ref().unwrap_or(&context.user);
    let expires_at = record.expires_at;
    let said = json!({"event": "authenticated", "provider": provider.id, "account": account, "expires_at": expires_at});
    answer(args, said, format_args!("✓ Authenticated as {account}"))
}

pub(super) fn logout(args: &Args) -> Done {
    let revoke = match (args.has("keep-remote"), args.has("revoke")) {
        (true, true) => return Err(usage("--keep-remote and --revoke contradict each other; say one of them")),
        (true, false) => Revoke::No,
        (false, true) => Revoke::Exposed,
        (false, false) => Revoke::Ordinary,
    };
    if args.has("all") && args.word().is_some() {
        return Err(usage("a provider and --all are two different things to end; say one of them"));
    }
    let context = Context::open(args)?;
    let session = context.session()?;
    // Not those by a key in the environment: there is nothing to forget.
    let records = context.store.records(&context.user)?;
    let logins: Vec<String> = records.into_iter().map(|record| record.provider).collect();
    let leaving = match args.word() {
        None if logins.is_empty() => return Err(no(NOBODY)),
        _ if args.has("all") => logins,
        // A login whose row has left the configuration can still be ended, by its id.
        Some(name) if logins.iter().any(|id| id == name) => vec![name.to_owned()],
        Some(name) => vec![provider(&context.providers, name)?.id.clone()],
        None if logins.len() == 1 => logins,
        None => {
            let logins = logins.join(", ");
            return Err(usage(format_args!("name one of {logins}, or type `infershield auth logout --all`")));
        }
    };
    let mut said = Ok(());
    for id in leaving {
        let revoked = session.logout(&context.user, &id, revoke)?;
        let row = context.providers.iter().find(|provider| provider.id == id);
        let page = row.and_then(|provider| provider.revoke_url.as_ref()).map(|page| page.as_str());
        let json = json!({"provider": id, "revoked": revoked, "revoke_url": page});
        let page = page.unwrap_or("its account page");
        let text = match revoked {
            true => "✓ Token revoked. Re-authenticate to continue.".to_owned(),
            false => format!("✓ Logged out. The credential stays valid at {id}: revoke it at {page}."),
        };
        // Whoever reads may leave after the first line; the others are logged out all the same.
        said = said.and(answer(args, json, text));
    }
    context.audit.sync()?;
    said
}

pub(super) fn status(args: &Args) -> Done {
    let context = Context::open(args)?;
    let stored = context.store.records(&context.user)?;
    let settings = &context.config.settings;
    let mut usable = false;
    let mut rows = Vec::new();
    let last_used = audit::last_used(&context.keys.home, &context.user)?;
    for record in context.session()?.records(&context.user)? {
        let row = context.providers.iter().find(|row| row.id == record.provider);
        let state = session::state(&record, row);
        usable |= state == "valid";
        let way = match (&record.bound.token_endpoint, &record.bound.account_id) {
            (None, _) => " --with-key",
            (_, Some(_)) => " --chatgpt",
            _ => "",
        };
        let login = settings.for_user(&context.user, &format!("infershield auth login {}{way}", record.provider));
        let repair = (state != "valid").then_some(login);
        let refreshable = record.refresh_token.is_some();
        let is_stored = stored.iter().any(|one| one.provider == record.provider);
        let variable = row.and_then(|row| row.key_env.as_deref());
        let source = variable.filter(|_| !is_stored).unwrap_or("login");
        let json = json!({"user_id": context.user, "provider": record.provider, "account": record.account,
            "state": state, "expires_at": record.expires_at, "refreshable": refreshable, "source": source,
            "last_used": last_used.get(&record.provider), "repair": repair});
        let account = record.account.as_deref().unwrap_or("-");
        let end = end(record.expires_at);
        let renewed = if refreshable && state == "valid" { ", renewed by itself" } else { "" };
        let used = last_used.get(&record.provider).map(|at| duration(audit::now().saturating_sub(*at)));
        let used = used.map_or("not used this month".to_owned(), |ago| format!("last used {ago} ago"));
        let kind = if is_stored { "stored login".to_owned() } else { format!("key in {source}") };
        let mut text = format!("{:12}  {account}  {state}  {kind}, token {end}{renewed}, {used}", record.provider);
        if let Some(repair) = repair {
            text += &format!("\n{:12}  repair: {repair}", "");
        }
        rows.push((json, text));
    }
    let said = list(args, rows, &settings.for_user(&context.user, NOBODY));
    if usable { said } else { Err(no("")) }
}

fn log_in(context: &Context, provider: &Provider, args: &Args) -> Result<Record, Failure> {
    let session = context.session()?;
    let id = &provider.id;
    let with_key = is_by_key(provider, args)?;
    let provider = &provider.of_login(!with_key);
    if with_key {
        let key = read_key(&format!("API key for {id}: "))?;
        if !key.is_credential() {
            return Err(usage(format_args!(
                "the key holds a sign that no request can carry, or stands in quotation marks: copy it again, then \
                 type `infershield auth login {id} --with-key`"
            )));
        }
        return Ok(session.login_key(&context.user, provider, key)?);
    }
    // Whoever reads may leave after the code; the login goes on.
    let mut show = |code: &DeviceCode| drop(announce(provider, code, args));
    let mut faults = 0;
    let record = session.login_device(&context.user, provider, &mut show, &mut |left, fault| {
        faults += usize::from(fault.is_some());
        if let (Some(fault), TELLING_FAULT) = (fault, faults) {
            progress("");
            note(format_args!("the login waits on, but: {fault}"));
        }
        progress(format_args!("waiting for you; the code lives {} more", duration(left.as_secs())));
    });
    progress("");
    Ok(record?)
}

/// Whether an API key is what the user logs in with: as the flags say, else as the row or a person at a terminal does.
fn is_by_key(provider: &Provider, args: &Args) -> Result<bool, Failure> {
    let id = &provider.id;
    let key = format!("pipe it to `infershield auth login {id} --with-key`");
    let wrong = match (provider.login, args.has("with-key"), args.has("chatgpt")) {
        (_, true, true) => "--with-key and --chatgpt are two ways to log in; say one of them".to_owned(),
        (_, true, _) => return Ok(true),
        (Login::Chatgpt, _, true) | (Login::Device, _, false) => return Ok(false),
        (_, _, true) => format!("provider `{id}` knows no ChatGPT accounts; leave --chatgpt out"),
        (Login::Key, ..) if interactive() => return Ok(true),
        (Login::Key, ..) => format!("provider `{id}` takes an API key; {key}"),
        (Login::None, ..) => format!("provider `{id}` needs no login"),
        (Login::Chatgpt, ..) if interactive() => {
            match read_answer("Log in with 1 a ChatGPT account, 2 an API key? ")?.as_str() {
                "1" => return Ok(false),
                "2" => return Ok(true),
                _ => "answer 1 or 2".to_owned(),
            }
        }
        (Login::Chatgpt, ..) => format!(
            "provider `{id}` takes a ChatGPT account: type `infershield auth login {id} --chatgpt`; or an API key: {key}"
        ),
    };
    Err(usage(wrong))
}

fn announce(provider: &Provider, code: &DeviceCode, args: &Args) -> Done {
    let user_code = code.user_code.expose();
    if args.has("json") {
        let complete = code.verification_uri_complete.as_ref().map(Secret::expose);
        return print(json!({"event": "code", "verification_uri": code.verification_uri,
            "verification_uri_complete": complete, "user_code": user_code, "expires_in": code.expires_in}));
    }
    print(format_args!("Visit: {}", code.verification_uri))?;
    print(format_args!("Code: {user_code}"))?;
    note(format_args!(
        "This logs infershield on this machine in to {}. Enter the code on that page only, and only if you started this.\n\
         The code lives {}. Ctrl-C ends the login and leaves nothing behind.",
        provider.title.as_ref().unwrap_or(&provider.id),
        duration(code.expires_in)
    ));
    if interactive() && !args.has("no-browser") {
        // The page without the code: a command line can be read by every program of this machine.
        let mut opener = Command::new("xdg-open");
        opener.arg(&code.verification_uri).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Without a browser the two lines above are enough.
        let _ = opener.spawn();
    }
    Ok(())
}
