//! How much an auth proxy takes, of whom, and for how long it waits.

use super::args::Args;
use super::errors::Error;
use super::values::{duration, number};
use crate::engine::exchange::Times;
use crate::limits::{
    IN_FLIGHT_CALLER, IN_FLIGHT_MAX, IN_FLIGHT_SESSION, QUESTIONS_OPEN, REFUSALS, SESSIONS_MAX,
    SPARES, VERIFICATIONS,
};

/// See the module's documentation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Requests of one user at a time.
    pub per_user: usize,
    /// Requests of one session at a time.
    pub per_tunnel: usize,
    /// Requests at a time.
    pub total: usize,
    /// Sessions at a time.
    pub sessions: usize,
    /// Credentials of a session that may be refused in a row.
    pub refusals: u32,
    /// Credentials of a session that are verified in a second.
    pub verifications: u32,
    /// Questions to the API server at a time.
    pub questions: usize,
    /// Connections to the API server that are ready for a request.
    pub spares: usize,
    /// How long is waited for what.
    pub times: Times,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_user: IN_FLIGHT_CALLER,
            per_tunnel: IN_FLIGHT_SESSION,
            total: IN_FLIGHT_MAX,
            sessions: SESSIONS_MAX,
            refusals: REFUSALS,
            verifications: VERIFICATIONS,
            questions: QUESTIONS_OPEN,
            spares: SPARES,
            times: Times::default(),
        }
    }
}

impl Limits {
    /// Reads its options.
    ///
    /// # Errors
    ///
    /// `USAGE`
    pub fn parse(args: &mut Args<'_>) -> Result<Self, Error> {
        let mut limits = Self::default();
        for (name, limit) in [
            ("--max-in-flight-per-user", &mut limits.per_user),
            ("--max-in-flight-per-session", &mut limits.per_tunnel),
            ("--max-in-flight", &mut limits.total),
            ("--max-sessions", &mut limits.sessions),
            ("--max-questions", &mut limits.questions),
        ] {
            set(args, name, limit, |text| number(text, 1, 100_000))?;
        }
        for (name, limit) in [
            ("--max-refusals", &mut limits.refusals),
            ("--max-verifications", &mut limits.verifications),
        ] {
            set(args, name, limit, |text| number(text, 1, 1_000_000))?;
        }
        set(args, "--spare-connections", &mut limits.spares, |text| number(text, 0, 100))?;
        let times = &mut limits.times;
        set(args, "--min-body-rate", &mut times.body_rate, |text| number(text, 0, 1_000_000))?;
        for (name, time) in [
            ("--head-timeout", &mut times.head),
            ("--stranger-timeout", &mut times.stranger_idle),
            ("--idle-timeout", &mut times.idle),
            ("--response-timeout", &mut times.response_head),
            ("--reader-timeout", &mut times.slow_reader),
            ("--upgraded-timeout", &mut times.upgraded_idle),
        ] {
            set(args, name, time, duration)?;
        }
        Ok(limits)
    }
}

fn set<T>(
    args: &mut Args<'_>,
    name: &'static str,
    limit: &mut T,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<(), Error> {
    if let Some(value) = args.value(name, read)? {
        *limit = value;
    }
    Ok(())
}
