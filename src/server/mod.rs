//! The front door: accept, deadlines, caps, strict head, body reader, chunked writer. Must never know a provider or a policy.
