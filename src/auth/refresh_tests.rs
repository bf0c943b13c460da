use super::super::profile::{OidcIssuer, Prefix};
use super::super::settings::{IssuerSettings, VerifierSettings};
use super::super::testing::{NOW, key_set};
use super::*;
use crate::limits::KEYS_STALE;

const ISSUER: &str = "https://issuer.example";
const DOCUMENT: &str =
    r#"{"issuer":"https://issuer.example","jwks_uri":"https://issuer.example/k"}"#;
const MINUTE: Duration = Duration::from_secs(60);

fn verifier(keys: KeySource) -> Verifier {
    let mut issuer = OidcIssuer::new(ISSUER, vec!["aud".to_owned()], Prefix::None);
    issuer.keys = keys;
    let issuers = vec![IssuerSettings::Oidc(issuer)];
    Verifier::new(VerifierSettings { issuers, ..VerifierSettings::default() }).expect("settings")
}

struct World {
    verifier: Verifier,
    policy: KeyPolicy,
    clock: Clock,
    keys: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let verifier = verifier(KeySource::discover(ISSUER));
        let clock = Clock { now: Instant::now(), unix: NOW };
        let policy = KeyPolicy::all(&verifier, clock.now).pop().expect("one policy");
        Self { verifier, policy, clock, keys: key_set().to_string().into_bytes() }
    }

    fn wait(&mut self, time: Duration) {
        self.clock.now += time;
        self.clock.unix += time.as_secs();
    }

    fn poll(&mut self) -> Option<Fetch> {
        self.policy.poll(self.clock.now)
    }

    fn answer(&mut self, bytes: &[u8]) -> Result<Progress, RefreshError> {
        let answer = Answer::Body { bytes, etag: Some("\"1\"".to_owned()) };
        self.policy.fetched(answer, &mut self.verifier, self.clock, 0)
    }

    fn fail(&mut self) -> Result<Progress, RefreshError> {
        let answer = Answer::Failed("timed out".to_owned());
        self.policy.fetched(answer, &mut self.verifier, self.clock, u64::MAX)
    }

    fn round(&mut self) {
        assert!(matches!(self.poll(), Some(Fetch::Discovery(_))));
        assert_eq!(self.answer(DOCUMENT.as_bytes()), Ok(Progress::Discovered));
        assert!(matches!(self.poll(), Some(Fetch::Keys { .. })));
        let keys = self.keys.clone();
        assert_eq!(self.answer(&keys), Ok(Progress::Installed));
    }
}

#[test]
fn keys_are_fetched_at_start_by_way_of_the_discovery_document() {
    let mut world = World::new();
    assert!(!world.verifier.is_ready(NOW));
    let discovery = Fetch::Discovery(format!("{ISSUER}/.well-known/openid-configuration"));
    assert_eq!(world.poll(), Some(discovery));
    assert_eq!((world.poll(), world.policy.deadline()), (None, None), "single flight");
    assert_eq!(world.answer(DOCUMENT.as_bytes()), Ok(Progress::Discovered));
    let keys = Fetch::Keys { url: format!("{ISSUER}/k"), etag: None };
    assert_eq!(world.poll(), Some(keys));
    let keys = world.keys.clone();
    assert_eq!(world.answer(&keys), Ok(Progress::Installed));
    assert!(world.verifier.is_ready(NOW));
    assert_eq!(world.poll(), None);
}

#[test]
fn keys_are_fetched_again_every_hour_give_or_take_a_tenth() {
    for random in [0, 1, 12_345_678, u64::MAX] {
        let period = jittered(KEYS_REFRESH, random);
        assert!(54 * MINUTE <= period && period <= 66 * MINUTE, "{period:?}");
    }
    let mut world = World::new();
    world.round();
    assert_eq!(world.policy.deadline(), Some(world.clock.now + 54 * MINUTE));
    world.wait(54 * MINUTE);
    assert!(matches!(world.poll(), Some(Fetch::Discovery(_))));
    world.answer(DOCUMENT.as_bytes()).expect("a document");
    let again = Fetch::Keys { url: format!("{ISSUER}/k"), etag: Some("\"1\"".to_owned()) };
    assert_eq!(world.poll(), Some(again));
    let clock = world.clock;
    let same = world.policy.fetched(Answer::Unchanged, &mut world.verifier, clock, 0);
    assert_eq!(same, Ok(Progress::Installed));
    assert_eq!(world.verifier.issuers()[0].keys_seen(), Some(clock.unix));
}

#[test]
fn an_entity_tag_is_good_for_its_own_address_only() {
    let mut world = World::new();
    world.round();
    world.wait(66 * MINUTE);
    world.poll().expect("a fetch");
    let moved = DOCUMENT.replace("/k", "/moved");
    world.answer(moved.as_bytes()).expect("a document");
    assert_eq!(world.poll(), Some(Fetch::Keys { url: format!("{ISSUER}/moved"), etag: None }));
}

#[test]
fn unknown_keys_ask_at_most_once_in_five_minutes() {
    let mut world = World::new();
    world.round();
    let mut fetches = 0;
    for _ in 0..60 {
        for _ in 0..100 {
            world.policy.on_unknown_key(world.clock.now);
        }
        if world.poll().is_some() {
            fetches += 1;
            world.answer(DOCUMENT.as_bytes()).expect("a document");
            world.poll().expect("the keys");
            let keys = world.keys.clone();
            world.answer(&keys).expect("keys");
        }
        world.wait(Duration::from_secs(15));
    }
    assert_eq!(fetches, 3, "in fifteen minutes");
}

#[test]
fn an_unknown_key_during_a_fetch_changes_nothing() {
    let mut world = World::new();
    world.poll().expect("a fetch");
    world.policy.on_unknown_key(world.clock.now);
    assert_eq!(world.poll(), None);
}

#[test]
fn failures_are_tried_again_ever_more_slowly_and_the_keys_stay() {
    let mut world = World::new();
    world.round();
    world.wait(66 * MINUTE);
    for _ in 0..20 {
        assert!(matches!(world.poll(), Some(Fetch::Discovery(_))));
        assert_eq!(world.fail(), Err(RefreshError::Fetch("timed out".to_owned())));
        let wait = world.policy.deadline().expect("a deadline") - world.clock.now;
        assert!(wait <= KEYS_RETRY_MOST && !wait.is_zero());
        assert!(world.verifier.is_ready(world.clock.unix));
        world.wait(wait);
    }
    world.clock.unix = NOW + KEYS_STALE;
    assert!(world.verifier.is_ready(world.clock.unix));
    world.clock.unix += 1;
    assert!(!world.verifier.is_ready(world.clock.unix), "a day is enough");
}

#[test]
fn bad_documents_and_bad_keys_are_failures() {
    let mut world = World::new();
    world.poll().expect("a fetch");
    let elsewhere = DOCUMENT.replace("issuer.example/k", "evil/k");
    assert!(matches!(world.answer(elsewhere.as_bytes()), Err(RefreshError::Discovery(_))));
    assert_eq!(world.poll(), None, "not at once");
    world.wait(MINUTE);
    world.poll().expect("a fetch");
    world.answer(DOCUMENT.as_bytes()).expect("a document");
    world.poll().expect("the keys");
    assert!(matches!(world.answer(b"{\"keys\":[]}"), Err(RefreshError::Keys(_))));
    world.wait(MINUTE);
    world.poll().expect("a new round");
    let clock = world.clock;
    let unasked = world.policy.fetched(Answer::Unchanged, &mut world.verifier, clock, 0);
    assert!(matches!(unasked, Err(RefreshError::Fetch(_))));
    assert_eq!(world.fail(), Err(RefreshError::NotAsked));
}

#[test]
fn keys_from_a_file_are_neither_fetched_nor_do_they_age() {
    let mut verifier = verifier(KeySource::Installed);
    assert!(KeyPolicy::all(&verifier, Instant::now()).is_empty());
    verifier.install_keys(0, key_set().to_string().as_bytes(), NOW).expect("keys");
    assert!(verifier.is_ready(NOW + 10 * KEYS_STALE));
}

#[test]
fn a_configured_url_needs_no_discovery() {
    let verifier = verifier(KeySource::Url(format!("{ISSUER}/keys")));
    let now = Instant::now();
    let mut policy = KeyPolicy::all(&verifier, now).pop().expect("one policy");
    let fetch = policy.poll(now).expect("a fetch");
    assert_eq!(fetch.url(), format!("{ISSUER}/keys"));
}

#[test]
fn a_tag_that_cannot_be_sent_back_is_forgotten() {
    for tag in ["\u{fffd}", "\"a b\"", "a\r\nx: y", &"t".repeat(257)] {
        let mut world = World::new();
        assert!(matches!(world.poll(), Some(Fetch::Discovery(_))));
        assert_eq!(world.answer(DOCUMENT.as_bytes()), Ok(Progress::Discovered));
        assert!(world.poll().is_some());
        let keys = world.keys.clone();
        let answer = Answer::Body { bytes: &keys, etag: Some(tag.to_owned()) };
        let taken = world.policy.fetched(answer, &mut world.verifier, world.clock, 0);
        assert_eq!(taken, Ok(Progress::Installed));
        world.wait(2 * KEYS_REFRESH);
        assert!(matches!(world.poll(), Some(Fetch::Discovery(_))));
        assert_eq!(world.answer(DOCUMENT.as_bytes()), Ok(Progress::Discovered));
        assert!(matches!(world.poll(), Some(Fetch::Keys { etag: None, .. })), "{tag:?}");
    }
}
