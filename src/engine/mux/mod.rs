//! Many streams over one tunnel (yamux).
