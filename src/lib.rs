//! infershield stands between AI coding tools and the model providers they call.
//!
//! Imports point downward only:
//! `cli → proxy → {server, session, api, detect, audit} → {flow, store} → {upstream, keys} → {secret, home, config}`.

pub mod api;
pub mod audit;
pub mod config;
pub mod detect;
pub mod flow;
pub mod home;
pub mod keys;
pub mod origin;
pub mod secret;
pub mod server;
pub mod session;
pub mod store;
pub mod upstream;
