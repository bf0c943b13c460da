//! Strict compact JWS.
