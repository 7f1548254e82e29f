//! infershield stands between AI coding tools and the model providers they call.
//!
//! # The story of one request
//!
//! A tool connects. `server` reads its head strictly and refuses what two programs could read in two ways. `proxy`
//! takes over: is it addressed to us (`Host`, `Origin`), whose local key is it (`store`), or does it bring its own credential to
//! a provider that may take it? The body is read whole, the path, the key or the model's name say where it would go
//! (`flow`'s table), `api` takes every text out of it, `detect` looks at each and policy
//! judges. What may go on gets the provider's own token from `session`, which refreshes it when needed, and goes out
//! through `upstream`, to the hosts that the token was bound to and nowhere else. The reply comes back as it is
//! produced; `audit` has its line before the last byte goes. `proxy/request.rs` tells the same on one page.
//!
//! # The map
//!
//! Imports point downward only:
//!
//! ```text
//! cli → proxy → {server, session, api, detect, redact, audit} → {flow, store} → {upstream, keys} → {secret, home, config}
//! ```

pub mod api;
pub mod audit;
pub mod cli;
pub mod config;
pub mod detect;
pub mod flow;
pub mod home;
pub mod keys;
pub mod origin;
pub mod proxy;
pub mod redact;
pub mod secret;
pub mod server;
pub mod session;
pub mod store;
pub mod upstream;
