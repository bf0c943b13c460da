use super::*;

const KEY: &str = "cm9vdC1wcmltYXJ5LWtleS1mb3ItdGhlLWxhYi1zdHViMDE=";
const EXPIRES: u64 = 1_893_456_000;
const NOW: u64 = EXPIRES - 3600;

/// `sr` as it stands in the token, the signature in base64, and the `sig` field (Hybrid
/// Connections test vectors; hyco-ws and hyco-https make the first and the third).
const VECTORS: [(&str, &str, &str); 4] = [
    (
        "http%3A%2F%2Frelay.example%2Fhc1",
        "9XA76OkyCLDChqTBwC4OB0KBb52RXrFpUyVAe6CXOGE=",
        "9XA76OkyCLDChqTBwC4OB0KBb52RXrFpUyVAe6CXOGE%3D",
    ),
    (
        "http%3a%2f%2frelay.example%2fhc1",
        "H7h+6tDI76Xo/GfhqIXltxbF5mUIkgmC3C4S/w2zZXg=",
        "H7h%2B6tDI76Xo%2FGfhqIXltxbF5mUIkgmC3C4S%2Fw2zZXg%3D",
    ),
    (
        "http%3A%2F%2Frelay.example%3A443%2Fhc1",
        "wlWMoJyno4UEkAQBDx+gVbLSgJCyCa+FePUvXAufYk8=",
        "wlWMoJyno4UEkAQBDx%2BgVbLSgJCyCa%2BFePUvXAufYk8%3D",
    ),
    (
        "sb%3A%2F%2Frelay.example%3A8443",
        "KZKD6LQ95piw3rXKwUnCov4DjtI5y+x3AcXezsEDixw=",
        "KZKD6LQ95piw3rXKwUnCov4DjtI5y%2Bx3AcXezsEDixw%3D",
    ),
];

fn rule(name: &str, primary: &str, secondary: &str, rights: Rights) -> Rule {
    Rule {
        name: name.to_owned(),
        primary: Secret::new(primary.to_owned()),
        secondary: Secret::new(secondary.to_owned()),
        rights,
    }
}

fn root() -> Vec<Rule> {
    vec![rule("root", KEY, "second-key", Rights::ALL)]
}

fn target<'a>(path: &'a str, namespace_rules: &'a [Rule]) -> Target<'a> {
    Target { host: "relay.example:8443", path, entity_rules: &[], namespace_rules }
}

fn check(token: &str, path: &str) -> Result<Grant, Refusal> {
    verify(Some(token), &target(path, &root()), Right::Send, NOW)
}

#[test]
fn the_vectors_verify_and_cover_hc1_alone() {
    for (index, (resource, _, signature)) in VECTORS.into_iter().enumerate() {
        let token =
            format!("SharedAccessSignature sr={resource}&sig={signature}&se={EXPIRES}&skn=root");
        let namespace = index == 3;
        for path in ["hc1", "hc1/anything", "/hc1/"] {
            let grant = check(&token, path).expect("covered");
            let (rule, level) = ("root".to_owned(), Level::Namespace);
            assert_eq!(grant, Grant { rule, level, expires: EXPIRES });
        }
        assert_eq!(check(&token, "hc10").is_ok(), namespace, "{resource}");
        assert_eq!(check(&token, "hc").is_ok(), namespace, "{resource}");
    }
}

#[test]
fn the_vectors_come_out_of_the_mint() {
    let key = Secret::new(KEY.to_owned());
    for (index, uri) in [
        (0, "http://relay.example/hc1"),
        (2, "http://relay.example:443/hc1"),
        (3, "sb://relay.example:8443"),
    ] {
        let (resource, _, signature) = VECTORS[index];
        let expected =
            format!("SharedAccessSignature sr={resource}&sig={signature}&se={EXPIRES}&skn=root");
        assert_eq!(mint(uri, "root", &key, EXPIRES), expected);
    }
}

#[test]
fn the_signature_covers_the_raw_text_not_the_decoded_one() {
    use base64::Engine as _;
    for (resource, signature, _) in VECTORS {
        let text = sas::string_to_sign(resource, &EXPIRES.to_string());
        let made = hmac::sign(&hmac_key(KEY), text.as_bytes());
        let made = base64::engine::general_purpose::STANDARD.encode(made.as_ref());
        assert_eq!(made, signature);
    }
    // The escapes of one vector with the signature of another decode alike and do not verify.
    let (upper, _, _) = VECTORS[0];
    let (_, _, lower) = VECTORS[1];
    let token = format!("SharedAccessSignature sr={upper}&sig={lower}&se={EXPIRES}&skn=root");
    assert_eq!(check(&token, "hc1"), Err(Refusal::Signature));
}

#[test]
fn every_sdk_form_of_the_audience_passes() {
    let key = Secret::new(KEY.to_owned());
    for uri in [
        "http://relay.example:8443/ent",
        "http://relay.example/ent",
        "http://relay.example/ent/",
        "http://relay.example/ent//?x=y",
        "https://RELAY.example/ENT",
        "sb://relay.example:8443/ent",
        "sb://relay.example:8443",
        "sb://relay.example/",
        "wss://relay.example:443/ent",
        "http://relay.example/ent/suffix",
    ] {
        let token = mint(uri, "ROOT", &key, EXPIRES);
        assert!(check(&token, "ent/suffix/more").is_ok(), "{uri}");
    }
}

#[test]
fn an_audience_beside_the_target_is_refused() {
    let key = Secret::new(KEY.to_owned());
    for uri in [
        "relay.example/ent",
        "//relay.example/ent",
        "ftp://relay.example/ent",
        "http://relay.example.evil/ent",
        "http://evil@relay.example/ent",
        "http://relay.example@evil/ent",
        "http://evil/ent",
        "http://relay.example/en",
        "http://relay.example/ent2",
        "http://relay.example/ent/other",
        "http://relay.example//ent",
        "http://relay.example/ent/../ent",
        "http://relay.example/other/ent",
        "http:///ent",
        "",
    ] {
        let token = mint(uri, "root", &key, EXPIRES);
        assert_eq!(check(&token, "ent/suffix"), Err(Refusal::Audience), "{uri}");
    }
}

#[test]
fn an_ipv6_host_is_compared_without_its_port() {
    assert!(covers("http://[::1]:443/ent", "[::1]:8443", "ent"));
    assert!(covers("http://[::1]/ent", "[::1]", "ent"));
    assert!(!covers("http://[::2]/ent", "[::1]", "ent"));
}

#[test]
fn both_keys_of_a_rule_are_good_and_its_name_has_no_case() {
    for (key, name) in [(KEY, "root"), ("second-key", "root"), (KEY, "RoOt")] {
        let token = mint("http://relay.example/e", name, &Secret::new(key.to_owned()), EXPIRES);
        assert!(check(&token, "e").is_ok());
    }
}

#[test]
fn an_entity_rule_comes_first_and_the_namespace_rule_of_that_name_still_counts() {
    let entity = [rule("root", "entity-key", "entity-key-2", Rights::LISTEN)];
    let namespace = root();
    let target = Target {
        host: "relay.example",
        path: "e",
        entity_rules: &entity,
        namespace_rules: &namespace,
    };
    let by_entity =
        mint("http://relay.example/e", "root", &Secret::new("entity-key".to_owned()), EXPIRES);
    let level = |token: &str, right| verify(Some(token), &target, right, NOW).map(|it| it.level);
    assert_eq!(level(&by_entity, Right::Listen), Ok(Level::Entity));
    assert_eq!(
        verify(Some(&by_entity), &target, Right::Send, NOW),
        Err(Refusal::Right(Right::Send))
    );
    let by_namespace = mint("http://relay.example/", "root", &Secret::new(KEY.to_owned()), EXPIRES);
    assert_eq!(level(&by_namespace, Right::Send), Ok(Level::Namespace));
}

#[test]
fn an_unknown_rule_and_a_wrong_key_look_the_same() {
    for (name, key) in [("nobody", KEY), ("root", "other"), ("nobody", ""), ("root", "")] {
        let token = mint("http://relay.example/e", name, &Secret::new(key.to_owned()), EXPIRES);
        assert_eq!(check(&token, "e"), Err(Refusal::Signature), "{name} {key}");
    }
    let empty = [rule("blank", "", "", Rights::ALL)];
    let token = mint("http://relay.example/e", "blank", &Secret::new(String::new()), EXPIRES);
    let refused = verify(Some(&token), &target("e", &empty), Right::Send, NOW);
    assert_eq!(refused, Err(Refusal::Signature));
}

#[test]
fn a_changed_byte_anywhere_in_what_is_signed_is_refused() {
    let token = mint("http://relay.example/e", "root", &Secret::new(KEY.to_owned()), EXPIRES);
    assert!(check(&token, "e").is_ok());
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'7' { b'8' } else { b'7' };
        let changed = String::from_utf8(bytes).expect("ASCII");
        assert!(check(&changed, "e").is_err(), "{changed}");
    }
}

#[test]
fn a_token_ends_at_its_second() {
    let token = mint("http://relay.example/e", "root", &Secret::new(KEY.to_owned()), EXPIRES);
    let rules = root();
    let at = |now| verify(Some(&token), &target("e", &rules), Right::Send, now);
    assert!(at(EXPIRES - 1).is_ok());
    assert_eq!(at(EXPIRES), Err(Refusal::Expired(EXPIRES)));
}

#[test]
fn the_first_failing_check_names_the_refusal() {
    let rules = [rule("l", KEY, KEY, Rights::LISTEN)];
    let key = Secret::new(KEY.to_owned());
    let at = |text: Option<&str>, now| verify(text, &target("e", &rules), Right::Send, now);
    let elsewhere = mint("http://evil/x", "l", &key, EXPIRES);
    let here = mint("http://relay.example/e", "l", &key, EXPIRES);
    assert_eq!(at(None, NOW), Err(Refusal::Missing));
    assert_eq!(at(Some(""), NOW), Err(Refusal::Missing));
    assert_eq!(at(Some("Bearer x"), NOW), Err(Refusal::Malformed(Malformed::Scheme)));
    assert_eq!(at(Some(&elsewhere.replace("skn=l", "skn=k")), EXPIRES), Err(Refusal::Signature));
    assert_eq!(at(Some(&elsewhere), EXPIRES), Err(Refusal::Expired(EXPIRES)));
    assert_eq!(at(Some(&elsewhere), NOW), Err(Refusal::Audience));
    assert_eq!(at(Some(&here), NOW), Err(Refusal::Right(Right::Send)));
    assert_eq!(Refusal::Audience.status(), 401);
}

#[test]
fn refusals_have_the_texts_that_sdks_print() {
    let cases = [
        (Refusal::Missing, "MissingToken: Relay security token is required."),
        (
            Refusal::Malformed(Malformed::Scheme),
            "MalformedToken: the token does not begin with SharedAccessSignature.",
        ),
        (Refusal::Signature, "InvalidSignature: The token has an invalid signature."),
        (
            Refusal::Expired(EXPIRES),
            "ExpiredToken: The token is expired. Expiration time: '2030-01-01T00:00:00Z'",
        ),
        (
            Refusal::Audience,
            "InvalidAudience: The authorization header contains a token with a wrong audience.",
        ),
        (
            Refusal::Right(Right::Listen),
            "Unauthorized access. 'Listen' claim(s) are required to perform this operation.",
        ),
    ];
    for (refusal, text) in cases {
        assert_eq!(refusal.to_string(), text);
    }
}
