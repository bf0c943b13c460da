//! Project Wycheproof's vectors for the eight signature algorithms that tokens may have, through
//! our own reader of keys. Its vectors for whole tokens (`json_web_signature`) are in no package;
//! what those try beyond signatures is in the corpus and in the classes of bad tokens.

use std::collections::BTreeMap;

use cluster_connect::auth::jwks::{Key, KeySet};
use cluster_connect::wire::jws::{Algorithm, encode_base64url};
use serde_json::{Value, json};
use wycheproof::{TestResult, ecdsa, rsa_pkcs1_verify, rsa_pss_verify};

/// A key of Wycheproof's, and what is to be verified with it.
struct Group {
    name: String,
    algorithm: Algorithm,
    jwk: Value,
    tests: Vec<Test>,
}

struct Test {
    id: usize,
    comment: String,
    message: Vec<u8>,
    signature: Vec<u8>,
    /// Not merely acceptable: such a signature has a form that no signer of tokens writes.
    is_valid: bool,
}

fn test(id: usize, comment: &str, msg: &[u8], sig: &[u8], result: TestResult) -> Test {
    let (message, signature, comment) = (msg.to_vec(), sig.to_vec(), comment.to_owned());
    Test { id, comment, message, signature, is_valid: result == TestResult::Valid }
}

/// A number as a JWK has it: without leading zeros.
fn number(bytes: &[u8]) -> String {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    encode_base64url(&bytes[zeros..])
}

fn ecdsa_groups() -> Vec<Group> {
    let sets = [
        (ecdsa::TestName::EcdsaSecp256r1Sha256P1363, Algorithm::Es256, "P-256", 32),
        (ecdsa::TestName::EcdsaSecp384r1Sha384P1363, Algorithm::Es384, "P-384", 48),
    ];
    let mut groups = Vec::new();
    for (name, algorithm, curve, len) in sets {
        for group in ecdsa::TestSet::load(name).expect("vectors").test_groups {
            let at = group.der.len() - 2 * len;
            let (x, y) = group.der[at..].split_at(len);
            let jwk = json!({"kty": "EC", "crv": curve, "x": encode_base64url(x),
                             "y": encode_base64url(y)});
            let tests = group.tests.iter();
            let tests = tests.map(|it| test(it.tc_id, &it.comment, &it.msg, &it.sig, it.result));
            let name = algorithm.as_str().to_owned();
            groups.push(Group { name, algorithm, jwk, tests: tests.collect() });
        }
    }
    groups
}

/// A key of so many bits, and what is to be verified with it.
fn rsa_group(
    (algorithm, bits): (Algorithm, usize),
    (n, e): (&[u8], &[u8]),
    tests: impl Iterator<Item = Test>,
) -> Group {
    let name = format!("{} {bits}", algorithm.as_str());
    let jwk = json!({"kty": "RSA", "n": number(n), "e": number(e)});
    Group { name, algorithm, jwk, tests: tests.collect() }
}

fn pkcs1_groups() -> Vec<Group> {
    use rsa_pkcs1_verify::TestName as Name;
    let sets = [
        (Name::Rsa2048Sha256, Algorithm::Rs256, 2048),
        (Name::Rsa3072Sha256, Algorithm::Rs256, 3072),
        (Name::Rsa4096Sha256, Algorithm::Rs256, 4096),
        (Name::Rsa8192Sha256, Algorithm::Rs256, 8192),
        (Name::Rsa2048Sha384, Algorithm::Rs384, 2048),
        (Name::Rsa3072Sha384, Algorithm::Rs384, 3072),
        (Name::Rsa4096Sha384, Algorithm::Rs384, 4096),
        (Name::Rsa2048Sha512, Algorithm::Rs512, 2048),
        (Name::Rsa3072Sha512, Algorithm::Rs512, 3072),
        (Name::Rsa4096Sha512, Algorithm::Rs512, 4096),
    ];
    let mut groups = Vec::new();
    for (name, algorithm, bits) in sets {
        for group in rsa_pkcs1_verify::TestSet::load(name).expect("vectors").test_groups {
            let tests = group.tests.iter();
            let tests = tests.map(|it| test(it.tc_id, &it.comment, &it.msg, &it.sig, it.result));
            groups.push(rsa_group((algorithm, bits), (&group.key.n, &group.key.e), tests));
        }
    }
    groups
}

fn pss_groups() -> Vec<Group> {
    use rsa_pss_verify::TestName as Name;
    let sets = [
        (Name::RsaPss2048Sha256Mgf1SaltLen32, Algorithm::Ps256, 2048),
        (Name::RsaPss3072Sha256Mgf1SaltLen32, Algorithm::Ps256, 3072),
        (Name::RsaPss4096Sha256Mgf1SaltLen32, Algorithm::Ps256, 4096),
        (Name::RsaPss2048Sha384Mgf1SaltLen48, Algorithm::Ps384, 2048),
        (Name::RsaPss4096Sha384Mgf1SaltLen48, Algorithm::Ps384, 4096),
        (Name::RsaPss4096Sha512Mgf1SaltLen64, Algorithm::Ps512, 4096),
    ];
    let mut groups = Vec::new();
    for (name, algorithm, bits) in sets {
        for group in rsa_pss_verify::TestSet::load(name).expect("vectors").test_groups {
            let tests = group.tests.iter();
            let tests = tests.map(|it| test(it.tc_id, &it.comment, &it.msg, &it.sig, it.result));
            groups.push(rsa_group((algorithm, bits), (&group.key.n, &group.key.e), tests));
        }
    }
    groups
}

fn key(jwk: &Value) -> Option<Key> {
    let set = json!({"keys": [jwk]}).to_string();
    KeySet::parse(set.as_bytes()).ok().and_then(|set| set.find(None).cloned())
}

#[test]
fn every_invalid_signature_is_refused_and_every_valid_one_taken() {
    let groups = [ecdsa_groups(), pkcs1_groups(), pss_groups()];
    let mut counts: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    let mut wrong = Vec::new();
    for group in groups.iter().flatten() {
        let key = key(&group.jwk);
        for test in &group.tests {
            let verifies = key
                .as_ref()
                .is_some_and(|key| key.verifies(group.algorithm, &test.message, &test.signature));
            counts.entry(group.name.clone()).or_default()[usize::from(test.is_valid)] += 1;
            if verifies != test.is_valid {
                wrong.push(format!("{} {}: {} ({verifies})", group.name, test.id, test.comment));
            }
            // A key is good for its own algorithm and for no other.
            let others = Algorithm::ALL.into_iter().filter(|other| *other != group.algorithm);
            for other in others.filter(|_| test.is_valid) {
                let taken = key
                    .as_ref()
                    .is_some_and(|key| key.verifies(other, &test.message, &test.signature));
                assert!(!taken, "{} {} as {}", group.name, test.id, other.as_str());
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let [refused, taken] = counts.values().fold([0, 0], |[no, yes], [a, b]| [no + a, yes + b]);
    assert_eq!((refused, taken), (2_963, 952), "{counts:?}");
}
