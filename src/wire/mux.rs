//! The yamux frame header.
