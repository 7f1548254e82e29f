//! Segments in, findings and score out; rules are data. Pure; must never know HTTP or files.
