//! Command lines, files and help texts.
