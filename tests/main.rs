//! Promises come with the modules that keep them.
