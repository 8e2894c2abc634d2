//! Nothing: what is wanted is the source that boring-sys brings.
