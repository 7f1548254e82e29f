//! The key hierarchy: master key, root key, the sealed keys it opens; rekey. Must never write a key unsealed.
