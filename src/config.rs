//! Settings: built-in < `config.json` < environment < flags, and where each value came from.
//! Must never hold a secret, and never guess what an unknown key could have meant.

use crate::home::{self, Home, Privacy};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// Name of the settings file in the home.
const FILE: &str = "config.json";
/// Names the folder of the home; not a setting, since `config.json` stands in there.
const HOME_VARIABLE: &str = "INFERSHIELD_HOME";
/// What the home is called among the settings that are shown.
const HOME_KEY: &str = "home";
/// Variables that set a value of the same meaning: variable, key in [`Settings`].
const VARIABLES: [(&str, &str); 8] = [
    ("INFERSHIELD_LISTEN", "listen"),
    ("INFERSHIELD_MODE", "mode"),
    ("https_proxy", "https_proxy"),
    ("HTTPS_PROXY", "https_proxy"),
    ("no_proxy", "no_proxy"),
    ("NO_PROXY", "no_proxy"),
    ("SSL_CERT_FILE", "ssl_cert_file"),
    ("INFERSHIELD_MASTER_KEY_FILE", "master_key_file"),
];

/// What is done with a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Verdicts are carried out.
    Enforce,
    /// Verdicts are only written down.
    Monitor,
}

/// Where the trusted certificate authorities come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Roots {
    /// Mozilla's list, compiled in.
    BuiltIn,
    /// The first of the usual PEM bundles of the system.
    System,
}

/// Sizes, times and counts that a user may set; each with its unit in its name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest request body. Clients send their whole history: 32 MiB is Anthropic's own cap.
    pub max_body_bytes: u64,
    /// All request bodies held at once; above it new requests get 503.
    pub max_inflight_bytes: u64,
    /// Open connections; 0 takes a third of the descriptor limit.
    pub max_connections: usize,
    /// Time for a request head, from its first byte.
    pub head_timeout_ms: u64,
    /// Rounds of PBKDF2-SHA256 for a new key file (OWASP, 2023: 600,000); 100,000 to 10,000,000.
    pub pbkdf2_iterations: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 32 << 20,
            max_inflight_bytes: 256 << 20,
            max_connections: 0,
            head_timeout_ms: 10_000,
            pbkdf2_iterations: 600_000,
        }
    }
}

/// Every setting; the shape of `config.json` (DESIGN section 5).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address of the front door, `HOST:PORT`.
    pub listen: String,
    /// Who a login belongs to when nobody is named.
    pub default_user: String,
    /// Provider of a plain path when several are logged in.
    pub default_provider: Option<String>,
    /// Whether verdicts are carried out.
    pub mode: Mode,
    /// Names besides the loopback ones that `Host` may hold.
    pub allowed_hosts: Vec<String>,
    /// PEM file with certificate authorities to trust besides the roots.
    pub ca_file: Option<PathBuf>,
    /// Which roots.
    pub roots: Roots,
    /// PEM file that stands for the system's bundle (`SSL_CERT_FILE`).
    pub ssl_cert_file: Option<PathBuf>,
    /// URL of the proxy for https calls (`HTTPS_PROXY`).
    pub https_proxy: Option<String>,
    /// Hosts that are called without it, separated by commas (`NO_PROXY`).
    pub no_proxy: Option<String>,
    /// File with the master key (`INFERSHIELD_MASTER_KEY_FILE`).
    pub master_key_file: Option<PathBuf>,
    /// Program whose output is the master key.
    pub master_key_command: Vec<String>,
    /// Action per category; its shape is `detect`'s.
    pub policy: Map<String, Value>,
    /// Whether a login that is marked dead or suspect is also revoked at the provider, where it has an ordinary call for it.
    pub auto_revoke: bool,
    /// Sizes, times and counts.
    pub limits: Limits,
    /// Rows that add to or override the built-in providers; their shape is `flow`'s.
    pub providers: Vec<Value>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8000".into(),
            default_user: "local".into(),
            default_provider: None,
            mode: Mode::Enforce,
            allowed_hosts: Vec::new(),
            ca_file: None,
            roots: Roots::BuiltIn,
            ssl_cert_file: None,
            https_proxy: None,
            no_proxy: None,
            master_key_file: None,
            master_key_command: Vec::new(),
            policy: Map::new(),
            auto_revoke: false,
            limits: Limits::default(),
            providers: Vec::new(),
        }
    }
}

/// Where a value came from, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Compiled in.
    BuiltIn,
    /// `config.json`.
    File,
    /// This environment variable.
    Environment(&'static str),
    /// This flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built in"),
            Self::File => f.write_str(FILE),
            Self::Environment(name) => write!(f, "${name}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The settings in force.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of the home; it need not exist.
    pub dir: PathBuf,
    /// The values.
    pub settings: Settings,
    origins: BTreeMap<String, Origin>,
    merged: Map<String, Value>,
}

/// What can be wrong with settings.
#[derive(Debug)]
pub enum Error {
    /// The file cannot be read.
    Home(home::Error),
    /// The file is not JSON of the right shape; the text says where and names the nearest known key.
    File(PathBuf, String),
    /// A variable or flag holds what no setting can be.
    Value(String, String),
    /// No home folder is known.
    NoHome,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Home(error) => error.fmt(f),
            Self::File(path, what) => {
                write!(f, "{}: {what}; mend it, then type `infershield config check`", path.display())
            }
            Self::Value(name, what) => write!(f, "{name}: {what}"),
            Self::NoHome => f.write_str("no home folder is known: set INFERSHIELD_HOME"),
        }
    }
}

impl std::error::Error for Error {}

impl Config {
    /// Reads all layers. `flags` are setting, value and the flag's name; `env` looks a variable up.
    pub fn load(env: impl Fn(&str) -> Option<OsString>, flags: &[(&str, String, &'static str)]) -> Result<Self, Error> {
        let (dir, home_origin) = match env(HOME_VARIABLE).filter(|dir| !dir.is_empty()) {
            Some(dir) => {
                let dir = std::path::absolute(PathBuf::from(dir)).map_err(|_| Error::NoHome)?;
                (dir, Origin::Environment(HOME_VARIABLE))
            }
            None => (dirs::home_dir().ok_or(Error::NoHome)?.join(".infershield"), Origin::BuiltIn),
        };
        let built_in = match serde_json::to_value(Settings::default()) {
            Ok(Value::Object(members)) => members,
            _ => Map::new(),
        };
        let origins = BTreeMap::from([(HOME_KEY.to_owned(), home_origin)]);
        let mut config = Self { dir, settings: Settings::default(), origins, merged: built_in };
        config.merge_file()?;
        for (variable, key) in VARIABLES {
            if let Some(value) = env(variable).filter(|value| !value.is_empty()) {
                let value = value.into_string().map_err(|_| Error::Value(variable.into(), "is not UTF-8".into()))?;
                config.set(key, Value::String(value), Origin::Environment(variable))?;
            }
        }
        for (key, value, flag) in flags {
            config.set(key, Value::String(value.clone()), Origin::Flag(flag))?;
        }
        Ok(config)
    }

    /// The home, then each value with where it came from, in the order of their names; user information in URLs is left out.
    pub fn shown(&self) -> Vec<(String, Value, Origin)> {
        let origin = |path: &str| self.origins.get(path).copied().unwrap_or(Origin::BuiltIn);
        let dir = Value::String(self.dir.display().to_string());
        let mut rows = vec![(HOME_KEY.to_owned(), dir, origin(HOME_KEY))];
        for (key, value) in &self.merged {
            match (key.as_str(), value) {
                ("limits", Value::Object(limits)) => {
                    for (name, value) in limits {
                        let path = format!("limits.{name}");
                        rows.push((path.clone(), value.clone(), origin(&path)));
                    }
                }
                ("https_proxy", Value::String(url)) => {
                    rows.push((key.clone(), Value::String(without_user(url)), origin(key)));
                }
                _ => rows.push((key.clone(), value.clone(), origin(key))),
            }
        }
        rows
    }

    fn merge_file(&mut self) -> Result<(), Error> {
        let path = self.dir.join(FILE);
        if !path.exists() {
            return Ok(());
        }
        let home = Home::open(self.dir.clone()).map_err(Error::Home)?;
        let Some(bytes) = home.read(FILE, Privacy::Readable).map_err(Error::Home)? else {
            return Ok(());
        };
        let wrong = |error: serde_json::Error| Error::File(path.clone(), with_nearest(&error.to_string()));
        self.settings = serde_json::from_slice(&bytes).map_err(wrong)?;
        let members: Map<String, Value> = serde_json::from_slice(&bytes).map_err(wrong)?;
        for (key, value) in members {
            if let (Value::Object(limits), "limits") = (&value, key.as_str()) {
                for name in limits.keys() {
                    self.origins.insert(format!("limits.{name}"), Origin::File);
                }
            }
            self.origins.insert(key, Origin::File);
        }
        // From the typed value, so that what the file leaves out shows its default.
        if let Ok(Value::Object(merged)) = serde_json::to_value(&self.settings) {
            self.merged = merged;
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: Value, origin: Origin) -> Result<(), Error> {
        self.merged.insert(key.to_owned(), value);
        self.origins.insert(key.to_owned(), origin);
        let settings = serde_json::from_value(Value::Object(self.merged.clone()));
        self.settings = settings.map_err(|error| Error::Value(origin.to_string(), with_nearest(&error.to_string())))?;
        Ok(())
    }
}

/// "; did you mean `…`?", when one of `known` is near enough to `word`; else nothing.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map(|known| format!("; did you mean `{known}`?")).unwrap_or_default()
}

/// The member of `known` that is nearest to `word` by edits, when it is near enough to be meant.
fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let ranked = known.into_iter().map(|candidate| (edits(word, candidate), candidate)).min()?;
    (ranked.0 <= 1 + word.len() / 4).then_some(ranked.1)
}

/// Adds "did you mean" to serde's text about an unknown name, which lists the known ones between backquotes.
pub fn with_nearest(error: &str) -> String {
    let mut quoted = error.split('`').skip(1).step_by(2);
    match quoted.next().filter(|_| error.starts_with("unknown ")) {
        Some(word) => format!("{error}{}", did_you_mean(word, quoted)),
        None => error.to_owned(),
    }
}

/// A URL without the name and password before its host.
fn without_user(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        (None, Some((_, rest))) => format!("…@{rest}"),
        _ => url.to_owned(),
    }
}

/// Levenshtein's distance between two short words.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((to, above), diagonal) in b.chars().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or_default();
            next.push((diagonal + usize::from(from != to)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_word_is_offered() {
        assert_eq!(nearest("lisen", ["listen", "limits"]), Some("listen"));
        assert_eq!(nearest("zzz", ["listen", "limits"]), None);
        let error = serde_json::from_str::<Settings>(r#"{"lisen":1}"#).unwrap_err().to_string();
        assert!(with_nearest(&error).ends_with("did you mean `listen`?"), "{error}");
    }

    #[test]
    fn a_proxy_password_is_not_shown() {
        assert_eq!(without_user("http://user:pw@proxy.example:3128"), "http://…@proxy.example:3128");
    }
}
