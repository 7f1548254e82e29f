//! The table of providers: rows of data, built in or from the configuration, checked once.
//! Must never hold a secret, or a host that does not follow from a URL of the row.

use super::copilot::Exchange;
use super::{Error, Result};
use crate::config::with_nearest;
use crate::origin::{Endpoint, Origin, is_below};
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The built-in rows, in the shape of the configuration's `providers`.
const BUILT_IN: &str = include_str!("providers.json");
/// First parts of our own paths, which no provider may be called like.
const OUR_PATHS: [&str; 8] = ["v1", "health", "chat", "responses", "messages", "completions", "embeddings", "models"];
/// Headers that only we set: a row cannot bring its own.
const RESERVED: [&str; 6] = ["host", "content-length", "transfer-encoding", "connection", "accept-encoding", "cookie"];
/// Headers that carry credentials. A credential has one place; a second one would travel unguarded.
const CREDENTIAL_HEADERS: [&str; 2] = ["authorization", "x-api-key"];

/// How a user comes to a credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Login {
    /// Device grant, RFC 8628.
    Device,
    /// OpenAI's own three steps for a ChatGPT account, or an API key.
    Chatgpt,
    /// An API key that the user brings.
    #[default]
    Key,
    /// None is needed: a local model server.
    None,
}

/// An API that a provider understands. `api` knows its path and its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// OpenAI Chat Completions.
    Chat,
    /// OpenAI Responses.
    Responses,
    /// Anthropic Messages.
    Messages,
    /// Anthropic's token counter: the body of [`Family::Messages`], nothing is generated. A row names both as one.
    #[serde(skip)]
    CountTokens,
    /// OpenAI Completions, the old text API, still used to complete code.
    Completions,
    /// OpenAI Embeddings.
    Embeddings,
    /// The list of models, in either shape.
    Models,
    /// Whatever else a provider has, for clients that bring their own credential. No row names it.
    #[serde(skip)]
    Other,
}

/// The hosts of a provider's tenants, each of which has its own (`--host`): GitHub's data residency.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenants {
    /// The domain that a tenant's host must be below.
    pub below: String,
    /// For each host of the row, what stands before the tenant's host in its place.
    pub prefixes: BTreeMap<String, String>,
}

/// A checked row. Only [`table`] makes one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Provider {
    /// Name in commands, paths and records: lower-case letters, digits, `-`.
    pub id: String,
    /// Other names for it in commands and paths.
    pub aliases: Vec<String>,
    /// Name for people.
    pub title: Option<String>,
    /// Printed before a login.
    pub notice: Option<String>,
    /// How a user logs in.
    pub login: Login,
    /// Environment variable that holds an API key, if the user has set it.
    pub key_env: Option<String>,
    /// OAuth issuer; the endpoints below that are missing are read from its metadata.
    pub issuer: Option<Endpoint>,
    /// RFC 8628 device authorization endpoint.
    pub device_endpoint: Option<Endpoint>,
    /// RFC 6749 token endpoint.
    pub token_endpoint: Option<Endpoint>,
    /// RFC 7009 revocation endpoint.
    pub revoke_endpoint: Option<Endpoint>,
    /// Ends exposed tokens for good, without a login: GitHub's `/credentials/revoke`. Only used when the user asks for it.
    pub exposed_endpoint: Option<Endpoint>,
    /// Says who is logged in: OIDC UserInfo, or an API with a member `login`.
    pub account_endpoint: Option<Endpoint>,
    /// Page on which a person revokes by hand.
    pub revoke_url: Option<Endpoint>,
    /// Id of the OAuth app; public, there is no secret with it.
    pub client_id: Option<String>,
    /// Scopes that are asked for.
    pub scopes: Vec<String>,
    /// PEM file that replaces the roots for this provider.
    pub ca_file: Option<PathBuf>,
    /// What replaces `/v1` in a client's path.
    pub api_base: Option<Endpoint>,
    /// The same for a login with a ChatGPT account.
    pub chatgpt_base: Option<Endpoint>,
    /// `authorization` (Bearer), or a header that takes the bare key.
    #[serde(default = "bearer")]
    pub auth_header: String,
    /// Headers that are added to every request.
    pub extra_headers: BTreeMap<String, String>,
    /// Headers that are added where the client sends none of that name.
    pub default_headers: BTreeMap<String, String>,
    /// The second exchange that some client ids need.
    pub exchange: Option<Exchange>,
    /// Where the row leads instead for a tenant.
    pub tenants: Option<Tenants>,
    /// The tenant's host that the row leads to; a configuration cannot set it.
    #[serde(skip)]
    pub host: Option<String>,
    /// APIs that are forwarded.
    pub apis: Vec<Family>,
    /// A client's own credential for this provider is forwarded.
    pub passthrough: bool,
    /// Ids of the rules that recognise this provider's keys: a credential that another rule recognises is somebody else's.
    pub key_rules: Vec<String>,
    /// What the names of its models begin with: decides between several logins.
    pub models: Vec<String>,
}

/// The built-in rows with those of the configuration over them, member by member; a new id adds a row.
/// Errors name the row, the member and, for a mistyped name, the nearest known one.
pub fn table(rows: &[Value]) -> Result<Vec<Provider>> {
    let wrong = |id: &str, what: String| {
        Error::Config(format!("provider `{id}`: {what}; mend config.json, then type `infershield config check`"))
    };
    let built_in = serde_json::from_str(BUILT_IN);
    let mut merged: Vec<Map<String, Value>> = built_in.map_err(|error| wrong("built in", error.to_string()))?;
    for (row, number) in rows.iter().zip(1..) {
        let (Some(members), Some(id)) = (row.as_object(), row.get("id").and_then(Value::as_str)) else {
            return Err(wrong(&format!("number {number}"), "`id` is missing".into()));
        };
        // What one of them says, such as `passthrough`, was not said of the other's hosts.
        if rows.iter().take(number - 1).any(|before| before.get("id") == row.get("id")) {
            return Err(wrong(id, "two rows have this id; make one of them".into()));
        }
        // One member at a time, so that an error has a name.
        for (name, value) in members {
            let alone = Value::from_iter([(name.clone(), value.clone())]);
            if let Err(error) = Provider::deserialize(alone) {
                return Err(wrong(id, format!("`{name}`: {}", with_nearest(error))));
            }
        }
        match merged.iter_mut().find(|known| known.get("id") == row.get("id")) {
            Some(known) => known.extend(members.clone()),
            None if !members.contains_key("login") => {
                return Err(wrong(id, "`login` is missing: device, chatgpt, key or none".into()));
            }
            None => merged.push(members.clone()),
        }
    }
    let mut table: Vec<Provider> = Vec::new();
    for row in merged {
        let row = Provider::deserialize(Value::Object(row)).map_err(|error| wrong("?", error.to_string()))?;
        row.check(&table).map_err(|what| wrong(&row.id, what))?;
        table.push(row);
    }
    Ok(table)
}

/// The row of this name or alias.
pub fn named<'a>(table: &'a [Provider], name: &str) -> Option<&'a Provider> {
    table.iter().find(|row| row.names().any(|known| known == name))
}

fn bearer() -> String {
    "authorization".to_owned()
}

impl Provider {
    /// The id, then the aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.id.as_str()).chain(self.aliases.iter().map(String::as_str))
    }

    /// Whether this API is forwarded to it.
    pub fn serves(&self, family: Family) -> bool {
        let named = if family == Family::CountTokens { Family::Messages } else { family };
        self.apis.contains(&named)
    }

    /// Whether it is GitHub Copilot: nobody else has that exchange.
    pub fn is_copilot(&self) -> bool {
        self.exchange.is_some()
    }

    /// Every host that this row lets us connect to, sorted; nothing that is discovered adds to it.
    pub fn hosts(&self) -> BTreeSet<Origin> {
        let login = [&self.issuer, &self.device_endpoint, &self.token_endpoint, &self.account_endpoint];
        let others = [&self.revoke_endpoint, &self.exposed_endpoint, &self.api_base, &self.chatgpt_base];
        let exchange = self.exchange.iter().map(|exchange| &exchange.endpoint);
        let endpoints = login.into_iter().chain(others).flatten().chain(exchange);
        endpoints.map(|endpoint| endpoint.origin().clone()).collect()
    }

    /// Domains below which we may also connect to hosts: one that the exchange names, one that a user logs in at.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        let exchange = self.exchange.iter().map(|exchange| exchange.below.as_str());
        exchange.chain(self.tenants.iter().map(|tenants| tenants.below.as_str()))
    }

    /// The row as it is for a tenant.
    pub fn at(&self, host: &str) -> Result<Self> {
        let host = host.to_ascii_lowercase();
        let is_host = Origin::parse(&format!("https://{host}")).is_ok_and(|origin| origin.host() == host);
        let Some(tenants) = self.tenants.as_ref().filter(|tenants| is_host && is_below(&host, &tenants.below)) else {
            let what = format!("`{}` has no login at that host; type `infershield hosts` for its domains", self.id);
            return Err(Error::Config(what));
        };
        let mut row = self.clone();
        let exchange = row.exchange.as_mut().map(|exchange| {
            exchange.below.clone_from(&host);
            &mut exchange.endpoint
        });
        let login = [&mut row.device_endpoint, &mut row.token_endpoint, &mut row.account_endpoint];
        let others = [&mut row.exposed_endpoint, &mut row.revoke_url, &mut row.api_base];
        for endpoint in login.into_iter().chain(others).flatten().chain(exchange) {
            let usual = endpoint.origin().host();
            if let Some(prefix) = tenants.prefixes.get(usual) {
                let url = endpoint.as_str().replacen(usual, &format!("{prefix}{host}"), 1);
                *endpoint = Endpoint::try_from(url).map_err(Error::Network)?;
            }
        }
        row.host = Some(host);
        Ok(row)
    }

    /// The row as it is for one login: a ChatGPT account has tokens, and opens another door than a key.
    pub fn of_login(&self, has_tokens: bool) -> Self {
        let mut row = self.clone();
        match row.login {
            Login::Chatgpt if has_tokens => row.api_base = row.chatgpt_base.clone().or(row.api_base),
            Login::Chatgpt => row.login = Login::Key,
            _ => {}
        }
        row
    }

    fn check(&self, others: &[Self]) -> std::result::Result<(), String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        for name in self.names() {
            if name.is_empty() || !name.chars().all(plain) {
                return Err(format!("`{name}` is not a name of lower-case letters, digits and `-`"));
            }
            if OUR_PATHS.contains(&name) || others.iter().flat_map(Self::names).any(|other| other == name) {
                return Err(format!("`{name}` is taken, by another provider or a path of ours"));
            }
        }
        if self.api_base.is_none() {
            return Err("`api_base` is missing".into());
        }
        if self.apis.is_empty() {
            return Err("`apis` names none of the APIs that are forwarded".into());
        }
        let explicit = self.device_endpoint.is_some() && self.token_endpoint.is_some();
        if matches!(self.login, Login::Device | Login::Chatgpt) && self.issuer.is_none() && !explicit {
            return Err("a device login needs `issuer`, or `device_endpoint` and `token_endpoint`".into());
        }
        let header = |name: &str| HeaderName::try_from(name).ok().filter(|one| !RESERVED.contains(&one.as_str()));
        let Some(auth) = header(&self.auth_header) else {
            return Err(format!("`auth_header`: `{}` cannot carry a key", self.auth_header));
        };
        let exchange = self.exchange.iter().flat_map(|exchange| &exchange.headers);
        for (name, value) in self.extra_headers.iter().chain(&self.default_headers).chain(exchange) {
            let free = |header: &HeaderName| *header != auth && !CREDENTIAL_HEADERS.contains(&header.as_str());
            if !header(name).is_some_and(|header| free(&header)) || HeaderValue::try_from(value).is_err() {
                return Err(format!("`extra_headers` or `default_headers`: `{name}` cannot be set"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(members: Value) -> Result<Vec<Provider>> {
        let mut row =
            json!({"id": "corp", "login": "key", "api_base": "https://llm.corp.example/v1", "apis": ["chat"]});
        for (name, value) in members.as_object().unwrap() {
            row[name] = value.clone();
        }
        table(&[row])
    }

    #[test]
    fn the_built_in_rows_are_sound() {
        let table = table(&[]).unwrap();
        let ids: Vec<_> = table.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(ids, ["openai", "github", "anthropic"]);
        let github = &table[1];
        assert_eq!(github.names().collect::<Vec<_>>(), ["github", "copilot"]);
        assert_eq!(github.client_id, None);
        let hosts: Vec<_> = github.hosts().iter().map(Origin::to_string).collect();
        assert_eq!(hosts, ["https://api.github.com", "https://api.githubcopilot.com", "https://github.com"]);
        assert_eq!(table[0].auth_header, "authorization");
        assert_eq!(table[2].auth_header, "x-api-key");
    }

    #[test]
    fn a_row_overrides_member_by_member_and_in_its_place() {
        let row = json!({"id": "openai", "api_base": "http://127.0.0.1:9/v1", "passthrough": true});
        let table = table(&[row]).unwrap();
        assert_eq!(table.len(), 3);
        let openai = &table[0];
        assert_eq!(openai.hosts().first().unwrap().to_string(), "http://127.0.0.1:9");
        assert!(openai.passthrough && openai.apis.contains(&Family::Responses));
    }

    #[test]
    fn a_wrong_row_is_named_with_its_member_and_what_was_meant() {
        for (members, words) in [
            (json!({"api_bas": "x"}), vec!["`corp`", "`api_bas`", "did you mean `api_base`?"]),
            (json!({"login": "devise"}), vec!["`login`", "did you mean `device`?"]),
            (json!({"apis": ["chats"]}), vec!["`apis`", "did you mean `chat`?"]),
            (json!({"scopes": "openid"}), vec!["`scopes`"]),
            (json!({"api_base": "http://llm.corp.example"}), vec!["`api_base`", "https://"]),
            (json!({"api_base": "https://a@b.example"}), vec!["`api_base`", "user name"]),
            (json!({"api_base": null}), vec!["`api_base` is missing"]),
            (json!({"apis": []}), vec!["`apis`"]),
            (json!({"login": "device"}), vec!["`issuer`", "`device_endpoint`"]),
            (json!({"aliases": ["copilot"]}), vec!["`copilot`", "another"]),
            (json!({"id": "v1"}), vec!["`v1`", "path"]),
            (json!({"id": "A/b"}), vec!["`A/b`"]),
            (json!({"auth_header": "cookie"}), vec!["`auth_header`"]),
            (json!({"extra_headers": {"Authorization": "x"}}), vec!["`extra_headers`"]),
            (json!({"extra_headers": {"x-team": "a\r\nb: c"}}), vec!["`x-team`"]),
        ] {
            let text = row(members).unwrap_err().to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
        for (rows, words) in [
            (json!(7), "number 1"),
            (json!({"title": "x"}), "`id`"),
            (json!({"id": "x", "api_base": "https://x.example", "apis": ["chat"]}), "`login`"),
        ] {
            assert!(table(&[rows]).unwrap_err().to_string().contains(words));
        }
    }
}
