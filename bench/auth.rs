//! What it costs to judge a credential, from its text to the header fields that go upstream, and
//! what it costs to refuse one. One core, in memory; allocations are counted.

#[path = "rig/cost.rs"]
mod cost;
#[path = "../tests/support/mint.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with tests, which use more of it")]
mod mint;
#[allow(dead_code, reason = "the other benches use more of it")]
#[path = "rig/report.rs"]
mod report;

use std::hint::black_box;

use cluster_connect::auth::impersonate;
use cluster_connect::auth::pop::{Asked, Possession};
use cluster_connect::auth::profile::{EntraKeys, EntraTenant, OidcIssuer, Prefix};
use cluster_connect::auth::{IssuerSettings, KeySource, Unverified, Verifier, VerifierSettings};
use cluster_connect::wire::jws::{Algorithm, encode_base64url};
use cost::Cost;
use mint::{Keys, Signer, with};
use report::{Options, Report};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;
const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const ISSUER: &str = "https://issuer.example";
const TARGET: &str = "/subscriptions/s";

fn main() {
    let options = Options::read();
    let mut report = Report::new(&options);
    let rounds = if options.quick { 500 } else { 20_000 };
    let keys = Keys::new();
    let verifier = verifier(&keys);
    let judged = [
        ("RS256, 2048 bits", signed(&keys, Signer::Rs256, "RS256", "rsa")),
        ("RS384", signed(&keys, Signer::Rs384, "RS384", "rsa")),
        ("RS512", signed(&keys, Signer::Rs512, "RS512", "rsa")),
        ("PS256", signed(&keys, Signer::Ps256, "PS256", "rsa")),
        ("ES256", signed(&keys, Signer::Es256, "ES256", "p256")),
        ("ES384", signed(&keys, Signer::Es384, "ES384", "p384")),
        ("Entra ID, RS256, no groups", entra(&keys, 0)),
        ("Entra ID, RS256, 200 groups", entra(&keys, 200)),
        ("proof of possession, RS256 twice", proof(&keys)),
    ];
    let good: Vec<_> = judged
        .iter()
        .map(|(name, token)| {
            (*name, Cost::of(rounds, || assert!(lets_in(&verifier, token), "{name}")))
        })
        .collect();
    report.table("a credential that is taken, to its header fields", &rows(good));
    let token = signed(&keys, Signer::Rs256, "RS256", "rsa");
    let (signed_part, _) = token.rsplit_once('.').expect("three parts");
    let refused = [
        ("no token: 32 KiB of dots", ".".repeat(32 * 1024)),
        ("cut short", token[..token.len() / 2].to_owned()),
        ("of an unknown issuer", keys.rs256(&with(claims(), json!({"iss": "https://x"})))),
        ("under an unknown key", signed(&keys, Signer::Rs256, "RS256", "k9")),
        ("with an algorithm that is off", signed(&keys, Signer::Rs256, "none", "rsa")),
        ("expired, well signed", keys.rs256(&with(claims(), json!({"exp": NOW - 61})))),
        ("with a signature of zeros", format!("{signed_part}.{}", encode_base64url(&[0; 256]))),
    ];
    let bad: Vec<_> = refused
        .iter()
        .map(|(name, token)| {
            (*name, Cost::of(rounds, || assert!(!lets_in(&verifier, token), "{name}")))
        })
        .collect();
    report.table("a credential that is refused", &rows(bad));
}

fn rows(found: Vec<(&str, Cost)>) -> Vec<(String, Vec<report::Figure<'static>>)> {
    found.into_iter().map(|(name, cost)| cost.row(name)).collect()
}

/// As the auth proxy does it for each request.
fn lets_in(verifier: &Verifier, token: &str) -> bool {
    let asked = Asked { method: "GET", path: "/api/v1/pods" };
    let principal = Unverified::parse(black_box(token))
        .and_then(|credential| verifier.verify_read(&credential, Some(&asked), NOW));
    principal.is_ok_and(|principal| black_box(impersonate::fields(&principal, None)).is_ok())
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "cluster", "sub": "ana", "jti": "j1", "iat": NOW - 60,
        "nbf": NOW - 60, "exp": NOW + 3600, "groups": ["developers", "oncall"],
    })
}

fn signed(keys: &Keys, signer: Signer, algorithm: &str, kid: &str) -> String {
    let header = json!({"typ": "JWT", "alg": algorithm, "kid": kid}).to_string();
    keys.token(signer, header.as_bytes(), claims().to_string().as_bytes())
}

fn entra(keys: &Keys, groups: usize) -> String {
    let groups: Vec<_> =
        (0..groups).map(|at| format!("99999999-0000-0000-0000-{at:012}")).collect();
    keys.rs256(&json!({
        "aud": "api://edge", "iss": format!("https://sts.windows.net/{TENANT}/"), "ver": "1.0",
        "iat": NOW - 60, "nbf": NOW - 60, "exp": NOW + 3600, "tid": TENANT, "oid": TENANT,
        "upn": "ana@contoso.example", "appid": TENANT, "scp": "user_impersonation", "uti": "u1",
        "aio": "E2ZgYFhv3rbvO8Pl7Ff3Cv0PAA==", "amr": ["pwd"], "ipaddr": "192.0.2.1",
        "name": "Ana", "rh": "0.AX0A.", "sub": "p7", "unique_name": "ana@contoso.example",
        "groups": groups,
    }))
}

fn proof(keys: &Keys) -> String {
    let (n, e) = keys.rsa_numbers(true);
    let canonical = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
    let thumbprint = encode_base64url(digest(&SHA256, canonical.as_bytes()).as_ref());
    let at = keys.rs256(&with(claims(), json!({"cnf": {"kid": thumbprint}})));
    let jwk = with(keys.rsa_jwk(true), json!({"alg": "RS256", "kid": thumbprint}));
    let payload = json!({"at": at, "ts": NOW, "u": TARGET, "cnf": {"jwk": jwk}, "nonce": "00"});
    let header = json!({"typ": "pop", "alg": "RS256", "kid": thumbprint}).to_string();
    keys.token(Signer::OtherRs256, header.as_bytes(), payload.to_string().as_bytes())
}

fn verifier(keys: &Keys) -> Verifier {
    let prefix = |text: &str| Prefix::Text(text.to_owned());
    let mut oidc = OidcIssuer::new(ISSUER, vec!["cluster".to_owned()], prefix("oidc:"));
    oidc.keys = KeySource::Installed;
    oidc.algorithms = Algorithm::ALL.to_vec();
    oidc.groups_claim = Some("groups".to_owned());
    oidc.group_prefix = prefix("oidc:");
    let mut tenant = EntraTenant::new(TENANT, vec!["api://edge".to_owned()]);
    tenant.keys = EntraKeys::Installed;
    tenant.user_prefix = prefix("entra:");
    tenant.group_prefix = prefix("entra:");
    let issuers = vec![IssuerSettings::Oidc(oidc), IssuerSettings::Entra(tenant)];
    let possession = Possession::Accept(TARGET.to_owned());
    let settings = VerifierSettings { issuers, possession, service_account_issuer: None };
    let mut verifier = Verifier::new(settings).expect("settings");
    let set = json!({"keys": [
        with(keys.rsa_jwk(false), json!({"kid": "rsa"})),
        with(keys.p256_jwk(), json!({"kid": "p256"})),
        with(keys.p384_jwk(), json!({"kid": "p384"})),
    ]})
    .to_string();
    for issuer in 0..verifier.issuers().len() {
        verifier.install_keys(issuer, set.as_bytes(), NOW).expect("keys");
    }
    verifier
}
