//! Token records, local keys and exceptions on disk. Must never know the network.
