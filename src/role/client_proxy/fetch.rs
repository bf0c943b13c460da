//! What has to be fetched: the caller's tokens from their source, credentials from the relay. Both
//! are renewed before they end; a renewal that fails cuts nothing.

use std::time::{Duration, Instant};

use log::{info, warn};

use super::credential::{self, Credential, Method};
use super::identity::{Ask, Purpose, Token};
use super::known::{Distrust, Trust};
use super::{ClientProxy, Key, random_u64};
use crate::engine::renewal::Renewal;
use crate::limits::{CLUSTER_TOKEN_LIFE, CREDENTIAL_MAX, CREDENTIAL_TIMEOUT};
use crate::role::{HttpAnswer, HttpCall, Job, JobId, Net, Outcome, WriteFile};
use crate::secret::Secret;
use crate::wire::arm::{Kind, Refusal};

/// The right to connect to one cluster.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    pub(super) current: Option<Credential>,
    renewal: Option<Renewal>,
    busy: bool,
    /// The relay did not take the last one, and was asked why.
    is_disputed: bool,
}

/// The caller's token for one cluster.
#[derive(Debug, Default)]
pub(super) struct ClusterToken {
    current: Option<Token>,
    renewal: Option<Renewal>,
    busy: bool,
}

/// What a job was for.
#[derive(Debug)]
pub(super) enum Asked {
    RelayToken(String),
    ClusterToken(String),
    Credential(String),
    SharedKey(String),
    KnownWritten,
}

impl ClusterToken {
    /// There is one that has not ended, or none is needed.
    pub(super) fn is_good(&self, now: Instant, has_kubernetes_token: bool) -> bool {
        let alive = self.renewal.as_ref().is_some_and(|renewal| renewal.is_good(now));
        has_kubernetes_token || self.current.is_some() && alive
    }

    pub(super) fn text(&self) -> Option<&Secret<String>> {
        self.current.as_ref().map(|token| &token.text)
    }
}

impl ClientProxy {
    /// Asks for a fresh token for a cluster, unless that is under way.
    pub(super) fn want_token(&mut self, id: &str, net: &mut dyn Net) {
        let Some(cluster) = self.clusters.get_mut(id) else { return };
        if self.config.kubernetes_token.is_some() || cluster.token.busy {
            return;
        }
        cluster.token.busy = true;
        match self.config.identity.ask(Purpose::Cluster, &self.config.audiences[1]) {
            Ok(Ask::Here(token)) => self.on_cluster_token(id, token, net),
            Ok(Ask::Job(job)) => self.submit(job, Asked::ClusterToken(id.to_owned()), net),
            Err(why) => self.on_token_failed(id, &why.to_string(), net),
        }
    }

    /// Asks for a fresh credential for a cluster, unless that is under way.
    pub(super) fn want_credential(&mut self, id: &str, net: &mut dyn Net) {
        let Some(cluster) = self.clusters.get_mut(id) else { return };
        if std::mem::replace(&mut cluster.credential.busy, true) {
            return;
        }
        match self.config.shared.as_ref().map(|shared| shared.key.look()) {
            Some(Some(job)) => return self.submit(job, Asked::SharedKey(id.to_owned()), net),
            Some(None) => return self.mint(id, net),
            None => (),
        }
        match self.config.identity.ask(Purpose::Relay, &self.config.audiences[0]) {
            Ok(Ask::Here(token)) => self.ask_relay(id, &token.text, net),
            Ok(Ask::Job(job)) => self.submit(job, Asked::RelayToken(id.to_owned()), net),
            Err(why) => self.on_credential_failed(id, "IDENTITY_FAILED", &why.to_string(), net),
        }
    }

    /// Makes a credential with the shared key.
    fn mint(&mut self, id: &str, net: &mut dyn Net) {
        let Some(cluster) = self.clusters.get(id) else { return };
        let Some(shared) = &self.config.shared else { return };
        let credential = Credential::mint(shared, &cluster.resource, net.unix_time());
        self.on_credential(id, credential, net);
    }

    fn on_shared_key(&mut self, id: &str, outcome: Outcome, net: &mut dyn Net) {
        if let Some(shared) = &mut self.config.shared
            && let Err(why) = shared.key.take(outcome)
        {
            warn!("the connection string is used as it was read last: {why}");
        }
        self.mint(id, net);
    }

    /// The relay did not let a session through. Its API knows why, and may have a credential that
    /// it takes; `why` is what is known till then. It is asked once until a session is up.
    pub(super) fn on_session_refused(
        &mut self,
        id: &str,
        code: &'static str,
        why: &str,
        net: &mut dyn Net,
    ) {
        let Some(cluster) = self.clusters.get_mut(id) else { return };
        let state = &mut cluster.credential;
        if std::mem::replace(&mut state.is_disputed, true) {
            state.is_disputed = false;
            return self.on_trouble(id, code, why, net);
        }
        state.current = None;
        self.want_credential(id, net);
    }

    pub(super) fn on_session_accepted(&mut self, id: &str) {
        if let Some(cluster) = self.clusters.get_mut(id) {
            cluster.credential.is_disputed = false;
        }
    }

    /// Whether the cluster's credential can be used now.
    pub(super) fn has_credential(&self, id: &str, now: Instant) -> bool {
        let state = self.clusters.get(id).map(|cluster| &cluster.credential);
        state.is_some_and(|state| {
            let alive = state.renewal.as_ref().is_some_and(|renewal| renewal.is_good(now));
            state.current.is_some() && alive
        })
    }

    fn submit(&mut self, job: Job, asked: Asked, net: &mut dyn Net) {
        match net.submit(job) {
            Ok(id) => drop(self.jobs.insert(id, Box::new(asked))),
            Err(crate::role::Busy) => self.on_failed(asked, "too much to do at once", net),
        }
    }

    fn on_failed(&mut self, asked: Asked, why: &str, net: &mut dyn Net) {
        match asked {
            Asked::ClusterToken(id) => self.on_token_failed(&id, why, net),
            Asked::RelayToken(id) => self.on_credential_failed(&id, "IDENTITY_FAILED", why, net),
            Asked::Credential(id) | Asked::SharedKey(id) => {
                self.on_credential_failed(&id, "RELAY_ANSWER", why, net);
            }
            Asked::KnownWritten => warn!("the cluster's CA could not be written down: {why}"),
        }
    }

    pub(super) fn on_done(&mut self, job: JobId, outcome: Outcome, net: &mut dyn Net) {
        match self.jobs.remove(&job).map(|it| *it) {
            Some(Asked::ClusterToken(id)) => match Token::from_outcome(outcome) {
                Ok(token) => self.on_cluster_token(&id, token, net),
                Err(why) => self.on_token_failed(&id, &why.to_string(), net),
            },
            Some(Asked::RelayToken(id)) => match Token::from_outcome(outcome) {
                Ok(token) => self.ask_relay(&id, &token.text, net),
                Err(why) => {
                    self.on_credential_failed(&id, "IDENTITY_FAILED", &why.to_string(), net);
                }
            },
            Some(Asked::SharedKey(id)) => self.on_shared_key(&id, outcome, net),
            Some(Asked::Credential(id)) => match outcome {
                Outcome::Http(Ok(answer)) => self.on_relay_answer(&id, &answer, net),
                Outcome::Http(Err(why)) => {
                    let code = if why.contains("certificate") {
                        "RELAY_UNTRUSTED"
                    } else {
                        "RELAY_UNREACHABLE"
                    };
                    self.on_credential_failed(&id, code, &why, net);
                }
                other => unreachable!("another kind of outcome: {other:?}"),
            },
            Some(Asked::KnownWritten) => {
                if let Outcome::Written(Err(why)) = outcome {
                    self.on_failed(Asked::KnownWritten, &why, net);
                }
                self.become_ready(net);
            }
            None => (),
        }
    }

    fn on_cluster_token(&mut self, id: &str, token: Token, net: &mut dyn Net) {
        let (now, random) = (net.now(), random_u64(net));
        let life = token.life(net.unix_time()).unwrap_or(CLUSTER_TOKEN_LIFE);
        let fixed = self.config.identity.is_fixed();
        let Some(cluster) = self.clusters.get_mut(id) else { return };
        cluster.token.busy = false;
        if life == Duration::ZERO {
            let why = "the token for the cluster has expired";
            return self.on_token_failed(id, why, net);
        }
        let stale = cluster.token.current.as_ref() == Some(&token);
        let mut renewal = Renewal::new(now, life, random);
        if stale && !fixed {
            // The source still has the old one; ask again soon, use it till then.
            renewal.failed(now, random);
        }
        cluster.token.renewal = Some(renewal);
        cluster.token.current = Some(token);
        for conn in std::mem::take(&mut cluster.undecided) {
            self.decide_again(conn, net);
        }
        self.schedule();
        self.become_ready(net);
    }

    fn on_token_failed(&mut self, id: &str, why: &str, net: &mut dyn Net) {
        let (now, random) = (net.now(), random_u64(net));
        let Some(cluster) = self.clusters.get_mut(id) else { return };
        cluster.token.busy = false;
        let renewal = &mut cluster.token.renewal;
        renewal
            .get_or_insert_with(|| Renewal::new(now, Duration::ZERO, random))
            .failed(now, random);
        let alive = cluster.token.is_good(now, false);
        self.schedule();
        if alive {
            warn!("cluster={} the token could not be renewed: {why}", self.name(id));
        } else {
            self.on_trouble(id, "IDENTITY_FAILED", why, net);
        }
    }

    fn ask_relay(&mut self, id: &str, token: &Secret<String>, net: &mut dyn Net) {
        let Some(cluster) = self.clusters.get(id) else { return };
        let method = match self.config.kubernetes_token {
            Some(_) => Method::Token,
            None => Method::Aad,
        };
        let relay = &self.config.relay;
        let scheme = if relay.tls { "https" } else { "http" };
        let target = credential::request_target(&cluster.resource);
        let bearer = Secret::new(format!("Bearer {}", token.expose()));
        let json = Secret::new("application/json".to_owned());
        let call = HttpCall {
            method: "POST",
            url: format!("{scheme}://{}{}{target}", relay.authority(), relay.path),
            headers: vec![("authorization".into(), bearer), ("content-type".into(), json)],
            body: credential::request_body(method).into(),
            roots: self.config.roots.clone(),
            limit: CREDENTIAL_MAX,
            timeout: CREDENTIAL_TIMEOUT,
        };
        self.submit(Job::Http(call), Asked::Credential(id.to_owned()), net);
    }

    fn on_relay_answer(&mut self, id: &str, answer: &HttpAnswer, net: &mut dyn Net) {
        let Some(cluster) = self.clusters.get(id) else { return };
        if answer.status != 200 {
            let error = Refusal::read(answer.status, &answer.body);
            let code = match error.kind {
                Kind::TokenRefused => "TOKEN_REFUSED",
                Kind::Forbidden => "FORBIDDEN",
                Kind::ClusterUnknown => "CLUSTER_UNKNOWN",
                Kind::NeverConnected => "CLUSTER_NEVER_CONNECTED",
                Kind::Offline => "CLUSTER_OFFLINE",
                Kind::AudienceConflict
                | Kind::JoinTokenRefused
                | Kind::PrincipalUnknown
                | Kind::Wrong
                | Kind::Passing
                | Kind::Foreign => "RELAY_ANSWER",
            };
            return self.on_credential_failed(id, code, &error.to_string(), net);
        }
        match Credential::parse(&answer.body, &cluster.resource) {
            Ok(credential) => self.on_credential(id, credential, net),
            Err(why) => {
                let why = format!("the relay's answer cannot be used: {why}");
                self.on_credential_failed(id, "RELAY_ANSWER", &why, net);
            }
        }
    }

    fn on_credential(&mut self, id: &str, credential: Credential, net: &mut dyn Net) {
        let Some(cluster) = self.clusters.get_mut(id) else { return };
        // A changed CA is accepted once, at the first contact that the user asked for.
        let may_accept =
            self.config.accept_new_ca && !std::mem::replace(&mut cluster.is_judged, true);
        let config = &self.config;
        let offered = credential.fingerprint;
        match config.known.judge(id, offered, config.fingerprint, may_accept) {
            Ok(Trust::Known) => (),
            Ok(trust @ (Trust::First | Trust::Accepted)) => {
                if trust == Trust::Accepted {
                    warn!("cluster={} its new CA is accepted: {offered}", self.name(id));
                } else if self.config.fingerprint.is_none() {
                    let name = self.name(id);
                    info!("cluster={name} its CA is trusted from now on: {offered}");
                }
                self.config.known.remember(id, offered, net.unix_time());
                let bytes = Secret::new(self.config.known.to_string().into_bytes());
                let path = self.config.known_path.clone();
                let write = WriteFile { path, bytes, mode: 0o600 };
                self.submit(Job::Write(write), Asked::KnownWritten, net);
            }
            Err(why @ (Distrust::Changed { .. } | Distrust::Unexpected { .. })) => {
                return self.on_credential_failed(id, "CLUSTER_CHANGED", &why.to_string(), net);
            }
        }
        let life = Duration::from_secs(credential.expires.saturating_sub(net.unix_time()));
        let renewal = Renewal::new(net.now(), life, random_u64(net));
        let Some(cluster) = self.clusters.get_mut(id) else { return };
        let state = &mut cluster.credential;
        state.busy = false;
        state.current = Some(credential);
        state.renewal = Some(renewal);
        self.schedule();
        self.want_session(id, net);
    }

    fn on_credential_failed(&mut self, id: &str, code: &'static str, why: &str, net: &mut dyn Net) {
        let (now, random) = (net.now(), random_u64(net));
        let usable = self.has_credential(id, now);
        let Some(cluster) = self.clusters.get_mut(id) else { return };
        cluster.credential.busy = false;
        cluster.credential.is_disputed = false;
        let renewal = &mut cluster.credential.renewal;
        renewal
            .get_or_insert_with(|| Renewal::new(now, Duration::ZERO, random))
            .failed(now, random);
        self.schedule();
        // A changed CA is not a renewal that fails: somebody may be in the middle.
        if usable && code != "CLUSTER_CHANGED" {
            warn!("cluster={} the credential could not be renewed: {why}", self.name(id));
        } else {
            self.on_trouble(id, code, why, net);
        }
    }

    /// Fetches what is due.
    pub(super) fn renew(&mut self, net: &mut dyn Net) {
        let now = net.now();
        let is_due = |renewal: &Option<Renewal>| renewal.as_ref().is_some_and(|it| it.due() <= now);
        let due = |cluster: &super::Cluster| {
            (is_due(&cluster.token.renewal), is_due(&cluster.credential.renewal))
        };
        let all: Vec<(String, (bool, bool))> =
            self.clusters.iter().map(|(id, cluster)| (id.clone(), due(cluster))).collect();
        for (id, (token, credential)) in all {
            if token {
                self.want_token(&id, net);
            }
            if credential {
                self.want_credential(&id, net);
            }
        }
        self.schedule();
    }

    /// Fetches everything again.
    pub(super) fn renew_all(&mut self, net: &mut dyn Net) {
        let ids: Vec<String> = self.clusters.keys().cloned().collect();
        for id in ids {
            self.want_token(&id, net);
            self.want_credential(&id, net);
        }
    }

    fn schedule(&mut self) {
        let due = self.clusters.values().flat_map(|cluster| {
            let token = cluster.token.renewal.as_ref().filter(|_| !cluster.token.busy);
            let credential = cluster.credential.renewal.as_ref();
            let credential = credential.filter(|_| !cluster.credential.busy);
            [token, credential].into_iter().flatten().map(Renewal::due)
        });
        match due.min() {
            Some(at) => self.timers.set(Key::Renew, at),
            None => self.timers.cancel(Key::Renew),
        }
    }
}
