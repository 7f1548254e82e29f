//! infershield stands between AI coding tools and the model providers they call.
//!
//! Dependencies point downward only:
//! `cli → proxy → {server, session, api, detect, redact, audit} → {flow, store} → {upstream, keys} → {secret, home, config}`.

pub mod home;
pub mod secret;
