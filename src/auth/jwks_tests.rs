use serde_json::{Value, json};

use super::super::testing::{Pair, key_set, rsa_jwk, with};
use super::*;

fn parse(keys: &[Value]) -> Result<KeySet, BadKeySet> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

/// What becomes of `jwk` beside a good key.
fn fault(jwk: Value) -> Option<Unusable> {
    let good = with(rsa_jwk(Pair::OtherRsa), &json!({"kid": "good"}));
    let set = parse(&[good, jwk]).expect("one good key");
    let fault = set.left_out().next().map(|(_, why)| why);
    assert_eq!(set.len(), if fault.is_some() { 1 } else { 2 });
    fault
}

fn rsa(more: &Value) -> Value {
    with(rsa_jwk(Pair::Rsa), &with(json!({"kid": "rsa"}), more))
}

fn ec(more: &Value) -> Value {
    let coordinate = "QsQs9hoDJYKFqKWvlrIwVqewoE6K6LpYFGCmIUY5kwo";
    let jwk = json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": coordinate, "y": coordinate});
    with(jwk, more)
}

#[test]
fn keys_for_signatures_are_found_by_their_exact_names() {
    let set = KeySet::parse(key_set().to_string().as_bytes()).expect("keys");
    assert_eq!((set.len(), set.is_empty(), set.left_out().count()), (3, false, 0));
    assert!(set.find(Some("rsa")).is_some_and(|key| key.fits(Algorithm::Ps512)));
    assert!(set.find(Some("p256")).is_some_and(|key| key.fits(Algorithm::Es256)));
    assert!(set.find(Some("p384")).is_some_and(|key| key.fits(Algorithm::Es384)));
    for id in ["RSA", "rsa ", "", "rsa\0", "../rsa"] {
        assert!(set.find(Some(id)).is_none(), "{id:?}");
    }
}

#[test]
fn a_token_without_a_name_gets_a_key_only_if_there_is_but_one() {
    let set = KeySet::parse(key_set().to_string().as_bytes()).expect("keys");
    assert!(set.find(None).is_none());
    assert!(parse(&[rsa_jwk(Pair::Rsa)]).expect("a key").find(None).is_some());
    assert!(parse(&[rsa(&json!({}))]).expect("a key").find(None).is_some());
}

#[test]
fn the_type_of_a_key_decides_what_it_verifies() {
    let set = KeySet::parse(key_set().to_string().as_bytes()).expect("keys");
    let fits = |id, algorithm| set.find(Some(id)).expect("a key").fits(algorithm);
    for algorithm in [Algorithm::Es256, Algorithm::Es384] {
        assert!(!fits("rsa", algorithm));
    }
    for algorithm in [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es384] {
        assert!(!fits("p256", algorithm));
    }
    assert!(!fits("p384", Algorithm::Es256));
    assert!(!fits("p384", Algorithm::Rs384));
}

#[test]
fn the_algorithm_of_a_key_binds_it() {
    let set = parse(&[rsa(&json!({"alg": "RS384"}))]).expect("a key");
    let key = set.find(Some("rsa")).expect("a key");
    assert!(key.fits(Algorithm::Rs384) && !key.fits(Algorithm::Rs256));
}

#[test]
fn keys_that_are_not_for_verification_are_left_out() {
    for (more, expected) in [
        (json!({"use": "enc"}), Unusable::Purpose),
        (json!({"use": ""}), Unusable::Purpose),
        (json!({"use": 1}), Unusable::Shape),
        (json!({"key_ops": []}), Unusable::Purpose),
        (json!({"key_ops": ["encrypt", 1]}), Unusable::Purpose),
        (json!({"key_ops": "verify"}), Unusable::Shape),
        (json!({"alg": "RSA-OAEP"}), Unusable::Algorithm),
        (json!({"alg": "HS256"}), Unusable::Algorithm),
        (json!({"alg": "ES256"}), Unusable::Algorithm),
        (json!({"alg": null}), Unusable::Shape),
        (json!({"d": "AQAB"}), Unusable::Private),
        (json!({"kty": "oct", "k": "AAAA"}), Unusable::Private),
        (json!({"kty": "oct"}), Unusable::Type),
        (json!({"kty": "OKP"}), Unusable::Type),
        (json!({"kty": "rsa"}), Unusable::Type),
        (json!({"kty": 1}), Unusable::Shape),
        (json!({"kid": 1}), Unusable::Shape),
        (json!({"n": 1}), Unusable::Shape),
        (json!({"issuer": 1}), Unusable::Shape),
    ] {
        assert_eq!(fault(rsa(&more)), Some(expected), "{more}");
    }
    assert_eq!(fault(json!("key")), Some(Unusable::Shape));
    assert_eq!(fault(rsa(&json!({"key_ops": ["verify"], "use": "sig"}))), None);
}

#[test]
fn weak_and_malformed_rsa_keys_are_left_out() {
    let modulus = |bytes: usize, first: u8, last: u8| {
        let mut n = vec![0xAB; bytes];
        n[0] = first;
        n[bytes - 1] = last;
        json!({"n": crate::wire::jws::encode_base64url(&n)})
    };
    for more in [
        modulus(128, 0xAB, 1),
        modulus(256, 0x7F, 1),
        modulus(257, 0x00, 1),
        modulus(1025, 0x01, 1),
        modulus(256, 0xAB, 2),
        json!({"n": ""}),
    ] {
        assert_eq!(fault(rsa(&more)), Some(Unusable::Modulus));
    }
    assert_eq!(fault(rsa(&modulus(256, 0x80, 1))), None);
    assert_eq!(fault(rsa(&modulus(1024, 0xFF, 1))), None);
    for e in ["AQ", "Ag", "", "AAEAAQ", "AA", "AQABAAE", "BA"] {
        assert_eq!(fault(rsa(&json!({ "e": e }))), Some(Unusable::Exponent), "{e}");
    }
    assert_eq!(fault(rsa(&json!({"e": "Aw"}))), None);
    for e in ["AQAB=", "AQ B", "AQA/", "AQAC\n"] {
        assert_eq!(fault(rsa(&json!({ "e": e }))), Some(Unusable::Encoding), "{e}");
    }
}

#[test]
fn malformed_points_are_left_out() {
    assert_eq!(fault(ec(&json!({}))), None);
    assert_eq!(fault(ec(&json!({"crv": "P-521"}))), Some(Unusable::Curve));
    assert_eq!(fault(ec(&json!({"crv": "secp256k1"}))), Some(Unusable::Curve));
    assert_eq!(fault(ec(&json!({"crv": "P-384"}))), Some(Unusable::Point));
    assert_eq!(fault(ec(&json!({"x": "AAAA"}))), Some(Unusable::Point));
    assert_eq!(fault(ec(&json!({"y": "!"}))), Some(Unusable::Encoding));
    assert_eq!(fault(ec(&json!({"y": null}))), Some(Unusable::Shape));
}

#[test]
fn two_keys_of_one_name_are_both_left_out_unless_they_are_one() {
    let (one, other) = (rsa(&json!({})), with(rsa_jwk(Pair::OtherRsa), &json!({"kid": "rsa"})));
    assert_eq!(parse(&[one.clone(), other.clone()]).expect_err("none"), BadKeySet::NoneUsable);
    let set = parse(&[one.clone(), ec(&json!({})), other]).expect("one key");
    assert_eq!(set.left_out().collect::<Vec<_>>(), [("rsa", Unusable::SameName); 2]);
    assert_eq!(parse(&[one.clone(), one.clone()]).expect("a key").len(), 1);
    let encryption = with(rsa_jwk(Pair::OtherRsa), &json!({"kid": "rsa", "use": "enc"}));
    assert_eq!(parse(&[one, encryption]).expect("a key").len(), 1);
}

#[test]
fn a_key_set_has_limits() {
    let keys = |count| vec![rsa(&json!({})); count];
    assert!(parse(&keys(KEY_SET_KEYS)).is_ok());
    assert_eq!(parse(&keys(KEY_SET_KEYS + 1)).expect_err("many"), BadKeySet::TooMany(101));
    let long = vec![b' '; KEY_SET_BYTES + 1];
    assert_eq!(KeySet::parse(&long).expect_err("long"), BadKeySet::TooLong(KEY_SET_BYTES + 1));
    let deep = format!(r#"{{"keys":{}{}}}"#, "[".repeat(20), "]".repeat(20));
    let deep = KeySet::parse(deep.as_bytes()).expect_err("deep");
    assert_eq!(deep, BadKeySet::Json(json::Malformed::TooDeep));
    for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[]}"#, r#"{"keys":[],"keys":[]}"#] {
        assert!(KeySet::parse(text.as_bytes()).is_err(), "{text}");
    }
}
