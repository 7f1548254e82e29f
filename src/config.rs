//! Settings: built-in < `config.json` < environment < flags, and where each value came from.
//! Must never hold a secret, and never guess what an unknown key could have meant.

mod hints;

pub use hints::{did_you_mean, with_nearest};

use crate::home::{self, Home, Privacy};
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::{collections::BTreeMap, ffi::OsString, fmt, sync::OnceLock};

/// Name of the settings file in the home.
const FILE: &str = "config.json";
/// Names the folder of the home; not a setting, since `config.json` stands in there.
pub const HOME_VARIABLE: &str = "INFERSHIELD_HOME";
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
/// What the names of our variables begin with.
const OURS: &str = "INFERSHIELD_";
/// Those that set no value of [`Settings`], or that we set ourselves: for the clients of `env` and `exec`.
const OTHER_VARIABLES: [&str; 5] =
    [HOME_VARIABLE, "INFERSHIELD_MASTER_KEY", "INFERSHIELD_URL", "INFERSHIELD_KEY", "INFERSHIELD_EXEC"];

/// Where systems keep their root certificates as one PEM file.
const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// Variables that came over a pipe, for other programs of the user can read the environment.
static GIVEN: OnceLock<BTreeMap<String, Secret>> = OnceLock::new();

/// Whether the guard acts or only watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Actions are carried out.
    Enforce,
    /// Nothing is ever stopped or changed: every stronger action becomes a warning.
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

impl Settings {
    /// The file that holds all roots, unless they are built in. `ca_file` is the provider's own.
    pub fn roots_file<'a>(&'a self, ca_file: Option<&'a Path>) -> Option<&'a Path> {
        let system = (self.roots == Roots::System).then(system_bundle);
        ca_file.or(self.ssl_cert_file.as_deref()).or(system)
    }

    /// What to do about a host whose issuer these roots do not know: when the system does not either, and when it does.
    pub fn cures(&self, ca_file: Option<&Path>) -> [String; 2] {
        let place = ca_file.map_or("config.json", |_| "the provider's row in config.json");
        // A file that stands for all roots would go on to.
        let system = match self.roots_file(ca_file) {
            None => r#""roots": "system""#.to_owned(),
            Some(_) => format!("\"ca_file\": {:?}", system_bundle()),
        };
        [("does not", r#""ca_file": "FILE.pem""#), ("accepts it", &system)].map(|(verdict, line)| {
            format!(
                "The system {verdict}: put {line} into {place}; type `infershield config check` and restart `serve`"
            )
        })
    }
}

/// The settings in force.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of the home; it need not exist.
    pub dir: PathBuf,
    /// The values.
    pub settings: Settings,
    /// Where each value came from that is not built in: `config.json`, a variable or a flag.
    origins: BTreeMap<String, String>,
}

/// What can be wrong with settings.
#[derive(Debug)]
pub enum Error {
    /// The file cannot be read.
    Home(home::Error),
    /// The file, a variable or a flag holds what no setting can be; the text says where, and names the nearest known word.
    Setting(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Home(error) => error.fmt(f),
            Self::Setting(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}

impl Config {
    /// Reads the file, then the environment.
    pub fn load() -> Result<Self, Error> {
        let mut config = Self::built_in()?;
        config.read_file()?;
        for (name, key) in VARIABLES {
            if let Some(value) = variable(name)? {
                config.set(key, value, &format!("${name}"))?;
            }
        }
        Ok(config)
    }

    /// What holds where nothing is set but the place of the home.
    pub fn built_in() -> Result<Self, Error> {
        let mut origins = BTreeMap::new();
        let dir = match set(HOME_VARIABLE) {
            Some(dir) => {
                origins.insert(HOME_KEY.to_owned(), format!("${HOME_VARIABLE}"));
                std::path::absolute(dir).ok()
            }
            None => dirs::home_dir().map(|home| home.join(".infershield")),
        };
        let dir = dir.ok_or_else(|| Error::Setting(format!("no home folder is known: set {HOME_VARIABLE}")))?;
        Ok(Self { dir, settings: Settings::default(), origins })
    }

    /// Puts a value over the one that was there. `origin`, a variable or a flag, is what `config show` and an error call it by.
    pub fn set(&mut self, key: &str, value: String, origin: &str) -> Result<(), Error> {
        let mut members = members(&self.settings);
        members.insert(key.to_owned(), Value::String(value));
        let wrong = |error| Error::Setting(format!("{origin}: {}", with_nearest(error)));
        self.settings = serde_json::from_value(Value::Object(members)).map_err(wrong)?;
        self.origins.insert(key.to_owned(), origin.to_owned());
        Ok(())
    }

    /// Name, value and origin of each setting and of the home, without what may be a secret.
    pub fn shown(&self) -> Vec<(String, Value, &str)> {
        let mut values = by_name(members(&self.settings));
        values.iter_mut().for_each(|(name, value)| hide(name, value));
        values.insert(HOME_KEY.to_owned(), Value::String(self.dir.display().to_string()));
        let row = |(name, value)| {
            let origin = self.origins.get(&name).map_or("built in", String::as_str);
            (name, value, origin)
        };
        values.into_iter().map(row).collect()
    }

    fn read_file(&mut self) -> Result<(), Error> {
        let path = self.dir.join(FILE);
        if path.symlink_metadata().is_err() {
            return Ok(());
        }
        let home = Home::open(self.dir.clone()).map_err(Error::Home)?;
        let Some(bytes) = home.read(FILE, Privacy::Readable).map_err(Error::Home)? else { return Ok(()) };
        let wrong = |error| {
            let what = with_nearest(error);
            Error::Setting(format!("{}: {what}; mend it, then type `infershield config check`", path.display()))
        };
        self.settings = serde_json::from_slice(&bytes).map_err(wrong)?;
        let given: Map<String, Value> = serde_json::from_slice(&bytes).map_err(wrong)?;
        self.origins.extend(by_name(given).into_iter().map(|(name, _)| (name, FILE.to_owned())));
        Ok(())
    }
}

/// The first of the usual bundles that is there; else what an error about it says.
pub fn system_bundle() -> &'static Path {
    let mut bundles = SYSTEM_BUNDLES.into_iter().map(Path::new);
    bundles.find(|path| path.is_file()).unwrap_or(Path::new("SSL_CERT_FILE is not set"))
}

/// Variables that have a name like ours and mean nothing, each with the nearest that does.
pub fn unknown_variables() -> Vec<String> {
    let mut known = OTHER_VARIABLES.to_vec();
    known.extend(VARIABLES.map(|(name, _)| name));
    let mut unknown = Vec::new();
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with(OURS) && !known.contains(&&*name) {
            let nearest = did_you_mean(&name, known.clone());
            unknown.push(format!("${name} means nothing{nearest}"));
        }
    }
    unknown
}

/// Lets these count as if they stood in the environment; the first call holds.
pub fn give(variables: impl IntoIterator<Item = (String, Secret)>) {
    GIVEN.get_or_init(|| variables.into_iter().collect());
}

/// The value of a variable; one that is empty counts as not set.
pub fn variable(name: &str) -> Result<Option<String>, Error> {
    let value = set(name).map(OsString::into_string).transpose();
    value.map_err(|_| Error::Setting(format!("${name}: is not UTF-8")))
}

/// What a variable is set to, over the pipe or in the environment.
fn set(name: &str) -> Option<OsString> {
    let given = GIVEN.get().and_then(|given| given.get(name)).map(|value| OsString::from(value.expose()));
    given.or_else(|| std::env::var_os(name)).filter(|value| !value.is_empty())
}

fn members(settings: &Settings) -> Map<String, Value> {
    serde_json::to_value(settings).and_then(serde_json::from_value).unwrap_or_default()
}

/// The values by the names that they are shown under: each limit has one of its own.
fn by_name(mut members: Map<String, Value>) -> Map<String, Value> {
    if let Some(Value::Object(limits)) = members.remove("limits") {
        members.extend(limits.into_iter().map(|(name, value)| (format!("limits.{name}"), value)));
    }
    members
}

/// Takes out what may be a secret: the values of headers, the arguments of a command, user information in a URL.
fn hide(name: &str, value: &mut Value) {
    match value {
        Value::Object(headers) if ["default_headers", "extra_headers", "headers"].contains(&name) => {
            headers.values_mut().for_each(|value| *value = "…".into());
        }
        Value::Array(words) if name == "master_key_command" => {
            words.iter_mut().skip(1).for_each(|word| *word = "…".into())
        }
        Value::Object(members) => members.iter_mut().for_each(|(name, value)| hide(name, value)),
        Value::Array(items) => items.iter_mut().for_each(|item| hide(name, item)),
        Value::String(url) if name == "https_proxy" || url.contains("://") => *url = without_user(url),
        _ => {}
    }
}

/// A URL without the name and password before its host, if there are any.
pub fn without_user(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_against_an_unknown_issuer_is_said_for_what_is_set() {
        let (bundle, own) = (format!("\"ca_file\": {:?} into", system_bundle()), Some(Path::new("/own.pem")));
        let replaced = Settings { ssl_cert_file: Some("/roots.pem".into()), ..Settings::default() };
        for (settings, own, accepted, place) in [
            (Settings::default(), None, r#""roots": "system" into"#, "config.json;"),
            (replaced, None, &*bundle, "config.json;"),
            (Settings::default(), own, &*bundle, "the provider's row in config.json;"),
        ] {
            let [no, yes] = settings.cures(own);
            assert!(yes.contains(&format!("accepts it: put {accepted} {place}")), "{yes}");
            assert!(no.contains(&format!(r#"does not: put "ca_file": "FILE.pem" into {place}"#)), "{no}");
        }
    }

    #[test]
    fn a_proxy_password_is_not_shown() {
        assert_eq!(without_user("http://user:pw@proxy.example:3128"), "…@proxy.example:3128");
    }
}
