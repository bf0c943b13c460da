//! Which control channel serves, and how the next one comes to be.
//!
//! A channel whose end can be foreseen (its age, a relay that no longer answers, a token for another
//! place) is given up only once the next is open, so that the cluster is listened for at every
//! moment: Azure Relay ends each channel after about a day. There are two for that time, requests
//! are taken on both, and sessions depend on neither.

use std::time::Duration;

use log::{debug, info, warn};

use super::token::Progress;
use super::{Agent, Conn, Key, ListenToken, Net, Notice, Phase};
use crate::limits::{CHANNEL_AGAIN, CHANNEL_AGE, CHANNEL_LASTED, RECONNECT, RENEWAL};
use crate::role::{ConnId, random_u64};

/// How a channel ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// The relay said that it restarts, or goes: it, or another in its place, may be had at once.
    Announced,
    Broken,
}

impl Agent {
    /// The first step towards a channel: a token of its own for each attempt.
    pub(super) fn ask_for_token(&mut self, net: &mut dyn Net) {
        self.phase = Phase::Asking;
        let progress = self.tokens.request(net);
        self.on_progress(progress, net);
    }

    /// A token is here, or is not: for a new channel, or for the one that serves.
    pub(super) fn on_progress(&mut self, progress: Progress, net: &mut dyn Net) {
        match (progress, self.phase) {
            (Progress::Hopeless(fault), _) => {
                self.has_exited = true;
                net.tell(Notice::Exit(1, Some(fault)));
            }
            (Progress::Pending, _) | (_, Phase::Stopping | Phase::Opening(_)) => (),
            (Progress::Ready(token), Phase::Asking) => self.open_channel(token, net),
            (Progress::Failed(why), Phase::Asking) => {
                self.retry(&format!("cannot get a token to listen: {why}"), net);
            }
            (Progress::Ready(token), Phase::Settled | Phase::Waiting) => {
                self.on_renewed(token, net);
            }
            (Progress::Failed(why), Phase::Settled | Phase::Waiting) => {
                if self.serving.is_some() {
                    self.say(format!("cannot renew the token, will try again: {why}"), net);
                    let delay = self.renewals.failed(random_u64(net));
                    self.timers.set(Key::Renew, net.now() + delay);
                }
            }
        }
    }

    fn open_channel(&mut self, token: ListenToken, net: &mut dyn Net) {
        let relay = token.relay.clone();
        match self.dial_channel(token, net) {
            Some(conn) => {
                self.timers.cancel(Key::Retry);
                self.phase = Phase::Opening(conn);
            }
            None => self.retry(&format!("cannot connect to {relay}"), net),
        }
    }

    /// `conn` is open: it serves from now on, and the one that did so far is given up.
    pub(super) fn succeed(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Channel(channel)) = self.conns.get(&conn) else { return };
        let relay = channel.token.relay.clone();
        let renewal = renewal_delay(channel.token.expires, net.unix_time());
        let age = CHANNEL_AGE.1.saturating_sub(CHANNEL_AGE.0).as_secs();
        let age = CHANNEL_AGE.0 + Duration::from_secs(random_u64(net) % age.max(1));
        self.phase = Phase::Settled;
        self.timers.set(Key::Renew, net.now() + renewal);
        self.timers.set(Key::Age, net.now() + age);
        let was_in_trouble = self.said.take().is_some();
        if let Some(old) = self.serving.replace(conn) {
            info!("conn={} takes the place of conn={}", conn.0, old.0);
            self.retire_channel(old, net);
        }
        if !std::mem::replace(&mut self.is_ready, true) {
            net.tell(Notice::Ready);
        } else if was_in_trouble {
            net.tell(Notice::Say(format!("connected to {relay} again")));
        }
    }

    /// Begins a channel in place of `old`, unless that is under way.
    pub(super) fn replace(&mut self, old: ConnId, net: &mut dyn Net) {
        if self.serving == Some(old) && self.phase == Phase::Settled {
            debug!("conn={} is to be replaced", old.0);
            self.ask_for_token(net);
        }
    }

    /// The channel that serves has had its time.
    pub(super) fn on_age(&mut self, net: &mut dyn Net) {
        if let Some(old) = self.serving {
            self.replace(old, net);
        }
    }

    pub(super) fn renew(&mut self, net: &mut dyn Net) {
        // Should the answer go to an attempt, or nowhere, the channel asks again.
        self.timers.set(Key::Renew, net.now() + RECONNECT.1);
        if matches!(self.phase, Phase::Settled | Phase::Waiting) {
            let progress = self.tokens.request(net);
            self.on_progress(progress, net);
        }
    }

    fn on_renewed(&mut self, token: ListenToken, net: &mut dyn Net) {
        let Some(conn) = self.serving else { return };
        let Some(Conn::Channel(channel)) = self.conns.get(&conn) else { return };
        self.renewals.succeeded();
        if (&channel.token.relay, &channel.token.entity) != (&token.relay, &token.entity) {
            // A token for another place cannot be presented here.
            return self.open_channel(token, net);
        }
        self.timers.set(Key::Renew, net.now() + renewal_delay(token.expires, net.unix_time()));
        self.present(conn, token, net);
    }

    /// A channel is gone, or never came to be.
    pub(super) fn on_channel_lost(&mut self, conn: ConnId, end: End, why: &str, net: &mut dyn Net) {
        let Some(Conn::Channel(channel)) = self.forget(conn) else { return };
        net.close(conn);
        let relay = &channel.token.relay;
        if self.phase == Phase::Opening(conn) {
            return self.retry(&format!("cannot listen at {relay}: {why}"), net);
        }
        if self.serving != Some(conn) || self.phase == Phase::Stopping {
            return debug!("conn={} a channel that was given up has ended: {why}", conn.0);
        }
        self.serving = None;
        self.timers.cancel(Key::Renew);
        self.timers.cancel(Key::Age);
        let sentence = format!("lost the control channel at {relay}: {why}");
        if matches!(self.phase, Phase::Asking | Phase::Opening(_)) {
            // The next one is under way.
            return self.say(sentence, net);
        }
        let now = net.now();
        let has_lasted = channel.open.is_some_and(|open| now.duration_since(open) > CHANNEL_LASTED);
        if has_lasted {
            self.backoff.succeeded();
        }
        let is_first = self.backoff.failures() == 0;
        if has_lasted || (end == End::Announced && is_first) {
            self.say(sentence, net);
            if !has_lasted {
                // Once: a relay that announces its end again and again is not met with a storm.
                self.backoff.failed(0);
            }
            self.phase = Phase::Waiting;
            self.timers.set(Key::Retry, now);
        } else {
            self.retry(&sentence, net);
        }
    }

    /// An attempt has failed. While another channel serves there is no hurry.
    fn retry(&mut self, why: &str, net: &mut dyn Net) {
        self.phase = Phase::Waiting;
        let delay = if self.serving.is_some() {
            warn!("the control channel has no successor yet: {why}");
            let spread = u64::try_from(CHANNEL_AGAIN.as_millis()).unwrap_or(u64::MAX);
            CHANNEL_AGAIN + Duration::from_millis(random_u64(net) % spread)
        } else {
            self.say(why.to_owned(), net);
            self.backoff.failed(random_u64(net))
        };
        debug!("{why}; next attempt in {} ms", delay.as_millis());
        self.timers.set(Key::Retry, net.now() + delay);
    }
}

/// At two thirds of the token's life, but neither at once nor never if the clock is wrong.
fn renewal_delay(expires: u64, unix_now: u64) -> Duration {
    let life = Duration::from_secs(expires.saturating_sub(unix_now).min(1 << 32));
    (life * 2 / 3).clamp(RENEWAL.0, RENEWAL.1)
}
