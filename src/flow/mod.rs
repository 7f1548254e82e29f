//! OAuth: device grant, refresh, revoke, the provider table and provider quirks. Must never know a store or the proxy.
