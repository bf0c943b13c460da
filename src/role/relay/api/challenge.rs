//! Challenges that an agent signs to show that it has its key. A challenge carries its own proof,
//! so nothing is kept of those that are never answered; of those that are, the nonce is kept until
//! it would be too old anyway.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

use crate::limits::{CHALLENGE_LIFE, CHALLENGES_MAX};
use crate::role::relay::registry::Random;

/// Makes and redeems challenges.
#[derive(Debug)]
pub(super) struct Challenges {
    key: hmac::Key,
    /// By the time at which each may be forgotten.
    used: BTreeSet<(u64, [u8; NONCE])>,
}

/// Why an answer does not do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Failed {
    /// Not made here, or for another cluster.
    Foreign,
    /// Too old.
    Expired,
    /// Answered before.
    Used,
    /// Signed by another key, or something else was signed.
    Signature,
    /// So many have been answered lately that no more can be remembered.
    Crowded,
}

const NONCE: usize = 16;

impl Challenges {
    /// With `seed` as the key, which all loops and nodes of a relay share.
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, seed), used: BTreeSet::new() }
    }

    /// A challenge for this cluster.
    pub(super) fn make(&self, cluster: &str, unix_now: u64, random: &mut Random<'_>) -> String {
        let mut nonce = [0; NONCE];
        random(&mut nonce);
        let tag = hmac::sign(&self.key, &sealed(cluster, &nonce, unix_now));
        let parts = [&nonce[..], &unix_now.to_be_bytes(), tag.as_ref()];
        URL_SAFE_NO_PAD.encode(parts.concat())
    }

    /// Whether `signature` is the answer to `challenge` with the private half of `key`. Once.
    pub(super) fn redeem(
        &mut self,
        cluster: &str,
        challenge: &str,
        key: &[u8],
        signature: &[u8],
        unix_now: u64,
    ) -> Result<(), Failed> {
        let bytes = URL_SAFE_NO_PAD.decode(challenge).map_err(|_| Failed::Foreign)?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE>().ok_or(Failed::Foreign)?;
        let (made_at, tag) = rest.split_first_chunk::<8>().ok_or(Failed::Foreign)?;
        let made_at = u64::from_be_bytes(*made_at);
        hmac::verify(&self.key, &sealed(cluster, nonce, made_at), tag)
            .map_err(|_| Failed::Foreign)?;
        let forget_at = made_at.saturating_add(CHALLENGE_LIFE.as_secs());
        if forget_at <= unix_now {
            return Err(Failed::Expired);
        }
        if self.used.contains(&(forget_at, *nonce)) {
            return Err(Failed::Used);
        }
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key);
        key.verify(signed_text(cluster, challenge).as_bytes(), signature)
            .map_err(|_| Failed::Signature)?;
        self.used = self.used.split_off(&(unix_now.saturating_add(1), [0; NONCE]));
        if self.used.len() >= CHALLENGES_MAX {
            return Err(Failed::Crowded);
        }
        self.used.insert((forget_at, *nonce));
        Ok(())
    }
}

/// What an agent signs to answer `challenge`.
pub fn signed_text(cluster: &str, challenge: &str) -> String {
    format!("cluster-connect listen v1\n{cluster}\n{challenge}")
}

fn sealed(cluster: &str, nonce: &[u8; NONCE], made_at: u64) -> Vec<u8> {
    [b"listen challenge v1\n", cluster.as_bytes(), b"\n", nonce, &made_at.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

    use super::*;

    fn pair() -> EcdsaKeyPair {
        let (random, alg) = (SystemRandom::new(), &ECDSA_P256_SHA256_ASN1_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(alg, &random).unwrap();
        EcdsaKeyPair::from_pkcs8(alg, pkcs8.as_ref(), &random).unwrap()
    }

    fn sign(pair: &EcdsaKeyPair, cluster: &str, challenge: &str) -> Vec<u8> {
        let text = signed_text(cluster, challenge);
        pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec()
    }

    #[test]
    fn an_answer_is_good_once() {
        let (mut all, pair) = (Challenges::new(&[7; 32]), pair());
        let key = pair.public_key().as_ref();
        let challenge = all.make("c", 100, &mut |into| into.fill(1));
        let answer = sign(&pair, "c", &challenge);
        assert_eq!(all.redeem("c", &challenge, key, &answer, 159), Ok(()));
        assert_eq!(all.redeem("c", &challenge, key, &answer, 159), Err(Failed::Used));
        assert_eq!(all.redeem("c", &challenge, key, &answer, 160), Err(Failed::Expired));
        assert_eq!(all.used.len(), 1);
        let next = all.make("c", 160, &mut |into| into.fill(2));
        let answer = sign(&pair, "c", &next);
        assert_eq!(all.redeem("c", &next, key, &answer, 160), Ok(()));
        assert_eq!(all.used.len(), 1, "what is too old is forgotten");
    }

    #[test]
    fn what_cannot_be_remembered_is_not_redeemed() {
        let (mut all, pair) = (Challenges::new(&[7; 32]), pair());
        for n in 0..u64::try_from(CHALLENGES_MAX).unwrap() {
            let mut nonce = [0; NONCE];
            nonce[..8].copy_from_slice(&n.to_be_bytes());
            all.used.insert((159, nonce));
        }
        let challenge = all.make("c", 100, &mut |into| into.fill(0xff));
        let answer = sign(&pair, "c", &challenge);
        let key = pair.public_key().as_ref();
        assert_eq!(all.redeem("c", &challenge, key, &answer, 100), Err(Failed::Crowded));
        let challenge = all.make("c", 159, &mut |into| into.fill(0xff));
        let answer = sign(&pair, "c", &challenge);
        assert_eq!(all.redeem("c", &challenge, key, &answer, 159), Ok(()));
    }

    #[test]
    fn hostile_answers_are_refused() {
        let (mut all, pair, other) = (Challenges::new(&[7; 32]), pair(), pair());
        let key = pair.public_key().as_ref();
        let challenge = all.make("c", 100, &mut |into| into.fill(1));
        let good = sign(&pair, "c", &challenge);
        let mut refuse = |cluster: &str, challenge: &str, answer: &[u8], why| {
            assert_eq!(all.redeem(cluster, challenge, key, answer, 100), Err(why));
        };
        refuse("c", &challenge, &sign(&other, "c", &challenge), Failed::Signature);
        refuse("c", &challenge, &sign(&pair, "d", &challenge), Failed::Signature);
        refuse("c", &challenge, &[], Failed::Signature);
        refuse("c", &challenge, &good[1..], Failed::Signature);
        refuse("d", &challenge, &sign(&pair, "d", &challenge), Failed::Foreign);
        refuse("c", "", &good, Failed::Foreign);
        refuse("c", "AAAA", &good, Failed::Foreign);
        refuse("c", &format!("{challenge}="), &good, Failed::Foreign);
        let forged = Challenges::new(&[8; 32]).make("c", 100, &mut |into| into.fill(1));
        refuse("c", &forged, &sign(&pair, "c", &forged), Failed::Foreign);
        for garbage in [&[][..], &[0; 65], &[4; 65]] {
            let refused = all.redeem("c", &challenge, garbage, &good, 100);
            assert_eq!(refused, Err(Failed::Signature));
        }
    }
}
