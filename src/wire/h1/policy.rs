//! What the auth proxy refuses although the grammar allows it, where it finds the credential, and
//! which fields of a caller never go on. Nothing here is a rule of HTTP.

use std::error::Error;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::grammar::{is_token, trim_ows};
use super::{FieldClass, Fields, Framing, RequestHead, protected_option, reads_as};
use crate::secret::Secret;

/// Why a well-formed request is not let through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// A method that kube-apiserver has no use for.
    Method,
    /// A connection option that names a protected field.
    ProtectedOption,
    /// A framing field spelt with underscores, which some servers take for the real one.
    FramingAlias,
    /// A GET or HEAD with a body.
    UnexpectedBody,
    /// A subprotocol of WebSocket that is not a token: a server that trims more than blanks could
    /// find a credential in it.
    Subprotocol,
    /// A field that asks to act as somebody else.
    Impersonation,
    /// Two `Authorization` fields, or a second credential in a subprotocol.
    TwoCredentials,
    /// No credential.
    NoCredential,
    /// A credential that is not one bearer token.
    NotBearer,
}

impl Refusal {
    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::ProtectedOption
            | Self::FramingAlias
            | Self::UnexpectedBody
            | Self::Subprotocol
            | Self::TwoCredentials => 400,
            Self::Impersonation => 403,
            Self::NoCredential | Self::NotBearer => 401,
        }
    }

    /// A word for metrics and the audit log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::ProtectedOption => "protected_option",
            Self::FramingAlias => "framing_alias",
            Self::UnexpectedBody => "unexpected_body",
            Self::Subprotocol => "subprotocol",
            Self::Impersonation => "impersonation",
            Self::TwoCredentials => "two_credentials",
            Self::NoCredential => "no_credential",
            Self::NotBearer => "not_bearer",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "method not allowed",
            Self::ProtectedOption => "Connection names a protected field",
            Self::FramingAlias => "framing field spelt with underscores",
            Self::UnexpectedBody => "GET or HEAD with a body",
            Self::Subprotocol => "WebSocket subprotocol is not a token",
            Self::Impersonation => "impersonation through this proxy is off",
            Self::TwoCredentials => "more than one credential",
            Self::NoCredential => "no credential",
            Self::NotBearer => "credential is not one bearer token",
        })
    }
}

impl Error for Refusal {}

/// The checks that need nobody's identity.
///
/// # Errors
///
/// The first [`Refusal`] that applies.
pub fn admit(head: &RequestHead) -> Result<(), Refusal> {
    const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    const FRAMING: [&str; 3] = ["transfer-encoding", "content-length", "connection"];
    let method = head.method();
    if !METHODS.contains(&method) {
        return Err(Refusal::Method);
    }
    let is_alias =
        |name: &str| name.contains('_') && FRAMING.iter().any(|plain| reads_as(name, plain));
    if head.fields.iter().any(|field| is_alias(field.name)) {
        return Err(Refusal::FramingAlias);
    }
    let has_body = !matches!(head.framing(), Framing::None | Framing::Length(0));
    if has_body && matches!(method, "GET" | "HEAD") {
        return Err(Refusal::UnexpectedBody);
    }
    if protected_option(&head.fields).is_some() {
        return Err(Refusal::ProtectedOption);
    }
    if !head.fields.members(SUBPROTOCOLS).all(is_token) {
        return Err(Refusal::Subprotocol);
    }
    Ok(())
}

/// Whether any field asks to act as somebody else, however it is spelt.
#[must_use]
pub fn impersonates(fields: &Fields) -> bool {
    fields.iter().any(|field| FieldClass::of(field.name) == FieldClass::Impersonation)
}

/// The one bearer token of a request. `in_subprotocol` says whether a WebSocket subprotocol may
/// carry it, as kube-apiserver allows to browsers.
///
/// # Errors
///
/// [`Refusal::TwoCredentials`], [`Refusal::NoCredential`] or [`Refusal::NotBearer`].
pub fn credential(fields: &Fields, in_subprotocol: bool) -> Result<Secret<String>, Refusal> {
    let mut subprotocols = fields.members(SUBPROTOCOLS).filter_map(in_protocol);
    let mut values = fields.all("authorization");
    match (values.next(), values.next(), subprotocols.next()) {
        (Some(_), Some(_), _) | (Some(_), None, Some(_)) => Err(Refusal::TwoCredentials),
        (Some(value), None, None) => bearer(value).ok_or(Refusal::NotBearer),
        (None, _, Some(_)) if subprotocols.next().is_some() => Err(Refusal::TwoCredentials),
        (None, _, Some(encoded)) if in_subprotocol => {
            let token = URL_SAFE_NO_PAD.decode(encoded).ok();
            let token = token.and_then(|token| String::from_utf8(token).ok());
            token.filter(|it| is_token68(it)).map(Secret::new).ok_or(Refusal::NotBearer)
        }
        (None, _, _) => Err(Refusal::NoCredential),
    }
}

/// Removes every field by which a caller could speak of identity, its own or a forwarder's, and a
/// token from the list of subprotocols. What a proxy says of these it adds afterwards.
pub fn strip_identity(fields: &mut Fields) {
    let carries_token = fields.members(SUBPROTOCOLS).any(|it| in_protocol(it).is_some());
    let others = fields.members(SUBPROTOCOLS).filter(|it| in_protocol(it).is_none());
    let kept: Vec<Box<[u8]>> = others.map(Box::from).collect();
    fields.retain(|field| {
        // Spelt otherwise it is nobody's list, unless some server takes it for one.
        let is_list = reads_as(field.name, SUBPROTOCOLS);
        let is_protocols = is_list && (carries_token || field.name.contains('_'));
        let is_identity = match FieldClass::of(field.name) {
            FieldClass::Impersonation
            | FieldClass::Credential
            | FieldClass::Identity
            | FieldClass::Origin
            | FieldClass::AuditId => true,
            FieldClass::Ordinary | FieldClass::Framing | FieldClass::HopByHop => false,
        };
        !is_protocols && !is_identity
    });
    if carries_token && !kept.is_empty() {
        // Members of a field that was read are free of controls and trimmed, so this is writable.
        let _ = fields.push("Sec-WebSocket-Protocol", kept.join(b", ".as_slice()));
    }
}

/// Where a browser puts a token for kube-apiserver, having no other place.
const SUBPROTOCOLS: &str = "sec-websocket-protocol";

/// The encoded token in a subprotocol that carries one.
fn in_protocol(member: &[u8]) -> Option<&[u8]> {
    const PREFIX: &[u8] = b"base64url.bearer.authorization.k8s.io.";
    let (start, token) = trim_ows(member).split_at_checked(PREFIX.len())?;
    start.eq_ignore_ascii_case(PREFIX).then_some(token)
}

/// `Bearer SP token68`, and nothing else: one space, one word.
fn bearer(value: &[u8]) -> Option<Secret<String>> {
    let (scheme, token) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    let good = scheme.eq_ignore_ascii_case("bearer") && is_token68(token);
    good.then(|| Secret::new(token.to_owned()))
}

/// `token68` of RFC 9110, 11.2.
fn is_token68(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !body.is_empty() && body.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use super::super::Scan;
    use super::*;

    fn head(method: &str, fields: &str) -> RequestHead {
        let text = format!("{method} /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        RequestHead::read(text.as_bytes(), &mut Scan::default()).unwrap().unwrap().0
    }

    #[test]
    fn methods_bodies_options_and_aliases_are_checked() {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            assert_eq!(admit(&head(method, "")), Ok(()), "{method}");
        }
        for method in ["TRACE", "get", "PROPFIND", "CONNECT"] {
            assert_eq!(admit(&head(method, "")), Err(Refusal::Method), "{method}");
        }
        assert_eq!(admit(&head("GET", "Content-Length: 0\r\n")), Ok(()));
        assert_eq!(admit(&head("DELETE", "Content-Length: 1\r\n")), Ok(()));
        for body in ["Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n"] {
            assert_eq!(admit(&head("HEAD", body)), Err(Refusal::UnexpectedBody));
        }
        let named = head("GET", "Connection: Impersonate-User\r\n");
        assert_eq!(admit(&named), Err(Refusal::ProtectedOption));
        for hidden in
            ["\u{a0}base64url.bearer.authorization.k8s.io.YQ", "v4 v5", "v4;q=1", "\"v4\""]
        {
            let hidden = head("GET", &format!("Sec-WebSocket-Protocol: v4, {hidden}\r\n"));
            assert_eq!(admit(&hidden), Err(Refusal::Subprotocol));
        }
        for name in ["Transfer_Encoding", "content_length"] {
            let got = admit(&head("POST", &format!("{name}: 1\r\n")));
            assert_eq!(got, Err(Refusal::FramingAlias), "{name}");
        }
    }

    #[test]
    fn impersonation_is_seen_in_every_spelling() {
        for name in [
            "Impersonate-User",
            "IMPERSONATE-GROUP",
            "impersonate-extra-a%2fb",
            "Impersonate_User",
            "Impersonate-_User",
            "Impersonate",
            "impersonate-anything",
        ] {
            assert!(impersonates(&head("GET", &format!("{name}: x\r\n")).fields), "{name}");
        }
        assert!(!impersonates(&head("GET", "X-Impersonate-User: x\r\n").fields));
    }

    #[test]
    fn exactly_one_bearer_token_is_a_credential() {
        let find = |fields: &str| {
            let got = credential(&head("GET", fields).fields, false);
            got.map(|token| token.expose().clone())
        };
        assert_eq!(find("Authorization: Bearer a.b-c_d~+/==\r\n"), Ok("a.b-c_d~+/==".to_owned()));
        assert_eq!(find("authorization: bEARER x\r\n"), Ok("x".to_owned()));
        for bad in [
            "Basic YTpi",
            "Bearer",
            "Bearer a b",
            "Bearer  a",
            "Bearer a,b",
            "Bearer \"a\"",
            "a",
            "Bearer a, Bearer b",
            "Bearer\ta",
            "Bearer é",
            "Bearer ==",
            "Negotiate x",
            "",
        ] {
            let got = find(&format!("Authorization: {bad}\r\n"));
            assert_eq!(got, Err(Refusal::NotBearer), "{bad}");
        }
        let twice = "Authorization: Bearer a\r\nAuthorization: Bearer a\r\n";
        assert_eq!(find(twice), Err(Refusal::TwoCredentials));
        for none in ["", "Authorization_: Bearer a\r\n", "Cookie: token=a\r\n"] {
            assert_eq!(find(none), Err(Refusal::NoCredential), "{none}");
        }
    }

    #[test]
    fn a_subprotocol_is_a_credential_only_alone_and_only_if_allowed() {
        let protocols = "Sec-WebSocket-Protocol: v5.channel.k8s.io, \
                         base64url.bearer.authorization.k8s.io.YS5i\r\n";
        let mut alone = head("GET", protocols);
        assert_eq!(credential(&alone.fields, true).unwrap().expose(), "a.b");
        assert_eq!(credential(&alone.fields, false).unwrap_err(), Refusal::NoCredential);
        let both = head("GET", &format!("Authorization: Bearer a\r\n{protocols}"));
        assert_eq!(credential(&both.fields, true).unwrap_err(), Refusal::TwoCredentials);
        let twice = head("GET", &protocols.repeat(2));
        assert_eq!(credential(&twice.fields, true).unwrap_err(), Refusal::TwoCredentials);
        strip_identity(&mut alone.fields);
        let left: Vec<_> = alone.fields.all("sec-websocket-protocol").collect();
        assert_eq!(left, [b"v5.channel.k8s.io"]);
    }

    #[test]
    fn fields_about_identity_never_go_on() {
        let mut head = head(
            "GET",
            "Authorization: Bearer a\r\nAuthorization_: b\r\nImpersonate_User: r\r\n\
             X-Remote-User: r\r\nx_remote_extra_foo: r\r\nX-Forwarded-For: 1\r\nForwarded: x\r\n\
             X-Forwarded-Client-Cert: x\r\nX-Real-IP: 1\r\nx_real_ip: 1\r\nAudit-ID: x\r\n\
             Accept: */*\r\nSec-WebSocket-Protocol: v4, v5\r\n",
        );
        strip_identity(&mut head.fields);
        let left: Vec<_> = head.fields.iter().map(|it| it.name).collect();
        assert_eq!(left, ["Host", "Accept", "Sec-WebSocket-Protocol"]);
    }
}
