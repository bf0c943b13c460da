//! One TLS connection without a socket.
