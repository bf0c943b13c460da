//! How long an exchange waits for what.

use std::time::Duration;

use crate::limits::{
    BODY_RATE, HEAD_TIMEOUT, IDLE_TIMEOUT, RESPONSE_HEAD_TIMEOUT, SLOW_READER_TIMEOUT,
    STRANGER_IDLE_TIMEOUT, UPGRADED_IDLE_TIMEOUT,
};

/// See the module's documentation. By default everything is as the limits say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Times {
    /// For a request head, from its first byte.
    pub head: Duration,
    /// Between requests, as long as none on the connection was let through.
    pub stranger_idle: Duration,
    /// Between requests, once one was let through.
    pub idle: Duration,
    /// For the response head of a request that is not long-running.
    pub response_head: Duration,
    /// Bytes of a request body in each second, at least.
    pub body_rate: u64,
    /// For a reader to take something of what waits for it.
    pub slow_reader: Duration,
    /// For traffic on an upgraded connection.
    pub upgraded_idle: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            head: HEAD_TIMEOUT,
            stranger_idle: STRANGER_IDLE_TIMEOUT,
            idle: IDLE_TIMEOUT,
            response_head: RESPONSE_HEAD_TIMEOUT,
            body_rate: BODY_RATE,
            slow_reader: SLOW_READER_TIMEOUT,
            upgraded_idle: UPGRADED_IDLE_TIMEOUT,
        }
    }
}
