//! Why a session is gone, or never came to be, in words for whoever waits for it.

use rustls::{AlertDescription, Error};

use super::session::Stage;
use crate::engine::tunnel::Broken;
use crate::engine::upgrade::Refused;

/// See the module's documentation.
#[derive(Debug)]
pub(super) enum Lost {
    /// The relay, or the way to it.
    Relay(String),
    /// The relay has answered with this status, for this reason.
    Refused(u16, String),
    /// The cluster, or the way from the relay to it.
    Cluster(String),
    /// Whoever answers is not the cluster that is pinned.
    Untrusted(String),
}

impl Lost {
    /// The code that the manual explains.
    pub(super) fn code(&self, stage: &Stage) -> &'static str {
        match (self, stage) {
            (Self::Untrusted(_), _) => "CLUSTER_UNTRUSTED",
            (Self::Relay(_), Stage::Connecting) => "RELAY_UNREACHABLE",
            (Self::Refused(401 | 403, _), _) => "TOKEN_REFUSED",
            (Self::Refused(404, why), _) if why.contains(NO_LISTENERS) => "CLUSTER_OFFLINE",
            (Self::Refused(404, _), _) => "CLUSTER_UNKNOWN",
            (Self::Relay(_) | Self::Refused(..) | Self::Cluster(_), _) => "CLUSTER_UNREACHABLE",
        }
    }

    /// The relay's API knows more: it may have a token that is taken, or say since when the
    /// cluster is away.
    pub(super) const fn is_for_the_api(&self) -> bool {
        matches!(self, Self::Refused(401 | 403 | 404, _))
    }

    /// The key by which the right to connect was made is not, or no longer, one of the relay's.
    pub(super) const fn is_for_the_key(&self) -> bool {
        matches!(self, Self::Refused(401 | 403, _))
    }

    /// A sentence about the cluster `name`.
    pub(super) fn sentence(&self, name: &str) -> String {
        match self {
            Self::Relay(why) => {
                format!("cluster {name} cannot be reached through its relay: {why}")
            }
            Self::Refused(404, why) if why.contains(NO_LISTENERS) => {
                format!(
                    "cluster {name} cannot be reached: it is offline, no agent of it is connected \
                     to the relay"
                )
            }
            Self::Refused(status, why) => {
                format!("cluster {name} cannot be reached: its relay says {status} {why}")
            }
            Self::Cluster(why) | Self::Untrusted(why) => {
                format!("cluster {name} cannot be reached: {why}")
            }
        }
    }
}

/// In the text of the one 404 that passes by itself.
const NO_LISTENERS: &str = "no listeners";

impl From<Refused> for Lost {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Status(answer) => {
                // Of what follows, the tracking id is what a relay's operator asks for.
                let why = match answer.reason.split_once(". TrackingId:") {
                    Some((why, rest)) => {
                        let id = rest.split(',').next().unwrap_or_default();
                        format!("{why} (TrackingId:{id})")
                    }
                    None => answer.reason,
                };
                Self::Refused(answer.status, why)
            }
            Refused::Malformed => Self::Relay("it did not open a WebSocket".to_owned()),
        }
    }
}

impl From<Broken> for Lost {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Tls(why @ Error::InvalidCertificate(_)) => Self::Untrusted(format!(
                "its certificate is not of the authority that is pinned on this machine: {why}"
            )),
            Broken::Tls(Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
                Self::Cluster(
                    "its auth proxy does not offer this: it is an older one, or it was started \
                     with --bench-rate 0"
                        .to_owned(),
                )
            }
            Broken::Tls(why @ Error::AlertReceived(_)) => {
                Self::Cluster(format!("it ended the session: {why}"))
            }
            Broken::Tls(why) => Self::Untrusted(format!("the session was tampered with: {why}")),
            Broken::Mux(why) => Self::Cluster(format!("the session broke its protocol: {why}")),
            Broken::NoProtocol => Self::Cluster("it speaks no protocol of ours".to_owned()),
        }
    }
}
