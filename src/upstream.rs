//! The one HTTP client: TLS roots, proxy, host check, limits, watching the client. Must never follow a redirect.
