//! A relay without a network: requests in, answers out, changes applied as they would be.

mod access;
mod clusters;
mod edge;
mod namespaces;
mod network;
mod roles;

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::{Answer, Api, Call, Caller, Effect, Issuer, Settings, Turn, User};
use crate::limits::TOKEN_LIFE;
use crate::role::State as _;
use crate::role::relay::registry::{Ledger, Request};
use crate::secret::Secret;
use crate::wire::resource::ResourceId;

const ADMIN: &str = "cca_0123456789012345678901234567890123456789";
const ENTRA: &str = "https://login.microsoftonline.com/tenant/v2.0";
const GITHUB: &str = "https://token.actions.githubusercontent.com";

struct World {
    api: Api,
    ledger: Ledger,
    start: Instant,
    now: u64,
    live: Cell<bool>,
    random: u8,
}

/// What a caller sees, and what else came of it.
struct Got {
    status: u16,
    body: Json,
    answer: Answer,
}

impl Got {
    fn code(&self) -> (u16, &str) {
        (self.status, self.body["error"]["code"].as_str().unwrap_or_default())
    }

    fn header(&self, name: &str) -> &str {
        let found = self.answer.reply.headers.iter().find(|(header, _)| *header == name);
        found.map_or("", |(_, value)| value)
    }

    /// The events in the audit log, with the codes of those refused.
    fn audit(&self) -> Vec<(&str, &str)> {
        let of = |entry: &'_ crate::role::relay::audit::Entry| {
            (entry.event, entry.refused.unwrap_or(""))
        };
        self.answer.audit.iter().map(of).collect()
    }
}

fn world() -> World {
    let issuer = |issuer: &str, tenant: Option<&str>| {
        let (name_is_subject, tenant) = (tenant.is_none(), tenant.map(str::to_owned));
        Issuer { issuer: issuer.into(), tenant, name_is_subject }
    };
    let settings = Settings {
        public_name: None,
        secure: true,
        audiences: vec!["https://relay.contoso.com".into()],
        issuers: vec![issuer(ENTRA, Some("tenant")), issuer(GITHUB, None)],
        send_token_life: TOKEN_LIFE,
    };
    World {
        api: Api::new(settings, Secret::new(ADMIN.into()), &[9; 32]),
        ledger: Ledger::default(),
        start: Instant::now(),
        now: 1_795_435_380,
        live: Cell::new(false),
        random: 0,
    }
}

/// With the cluster edge-7.
fn with_cluster() -> World {
    let mut world = world();
    assert_eq!(world.operator("PUT", &path(""), "{}").status, 201);
    world
}

fn path(action: &str) -> String {
    format!("{}{action}", ResourceId::parse("edge-7").unwrap().id())
}

fn alice() -> Caller {
    user("7a0e", "alice@contoso.com", &["ops"])
}

fn user(subject: &str, user: &str, groups: &[&str]) -> Caller {
    let groups = groups.iter().map(|&group| group.to_owned()).collect();
    let (issuer, subject, user) = (ENTRA.to_owned(), subject.to_owned(), user.to_owned());
    Caller::User(User { issuer, subject, display: user.clone(), user, groups })
}

impl World {
    fn operator(&mut self, method: &str, path: &str, body: &str) -> Got {
        self.call(&Caller::Operator, method, path, body)
    }

    fn call(&mut self, caller: &Caller, method: &str, path: &str, body: &str) -> Got {
        let (path, query) = path.split_once('?').unwrap_or((path, "api-version=2021-10-01"));
        let call = Call {
            method,
            path,
            query,
            host: "Relay.Contoso.com:8443",
            body: body.as_bytes(),
            peer: "203.0.113.7".parse().ok(),
            caller,
        };
        self.send(&call)
    }

    fn send(&mut self, call: &Call<'_>) -> Got {
        let (live, random) = (&self.live, &mut self.random);
        let mut fill = |into: &mut [u8]| {
            *random = random.wrapping_add(1);
            into.fill(*random);
        };
        let mut turn = Turn {
            registry: self.ledger.registry(),
            listeners: &|_| usize::from(live.get()),
            now: self.start,
            unix_now: self.now,
            random: &mut fill,
        };
        let answer = self.api.answer(call, &mut turn);
        self.ledger.begin(answer.changes.clone()).unwrap();
        self.ledger.finish(true);
        let body = serde_json::from_slice(&answer.reply.body).unwrap_or_default();
        Got { status: answer.reply.status, body, answer }
    }

    fn saw(&mut self) {
        let request = Request::Saw(ResourceId::parse("edge-7").unwrap().cluster_id());
        let changes = self.ledger.registry().plan(request, self.now, &mut |_| ()).unwrap();
        self.ledger.begin(changes).unwrap();
        self.ledger.finish(true);
    }

    fn wait(&mut self, seconds: u64) {
        self.now += seconds;
        self.start += Duration::from_secs(seconds);
    }
}

#[test]
fn the_admin_token_and_nothing_like_it_is_the_operator() {
    let api = world().api;
    assert!(api.is_operator(ADMIN));
    for other in ["", " ", &ADMIN[1..], &format!("{ADMIN} "), &ADMIN.to_uppercase()] {
        assert!(!api.is_operator(other), "{other:?}");
    }
    let unset = Api::new(Settings::default(), Secret::new(String::new()), &[9; 32]);
    assert!(!unset.is_operator(""));
}

#[test]
fn nobody_gets_anywhere() {
    let mut world = with_cluster();
    let denied = Caller::Denied { status: 401, reason: "expired", message: "expired".into() };
    let list = path("").replace("/edge-7", "");
    for caller in [Caller::Nobody, denied] {
        for (method, path) in [
            ("GET", list.clone()),
            ("GET", path("")),
            ("PUT", path("")),
            ("DELETE", path("")),
            ("POST", path("/grant")),
            ("POST", path("/listClusterUserCredential")),
            ("POST", path("/createJoinToken")),
            ("GET", path("/roleAssignments")),
        ] {
            let got = world.call(&caller, method, &path, "{}");
            assert_eq!(got.code(), (401, "AuthenticationFailed"), "{method} {path}");
            assert_eq!(got.header("WWW-Authenticate"), "Bearer");
            assert_eq!(got.audit().len(), 1);
            assert!(got.answer.changes.is_empty());
        }
    }
}

#[test]
fn guessing_tokens_is_slow_and_leaves_the_log_alone() {
    let mut world = with_cluster();
    let wrong = Caller::Denied { status: 401, reason: "signature", message: "no".into() };
    let refused = |world: &mut World| world.call(&wrong, "GET", &path(""), "");
    (0..20).for_each(|_| assert_eq!(refused(&mut world).status, 401));
    let got = refused(&mut world);
    assert_eq!(got.code(), (429, "TooManyRequests"));
    assert_eq!((got.header("Retry-After"), got.audit().len()), ("3", 0));
    assert_eq!(world.operator("GET", &path(""), "").status, 200, "a good token is no guess");
    world.wait(3);
    assert_eq!(refused(&mut world).status, 401);
    assert_eq!(refused(&mut world).status, 429);
}

#[test]
fn a_relay_without_keys_says_that_it_is_not_the_callers_fault() {
    let mut world = with_cluster();
    let caller = Caller::Denied { status: 503, reason: "no keys", message: "try later".into() };
    let got = world.call(&caller, "GET", &path(""), "");
    assert_eq!(got.code(), (503, "ServiceUnavailable"));
}

#[test]
fn shape_of_a_request() {
    let mut world = with_cluster();
    let mut code = |method: &str, path: &str, body: &str| {
        let got = world.operator(method, path, body);
        (got.status, got.code().1.to_owned())
    };
    let owned = |status, code: &str| (status, code.to_owned());
    assert_eq!(code("GET", &path("?"), ""), owned(400, "MissingApiVersionParameter"));
    let old = path("?api-version=2020-01-01");
    assert_eq!(code("GET", &old, ""), owned(400, "InvalidApiVersionParameter"));
    assert_eq!(code("POST", &path(""), ""), owned(405, "MethodNotAllowed"));
    assert_eq!(code("get", &path(""), ""), owned(405, "MethodNotAllowed"));
    assert_eq!(code("GET", &path("/grant"), ""), owned(405, "MethodNotAllowed"));
    assert_eq!(code("GET", &path("/nonsense"), ""), owned(404, "NotFound"));
    assert_eq!(code("GET", &path("/%2e%2e/edge-8"), ""), owned(400, "InvalidPath"));
    assert_eq!(code("GET", &path("-"), ""), owned(400, "InvalidResourceName"));
    let long = "x".repeat(64 * 1024 + 1);
    assert_eq!(code("PUT", &path(""), &long), owned(413, "RequestTooLarge"));
    for body in ["[]", "{", "{\"tags\":{\"a\":\"b\",\"a\":\"c\"}}", "7", "null"] {
        assert_eq!(code("PUT", &path(""), body), owned(400, "InvalidRequestContent"), "{body}");
    }
}

#[test]
fn every_valid_token_is_remembered_granted_or_not() {
    let mut world = with_cluster();
    assert_eq!(world.call(&alice(), "GET", &path(""), "").status, 403);
    assert_eq!(world.ledger.registry().directory().named("alice@contoso.com", None).len(), 1);
    let again = world.call(&alice(), "GET", &path(""), "");
    assert!(again.answer.changes.is_empty(), "and not written down again each time");
    let long = user(&"x".repeat(513), "eve", &[]);
    assert!(world.call(&long, "GET", &path(""), "").answer.changes.is_empty());
}

/// A call that is nearly right: some bytes of its path and body are others.
fn noise(world: &mut World, rng: &mut impl FnMut(u64) -> u64, caller: &Caller) -> Got {
    let actions = [
        "",
        "/grant",
        "/revoke",
        "/enroll",
        "/createJoinToken",
        "/listenChallenge",
        "/listenToken",
        "/roleAssignments",
        "/listClusterUserCredential",
    ];
    let bodies = [
        r#"{"tags":{"a":"b"},"properties":{"agentPublicKeyCertificate":"MAICAQ=="}}"#,
        r#"{"issuer":"https://token.actions.githubusercontent.com","subject":"a"}"#,
        r#"{"joinToken":"ccj_x","agentPublicKey":"BAAA","audiences":["a"]}"#,
        r#"{"challenge":"AAAA","signature":"AAAA"}"#,
        r#"{"authenticationMethod":"AAD","clientProxy":true}"#,
    ];
    let methods = ["GET", "PUT", "POST", "PATCH", "DELETE"];
    let mut pick = |len: usize| usize::try_from(rng(len as u64)).unwrap();
    let (method, action) = (methods[pick(5)], actions[pick(9)]);
    let mut bytes = [path(action).into_bytes(), bodies[pick(5)].as_bytes().to_vec()];
    for text in &mut bytes {
        for _ in 0..pick(3) {
            let at = pick(text.len());
            text[at] = pick(256).to_le_bytes()[0];
        }
    }
    let [path, body] = &bytes;
    let path = String::from_utf8_lossy(path);
    let call = Call {
        method,
        path: &path,
        query: "api-version=2021-10-01",
        host: "relay",
        body,
        peer: None,
        caller,
    };
    world.send(&call)
}

#[test]
fn noise_from_strangers_changes_nothing_and_from_the_operator_replays() {
    let mut seed: u64 = 7;
    let mut rng = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (seed >> 33) % below
    };
    let mut world = with_cluster();
    for _ in 0..20_000 {
        let got = noise(&mut world, &mut rng, &Caller::Nobody);
        assert!(got.answer.changes.is_empty() && got.answer.effects.is_empty());
        assert!(matches!(got.status, 200 | 400..=499), "{}", got.status);
        assert!(got.status != 200 || got.body["challenge"].is_string());
    }
    for _ in 0..20_000 {
        noise(&mut world, &mut rng, &Caller::Operator);
    }
    let snapshot: Vec<Vec<u8>> = world.ledger.registry().records().collect();
    let replayed = Ledger::replay(snapshot.iter().map(Vec::as_slice)).unwrap();
    assert_eq!(replayed.registry(), world.ledger.registry());
}
