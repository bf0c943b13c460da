//! One WebSocket connection after its handshake, frame by frame.
