//! Where a credential may be in a request: one `Authorization: Bearer`, or, on a WebSocket request
//! without it, an entry among the subprotocols. Nowhere else: not in the query, not in a cookie.

use super::denied::{Denied, Reason};
use crate::limits::TOKEN_BYTES;
use crate::wire::jws::decode_base64url;

/// Before the token in a subprotocol (Kubernetes, "bearer token in the WebSocket subprotocol").
const SUBPROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// The token in the value of an `Authorization` field: the scheme word in any case, one blank, and
/// a token without anything after it. Readers that split at blanks and take the second word would
/// see another token than readers that take the rest.
///
/// # Errors
/// [`Reason::Malformed`] for any other scheme and any other form.
pub fn bearer(authorization: &[u8]) -> Result<&str, Denied> {
    let text = str::from_utf8(authorization).map_err(|_| refused("it is not text"))?;
    let (scheme, token) = text.split_once(' ').ok_or_else(|| refused("it has no token"))?;
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(refused("its scheme is not Bearer"));
    }
    let body = token.trim_end_matches('=');
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    if body.is_empty() || TOKEN_BYTES < token.len() || !body.bytes().all(allowed) {
        return Err(refused("its token is empty, too long or has other characters"));
    }
    Ok(token)
}

/// What the values of `Sec-WebSocket-Protocol` hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subprotocols {
    /// The credential, if there is one.
    pub token: Option<String>,
    /// The other entries, to be sent on. The credential is never among them.
    pub others: Vec<String>,
}

/// Takes the credential out of the values of all `Sec-WebSocket-Protocol` fields.
///
/// # Errors
/// [`Reason::Malformed`] if there are several credentials, one that cannot be read, or one without
/// any other entry: the server must have something to choose.
pub fn subprotocols<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Subprotocols, Denied> {
    let mut found = Subprotocols { token: None, others: Vec::new() };
    let entries = values.into_iter().flat_map(|value| value.split(','));
    let entries = entries.map(|entry| entry.trim_matches([' ', '\t']));
    for entry in entries.filter(|entry| !entry.is_empty()) {
        // Subprotocols have case, but a server that ignores it must not see a token either.
        let encoded = match entry.get(..SUBPROTOCOL.len()) {
            Some(head) if head.eq_ignore_ascii_case(SUBPROTOCOL) => {
                entry.get(SUBPROTOCOL.len()..).unwrap_or("")
            }
            Some(_) | None => {
                found.others.push(entry.to_owned());
                continue;
            }
        };
        let token = decode_base64url(encoded).and_then(|bytes| String::from_utf8(bytes).ok());
        let token = token.filter(|token| !token.is_empty() && token.len() <= TOKEN_BYTES);
        let token = token.ok_or_else(|| refused("its subprotocol cannot be read"))?;
        if found.token.replace(token).is_some() {
            return Err(refused("there are two in the subprotocols"));
        }
    }
    if found.token.is_some() && found.others.is_empty() {
        return Err(refused("there is no other subprotocol beside it"));
    }
    Ok(found)
}

fn refused(why: &'static str) -> Denied {
    Denied::new(Reason::Malformed, format!("credential: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::jws::encode_base64url;

    #[test]
    fn a_bearer_token_has_one_form() {
        assert_eq!(bearer(b"Bearer a.b-c_d~e+f/g=="), Ok("a.b-c_d~e+f/g=="));
        assert_eq!(bearer(b"bEARER x"), Ok("x"));
        for value in [
            &b""[..],
            b"Bearer",
            b"Bearer ",
            b"Bearer  x",
            b"Bearer\tx",
            b" Bearer x",
            b"Bearer x ",
            b"Bearer x y",
            b"Bearer x, Bearer y",
            b"Bearer x,y",
            b"Bearer \"x\"",
            b"Bearer x\xff",
            b"Bearer =x",
            b"Bearer ==",
            b"Basic eDp5",
            b"Negotiate x",
            b"Bearerx y",
        ] {
            let denied = bearer(value).expect_err("refused");
            assert_eq!((denied.kind(), denied.status()), (Reason::Malformed, 401), "{value:?}");
        }
        let long = format!("Bearer {}", "x".repeat(TOKEN_BYTES + 1));
        assert!(bearer(long.as_bytes()).is_err());
    }

    #[test]
    fn a_token_among_the_subprotocols_is_taken_out() {
        let entry = format!("{SUBPROTOCOL}{}", encode_base64url(b"a.b.c"));
        let values = [format!("v5.channel.k8s.io, {entry}"), "v4.channel.k8s.io".to_owned()];
        let found = subprotocols(values.iter().map(String::as_str)).expect("readable");
        assert_eq!(found.token.as_deref(), Some("a.b.c"));
        assert_eq!(found.others, ["v5.channel.k8s.io", "v4.channel.k8s.io"]);
        let upper = entry.replace(SUBPROTOCOL, &SUBPROTOCOL.to_uppercase());
        let found = subprotocols([upper.as_str(), "v5"]).expect("readable");
        assert_eq!((found.token.as_deref(), found.others), (Some("a.b.c"), vec!["v5".to_owned()]));
        let plain = subprotocols(["v5.channel.k8s.io"]).expect("readable");
        assert_eq!((plain.token, plain.others.len()), (None, 1));
    }

    #[test]
    fn subprotocols_with_a_doubtful_token_are_refused() {
        let entry = format!("{SUBPROTOCOL}{}", encode_base64url(b"t"));
        for value in [
            entry.clone(),
            format!("{entry}, ,"),
            format!("{entry}, {entry}, v5"),
            format!("{SUBPROTOCOL}, v5"),
            format!("{SUBPROTOCOL}!, v5"),
            format!("{entry}=, v5"),
            format!("{SUBPROTOCOL}{}, v5", encode_base64url(b"\xff")),
        ] {
            assert!(subprotocols([value.as_str()]).is_err(), "{value}");
        }
    }
}
