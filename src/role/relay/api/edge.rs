//! What the edge asks: to join with a token that the operator has made, and later for Listen
//! tokens, by proof of its key. There is no shared secret that stays at the edge.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use serde_json::json;

use super::challenge::Failed;
use super::clusters::certificate_of;
use super::{
    Answer, Api, Call, Effect, Fault, Guess, Reply, Turn, body, done, known, operator, plan,
};
use crate::auth::sas;
use crate::limits::{AUDIENCES_MAX, JOIN_TOKEN_LIFE_MAX, TEXT_MAX, TOKEN_LIFE};
use crate::role::relay::audit::Who;
use crate::role::relay::registry::{Change, LISTEN_RULE, Request};
use crate::wire::json::{Object, Value};
use crate::wire::resource::{ResourceId, hex};

/// What a join token begins with.
const JOIN_TOKEN: &str = "ccj_";

pub(super) fn create_join_token(
    call: &Call<'_>,
    resource: &ResourceId,
    turn: &mut Turn<'_, '_>,
) -> Result<Answer, Fault> {
    operator(call)?;
    known(turn, resource)?;
    let life = body(call)?.optional_unsigned("expiresInSeconds")?;
    let life = life.unwrap_or(TOKEN_LIFE.as_secs());
    let longest = JOIN_TOKEN_LIFE_MAX.as_secs();
    if !(1..=longest).contains(&life) {
        let message = format!("expiresInSeconds is between 1 and {longest}");
        return Err(Fault::bad_request("InvalidExpiry", &message));
    }
    let mut secret = [0; 32];
    (turn.random)(&mut secret);
    let token = format!("{JOIN_TOKEN}{}", URL_SAFE_NO_PAD.encode(secret));
    let expires = turn.unix_now.saturating_add(life);
    let (cluster, hash) = (resource.cluster_id(), hash_of(&token));
    let detail = vec![("joinToken", short(&hash)), ("expirationTime", expires.to_string())];
    let changes = plan(Request::IssueJoinToken { cluster, hash, expires }, turn)?;
    let audit = vec![done("createJoinToken", call, resource, detail)];
    let reply = Reply::json(200, &json!({"joinToken": token, "expirationTime": expires}));
    Ok(Answer { audit, changes, effects: Vec::new(), reply })
}

impl Api {
    pub(super) fn enroll(
        &mut self,
        call: &Call<'_>,
        resource: &ResourceId,
        turn: &mut Turn<'_, '_>,
    ) -> Result<Answer, Fault> {
        self.guess(Guess::JoinToken, call.peer, turn.now)?;
        let body = body(call)?;
        let hash = hash_of(body.text("joinToken")?);
        let key = public_key(body.text("agentPublicKey")?)?;
        let certificate = certificate_of(body.text("agentPublicKeyCertificate")?)?;
        let audiences = self.audiences(&body)?;
        let relay = self.relay_name(call.host)?;
        let (cluster, token) = (resource.cluster_id(), short(&hash));
        let request = Request::Enrol { cluster, hash, key, certificate, audiences };
        let changes = plan(request, turn).inspect_err(|_| {
            self.guesses.note(Guess::JoinToken, call.peer, turn.now);
        })?;
        let entity = resource.entity();
        // A new listen rule means that another agent was here before.
        let replaced = changes.iter().any(|change| matches!(change, Change::Rule(..)));
        let effects = match replaced {
            true => vec![Effect::DropListeners(entity.clone())],
            false => Vec::new(),
        };
        let repeated = if changes.is_empty() { "true" } else { "false" };
        let detail = vec![("joinToken", token), ("repeated", repeated.to_owned())];
        let mut entry = done("enroll", call, resource, detail);
        entry.who = Who::Agent;
        let body = json!({
            "resourceId": resource.id(), "hybridConnectionName": entity, "relay": relay,
        });
        Ok(Answer { audit: vec![entry], changes, effects, reply: Reply::json(200, &body) })
    }

    pub(super) fn listen_token(
        &mut self,
        call: &Call<'_>,
        resource: &ResourceId,
        turn: &Turn<'_, '_>,
    ) -> Result<Answer, Fault> {
        self.guess(Guess::Challenge, call.peer, turn.now)?;
        let body = body(call)?;
        let (challenge, signature) = (body.text("challenge")?, body.text("signature")?);
        let signature = STANDARD.decode(signature).unwrap_or_default();
        let cluster = turn.registry.cluster(&resource.cluster_id());
        // Without an agent there is no key, and no signature is good: the same answer for a
        // cluster that is not there and one that has not enrolled.
        let agent = cluster.and_then(|cluster| cluster.facts.agent.as_ref());
        let key = agent.map_or(&[][..], |agent| &agent.key);
        let id = resource.cluster_id();
        self.challenges.redeem(&id, challenge, key, &signature, turn.unix_now).map_err(|why| {
            if why != Failed::Crowded {
                self.guesses.note(Guess::Challenge, call.peer, turn.now);
            }
            fault_of(why)
        })?;
        let relay = self.relay_name(call.host)?;
        let entity = resource.entity();
        let rules = turn.registry.rules(Some(&entity));
        let rule = rules.and_then(|rules| rules.get(LISTEN_RULE));
        let rule = rule.ok_or_else(|| Fault::no_cluster(resource))?;
        let expires = turn.unix_now.saturating_add(TOKEN_LIFE.as_secs());
        let uri = format!("http://{relay}/{entity}");
        let token = sas::mint(&uri, LISTEN_RULE, &rule.primary, expires);
        let detail = vec![("expirationTime", expires.to_string())];
        let mut entry = done("listenToken", call, resource, detail);
        entry.who = Who::Agent;
        let body = json!({"hybridConnectionConfig": {
            "relay": relay, "hybridConnectionName": entity, "token": token,
            "expirationTime": expires,
        }});
        Ok(Answer { audit: vec![entry], ..Reply::json(200, &body).into() })
    }

    /// What the auth proxy takes tokens for. None of it may be what the relay takes tokens for,
    /// or the relay would see tokens that open the cluster.
    fn audiences(&self, body: &Object) -> Result<Vec<String>, Fault> {
        let bad = || {
            let message =
                format!("audiences are 1 to {AUDIENCES_MAX} texts of 1 to {TEXT_MAX} bytes each");
            Fault::bad_request("InvalidAudience", &message)
        };
        let all = body.optional_array("audiences")?.ok_or_else(bad)?;
        let text = |value: &Value| match value {
            Value::Text(text) if (1..=TEXT_MAX).contains(&text.len()) => Ok(text.clone()),
            _ => Err(bad()),
        };
        let all: Vec<String> = all.iter().map(text).collect::<Result<_, _>>()?;
        if !(1..=AUDIENCES_MAX).contains(&all.len()) {
            return Err(bad());
        }
        let bare = |text: &str| text.trim().trim_end_matches('/').to_ascii_lowercase();
        let own = |text: &&String| {
            self.settings.audiences.iter().any(|audience| bare(audience) == bare(text))
        };
        match all.iter().find(own) {
            None => Ok(all),
            Some(both) => {
                let message = format!(
                    "the audience {both:?} is also the relay's own: give the auth proxy one of \
                     its own, so that the relay never sees a token that opens the cluster"
                );
                Err(Fault::bad_request("AudienceConflict", &message))
            }
        }
    }
}

fn fault_of(why: Failed) -> Fault {
    match why {
        Failed::Foreign => {
            Fault::new(403, "ChallengeInvalid", "the challenge was not made for this cluster")
        }
        Failed::Expired => Fault::new(403, "ChallengeExpired", "the challenge is too old"),
        Failed::Used => Fault::new(403, "ChallengeUsed", "the challenge was answered before"),
        Failed::Signature => Fault::new(
            403,
            "SignatureInvalid",
            "the signature is not that of the agent that has enrolled for this cluster; enrol \
             again with a new join token",
        ),
        Failed::Crowded => Fault::new(503, "ServiceUnavailable", "too many challenges at once"),
    }
}

/// An uncompressed P-256 point. That it lies on the curve shows at the first signature.
fn public_key(text: &str) -> Result<Vec<u8>, Fault> {
    let bad = || {
        let message = "agentPublicKey is the base64 of an uncompressed P-256 point, 65 bytes";
        Fault::bad_request("InvalidPublicKey", message)
    };
    let key = STANDARD.decode(text).map_err(|_| bad())?;
    if key.len() == 65 && key.first() == Some(&4) { Ok(key) } else { Err(bad()) }
}

fn hash_of(token: &str) -> String {
    hex(digest(&SHA256, token.as_bytes()).as_ref())
}

/// Enough to tell one join token from another in the audit log.
fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}
