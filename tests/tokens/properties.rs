//! Whatever an issuer signs, hostile or mad, what is made of it keeps to the rules: each is written
//! down here a second time, in the plainest way, and held against the verdict.

#[path = "../support/rng.rs"]
mod rng;

use std::collections::BTreeMap;

use cluster_connect::auth::impersonate;
use cluster_connect::auth::pop::Possession;
use cluster_connect::auth::profile::{EntraKeys, EntraTenant, OidcIssuer, Prefix};
use cluster_connect::auth::{
    Denied, IssuerSettings, KeySource, Principal, Verifier, VerifierSettings,
};
use cluster_connect::wire::jws::Algorithm;
use serde_json::{Map, Value, json};

use self::rng::Rng;
use crate::support::mint::{Keys, Signer, with};

const NOW: u64 = 1_800_000_000;
const LEEWAY: u64 = 60;
const LIFETIME: u64 = 28 * 3600;
const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const OID: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
const GROUP: &str = "99999999-0000-0000-0000-000000000001";
const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "cluster";
const CASES: usize = 30_000;

fn verifier(keys: &Keys) -> Verifier {
    let mut tenant = EntraTenant::new(TENANT, vec![AUDIENCE.to_owned()]);
    tenant.keys = EntraKeys::Installed;
    tenant.algorithms = vec![Algorithm::Es256];
    tenant.user_prefix = Prefix::Text("entra:".to_owned());
    tenant.group_prefix = Prefix::Text("entra:".to_owned());
    let prefix = Prefix::Text("oidc:".to_owned());
    let mut oidc = OidcIssuer::new(ISSUER, vec![AUDIENCE.to_owned()], prefix.clone());
    oidc.keys = KeySource::Installed;
    oidc.algorithms = vec![Algorithm::Es256];
    oidc.groups_claim = Some("groups".to_owned());
    oidc.group_prefix = prefix;
    let issuers = vec![IssuerSettings::Entra(tenant), IssuerSettings::Oidc(oidc)];
    let settings =
        VerifierSettings { issuers, possession: Possession::Off, service_account_issuer: None };
    let mut verifier = Verifier::new(settings).expect("settings");
    let set = json!({"keys": [with(keys.p256_jwk(), json!({"kid": "p256"}))]}).to_string();
    for issuer in 0..verifier.issuers().len() {
        verifier.install_keys(issuer, set.as_bytes(), NOW).expect("keys");
    }
    verifier
}

/// Claims that are good, of one of the three kinds.
fn good(rng: &mut Rng) -> Map<String, Value> {
    let (v1, v2) = (
        format!("https://sts.windows.net/{TENANT}/"),
        format!("https://login.microsoftonline.com/{TENANT}/v2.0"),
    );
    let times = json!({"iat": NOW - 60, "nbf": NOW - 60, "exp": NOW + 3600, "aud": AUDIENCE});
    let entra = json!({
        "tid": TENANT, "oid": OID, "sub": "pairwise", "upn": "ana@contoso.example",
        "appid": OID, "groups": [GROUP], "uti": "u1",
    });
    let of = match rng.below(3) {
        0 => with(with(times, entra), json!({"iss": v1, "ver": "1.0"})),
        1 => with(with(times, entra), json!({"iss": v2, "ver": "2.0"})),
        _ => with(times, json!({"iss": ISSUER, "sub": "ana", "jti": "j1", "groups": ["dev"]})),
    };
    let Value::Object(claims) = of else { panic!("an object") };
    claims
}

const NAMES: [&str; 28] = [
    "iss",
    "aud",
    "exp",
    "nbf",
    "iat",
    "sub",
    "tid",
    "ver",
    "oid",
    "upn",
    "appid",
    "azp",
    "idtyp",
    "groups",
    "hasgroups",
    "_claim_names",
    "cnf",
    "act",
    "actort",
    "nonce",
    "at_hash",
    "uti",
    "jti",
    "email",
    "Tid",
    "ISS",
    "Groups",
    "roles",
];

fn text(rng: &mut Rng) -> String {
    const PIECES: [&str; 40] = [
        "",
        " ",
        "a",
        "ana",
        "system:",
        "System:masters",
        "system:serviceaccount:a:b",
        ":",
        "@",
        "/",
        "\r\n",
        "\n",
        "\t",
        "\0",
        "\u{7f}",
        "\u{1b}[1m",
        "\u{e9}",
        "\u{202e}",
        "\u{200b}",
        "\u{a0}",
        "\u{ff53}ystem:x",
        "\u{17f}ystem:x",
        "\u{212a}",
        "e\u{301}",
        "\u{10ffff}",
        "Impersonate-User: x",
        "1",
        "1.0",
        "2.0",
        "app",
        "user",
        "device",
        "{tenantid}",
        "#",
        "..",
        "%00",
        ",",
        TENANT,
        OID,
        GROUP,
    ];
    match rng.below(12) {
        0 => "n".repeat(1 + rng.below(300)),
        1 => AUDIENCE.to_owned(),
        2 => ISSUER.to_owned(),
        3 => format!("https://sts.windows.net/{TENANT}/"),
        4 => OID.to_ascii_uppercase(),
        _ => (0..=rng.below(3)).map(|_| rng.pick(&PIECES)).collect(),
    }
}

fn number(rng: &mut Rng) -> Value {
    const NUMBERS: [u64; 14] = [
        0,
        1,
        NOW - LIFETIME - LEEWAY,
        NOW - LEEWAY - 1,
        NOW - LEEWAY,
        NOW - LEEWAY + 1,
        NOW - 1,
        NOW,
        NOW + 1,
        NOW + LEEWAY,
        NOW + LEEWAY + 1,
        NOW + LIFETIME,
        NOW + LIFETIME + LEEWAY + 1,
        u64::MAX,
    ];
    match rng.below(8) {
        0 => json!(-1),
        1 => json!(1e30),
        2 => json!(NOW as f64 + 0.5),
        3 => json!(i64::MIN),
        _ => json!(rng.pick(&NUMBERS)),
    }
}

fn value(rng: &mut Rng, depth: usize) -> Value {
    match rng.below(if depth == 0 { 6 } else { 9 }) {
        0 => Value::Null,
        1 => json!(rng.below(2) == 0),
        2 => number(rng),
        3..=5 => json!(text(rng)),
        6 => json!((0..rng.below(4)).map(|_| value(rng, depth - 1)).collect::<Vec<_>>()),
        7 => json!((0..rng.below(300)).map(|at| format!("g{at}")).collect::<Vec<_>>()),
        _ => json!({"groups": value(rng, 0), "kid": text(rng)}),
    }
}

/// The text of claims, with or without a key that stands there twice.
fn written(claims: &Map<String, Value>, rng: &mut Rng) -> (String, bool) {
    let text = Value::Object(claims.clone()).to_string();
    if 0 < rng.below(20) {
        return (text, false);
    }
    let names: Vec<_> = claims.keys().collect();
    let Some(name) = (!names.is_empty()).then(|| rng.pick(&names)) else { return (text, false) };
    let escaped: String = name.chars().map(|it| format!("\\u{:04x}", u32::from(it))).collect();
    let key = if rng.below(2) == 0 { escaped } else { name.clone() };
    (format!("{{\"{key}\":{},{}", claims[name], &text[1..]), true)
}

/// What is wrong with letting this caller in, if anything is.
fn objection(claims: &Map<String, Value>, principal: &Principal) -> Option<String> {
    let no = |what: &str| Some(what.to_owned());
    let texts = |name: &str| match &claims[name] {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(all) => all.iter().map(|it| it.as_str().map(str::to_owned)).collect(),
        _ => None,
    };
    let folded: BTreeMap<String, usize> = claims.keys().fold(BTreeMap::new(), |mut all, key| {
        *all.entry(key.to_ascii_lowercase()).or_default() += 1;
        all
    });
    if folded.values().any(|&count| 1 < count) {
        return no("two claims differ in case only");
    }
    let Some(expires) = claims["exp"].as_u64() else { return no("exp is no number") };
    if expires.saturating_add(LEEWAY) <= NOW || principal.expires != expires {
        return no("it has expired");
    }
    for name in ["nbf", "iat"] {
        match claims.get(name).map(Value::as_u64) {
            Some(None) => return no("a time is no number"),
            Some(Some(time)) if NOW + LEEWAY < time => return no("it is not valid yet"),
            Some(Some(_)) | None => (),
        }
    }
    let begins = ["iat", "nbf"].iter().find_map(|name| claims.get(*name)?.as_u64()).unwrap_or(NOW);
    if LIFETIME + LEEWAY < expires.saturating_sub(begins) {
        return no("it lives too long");
    }
    if texts("aud").is_none_or(|all| !all.iter().any(|one| one == AUDIENCE)) {
        return no("it is for somebody else");
    }
    if claims.contains_key("cnf") {
        return no("it is bound to a key");
    }
    match claims["iss"].as_str() {
        Some(ISSUER) => oidc_objection(claims, principal),
        Some(_) => entra_objection(claims, principal),
        None => no("iss is no text"),
    }
}

fn oidc_objection(claims: &Map<String, Value>, principal: &Principal) -> Option<String> {
    let sub = claims["sub"].as_str()?;
    let same = principal.user == format!("oidc:{sub}") && principal.subject == sub;
    (!same || principal.issuer != ISSUER).then(|| "it is somebody else".to_owned())
}

fn entra_objection(claims: &Map<String, Value>, principal: &Principal) -> Option<String> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let form = match text("iss")? {
        iss if iss == format!("https://sts.windows.net/{TENANT}/") => "1.0",
        iss if iss == format!("https://login.microsoftonline.com/{TENANT}/v2.0") => "2.0",
        _ => return Some("another issuer".to_owned()),
    };
    let rules = [
        ("tid", text("tid") == Some(TENANT)),
        ("ver", text("ver") == Some(form)),
        ("oid", text("oid").is_some_and(|oid| oid.len() == 36)),
        ("client", text("appid").or_else(|| text("azp")).is_some()),
        (
            "idtyp",
            matches!(claims.get("idtyp").map(Value::as_str), None | Some(Some("app" | "user"))),
        ),
        (
            "purpose",
            ["act", "actort", "nonce", "at_hash"].iter().all(|it| !claims.contains_key(*it)),
        ),
        ("overage", claims.get("hasgroups") != Some(&json!(true))),
        ("overage", claims.get("_claim_names").is_none_or(|it| it.get("groups").is_none())),
    ];
    if let Some((name, _)) = rules.iter().find(|(_, holds)| !holds) {
        return Some((*name).to_owned());
    }
    let is_app = text("idtyp") == Some("app");
    let name = text("upn").filter(|_| !is_app).or_else(|| text("oid"))?;
    let same = principal.user == format!("entra:{name}");
    (!same).then(|| "it is somebody else".to_owned())
}

/// What Kubernetes would read is a name, and nobody's of its own.
fn check_names(principal: &Principal, claims: &Map<String, Value>) {
    let fields = impersonate::fields(principal, None).expect("what was accepted can be sent");
    let of = |name: &str| fields.iter().filter(|(field, _)| field == name).count();
    assert_eq!(of("Impersonate-User"), 1);
    let groups: Vec<_> = fields.iter().filter(|(name, _)| name == "Impersonate-Group").collect();
    assert_eq!(groups[0].1, "system:authenticated");
    assert_eq!(groups.len(), principal.groups.len() + 1);
    assert!(principal.groups.len() <= 256);
    let given = claims.get("groups").cloned().unwrap_or_default();
    for name in principal.groups.iter().chain([&principal.user]) {
        assert!(!name.is_empty() && name.len() <= 256 && name.trim() == name, "{name:?}");
        assert!(name.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{name:?}");
        let (_, raw) = name.split_once(':').expect("a prefix");
        assert!(!raw.to_ascii_lowercase().starts_with("system:"), "{name:?}");
    }
    for group in &principal.groups {
        let (_, raw) = group.split_once(':').expect("a prefix");
        let is_given = match &given {
            Value::String(one) => one == raw,
            Value::Array(all) => all.iter().any(|one| one == raw),
            _ => false,
        };
        assert!(is_given, "{group:?} is in no claim");
    }
    let unique: std::collections::BTreeSet<_> = principal.groups.iter().collect();
    assert_eq!(unique.len(), principal.groups.len());
}

#[test]
fn whoever_is_let_in_has_claims_that_allow_it_and_a_name_of_its_own() {
    let keys = Keys::new();
    let verifier = verifier(&keys);
    let header = json!({"typ": "JWT", "alg": "ES256", "kid": "p256"}).to_string();
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    let (mut accepted, mut reasons) = (0, BTreeMap::new());
    for case in 0..CASES {
        let mut claims = good(&mut rng);
        for _ in 0..rng.below(4) {
            let name = rng.pick(&NAMES);
            match rng.below(5) {
                0 => drop(claims.remove(name)),
                _ => drop(claims.insert(name.to_owned(), value(&mut rng, 2))),
            }
        }
        let (payload, is_twice) = written(&claims, &mut rng);
        let token = keys.token(Signer::Es256, header.as_bytes(), payload.as_bytes());
        match verifier.verify(&token, NOW) {
            Ok(principal) => {
                accepted += 1;
                assert!(!is_twice, "case {case}: {payload}");
                let objection = objection(&claims, &principal);
                assert_eq!(objection, None, "case {case}: {payload}");
                check_names(&principal, &claims);
            }
            Err(denied) => *reasons.entry(Denied::reason(&denied)).or_insert(0_usize) += 1,
        }
    }
    // Neither everything nor nothing gets in, and most rules are met.
    assert!(CASES / 4 < accepted && accepted < CASES / 4 * 3, "{accepted}: {reasons:?}");
    assert!(12 < reasons.len(), "{reasons:?}");
}

#[test]
fn a_header_changes_nothing_about_who_may_come_in() {
    let keys = Keys::new();
    let verifier = verifier(&keys);
    let payload = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "ana", "iat": NOW, "exp": NOW + 60,
    })
    .to_string();
    const FIELDS: [&str; 20] = [
        "alg", "kid", "typ", "crit", "b64", "zip", "enc", "cty", "jku", "jwk", "x5u", "x5c", "x5t",
        "nonce", "Alg", "KID", "p2c", "epk", "iss", "x",
    ];
    let mut rng = Rng(7);
    let mut accepted = 0;
    for case in 0..CASES / 3 {
        let Value::Object(mut header) = json!({"typ": "JWT", "alg": "ES256", "kid": "p256"}) else {
            panic!("an object")
        };
        for _ in 0..rng.below(4) {
            let name = rng.pick(&FIELDS);
            match rng.below(5) {
                0 => drop(header.remove(name)),
                _ => drop(header.insert(name.to_owned(), value(&mut rng, 2))),
            }
        }
        let (text, is_twice) = written(&header, &mut rng);
        let token = keys.token(Signer::Es256, text.as_bytes(), payload.as_bytes());
        let Ok(principal) = verifier.verify(&token, NOW) else { continue };
        accepted += 1;
        assert_eq!(principal.user, "oidc:ana");
        assert!(!is_twice, "case {case}: {text}");
        assert_eq!(header["alg"], "ES256", "case {case}: {text}");
        // One key: no name will do, another name will not.
        assert!(header.get("kid").is_none_or(|kid| kid == "p256"), "case {case}: {text}");
        let typ = header.get("typ").map(|typ| typ.as_str().expect("text").to_ascii_lowercase());
        assert!(matches!(typ.as_deref(), None | Some("jwt" | "at+jwt")), "case {case}: {text}");
        for name in ["crit", "b64", "zip", "enc", "cty"] {
            assert!(!header.contains_key(name), "case {case}: {text}");
        }
    }
    assert!(1_000 < accepted && accepted < CASES / 4, "{accepted}");
}
