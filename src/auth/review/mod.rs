//! Questions that the API server answers: whether a token is good (TokenReview), and whether a
//! caller may impersonate (SubjectAccessReview). Here are the questions' bodies, the reading of
//! the answers, and the memory of verdicts; asking is somebody else's.

mod access;
mod token;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use ring::hmac;

pub use access::{Impersonation, access_reviews, read_access_review};
pub use token::{Reviewed, read_token_review, token_review};

use super::denied::{Denied, Reason};
use crate::limits::{ANSWER_BYTES, ANSWER_DEPTH, REVIEWS_REMEMBERED};
use crate::wire::json::{self, Object};

/// The `status` of a review object.
fn status(answer: &[u8], kind: &str) -> Result<Object, Denied> {
    if ANSWER_BYTES < answer.len() {
        return Err(failed(format!("answer of {} bytes", answer.len())));
    }
    let answer = json::parse_object(answer, ANSWER_DEPTH).map_err(|why| failed(why.to_string()))?;
    if answer.optional_text("kind") != Ok(Some(kind)) {
        return Err(failed(format!("answer is no {kind}")));
    }
    let status = answer.optional_object("status").map_err(|why| failed(why.to_string()))?;
    status.cloned().ok_or_else(|| failed("answer has no status".to_owned()))
}

fn failed(detail: String) -> Denied {
    Denied::new(Reason::Review, detail)
}

/// Verdicts that were given a moment ago. What was asked is kept as a keyed hash only: a token
/// must not lie about in memory, and nobody may aim for a collision.
pub struct Memory<T> {
    key: hmac::Key,
    verdicts: BTreeMap<[u8; 32], (Instant, T)>,
}

impl<T: Clone> Memory<T> {
    /// An empty memory. `secret` is 32 random bytes, made anew in each process.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret), verdicts: BTreeMap::new() }
    }

    /// The verdict on `question`, if it still holds.
    #[must_use]
    pub fn recall(&self, question: &[u8], now: Instant) -> Option<T> {
        let (until, verdict) = self.verdicts.get(&self.name(question)?)?;
        (now < *until).then(|| verdict.clone())
    }

    /// Keeps the verdict on `question` for so long, or until newer ones need the room.
    pub fn keep(&mut self, question: &[u8], verdict: T, holds: Duration, now: Instant) {
        let Some(name) = self.name(question) else { return };
        if self.verdicts.len() >= REVIEWS_REMEMBERED {
            self.verdicts.retain(|_, (until, _)| now < *until);
        }
        if self.verdicts.len() >= REVIEWS_REMEMBERED {
            let oldest = self.verdicts.iter().min_by_key(|(_, (until, _))| *until);
            if let Some(name) = oldest.map(|(name, _)| *name) {
                self.verdicts.remove(&name);
            }
        }
        self.verdicts.insert(name, (now + holds, verdict));
    }

    fn name(&self, question: &[u8]) -> Option<[u8; 32]> {
        hmac::sign(&self.key, question).as_ref().try_into().ok()
    }
}

impl<T> fmt::Debug for Memory<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} verdicts)", self.verdicts.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_holds_for_its_time_and_for_its_question_only() {
        let mut memory = Memory::new(&[7; 32]);
        let now = Instant::now();
        memory.keep(b"a", true, Duration::from_secs(10), now);
        assert_eq!(memory.recall(b"a", now + Duration::from_secs(9)), Some(true));
        assert_eq!(memory.recall(b"a", now + Duration::from_secs(10)), None);
        assert_eq!(memory.recall(b"b", now), None);
    }

    #[test]
    fn the_memory_is_bounded_and_prints_nothing_it_holds() {
        let mut memory = Memory::new(&[7; 32]);
        let now = Instant::now();
        for n in 0..(REVIEWS_REMEMBERED as u64 + 100) {
            let holds = Duration::from_secs(10 + n);
            memory.keep(&n.to_le_bytes(), n, holds, now);
        }
        assert_eq!(format!("{memory:?}"), format!("Memory({REVIEWS_REMEMBERED} verdicts)"));
        assert_eq!(memory.recall(&0_u64.to_le_bytes(), now), None, "the first to end went first");
        assert_eq!(memory.recall(&1_000_u64.to_le_bytes(), now), Some(1_000));
    }
}
