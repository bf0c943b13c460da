//! One HTTP/1.1 connection as server or client: heads, bodies, keep-alive, upgrade.
