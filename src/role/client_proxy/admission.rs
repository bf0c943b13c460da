//! Who may use the local port: whoever has the random bearer that the kubeconfig carries. The port
//! is open to every user of the machine, the kubeconfig is not.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use crate::secret::Secret;

/// The bearer of one session.
#[derive(Clone)]
pub struct Bearer {
    text: Secret<String>,
    key: hmac::Key,
    tag: hmac::Tag,
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(***)")
    }
}

/// Why a caller is not let in. The answer is 401 in each case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stranger {
    /// No `Authorization`.
    Nothing,
    /// More than one `Authorization`, or not `Bearer` and one word.
    Grammar,
    /// Another bearer.
    Wrong,
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "the request has no bearer token of this proxy",
            Self::Grammar => "the request's Authorization is not one bearer token",
            Self::Wrong => "the bearer token is not the one of this proxy's kubeconfig",
        })
    }
}

impl std::error::Error for Stranger {}

impl Bearer {
    /// Makes a bearer of 32 random bytes.
    #[must_use]
    pub fn new(random: [u8; 32]) -> Self {
        let text = URL_SAFE_NO_PAD.encode(random);
        // The comparison is of two tags, so that its time says nothing about the bearer.
        let key = hmac::Key::new(hmac::HMAC_SHA256, &random);
        let tag = hmac::sign(&key, text.as_bytes());
        Self { text: Secret::new(text), key, tag }
    }

    /// The text for the kubeconfig.
    #[must_use]
    pub const fn text(&self) -> &Secret<String> {
        &self.text
    }

    /// Checks all `Authorization` fields of a request.
    ///
    /// # Errors
    ///
    /// [`Stranger`]
    pub fn check<'a>(&self, fields: impl IntoIterator<Item = &'a [u8]>) -> Result<(), Stranger> {
        let mut fields = fields.into_iter();
        let field = fields.next().ok_or(Stranger::Nothing)?;
        if fields.next().is_some() {
            return Err(Stranger::Grammar);
        }
        let (scheme, token) = field.split_at_checked(SCHEME.len()).ok_or(Stranger::Grammar)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) || token.is_empty() {
            return Err(Stranger::Grammar);
        }
        if !token.iter().all(u8::is_ascii_graphic) {
            return Err(Stranger::Grammar);
        }
        hmac::verify(&self.key, token, self.tag.as_ref()).map_err(|_| Stranger::Wrong)
    }
}

const SCHEME: &[u8] = b"bearer ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubeconfigs_bearer_is_let_in() {
        let bearer = Bearer::new([7; 32]);
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let field = format!("{scheme} {}", bearer.text().expose());
            assert_eq!(bearer.check([field.as_bytes()]), Ok(()));
        }
        assert_eq!(format!("{bearer:?}"), "Bearer(***)");
    }

    #[test]
    fn nobody_else_is() {
        let bearer = Bearer::new([7; 32]);
        let good = format!("Bearer {}", bearer.text().expose());
        let other = format!("Bearer {}", Bearer::new([8; 32]).text().expose());
        let check = |field: &str| bearer.check([field.as_bytes()]);
        assert_eq!(bearer.check([]), Err(Stranger::Nothing));
        assert_eq!(bearer.check([good.as_bytes(), good.as_bytes()]), Err(Stranger::Grammar));
        assert_eq!(check(&other), Err(Stranger::Wrong));
        assert_eq!(check(&good[..good.len() - 1]), Err(Stranger::Wrong));
        assert_eq!(check(&format!("{good}x")), Err(Stranger::Wrong));
        assert_eq!(check(&good.replace("Bearer ", "Bearer  ")), Err(Stranger::Grammar));
        for field in
            ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer a b", "Bearer a,b c", "Beäre x"]
        {
            assert_eq!(check(field), Err(Stranger::Grammar), "{field}");
        }
    }
}
