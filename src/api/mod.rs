//! The three API families: where text lives in a request, a reply, an event; error shapes. Pure functions; must never do I/O.
