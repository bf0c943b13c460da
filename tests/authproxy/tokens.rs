//! Every class of bad token, signed with real keys and good for now but for the one thing that is
//! wrong with it, against the real binary: refused, and nothing is sent upstream.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use cluster_connect::wire::jws::encode_base64url;
use ring::hmac;
use serde_json::{Value, json};

use crate::door::{AUDIENCE, Door, ISSUER, TENANT, claims, is_whole, request};
use crate::proofs::{Proof, proofs};
use crate::requests::answer;
use crate::support::mint::{Keys, Signer, now, with, without};

const OID: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
const GROUP: &str = "99999999-0000-0000-0000-000000000001";

/// What is wrong, the status, and the token.
pub(crate) type Bad = (String, u16, String);

fn header(more: Value) -> Value {
    with(json!({"typ": "JWT", "alg": "RS256", "kid": "rsa"}), more)
}

/// The generic issuer's good claims, signed under this header.
fn headed(keys: &Keys, signer: Signer, header: &Value) -> String {
    let payload = claims("ana").to_string();
    keys.token(signer, header.to_string().as_bytes(), payload.as_bytes())
}

/// A good header over any payload.
fn payload(keys: &Keys, payload: impl AsRef<[u8]>) -> String {
    keys.token(Signer::Rs256, header(json!({})).to_string().as_bytes(), payload.as_ref())
}

fn oidc(keys: &Keys, more: Value) -> String {
    keys.rs256(&with(claims("ana"), more))
}

fn entra_claims() -> Value {
    let now = now();
    json!({
        "aud": "api://edge", "iss": format!("https://sts.windows.net/{TENANT}/"), "ver": "1.0",
        "iat": now - 60, "nbf": now - 60, "exp": now + 3600, "tid": TENANT, "oid": OID,
        "upn": "ana@contoso.example", "appid": "04b07795-8ddb-461a-bbee-02f9e1bf7b46",
        "scp": "user_impersonation", "uti": "u1", "groups": [GROUP],
    })
}

fn entra(keys: &Keys, more: Value) -> String {
    keys.rs256(&with(entra_claims(), more))
}

fn named(name: &str, texts: impl IntoIterator<Item = (&'static str, String)>) -> Vec<Bad> {
    texts.into_iter().map(|(what, token)| (format!("{name} {what}"), 401, token)).collect()
}

fn algorithms(keys: &Keys) -> Vec<Bad> {
    let unsigned = |alg: &str| {
        let token = headed(keys, Signer::Rs256, &header(json!({ "alg": alg })));
        let (signed, _) = token.rsplit_once('.').expect("three parts");
        [format!("{signed}."), token]
    };
    let mut bad = Vec::new();
    for alg in ["none", "None", "nOnE", "", "rs256", "RS257"] {
        let tokens = unsigned(alg).map(|token| (format!("J1 {alg:?}"), 401, token));
        bad.extend(tokens);
    }
    let (modulus, _) = keys.rsa_numbers(false);
    let der: &[u8] = include_bytes!("../corpora/jwt_keys/rsa.pk8");
    for (alg, kind) in
        [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
    {
        for (kid, key) in [("rsa", modulus.as_bytes()), ("rsa", der), ("k-oct", &[48; 32])] {
            let head = header(json!({"alg": alg, "kid": kid})).to_string();
            let signed = [head, claims("ana").to_string()].map(encode_base64url_text).join(".");
            let tag = hmac::sign(&hmac::Key::new(kind, key), signed.as_bytes());
            let token = format!("{signed}.{}", encode_base64url(tag.as_ref()));
            bad.push((format!("J2 J3 {alg} with {kid}"), 401, token));
        }
    }
    let pick = |signer, alg, kid| headed(keys, signer, &header(json!({"alg": alg, "kid": kid})));
    bad.extend(named(
        "J4",
        [
            ("ES256 with an RSA key", pick(Signer::Rs256, "ES256", "rsa")),
            ("RS256 with an EC key", pick(Signer::Es256, "RS256", "p256")),
            ("PS256", pick(Signer::Ps256, "PS256", "rsa")),
            ("RS384", pick(Signer::Rs384, "RS384", "rsa")),
            ("RS512", pick(Signer::Rs512, "RS512", "rsa")),
            ("ES384", pick(Signer::Es384, "ES384", "p256")),
        ],
    ));
    bad.extend(curves(keys));
    bad
}

fn encode_base64url_text(text: String) -> String {
    encode_base64url(text.as_bytes())
}

/// Signatures of a form or a value that no signer makes.
fn curves(keys: &Keys) -> Vec<Bad> {
    let good = headed(keys, Signer::Es256, &header(json!({"alg": "ES256", "kid": "p256"})));
    let (signed, _) = good.rsplit_once('.').expect("three parts");
    let raw = keys.sign_bytes(Signer::Es256, signed.as_bytes());
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&order[2 * at..2 * at + 2], 16).expect("hex"))
        .collect();
    let with_signature = |bytes: &[u8]| format!("{signed}.{}", encode_base64url(bytes));
    let integer = |half: &[u8]| [&[2, 33, 0], half].concat();
    let numbers = [integer(&raw[..32]), integer(&raw[32..])].concat();
    let length = u8::try_from(numbers.len()).expect("short");
    named(
        "J5",
        [
            ("zeroes", with_signature(&[0; 64])),
            ("r at the order", with_signature(&[&order[..], &raw[32..]].concat())),
            ("s at the order", with_signature(&[&raw[..32], &order[..]].concat())),
            ("63 bytes", with_signature(&raw[..63])),
            ("65 bytes", with_signature(&[&raw[..], &[0]].concat())),
            ("DER", with_signature(&[&[48, length], &numbers[..]].concat())),
            ("empty", with_signature(&[])),
        ],
    )
}

fn key_names(keys: &Keys) -> Vec<Bad> {
    let by = |kid: Value| headed(keys, Signer::Rs256, &header(json!({ "kid": kid })));
    let mut bad =
        named("J6", [("1024 bits", by(json!("k-weak"))), ("exponent 1", by(json!("e1")))]);
    bad.extend(named(
        "J7",
        [
            ("unknown", by(json!("another"))),
            ("empty", by(json!(""))),
            ("5 kB", by(json!("k".repeat(5000)))),
            ("number", by(json!(7))),
            ("path", by(json!("../../dev/null"))),
            ("SQL", by(json!("' or 1=1 --"))),
            ("CRLF", by(json!("rsa\r\n"))),
            ("NUL", by(json!("rsa\0"))),
        ],
    ));
    let nameless = without(header(json!({})), "kid");
    let tenant = entra_claims().to_string();
    let tenant = keys.token(Signer::Rs256, nameless.to_string().as_bytes(), tenant.as_bytes());
    bad.extend(named(
        "J8",
        [("several keys", headed(keys, Signer::Rs256, &nameless)), ("Entra", tenant)],
    ));
    bad.extend(named("J9", [("two keys of one name", by(json!("twin")))]));
    let own = keys.rsa_jwk(true);
    let bring = |more: Value| headed(keys, Signer::OtherRs256, &header(more));
    bad.extend(named(
        "J10",
        [
            ("jwk", bring(json!({ "jwk": own }))),
            ("jku", bring(json!({"jku": "https://evil.example/keys"}))),
            ("x5u", bring(json!({"x5u": "https://evil.example/chain"}))),
            ("x5c", bring(json!({"x5c": ["AAAA"]}))),
            ("another's key", bring(json!({}))),
        ],
    ));
    let tenant = |more: Value| {
        let payload = entra_claims().to_string();
        keys.token(Signer::Rs256, header(more).to_string().as_bytes(), payload.as_bytes())
    };
    bad.extend(named(
        "J10 Entra",
        [
            ("jwk", tenant(json!({ "jwk": own }))),
            ("jku", tenant(json!({"jku": "https://evil.example/keys"}))),
        ],
    ));
    bad.extend(named("J16", [("another tenant's key", tenant(json!({"kid": "rsa-foreign"})))]));
    bad.extend(named(
        "J17",
        [
            ("use", by(json!("rsa-enc"))),
            ("key_ops", by(json!("rsa-ops"))),
            ("alg of the key", by(json!("rsa-512"))),
        ],
    ));
    bad
}

fn forms(keys: &Keys) -> Vec<Bad> {
    let by = |more: Value| headed(keys, Signer::Rs256, &header(more));
    let good = keys.rs256(&claims("ana"));
    let parts: Vec<&str> = good.split('.').collect();
    let [head, body, signature] = parts[..] else { panic!("three parts") };
    let mut bad = named(
        "J11",
        [
            ("crit", by(json!({"crit": ["exp"], "exp": 1}))),
            ("empty crit", by(json!({"crit": []}))),
            ("b64", by(json!({"b64": false, "crit": ["b64"]}))),
            ("b64 alone", by(json!({"b64": false}))),
            ("zip", by(json!({"zip": "DEF"}))),
            ("enc", by(json!({"enc": "A256GCM"}))),
            ("cty", by(json!({"cty": "JWT"}))),
        ],
    );
    bad.extend(named(
        "J12",
        [
            ("two parts", format!("{head}.{body}")),
            ("four parts", format!("{good}.{signature}")),
            ("five parts", format!("{good}.{signature}.{signature}")),
            ("20,000 dots", ".".repeat(20_000)),
            ("40 kB", oidc(keys, json!({"filler": "f".repeat(30_000)}))),
            ("no signature", format!("{head}.{body}.")),
            ("one word", "opaque".to_owned()),
        ],
    ));
    // The last letter of a 256-byte signature carries bits that must be zero.
    let (start, last) = signature.split_at(signature.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(last).expect("base64url");
    let next = alphabet.get(at + 1..at + 2).expect("not the last letter");
    bad.extend(named(
        "J13",
        [
            ("padding", format!("{good}=")),
            ("plus", format!("{head}.{body}.+{}", &signature[1..])),
            ("slash", format!("{head}.{body}./{}", &signature[1..])),
            ("trailing bits", format!("{head}.{body}.{start}{next}")),
        ],
    ));
    bad
}

fn json_texts(keys: &Keys) -> Vec<Bad> {
    let text = claims("ana").to_string();
    let inner = text.trim_start_matches('{').trim_end_matches('}');
    let start = |more: &str| payload(keys, format!("{{{more},{inner}}}"));
    let head = |text: &str| {
        keys.token(Signer::Rs256, text.as_bytes(), claims("ana").to_string().as_bytes())
    };
    let tenant = entra_claims().to_string();
    let mut bad = named(
        "J14",
        [
            ("issuer twice", start(&format!("\"iss\":\"{ISSUER}\""))),
            ("escaped", start(&format!("\"\\u0069ss\":\"{ISSUER}\""))),
            ("unknown twice", start("\"x\":1,\"x\":1")),
            ("header", head(r#"{"alg":"RS256","alg":"RS256","kid":"rsa"}"#)),
            (
                "case twins",
                payload(keys, tenant.replacen('{', &format!("{{\"Tid\":\"{TENANT}\","), 1)),
            ),
        ],
    );
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    bad.extend(named(
        "J15",
        [
            ("not UTF-8", payload(keys, [text.replace("ana", "an").as_bytes(), b"\xff"].concat())),
            ("BOM", payload(keys, format!("\u{feff}{text}"))),
            ("UTF-16", payload(keys, utf16)),
            ("trailing bytes", payload(keys, format!("{text}x"))),
            ("second object", payload(keys, format!("{text}{text}"))),
            ("NaN", start("\"x\":NaN")),
            ("deep", start(&format!("\"x\":{}{}", "[".repeat(5000), "]".repeat(5000)))),
            ("lone surrogate", start(r#""x":"\ud800""#)),
            ("array", payload(keys, format!("[{text}]"))),
            ("text", payload(keys, "\"ana\"")),
            ("empty", payload(keys, "")),
        ],
    ));
    bad
}

fn times_and_places(keys: &Keys) -> Vec<Bad> {
    let now = now();
    let mut bad = Vec::new();
    let mut add = |class: &str, more: Value| {
        bad.push((format!("{class} {more}"), 401, oidc(keys, more)));
    };
    for exp in
        [json!(null), json!((now + 3600).to_string()), json!(true), json!(-1), json!(now - 61)]
    {
        add("J18", json!({ "exp": exp }));
    }
    add("J18", json!({"exp": 1e30}));
    add("J19", json!({"exp": now + 10 * 365 * 86_400}));
    for name in ["nbf", "iat"] {
        for value in [json!(now + 600), json!("soon"), json!([1]), json!(-5)] {
            add("J20", json!({ name: value }));
        }
    }
    for aud in [
        json!("another"),
        json!("clusters"),
        json!("clust"),
        json!("CLUSTER"),
        json!([]),
        json!([AUDIENCE, 7]),
        json!({"a": AUDIENCE}),
        json!(null),
        json!("cluster/"),
        json!(7),
    ] {
        add("J21", json!({ "aud": aud }));
    }
    for iss in [
        json!("https://other.example"),
        json!("https://issuer.example/"),
        json!("HTTPS://ISSUER.EXAMPLE"),
        json!("http://issuer.example"),
        json!("https://issuer.example@evil.example"),
        json!("https://issuer.example#"),
        json!("https://issuer.example\0"),
        json!("{tenantid}"),
        json!("https://\u{456}ssuer.example"),
        json!([ISSUER]),
        json!(null),
        json!(7),
    ] {
        add("J22", json!({ "iss": iss }));
    }
    for name in ["exp", "aud", "iss", "sub"] {
        let token = keys.rs256(&without(claims("ana"), name));
        bad.push((format!("J18 J21 J22 J27 without {name}"), 401, token));
    }
    bad
}

fn tenants(keys: &Keys) -> Vec<Bad> {
    let v2 = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
    let other = "22222222-2222-3333-4444-555555555555";
    let mut bad = Vec::new();
    let mut add = |class: &str, status: u16, more: Value| {
        bad.push((format!("{class} {more}"), status, entra(keys, more)));
    };
    add("J22", 401, json!({"iss": format!("https://sts.windows.net/{other}/")}));
    add("J22", 401, json!({"iss": format!("https://sts.windows.net/{TENANT}")}));
    for tid in [json!(null), json!(other), json!(7)] {
        add("J23", 401, json!({ "tid": tid }));
    }
    add("J23", 401, json!({"ver": "2.0"}));
    add("J23", 401, json!({"iss": v2}));
    add("J24", 401, json!({"nonce": "n", "at_hash": "h"}));
    add("J24", 401, json!({"appid": null}));
    add("J25", 401, json!({"idtyp": "device"}));
    add("J25", 401, json!({"actort": "t"}));
    add("J29", 403, json!({"upn": "system:admin"}));
    add("J35", 403, json!({"hasgroups": true}));
    let sources = json!({"src1": {"endpoint": "https://graph.windows.net/x"}});
    add("J35", 403, json!({"_claim_names": {"groups": "src1"}, "_claim_sources": sources}));
    add("J36", 401, json!({"groups": ["a display name"]}));
    bad
}

fn names(keys: &Keys) -> Vec<Bad> {
    let mut bad = Vec::new();
    let mut add = |class: &str, status: u16, more: Value| {
        let short: String = more.to_string().chars().take(60).collect();
        bad.push((format!("{class} {short}"), status, oidc(keys, more)));
    };
    for sub in [
        json!(""),
        json!(" "),
        json!(" admin"),
        json!("admin "),
        json!("\tadmin"),
        json!(7),
        json!("n".repeat(257)),
        json!(null),
    ] {
        add("J27", 401, json!({ "sub": sub }));
    }
    for sub in [
        "ana\r\nImpersonate-Group: system:masters",
        "a\na",
        "a\ra",
        "a\0a",
        "a\u{7f}a",
        "\u{1b}[1m",
    ] {
        add("J28", 401, json!({ "sub": sub }));
    }
    for sub in ["a\u{202e}b", "a\u{200b}b", "a\u{a0}b", "e\u{301}", "\u{430}na"] {
        add("J30", 401, json!({ "sub": sub }));
    }
    for groups in [
        json!([7]),
        json!([null]),
        json!([{}]),
        json!([["a"]]),
        json!(true),
        json!([""]),
        json!(["a\r\nb"]),
        json!(["g".repeat(257)]),
        json!({"a": 1}),
    ] {
        add("J33", 401, json!({ "groups": groups }));
    }
    let many: Vec<String> = (0..257).map(|at| format!("g{at}")).collect();
    add("J34", 403, json!({ "groups": many }));
    add("J35", 403, json!({"groups": "src1", "_claim_names": {"groups": "src1"}}));
    add("J26", 401, json!({"cnf": {"kid": "thumbprint"}}));
    bad
}

/// Credentials that are no token at all.
fn not_bearer(keys: &Keys) -> Vec<(String, u16, String)> {
    let good = keys.rs256(&claims("ana"));
    let fields = [
        ("J40 empty", "Authorization: Bearer \r\n".to_owned()),
        ("J40 only the scheme", "Authorization: Bearer\r\n".to_owned()),
        ("J40 none", String::new()),
        ("J40 another scheme", format!("Authorization: Basic {good}\r\n")),
        ("J40 two words", format!("Authorization: Bearer {good} {good}\r\n")),
        ("J42 no fallback", "Authorization: Bearer abcdef\r\n".to_owned()),
    ];
    fields.map(|(what, text)| (what.to_owned(), 401, text)).into()
}

#[test]
fn every_class_of_bad_token_is_refused_and_nothing_goes_upstream() {
    let door = Door::open(answer, &[]);
    let keys = &door.keys;
    let bearer =
        |(what, status, token): Bad| (what, status, format!("Authorization: Bearer {token}\r\n"));
    let classes =
        [algorithms, key_names, forms, json_texts, times_and_places, tenants, names, proofs];
    let mut all: Vec<_> = classes.iter().flat_map(|class| class(keys)).map(bearer).collect();
    for group in
        ["system:masters", "System:Nodes", "system:unauthenticated", "system:authenticated"]
    {
        let token = entra(keys, json!({ "groups": [group] }));
        all.push(bearer((format!("J32 {group}"), 403, token)));
    }
    all.extend(not_bearer(keys));
    assert!(all.len() > 150, "{}", all.len());
    let next = AtomicUsize::new(0);
    let wrong = std::sync::Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some((what, status, fields)) =
                    all.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let down = door.exchange(&request(fields), is_whole);
                    if !down.starts_with(format!("HTTP/1.1 {status} ").as_bytes()) {
                        let head: String =
                            String::from_utf8_lossy(&down).chars().take(90).collect();
                        wrong
                            .lock()
                            .expect("no panic")
                            .push(format!("{what}: {status}, not {head:?}"));
                    }
                }
            });
        }
    });
    let sent = door.went_up();
    assert!(sent.is_empty(), "{} requests went upstream: {sent:?}", sent.len());
    let wrong = wrong.into_inner().expect("no panic");
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}

#[test]
fn the_good_tokens_beside_them_are_taken() {
    let door = Door::open(answer, &[]);
    let keys = &door.keys;
    let proof = Proof::new(keys);
    let v2 = json!({
        "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"), "ver": "2.0",
        "azp": "04b07795-8ddb-461a-bbee-02f9e1bf7b46",
    });
    for (token, user) in [
        (keys.rs256(&claims("ana")), "oidc:ana"),
        (headed(keys, Signer::Es256, &header(json!({"alg": "ES256", "kid": "p256"}))), "oidc:ana"),
        (oidc(keys, json!({"aud": ["another", AUDIENCE]})), "oidc:ana"),
        (oidc(keys, json!({"groups": ["one, with a comma"]})), "oidc:ana"),
        (oidc(keys, json!({"exp": now() - 30})), "oidc:ana"),
        (entra(keys, json!({})), "entra:ana@contoso.example"),
        (keys.rs256(&without(with(entra_claims(), v2), "upn")), &format!("entra:{OID}")),
        (proof.token(Signer::OtherRs256, proof.claims.clone()), "oidc:bound"),
    ] {
        let fields = format!("Authorization: Bearer {token}\r\n");
        let down = door.exchange(&request(&fields), is_whole);
        assert!(down.starts_with(b"HTTP/1.1 200 "), "{user}: {}", down.escape_ascii());
        let last = door.went_up().pop().expect("a request");
        let up = String::from_utf8_lossy(&last.bytes);
        assert!(up.contains(&format!("\r\nImpersonate-User: {user}\r\n")), "{user}: {up}");
        assert!(up.contains("\r\nImpersonate-Group: system:authenticated\r\n"), "{up}");
        assert!(up.contains("\r\nAuthorization: Bearer our-own-token\r\n"), "{up}");
        assert!(!up.contains(&token), "the caller's token went on");
    }
}
