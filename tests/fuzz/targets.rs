//! What is fuzzed: one function for each reader of bytes from outside. None may panic, run away,
//! or break the rule that is asserted behind it.

#![allow(unreachable_pub, reason = "one file, shared by two crates")]

use std::sync::OnceLock;
use std::time::Instant;

use cluster_connect::auth::jwks::KeySet;
use cluster_connect::auth::profile::{EntraKeys, EntraTenant};
use cluster_connect::auth::token::Unverified;
use cluster_connect::auth::{IssuerSettings, Verifier, VerifierSettings, impersonate};
use cluster_connect::buf::Pool;
use cluster_connect::engine::exchange::{Event, Exchange, Output, Patience, status_response};
use cluster_connect::engine::mux::{self, Session};
use cluster_connect::engine::ws::{Connection, Side};
use cluster_connect::wire::control::{Command, Reply};
use cluster_connect::wire::h1::policy::{admit, strip_identity};
use cluster_connect::wire::h1::{BodyReader, Framing, RequestHead, ResponseHead, Scan, strip};
use cluster_connect::wire::kubeconfig::Kubeconfig;
use cluster_connect::wire::sas::SasToken;
use cluster_connect::wire::yaml::Node;
use cluster_connect::wire::{json, jws};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

/// A target, by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 13] = [
    ("request_head", request_head),
    ("response_head", response_head),
    ("chunked", chunked),
    ("exchange", exchange),
    ("jws_parse", jws_parse),
    ("token_claims", token_claims),
    ("jwks_parse", jwks_parse),
    ("json_parse", json_parse),
    ("sas_parse", sas_parse),
    ("control_json", control_json),
    ("websocket", websocket),
    ("mux_session", mux_session),
    ("kubeconfig", kubeconfig),
];

/// A head that was read can be written, and is read again as the same.
pub fn request_head(bytes: &[u8]) {
    let Ok(Some((head, len))) = RequestHead::read(bytes, &mut Scan::default()) else { return };
    assert!(len <= bytes.len());
    let mut fit = head.clone();
    strip(&mut fit.fields);
    strip_identity(&mut fit.fields);
    fit.fields.remove("host");
    fit.fields.push("Host", "upstream").expect("a constant");
    let mut out = Vec::new();
    fit.write(&mut out).expect("a stripped head is writable");
    let again = RequestHead::read(&out, &mut Scan::default()).expect("our own head is well formed");
    let (again, used) = again.expect("our own head is whole");
    assert_eq!(used, out.len());
    assert_eq!((again.method(), again.target()), (head.method(), head.target()));
    assert_eq!(again.framing(), head.framing());
}

/// Consumes no more than there is.
pub fn response_head(bytes: &[u8]) {
    if let Ok(Some((head, len))) = ResponseHead::read(bytes, &mut Scan::default()) {
        assert!(len <= bytes.len() && (100..600).contains(&head.status()));
        let _ = head.framing("GET");
        let _ = head.framing("HEAD");
    }
}

/// A body in one piece and byte by byte is the same body, or the same refusal.
pub fn chunked(bytes: &[u8]) {
    let whole = dechunk(bytes, usize::MAX);
    let split = dechunk(bytes, 1);
    assert_eq!(whole.is_ok(), split.is_ok());
    if let (Ok(whole), Ok(split)) = (whole, split) {
        assert_eq!(whole, split);
    }
}

fn dechunk(bytes: &[u8], size: usize) -> Result<(usize, Vec<u8>, bool), ()> {
    let mut reader = BodyReader::new(Framing::Chunked);
    let (mut at, mut seen, mut body) = (0, 0, Vec::new());
    loop {
        let piece = reader.read(&bytes[at..seen]).map_err(|_| ())?;
        body.extend_from_slice(&bytes[at..seen][piece.data]);
        at += piece.consumed;
        if reader.is_done() {
            return Ok((at, body, true));
        }
        if piece.consumed == 0 {
            if seen == bytes.len() {
                return Ok((at, body, false));
            }
            seen = seen.saturating_add(size).min(bytes.len());
        }
    }
}

/// The first byte says how to cut, and what stands behind a zero byte comes from the upstream.
/// Whatever goes upstream begins with a head that we have made.
pub fn exchange(bytes: &[u8]) {
    let Some((&cut, bytes)) = bytes.split_first() else { return };
    let now = Instant::now();
    let mut machine = Machine { exchange: Exchange::new(now), now, up: Vec::new() };
    for (turn, part) in bytes.split(|&byte| byte == 0).enumerate() {
        for piece in part.chunks(usize::from(cut).max(1)) {
            machine.step(|exchange, now, out| match turn % 2 {
                0 => exchange.handle_down(piece, now, out),
                _ => exchange.handle_up(piece, now, out),
            });
        }
    }
    machine.step(|exchange, now, out| exchange.down_finished(now, out));
    machine.step(Exchange::up_finished);
    assert!(machine.up.is_empty() || machine.up.windows(11).any(|it| it == b" HTTP/1.1\r\n"));
}

struct Machine {
    exchange: Exchange,
    now: Instant,
    up: Vec<u8>,
}

impl Machine {
    fn step(&mut self, call: impl FnOnce(&mut Exchange, Instant, &mut Output)) {
        let mut out = Output::default();
        call(&mut self.exchange, self.now, &mut out);
        loop {
            self.up.extend(std::mem::take(&mut out).up);
            match self.exchange.poll_event() {
                None => return,
                Some(Event::Request(head)) => self.decide(head, &mut out),
                Some(Event::Connect) => self.exchange.up_connected(self.now, &mut out),
                Some(Event::Response(head)) => self.exchange.answer(&head, self.now, &mut out),
                Some(Event::Upgraded | Event::Complete | Event::Failed(_)) => (),
            }
        }
    }

    fn decide(&mut self, mut head: RequestHead, out: &mut Output) {
        if let Err(refusal) = admit(&head) {
            let (head, body) = status_response(refusal.status(), &refusal.to_string());
            return self.exchange.respond(&head, &body, self.now, out);
        }
        strip(&mut head.fields);
        strip_identity(&mut head.fields);
        head.fields.remove("host");
        head.fields.push("Host", "upstream").expect("a constant");
        let forwarded = self.exchange.forward(&head, Patience::Ordinary, self.now, out);
        forwarded.expect("a stripped head is writable");
    }
}

/// A token that parses has exactly the parts that it says, and there is one way to write it. Bytes
/// with a zero among them are a header and a payload, so that mutations reach what is inside.
pub fn jws_parse(bytes: &[u8]) {
    if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
        let [header, payload] = [&bytes[..at], &bytes[at + 1..]].map(jws::encode_base64url);
        read_token(&format!("{header}.{payload}.AQAB"));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        read_token(text);
    }
}

fn read_token(text: &str) {
    let _ = Unverified::parse(text);
    if let Ok(token) = jws::Compact::parse(text) {
        assert_eq!(text.bytes().filter(|&byte| byte == b'.').count(), 2);
        let signature = jws::encode_base64url(&token.signature);
        assert_eq!(format!("{}.{signature}", token.signed), text);
    }
}

/// Whatever claims an issuer has signed, a caller that is let in has a name that can be sent.
pub fn token_claims(bytes: &[u8]) {
    let (verifier, pair) = issuer();
    let header = jws::encode_base64url(br#"{"alg":"ES256","kid":"k"}"#);
    let signed = format!("{header}.{}", jws::encode_base64url(bytes));
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).expect("signed");
    let token = format!("{signed}.{}", jws::encode_base64url(signature.as_ref()));
    let Ok(principal) = verifier.verify(&token, NOW) else { return };
    for name in principal.groups.iter().chain([&principal.user]) {
        assert!(name.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{name:?}");
        assert!(!name.to_ascii_lowercase().starts_with("system:"), "{name:?}");
        assert!(name.trim() == name && !name.is_empty(), "{name:?}");
    }
    impersonate::fields(&principal, None).expect("who is let in can be sent on");
    // The same claims without the issuer's signature are nothing.
    let forged = format!("{signed}.{}", jws::encode_base64url(&[1; 64]));
    verifier.verify(&forged, NOW).expect_err("not signed");
}

/// When the corpus of tokens was made, in unix seconds.
const NOW: u64 = 1_800_000_000;

/// What takes tokens like those of the corpus, and what signs them.
fn issuer() -> &'static (Verifier, EcdsaKeyPair) {
    static ISSUER: OnceLock<(Verifier, EcdsaKeyPair)> = OnceLock::new();
    ISSUER.get_or_init(|| {
        let key = include_bytes!("../corpora/jwt_keys/p256.pk8");
        let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(curve, key, &SystemRandom::new()).expect("a key");
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let [x, y] = [x, y].map(jws::encode_base64url);
        let set =
            format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"k","x":"{x}","y":"{y}"}}]}}"#);
        let audience = "6256c85f-0aad-4d50-b960-e6e9b21efe35".to_owned();
        let tenant = "11111111-2222-3333-4444-555555555555";
        let mut entra = EntraTenant::new(tenant, vec![audience]);
        entra.keys = EntraKeys::Installed;
        entra.algorithms = vec![jws::Algorithm::Es256];
        let issuers = vec![IssuerSettings::Entra(entra)];
        let settings = VerifierSettings { issuers, ..VerifierSettings::default() };
        let mut verifier = Verifier::new(settings).expect("settings");
        for index in 0..verifier.issuers().len() {
            verifier.install_keys(index, set.as_bytes(), NOW).expect("keys");
        }
        (verifier, pair)
    })
}

/// A set has keys, within its limits, and none of them takes what nobody has signed.
pub fn jwks_parse(bytes: &[u8]) {
    let Ok(keys) = KeySet::parse(bytes) else { return };
    assert!(!keys.is_empty() && keys.len() <= 100);
    assert!(keys.len() + keys.left_out().count() <= 100);
    assert_eq!(keys.find(None).is_some(), keys.len() == 1);
    if let Some(key) = keys.find(None) {
        for algorithm in jws::Algorithm::ALL {
            for len in [64, 96, 256] {
                assert!(!key.verifies(algorithm, bytes, &vec![1; len]));
            }
        }
    }
}

/// What our reader takes, any reader takes.
pub fn json_parse(bytes: &[u8]) {
    if json::parse(bytes, 16).is_ok() {
        serde_json::from_slice::<serde_json::Value>(bytes).expect("JSON");
    }
}

/// A signature reads without trouble.
pub fn sas_parse(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(signature) = SasToken::parse(text) {
        assert!(signature.string_to_sign().contains('\n'));
    }
}

/// What is read can be written and read again.
pub fn control_json(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(command) = Command::parse(text)
        && !matches!(command, Command::Unknown)
    {
        Command::parse(&command.encode()).expect("our own message");
    }
    if let Ok(reply) = Reply::parse(text)
        && !matches!(reply, Reply::Unknown)
    {
        Reply::parse(&reply.encode()).expect("our own message");
    }
}

/// Consumes all of it, or says which rule is broken.
pub fn websocket(bytes: &[u8]) {
    for side in [Side::Client, Side::Server] {
        let mut input = bytes.to_vec();
        let mut connection = Connection::new(side);
        let mut at = 0;
        while let Ok(Some((used, _))) = connection.read(&mut input[at..]) {
            assert!(at + used <= bytes.len());
            at += used;
        }
    }
}

/// A session takes any frames in any cuts, and sends no more than it is asked.
pub fn mux_session(bytes: &[u8]) {
    let Some((&cut, bytes)) = bytes.split_first() else { return };
    let pool = Pool::new(64, 4, 16 * 1024);
    let now = Instant::now();
    let mut session = Session::new(false);
    for piece in bytes.chunks(usize::from(cut).max(1)) {
        for slice in pool.slices(piece) {
            if session.receive(slice, now).is_err() {
                return;
            }
        }
        while let Some(event) = session.poll_event() {
            if let mux::Event::Data(stream, data) = event {
                session.drained(stream, data.len(), now);
            }
        }
        let mut out = Vec::new();
        while session.transmit(&mut out) {
            out.clear();
        }
    }
}

/// What is read can be written and read again.
pub fn kubeconfig(bytes: &[u8]) {
    if let Ok(node) = Node::parse(bytes) {
        Node::parse(node.to_yaml().as_bytes()).expect("our own YAML");
    }
    if let Ok(config) = Kubeconfig::parse(bytes) {
        let _ = config.current();
        let _ = config.to_yaml();
    }
}
