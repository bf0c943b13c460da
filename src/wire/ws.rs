//! RFC 6455 frame heads over the codec of tungstenite, and masking in place.
