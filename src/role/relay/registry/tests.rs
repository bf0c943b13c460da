use std::time::Duration;

use super::plan::ROOT_RULE;
use super::*;
use crate::auth::assignments::{Grant, Holder};
use crate::auth::network::Mask;
use crate::auth::roles::{PrincipalKind, Role, RoleAssignment};
use crate::auth::sas::{Refusal as Denied, Rights};
use crate::auth::{GroupState, Principal};
use crate::role::relay::directory;
use crate::wire::resource::ResourceId;

/// A small generator: the tests need other numbers for each seed, and the same ones every time.
struct Rng(u64);

impl Rng {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % below
    }

    fn fill(&mut self, into: &mut [u8]) {
        into.iter_mut().for_each(|byte| *byte = self.next(256).to_le_bytes()[0]);
    }
}

fn put(name: &str) -> Request {
    Request::PutCluster {
        resource: ResourceId::parse(name).unwrap(),
        location: None,
        tags: None,
        distribution: None,
        infrastructure: None,
        certificate: None,
        by: "operator".into(),
    }
}

fn id(name: &str) -> String {
    ResourceId::parse(name).unwrap().cluster_id()
}

fn run(registry: &mut Registry, request: Request, now: u64) -> Result<usize, Refusal> {
    let mut rng = Rng(now);
    let changes = registry.plan(request, now, &mut |into| rng.fill(into))?;
    let count = changes.len();
    changes.into_iter().for_each(|change| registry.apply(change));
    Ok(count)
}

fn enrol(name: &str, hash: &str, key: u8) -> Request {
    let (cluster, hash, key) = (id(name), hash.to_owned(), vec![4, key]);
    Request::Enrol { cluster, hash, key, certificate: vec![0x30, 0], audiences: vec!["a".into()] }
}

fn network(masks: &[&str]) -> Request {
    let masks: Vec<Mask> = masks.iter().map(|mask| Mask::parse(mask).unwrap()).collect();
    Request::PutNetwork(NetworkRules::new(true, masks.is_empty(), masks).unwrap())
}

fn issue(name: &str, hash: &str, expires: u64) -> Request {
    Request::IssueJoinToken { cluster: id(name), hash: hash.to_owned(), expires }
}

/// A token of `rule` with the key of `signer`, for the hybrid connection of `name`.
fn token(name: &str, rule: &str, key: &Secret<String>) -> String {
    let entity = ResourceId::parse(name).unwrap().entity();
    sas::mint(&format!("http://relay.example/{entity}"), rule, key, 1000)
}

/// The key of one of a cluster's own rules.
fn key(registry: &Registry, name: &str, rule: &str) -> Secret<String> {
    let entity = ResourceId::parse(name).unwrap().entity();
    registry.rules(Some(&entity)).unwrap()[rule].primary.clone()
}

fn ask(registry: &Registry, name: &str, token: &str, right: Right) -> Result<Bearer, Denied> {
    let path = ResourceId::parse(name).unwrap().entity();
    let good = registry.authorize(Some(token), "Relay.Example:443", &path, right, 999);
    good.map(|good| good.bearer)
}

fn any_request(rng: &mut Rng) -> Request {
    let name = format!("edge-{}", rng.next(4));
    let cluster = id(&name);
    let hash = format!("h{}", rng.next(6));
    let who = rng.next(4).to_string();
    let holder = match rng.next(2) {
        0 => Holder::user("https://a", &who),
        _ => Holder::group("https://a", &who),
    };
    let entity = (rng.next(3) > 0).then(|| format!("Lab/hc{}", rng.next(3)));
    let rule = format!("rule{}", rng.next(3));
    match rng.next(16) {
        0 => Request::Initialise,
        1 => put(&name),
        2 => {
            let mut request = put(&name);
            if let Request::PutCluster { tags, location, .. } = &mut request {
                *tags = Some([("site".to_owned(), who)].into());
                *location = Some("here".to_owned());
            }
            request
        }
        3 => Request::RemoveCluster(cluster),
        4 => Request::IssueJoinToken { cluster, hash, expires: rng.next(400) },
        5 | 6 => enrol(&name, &hash, rng.next(3).to_le_bytes()[0]),
        7 => Request::Grant { cluster, holder, display: "x".into(), by: "operator".into() },
        8 => Request::Revoke { cluster, holder },
        9 => Request::Saw(cluster),
        10 => Request::SawPrincipal(directory::Principal {
            issuer: "https://a".into(),
            subject: who.clone(),
            user: format!("user{}", rng.next(3)),
            display: who,
            seen_at: rng.next(1000),
        }),
        11 => Request::PutEntity {
            name: entity.unwrap_or(rule),
            wish: EntityWish {
                requires_client_authorization: (rng.next(2) == 0).then(|| rng.next(2) == 0),
                user_metadata: Some(who),
                http: (rng.next(2) == 0).then(|| rng.next(2) == 0),
                response: (rng.next(2) == 0).then(|| Duration::from_secs(rng.next(99) + 1)),
                ..EntityWish::default()
            },
        },
        12 => Request::RemoveEntity(entity.unwrap_or(rule)),
        14 => match rng.next(3) {
            0 => network(&[]),
            1 => network(&["10.0.0.0/8", "2001:db8::/32"]),
            _ => network(&["192.0.2.7"]),
        },
        13 => match rng.next(2) {
            0 => Request::PutRule { entity, name: rule, rights: Rights::SEND },
            _ => Request::RemoveRule { entity, name: rule },
        },
        _ => {
            let primary = rng.next(2) == 0;
            Request::RegenerateKey { entity, name: rule, primary, key: None }
        }
    }
}

#[test]
fn replay_and_snapshot_give_the_live_state() {
    let mut accepted = 0;
    for seed in 0..300 {
        let mut rng = Rng(seed);
        let mut live = Ledger::default();
        let mut journal: Vec<Vec<u8>> = Vec::new();
        for now in 0..400 {
            let request = any_request(&mut rng);
            let planned = live.registry().plan(request, now, &mut |into| rng.fill(into));
            let Ok(changes) = planned else { continue };
            let record = live.begin(changes).unwrap();
            // Now and then the disk is full: then nothing has happened.
            let durable = rng.next(10) > 0;
            if durable {
                journal.push(record);
                accepted += 1;
            }
            live.finish(durable);
        }
        let replayed = Ledger::replay(journal.iter().map(Vec::as_slice)).unwrap();
        assert_eq!(replayed.registry(), live.registry(), "seed {seed}");
        let snapshot: Vec<Vec<u8>> = live.registry().records().collect();
        let restored = Ledger::replay(snapshot.iter().map(Vec::as_slice)).unwrap();
        assert_eq!(restored.registry(), live.registry(), "seed {seed}");
        assert_eq!(restored.registry().records().collect::<Vec<_>>(), snapshot, "seed {seed}");
    }
    assert!(accepted > 50_000, "only {accepted} requests were any good");
}

#[test]
fn one_batch_at_a_time() {
    let mut ledger = Ledger::default();
    let changes = ledger.registry().plan(put("a"), 1, &mut |_| ()).unwrap();
    ledger.begin(changes.clone()).unwrap();
    assert_eq!(ledger.begin(changes.clone()), Err(InFlight));
    ledger.finish(false);
    assert!(ledger.registry().cluster(&id("a")).is_none());
    ledger.begin(changes).unwrap();
    ledger.finish(true);
    assert!(ledger.registry().cluster(&id("a")).is_some());
}

#[test]
fn a_cluster_comes_with_a_hybrid_connection_and_goes_with_it() {
    let mut registry = Registry::default();
    assert_eq!(run(&mut registry, put("edge-7"), 1), Ok(4));
    assert_eq!(run(&mut registry, put("EDGE-7"), 2), Ok(0), "the same again changes nothing");
    let name = ResourceId::parse("edge-7").unwrap().entity();
    let entity = registry.entity(&name).unwrap();
    assert!(entity.requires_client_authorization && !entity.http);
    run(&mut registry, Request::RemoveCluster(id("edge-7")), 3).unwrap();
    assert!(registry.entity(&name).is_none());
    let again = run(&mut registry, Request::RemoveCluster(id("edge-7")), 3);
    assert_eq!(again, Err(Refusal::UnknownCluster));
}

#[test]
fn a_join_token_enrols_one_key() {
    let mut registry = Registry::default();
    run(&mut registry, put("edge-7"), 1).unwrap();
    run(&mut registry, put("other"), 1).unwrap();
    run(&mut registry, issue("edge-7", "h", 100), 1).unwrap();
    let refused = |registry: &mut Registry, name, hash, key, now| {
        run(registry, enrol(name, hash, key), now).unwrap_err()
    };
    assert_eq!(refused(&mut registry, "edge-7", "g", 1, 2), Refusal::JoinTokenUnknown);
    assert_eq!(refused(&mut registry, "other", "h", 1, 2), Refusal::JoinTokenUnknown);
    assert_eq!(refused(&mut registry, "none", "h", 1, 2), Refusal::JoinTokenUnknown);
    assert_eq!(refused(&mut registry, "edge-7", "h", 1, 100), Refusal::JoinTokenExpired);
    assert_eq!(run(&mut registry, enrol("edge-7", "h", 1), 99), Ok(2));
    assert_eq!(run(&mut registry, enrol("edge-7", "h", 1), 5000), Ok(0), "the answer was lost");
    assert_eq!(refused(&mut registry, "edge-7", "h", 2, 99), Refusal::JoinTokenUsed);
}

#[test]
fn a_new_agent_ends_the_listen_tokens_of_the_old_one() {
    let mut registry = Registry::default();
    run(&mut registry, put("edge-7"), 1).unwrap();
    run(&mut registry, issue("edge-7", "h", 100), 1).unwrap();
    run(&mut registry, issue("edge-7", "g", 100), 1).unwrap();
    run(&mut registry, enrol("edge-7", "h", 1), 2).unwrap();
    let token = token("edge-7", LISTEN_RULE, &key(&registry, "edge-7", LISTEN_RULE));
    assert_eq!(ask(&registry, "edge-7", &token, Right::Listen), Ok(Bearer::Agent));
    assert_eq!(
        ask(&registry, "edge-7", &token, Right::Send),
        Err(Denied::Right(Right::Send)),
        "an agent does not connect"
    );
    run(&mut registry, enrol("edge-7", "g", 2), 3).unwrap();
    assert_eq!(ask(&registry, "edge-7", &token, Right::Listen), Err(Denied::Signature));
    let replayed = run(&mut registry, enrol("edge-7", "h", 1), 4);
    assert_eq!(replayed, Err(Refusal::JoinTokenUsed), "the old agent does not come back");
}

#[test]
fn join_tokens_are_bounded_and_expired_ones_make_room() {
    let mut registry = Registry::default();
    run(&mut registry, put("edge-7"), 1).unwrap();
    for n in 0..16 {
        run(&mut registry, issue("edge-7", &n.to_string(), 50), 1).unwrap();
    }
    let full = run(&mut registry, issue("edge-7", "more", 50), 49);
    assert_eq!(full, Err(Refusal::TooMany(16, "join tokens")));
    assert_eq!(run(&mut registry, issue("edge-7", "more", 90), 50), Ok(17));
    assert_eq!(registry.cluster(&id("edge-7")).unwrap().join_tokens.len(), 1);
}

#[test]
fn a_send_token_dies_with_its_assignment() {
    let mut registry = Registry::default();
    run(&mut registry, put("edge-7"), 1).unwrap();
    run(&mut registry, put("edge-8"), 1).unwrap();
    let holder = Holder::user("https://a", "7");
    let rule = send_rule(&holder.tag(), &holder.tag());
    let token = token("edge-7", &rule, &send_key(&key(&registry, "edge-7", SEND_RULE), &rule));
    assert_eq!(ask(&registry, "edge-7", &token, Right::Send), Err(Denied::Signature));
    let (cluster, display, by) = (id("edge-7"), String::new(), String::new());
    let grant = Request::Grant { cluster: cluster.clone(), holder: holder.clone(), display, by };
    run(&mut registry, grant.clone(), 2).unwrap();
    assert_eq!(run(&mut registry, grant, 3), Ok(0));
    let tag = holder.tag();
    let bearer = Bearer::User { principal: tag.clone(), grant: tag };
    assert_eq!(ask(&registry, "edge-7", &token, Right::Send), Ok(bearer));
    let listen = ask(&registry, "edge-7", &token, Right::Listen);
    assert_eq!(listen, Err(Denied::Right(Right::Listen)), "a user does not listen");
    assert_eq!(ask(&registry, "edge-8", &token, Right::Send), Err(Denied::Signature));
    let revoke = Request::Revoke { cluster, holder };
    run(&mut registry, revoke.clone(), 4).unwrap();
    assert_eq!(ask(&registry, "edge-7", &token, Right::Send), Err(Denied::Signature));
    assert_eq!(run(&mut registry, revoke, 5), Err(Refusal::NotAssigned));
}

/// Whose senders this token's are counted as.
fn caller(registry: &Registry, token: &str, path: &str) -> String {
    let host = "relay.example";
    registry.authorize(Some(token), host, path, Right::Send, 500).unwrap().caller
}

#[test]
fn a_user_is_one_caller_and_so_is_each_key_of_each_hybrid_connection() {
    let mut registry = Registry::default();
    run(&mut registry, Request::Initialise, 1).unwrap();
    let (alice, ops) = (Holder::user("https://a", "alice"), Holder::group("https://a", "ops"));
    let mut callers = Vec::new();
    for (name, grant) in [("edge-7", &alice), ("edge-8", &ops)] {
        run(&mut registry, put(name), 1).unwrap();
        let (cluster, display, by) = (id(name), String::new(), String::new());
        let wish = Request::Grant { cluster, holder: grant.clone(), display, by };
        run(&mut registry, wish, 2).unwrap();
        let rule = send_rule(&alice.tag(), &grant.tag());
        let signed = token(name, &rule, &send_key(&key(&registry, name, SEND_RULE), &rule));
        callers.push(caller(&registry, &signed, &ResourceId::parse(name).unwrap().entity()));
    }
    let role = |name: &str| Change::Role(Box::new(sender_role(name, &ops)));
    registry.apply(role("00000000-0000-0000-0000-000000000001"));
    let who = principal("https://a", "alice", "ops");
    callers.push(registry.authorize_principal(&who, "lab/hc", Right::Send).unwrap().caller);
    assert_eq!(callers[0], format!("user {}", alice.tag()));
    assert!(callers.iter().all(|it| *it == callers[0]), "of whatever token: {callers:?}");

    let wish = EntityWish::default();
    for name in ["Lab/hc", "lab/hc2"] {
        let request = Request::PutEntity { name: name.to_owned(), wish: wish.clone() };
        run(&mut registry, request, 3).unwrap();
    }
    let root = registry.rules(None).unwrap().values().next().unwrap().clone();
    // A rule of the hybrid connection's own by the same name is somebody else's.
    let own = Rule { primary: Secret::new("own".to_owned()), ..Rule::clone(&root) };
    registry.apply(Change::Rule(Some("lab/hc".to_owned()), own.clone()));
    let signed = |rule: &Rule| sas::mint("http://relay.example/", ROOT_RULE, &rule.primary, 1000);
    let at = |path: &str| caller(&registry, &signed(&root), path);
    assert_eq!(at("lab/hc"), "namespace key rootmanagesharedaccesskey Lab/hc");
    assert_eq!((at("lab/hc/below"), at("lab/hc2") == at("lab/hc")), (at("lab/hc"), false));
    assert!(caller(&registry, &signed(&own), "lab/hc").starts_with("key "));
}

fn sender_role(name: &str, holder: &Holder) -> RoleAssignment {
    RoleAssignment {
        name: name.to_owned(),
        holder: holder.clone(),
        kind: PrincipalKind::Group,
        role: Role::Sender,
        scope: "/subscriptions/x".to_owned(),
        entity: None,
        grant: Grant::default(),
    }
}

fn principal(issuer: &str, subject: &str, group: &str) -> Principal {
    Principal {
        user: subject.to_owned(),
        groups: vec![group.to_owned()],
        group_state: GroupState::Complete,
        extra: Vec::new(),
        issuer: issuer.to_owned(),
        subject: subject.to_owned(),
        display: String::new(),
        credential_id: String::new(),
        expires: 1000,
        is_app: false,
    }
}

#[test]
fn a_send_token_cannot_be_rewritten_for_somebody_else() {
    let mut registry = Registry::default();
    run(&mut registry, put("edge-7"), 1).unwrap();
    let (alice, bob) = (Holder::user("https://a", "alice"), Holder::user("https://a", "bob"));
    for holder in [&alice, &bob] {
        let (cluster, display, by) = (id("edge-7"), String::new(), String::new());
        let grant = Request::Grant { cluster, holder: holder.clone(), display, by };
        run(&mut registry, grant, 2).unwrap();
    }
    let (of_alice, of_bob) =
        (send_rule(&alice.tag(), &alice.tag()), send_rule(&bob.tag(), &bob.tag()));
    let alices = send_key(&key(&registry, "edge-7", SEND_RULE), &of_alice);
    let forged = token("edge-7", &of_bob, &alices);
    assert_eq!(ask(&registry, "edge-7", &forged, Right::Send), Err(Denied::Signature));
}

#[test]
fn no_rule_name_reaches_a_cluster_but_the_relays_own() {
    let mut registry = Registry::default();
    run(&mut registry, Request::Initialise, 1).unwrap();
    run(&mut registry, put("edge-7"), 1).unwrap();
    let (zeros, base) = (OPERATOR_TAG, key(&registry, "edge-7", SEND_RULE));
    for rule in [
        SEND_RULE,
        "send",
        "send.",
        "send..",
        &format!("send.{zeros}"),
        &format!("send.{zeros}.{zeros}0"),
        &format!("send.{zeros}.{}", "g".repeat(32)),
        &format!("send.{zeros}.{zeros}.x"),
        &format!("send.{zeros}.{}", "1".repeat(32)),
    ] {
        for key in [&base, &send_key(&base, rule), &Secret::new(String::new())] {
            let token = token("edge-7", rule, key);
            let refused = ask(&registry, "edge-7", &token, Right::Send);
            assert_eq!(refused, Err(Denied::Signature), "{rule}");
        }
    }
    let root = registry.rules(None).unwrap()["rootmanagesharedaccesskey"].clone();
    let refused =
        ask(&registry, "edge-7", &token("edge-7", &root.name, &root.primary), Right::Send);
    assert_eq!(refused, Err(Denied::Signature), "the namespace's key is no master key");
    let elsewhere = sas::mint("sb://relay.example/", &root.name, &root.primary, 1000);
    let good = registry.authorize(Some(&elsewhere), "relay.example", "hc1", Right::Listen, 999);
    assert_eq!(good.map(|good| good.bearer), Ok(Bearer::Rule));
    let operators = send_rule(zeros, zeros);
    let token = token("edge-7", &operators, &send_key(&base, &operators));
    assert!(ask(&registry, "edge-7", &token, Right::Send).is_ok());
}

#[test]
fn the_hybrid_connection_of_a_cluster_is_out_of_reach_of_the_other_api() {
    let mut registry = Registry::default();
    run(&mut registry, put("edge-7"), 1).unwrap();
    let name = ResourceId::parse("edge-7").unwrap().entity();
    let entity = Some(name.clone());
    let rule = SEND_RULE.to_owned();
    for request in [
        Request::PutRule { entity: entity.clone(), name: "mine".into(), rights: Rights::ALL },
        Request::RegenerateKey {
            entity: entity.clone(),
            name: rule.clone(),
            primary: true,
            key: None,
        },
        Request::RemoveRule { entity, name: rule },
        Request::RemoveEntity(name.clone()),
    ] {
        assert_eq!(run(&mut registry, request, 1), Err(Refusal::OfCluster));
    }
    let put = |name: &str| Request::PutEntity {
        name: name.into(),
        wish: EntityWish { requires_client_authorization: Some(false), ..EntityWish::default() },
    };
    assert_eq!(run(&mut registry, put(&name), 1), Err(Refusal::BadName));
}

#[test]
fn hostile_names_of_hybrid_connections_are_refused() {
    let mut registry = Registry::default();
    let long = "a".repeat(261);
    for name in [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "..",
        "a/..",
        "a%2fb",
        "a b",
        "$hc",
        "$HC/x",
        "subscriptions/x",
        "Microsoft.Kubernetes/connectedclusters/x",
        "healthz",
        "a\n",
        &long,
    ] {
        let request = Request::PutEntity { name: name.into(), wish: EntityWish::default() };
        assert_eq!(run(&mut registry, request, 1), Err(Refusal::BadName), "{name:?}");
    }
}

#[test]
fn rules_follow_azure() {
    let mut registry = Registry::default();
    let manage = Rights { manage: true, ..Rights::default() };
    let put = |name: &str, rights| Request::PutRule { entity: None, name: name.into(), rights };
    for rights in [Rights::default(), manage] {
        assert_eq!(run(&mut registry, put("r", rights), 1), Err(Refusal::BadRights));
    }
    assert_eq!(run(&mut registry, put("a&b", Rights::ALL), 1), Err(Refusal::BadName));
    (0..12)
        .for_each(|n| assert_eq!(run(&mut registry, put(&n.to_string(), Rights::ALL), 1), Ok(1)));
    let more = run(&mut registry, put("more", Rights::ALL), 1);
    assert_eq!(more, Err(Refusal::TooMany(12, "authorization rules")));
    let old = registry.rules(None).unwrap()["3"].clone();
    let name = "3".to_owned();
    let regenerate = Request::RegenerateKey { entity: None, name, primary: false, key: None };
    run(&mut registry, regenerate, 2).unwrap();
    let new = &registry.rules(None).unwrap()["3"];
    assert_eq!(old.primary, new.primary);
    assert_ne!(old.secondary, new.secondary);
}

#[test]
fn a_path_leads_to_the_longest_name_that_ends_with_a_segment() {
    let mut registry = Registry::default();
    for name in ["Ent", "ent/sub"] {
        let request = Request::PutEntity { name: name.into(), wish: EntityWish::default() };
        run(&mut registry, request, 1).unwrap();
    }
    let found = |path| registry.resolve(path).map(|(entity, suffix)| (&entity.name[..], suffix));
    assert_eq!(found("ENT"), Some(("Ent", "")));
    assert_eq!(found("ent/x/y"), Some(("Ent", "/x/y")));
    assert_eq!(found("ent/sub"), Some(("ent/sub", "")));
    assert_eq!(found("ent/sub2"), Some(("Ent", "/sub2")));
    assert_eq!(found("ent2"), None);
    assert_eq!(found(""), None);
    assert_eq!(found("é/x"), None);
}

#[test]
fn secrets_do_not_print() {
    let mut registry = Registry::default();
    run(&mut registry, put("edge-7"), 1).unwrap();
    let key = registry.entities().next().unwrap().rules[SEND_RULE].primary.expose().clone();
    assert!(!format!("{registry:?}").contains(&key));
}
