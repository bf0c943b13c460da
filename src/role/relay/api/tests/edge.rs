use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

use super::*;
use crate::auth::sas::Right;
use crate::role::relay::api::signed_text;
use crate::role::relay::registry::Bearer;

struct Agent(EcdsaKeyPair);

impl Agent {
    fn new() -> Self {
        let (random, alg) = (SystemRandom::new(), &ECDSA_P256_SHA256_ASN1_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(alg, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(alg, pkcs8.as_ref(), &random).unwrap())
    }

    fn key(&self) -> String {
        STANDARD.encode(self.0.public_key().as_ref())
    }

    fn enrolment(&self, token: &str) -> String {
        enrolment(token, &self.key(), "MAICAQ==", r#"["https://cluster.contoso.com"]"#)
    }

    fn listen(&self, world: &mut World) -> Got {
        let got = world.call(&Caller::Nobody, "POST", &path("/listenChallenge"), "");
        assert_eq!(got.status, 200);
        let challenge = got.body["challenge"].as_str().unwrap().to_owned();
        self.answer(world, &challenge)
    }

    fn answer(&self, world: &mut World, challenge: &str) -> Got {
        let id = ResourceId::parse("edge-7").unwrap().cluster_id();
        let text = signed_text(&id, challenge);
        let signature = self.0.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        let signature = STANDARD.encode(signature);
        let body = format!(r#"{{"challenge":"{challenge}","signature":"{signature}"}}"#);
        world.call(&Caller::Nobody, "POST", &path("/listenToken"), &body)
    }
}

fn enrolment(token: &str, key: &str, certificate: &str, audiences: &str) -> String {
    format!(
        r#"{{"joinToken":"{token}","agentPublicKey":"{key}",
            "agentPublicKeyCertificate":"{certificate}","audiences":{audiences}}}"#
    )
}

fn join_token(world: &mut World, body: &str) -> String {
    let got = world.operator("POST", &path("/createJoinToken"), body);
    assert_eq!((got.status, got.audit()), (200, vec![("createJoinToken", "")]));
    got.body["joinToken"].as_str().unwrap().to_owned()
}

fn enroll(world: &mut World, body: &str) -> Got {
    world.call(&Caller::Nobody, "POST", &path("/enroll"), body)
}

#[test]
fn an_agent_joins_and_gets_listen_tokens() {
    let (mut world, agent) = (with_cluster(), Agent::new());
    let token = join_token(&mut world, r#"{"expiresInSeconds":60}"#);
    assert!(token.starts_with("ccj_") && token.len() == 47);
    let got = enroll(&mut world, &agent.enrolment(&token));
    assert_eq!((got.status, got.audit()), (200, vec![("enroll", "")]));
    assert_eq!(got.body["relay"], "relay.contoso.com:8443");
    assert_eq!(got.body["resourceId"], path(""));
    let entity = ResourceId::parse("edge-7").unwrap().entity();
    assert_eq!(got.body["hybridConnectionName"], entity);
    let got = agent.listen(&mut world);
    assert_eq!((got.status, got.audit()), (200, vec![("listenToken", "")]));
    let config = &got.body["hybridConnectionConfig"];
    assert_eq!(config["expirationTime"], world.now + 3600);
    let token = config["token"].as_str().unwrap();
    let ask = |host: &str, path: &str, right| {
        let good = world.ledger.registry().authorize(Some(token), host, path, right, world.now);
        good.map(|good| good.bearer).ok()
    };
    let host = "relay.contoso.com";
    assert_eq!(ask(host, &entity, Right::Listen), Some(Bearer::Agent));
    assert_eq!(ask(host, &entity, Right::Send), None);
    assert_eq!(ask("other.contoso.com", &entity, Right::Listen), None);
    assert_eq!(ask(host, &format!("{entity}0"), Right::Listen), None);
    assert_eq!(ask(host, "", Right::Listen), None);
}

#[test]
fn a_lost_answer_is_no_disaster_and_a_leaked_used_token_is_worthless() {
    let (mut world, agent, thief) = (with_cluster(), Agent::new(), Agent::new());
    let token = join_token(&mut world, "");
    let first = enroll(&mut world, &agent.enrolment(&token));
    world.wait(1_000_000);
    let again = enroll(&mut world, &agent.enrolment(&token));
    assert_eq!((first.status, &first.body), (200, &again.body));
    assert!(again.answer.changes.is_empty());
    let got = enroll(&mut world, &thief.enrolment(&token));
    assert_eq!(got.code(), (403, "JoinTokenUsed"));
    assert_eq!(got.audit(), [("enroll", "JoinTokenUsed")]);
    assert_eq!(thief.listen(&mut world).code(), (403, "SignatureInvalid"));
    assert_eq!(agent.listen(&mut world).status, 200);
}

#[test]
fn wrong_and_expired_join_tokens_are_told_apart() {
    let (mut world, agent) = (with_cluster(), Agent::new());
    let got = enroll(&mut world, &agent.enrolment("ccj_guess"));
    assert_eq!(
        (got.code(), got.audit()),
        ((403, "JoinTokenInvalid"), vec![("enroll", "JoinTokenInvalid")])
    );
    let token = join_token(&mut world, r#"{"expiresInSeconds":60}"#);
    world.wait(60);
    let got = enroll(&mut world, &agent.enrolment(&token));
    assert_eq!(
        (got.code(), got.audit()),
        ((403, "JoinTokenExpired"), vec![("enroll", "JoinTokenExpired")])
    );
    let elsewhere = path("").replace("edge-7", "edge-8");
    world.operator("PUT", &elsewhere, "{}");
    let token = join_token(&mut world, "");
    let body = agent.enrolment(&token);
    let got = world.call(&Caller::Nobody, "POST", &format!("{elsewhere}/enroll"), &body);
    assert_eq!(got.code(), (403, "JoinTokenInvalid"), "it is for one cluster");
    let nowhere = path("").replace("edge-7", "nowhere");
    let got = world.call(&Caller::Nobody, "POST", &format!("{nowhere}/enroll"), &body);
    assert_eq!(got.code(), (403, "JoinTokenInvalid"), "a stranger learns no names");
}

#[test]
fn guessing_join_tokens_is_slow() {
    let (mut world, agent) = (with_cluster(), Agent::new());
    let token = join_token(&mut world, "");
    (0..20).for_each(|n| {
        let got = enroll(&mut world, &agent.enrolment(&format!("ccj_{n}")));
        assert_eq!(got.status, 403);
    });
    let got = enroll(&mut world, &agent.enrolment(&token));
    assert_eq!((got.code(), got.header("Retry-After")), ((429, "TooManyRequests"), "3"));
    world.wait(3);
    assert_eq!(enroll(&mut world, &agent.enrolment(&token)).status, 200);
}

#[test]
fn guessing_signatures_is_slow() {
    let (mut world, thief) = (with_cluster(), Agent::new());
    (0..20).for_each(|_| assert_eq!(thief.listen(&mut world).code(), (403, "SignatureInvalid")));
    assert_eq!(thief.listen(&mut world).code(), (429, "TooManyRequests"));
}

#[test]
fn an_auth_proxy_with_the_relays_audience_is_refused() {
    let (mut world, agent) = (with_cluster(), Agent::new());
    let token = join_token(&mut world, "");
    for audience in
        ["https://relay.contoso.com", "HTTPS://Relay.Contoso.com/", " https://relay.contoso.com "]
    {
        let audiences = format!(r#"["https://cluster.contoso.com","{audience}"]"#);
        let body = enrolment(&token, &agent.key(), "MAICAQ==", &audiences);
        assert_eq!(enroll(&mut world, &body).code(), (400, "AudienceConflict"), "{audience}");
    }
    let got = enroll(&mut world, &agent.enrolment(&token));
    assert_eq!(got.status, 200, "the join token is still good");
}

#[test]
fn hostile_enrolments_are_refused() {
    let (mut world, agent) = (with_cluster(), Agent::new());
    let token = join_token(&mut world, "");
    let (key, audiences) = (agent.key(), r#"["https://cluster"]"#);
    let many = format!("[{}]", ["\"a\""; 17].join(","));
    for (key, certificate, audiences, code) in [
        ("", "MAICAQ==", audiences, "InvalidPublicKey"),
        ("AAAA", "MAICAQ==", audiences, "InvalidPublicKey"),
        (&STANDARD.encode([2; 65]), "MAICAQ==", audiences, "InvalidPublicKey"),
        (&STANDARD.encode([4; 66]), "MAICAQ==", audiences, "InvalidPublicKey"),
        (&key, "", audiences, "InvalidCertificate"),
        (&key, "MAICAQ", audiences, "InvalidCertificate"),
        (&key, "MAICAQ==", "[]", "InvalidAudience"),
        (&key, "MAICAQ==", "[7]", "InvalidAudience"),
        (&key, "MAICAQ==", r#"[""]"#, "InvalidAudience"),
        (&key, "MAICAQ==", &many, "InvalidAudience"),
        (&key, "MAICAQ==", "\"a\"", "InvalidRequestContent"),
    ] {
        let got = enroll(&mut world, &enrolment(&token, key, certificate, audiences));
        assert_eq!(got.code(), (400, code), "{key} {certificate} {audiences}");
        assert!(got.answer.changes.is_empty());
    }
    let got = enroll(&mut world, "{}");
    assert_eq!(got.code(), (400, "InvalidRequestContent"));
}

#[test]
fn a_challenge_is_answered_once_and_soon() {
    let (mut world, agent) = (with_cluster(), Agent::new());
    let token = join_token(&mut world, "");
    enroll(&mut world, &agent.enrolment(&token));
    let challenge = |world: &mut World| {
        let got = world.call(&Caller::Nobody, "POST", &path("/listenChallenge"), "{}");
        got.body["challenge"].as_str().unwrap().to_owned()
    };
    let first = challenge(&mut world);
    assert_eq!(agent.answer(&mut world, &first).status, 200);
    assert_eq!(agent.answer(&mut world, &first).code(), (403, "ChallengeUsed"));
    let second = challenge(&mut world);
    world.wait(60);
    assert_eq!(agent.answer(&mut world, &second).code(), (403, "ChallengeExpired"));
    assert_eq!(agent.answer(&mut world, "AAAA").code(), (403, "ChallengeInvalid"));
}

#[test]
fn a_removed_cluster_gets_no_listen_token() {
    let (mut world, agent) = (with_cluster(), Agent::new());
    let token = join_token(&mut world, "");
    enroll(&mut world, &agent.enrolment(&token));
    world.operator("DELETE", &path(""), "");
    assert_eq!(agent.listen(&mut world).code(), (403, "SignatureInvalid"));
    world.operator("PUT", &path(""), "{}");
    assert_eq!(agent.listen(&mut world).code(), (403, "SignatureInvalid"));
    let got = enroll(&mut world, &agent.enrolment(&token));
    assert_eq!(got.code(), (403, "JoinTokenInvalid"));
}

#[test]
fn another_agent_takes_over_with_a_token_of_its_own() {
    let (mut world, old, new) = (with_cluster(), Agent::new(), Agent::new());
    let token = join_token(&mut world, "");
    assert!(enroll(&mut world, &old.enrolment(&token)).answer.effects.is_empty());
    let token = join_token(&mut world, "");
    let got = enroll(&mut world, &new.enrolment(&token));
    let entity = ResourceId::parse("edge-7").unwrap().entity();
    assert_eq!(got.answer.effects, [Effect::DropListeners(entity)]);
    assert_eq!(old.listen(&mut world).code(), (403, "SignatureInvalid"));
    assert_eq!(new.listen(&mut world).status, 200);
}

#[test]
fn a_join_token_is_nowhere_but_in_its_answer() {
    let (mut world, agent) = (with_cluster(), Agent::new());
    let got = world.operator("POST", &path("/createJoinToken"), "");
    let token = got.body["joinToken"].as_str().unwrap().to_owned();
    let secret = token.strip_prefix("ccj_").unwrap();
    let enrolled = enroll(&mut world, &agent.enrolment(&token));
    for answer in [&got.answer, &enrolled.answer] {
        let lines: Vec<String> = answer.audit.iter().map(|entry| entry.line(1)).collect();
        assert!(!format!("{lines:?} {:?}", answer.changes).contains(secret));
    }
    let state: Vec<String> =
        world.ledger.registry().records().map(|it| String::from_utf8(it).unwrap()).collect();
    assert!(!state.concat().contains(secret));
    for body in [r#"{"expiresInSeconds":0}"#, r#"{"expiresInSeconds":99999999}"#] {
        let got = world.operator("POST", &path("/createJoinToken"), body);
        assert_eq!(got.code(), (400, "InvalidExpiry"));
    }
}
