//! The chained log: append, verify, query, export. Must never hold content or matched text.
