//! The answer to `listClusterUserCredential`: a short-lived right to send to one hybrid
//! connection, and a kubeconfig that holds the CA of the cluster's auth proxy.
//!
//! The relay is not believed further than it must be: the answer has to be about the cluster that
//! was asked for, and its CA is held against what this machine knows (see [`super::known`]).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;

use super::Shared;
use crate::auth::certify::Fingerprint;
use crate::engine::tlsconf;
use crate::limits::CREDENTIAL_MAX;
use crate::secret::Secret;
use crate::wire::json::{self, Object, Value};
use crate::wire::kubeconfig::{Kubeconfig, Material};
use crate::wire::resource::ResourceId;
use crate::wire::url::authority_parts;

/// What it takes to reach one cluster.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The relay's host.
    pub host: String,
    /// The relay's port.
    pub port: u16,
    /// The hybrid connection.
    pub entity: String,
    /// The right to send to it.
    pub token: Secret<String>,
    /// When that ends, in seconds since 1970.
    pub expires: u64,
    /// The CA of the auth proxy.
    pub authority: CertificateDer<'static>,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// The name in the auth proxy's certificate.
    pub server_name: String,
}

/// Which token the API is asked with, in the words of `az`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// The caller is known to the cluster by an identity of its own.
    Aad,
    /// The caller brings a Kubernetes token.
    Token,
}

/// Why an answer gives no credential.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// Longer than any.
    TooLong(usize),
    /// Not JSON, or not of this shape: the reason.
    Shape(String),
    /// It is about another cluster.
    Another,
    /// The relay's host is none.
    Relay,
    /// The kubeconfig in it cannot be used: the reason.
    Kubeconfig(String),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(len) => write!(f, "a credential of {len} bytes"),
            Self::Shape(why) => write!(f, "the credential is not as expected: {why}"),
            Self::Another => f.write_str("the credential is for another cluster"),
            Self::Relay => f.write_str("the credential names no usable relay"),
            Self::Kubeconfig(why) => write!(f, "the credential's kubeconfig: {why}"),
        }
    }
}

impl std::error::Error for Malformed {}

/// The path and query to ask at.
#[must_use]
pub fn request_target(cluster: &ResourceId) -> String {
    format!("{}/listClusterUserCredential?api-version=2021-10-01", cluster.id())
}

/// The body to ask with.
#[must_use]
pub const fn request_body(method: Method) -> &'static str {
    match method {
        Method::Aad => r#"{"authenticationMethod":"AAD","clientProxy":true}"#,
        Method::Token => r#"{"authenticationMethod":"Token","clientProxy":true}"#,
    }
}

impl Credential {
    /// What `shared` gives at `cluster`.
    pub(super) fn mint(shared: &Shared, cluster: &ResourceId, unix_now: u64) -> Self {
        let (host, port) = shared.key.place();
        let (token, expires) = shared.key.mint(unix_now);
        Self {
            host,
            port,
            entity: shared.key.entity.clone(),
            token,
            expires,
            authority: shared.authority.clone(),
            fingerprint: Fingerprint::of(&shared.authority),
            server_name: cluster.server_name(),
        }
    }

    /// Reads the answer about `cluster`.
    ///
    /// # Errors
    ///
    /// [`Malformed`]
    pub fn parse(body: &[u8], cluster: &ResourceId) -> Result<Self, Malformed> {
        if CREDENTIAL_MAX < body.len() {
            return Err(Malformed::TooLong(body.len()));
        }
        let top = json::parse_object(body, DEPTH).map_err(shape)?;
        let config = top.optional_object("hybridConnectionConfig").map_err(shape)?;
        let config = config.ok_or_else(|| shape("no hybridConnectionConfig"))?;
        let entity = config.text("hybridConnectionName").map_err(shape)?;
        if !entity.eq_ignore_ascii_case(&cluster.entity()) {
            return Err(Malformed::Another);
        }
        let (host, port) = relay_host(config.text("relay").map_err(shape)?)?;
        let token = config.text("token").map_err(shape)?;
        if token.is_empty() || !token.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(shape("the token is no line of text"));
        }
        let expires = config.unsigned("expirationTime").map_err(shape)?;
        let (authority, server_name) = pinned(&top, cluster)?;
        Ok(Self {
            host,
            port,
            entity: entity.to_owned(),
            token: Secret::new(token.to_owned()),
            expires,
            fingerprint: Fingerprint::of(&authority),
            authority,
            server_name,
        })
    }
}

/// `host[:port]`; a bare word is a namespace of Azure Relay.
fn relay_host(text: &str) -> Result<(String, u16), Malformed> {
    let (host, port) = authority_parts(text).map_err(|_| Malformed::Relay)?;
    let namespace = port.is_none() && !host.contains(['.', ':']);
    let host = if namespace { format!("{host}.servicebus.windows.net") } else { host };
    Ok((host, port.unwrap_or(443)))
}

/// The CA and the server name in the first kubeconfig.
fn pinned(
    top: &Object,
    cluster: &ResourceId,
) -> Result<(CertificateDer<'static>, String), Malformed> {
    let wrong = |why: &dyn fmt::Display| Malformed::Kubeconfig(why.to_string());
    let list = top.optional_array("kubeconfigs").map_err(shape)?.unwrap_or_default();
    let first = list.first().and_then(Value::as_object).ok_or_else(|| wrong(&"there is none"))?;
    let text = first.text("value").map_err(shape)?;
    let text = STANDARD.decode(text).map_err(|_| wrong(&"it is not base64"))?;
    let config = Kubeconfig::parse(&text).map_err(|why| wrong(&why))?;
    let access = config.select(None).map_err(|why| wrong(&why))?;
    if access.server.host != cluster.server_name() {
        return Err(Malformed::Another);
    }
    let Some(Material::Inline(pem)) = access.authority else {
        return Err(wrong(&"it has no CA"));
    };
    let mut chain = tlsconf::certificates(pem.expose()).map_err(|why| wrong(&why))?;
    match (chain.pop(), chain.is_empty()) {
        (Some(authority), true) => Ok((authority, access.server.host)),
        // One CA has one fingerprint; a second one would be trusted unseen.
        (Some(_) | None, _) => Err(wrong(&"it has more than one CA")),
    }
}

fn shape(why: impl fmt::Display) -> Malformed {
    Malformed::Shape(why.to_string())
}

/// Nested objects and lists of the answer, with some to spare for what Azure adds.
const DEPTH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::certify::{Authority, pem_certificate};

    fn cluster() -> ResourceId {
        ResourceId::parse("edge-7").unwrap()
    }

    fn kubeconfig(server: &str, pem: &str) -> String {
        let ca = STANDARD.encode(pem);
        format!(
            "clusters: [{{name: c, cluster: {{server: '{server}', certificate-authority-data: {ca}}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {{}}}}]\n\
             current-context: c\n"
        )
    }

    fn answer(relay: &str, entity: &str, kubeconfig: &str) -> String {
        let value = STANDARD.encode(kubeconfig);
        format!(
            r#"{{"hybridConnectionConfig":{{"relay":"{relay}","hybridConnectionName":"{entity}",
            "token":"SharedAccessSignature sr=x","expirationTime":1800003600,"relayTid":"","relayType":""}},
            "kubeconfigs":[{{"name":"Kubernetes.Config-Internal","value":"{value}"}}]}}"#
        )
    }

    fn good() -> (String, Authority) {
        let authority = Authority::create(&[&cluster().server_name()]).unwrap();
        let server = format!("https://{}/", cluster().server_name());
        (kubeconfig(&server, &authority.certificate_pem()), authority)
    }

    fn parse(text: &str) -> Result<Credential, Malformed> {
        Credential::parse(text.as_bytes(), &cluster())
    }

    #[test]
    fn an_answer_gives_the_right_to_send_and_the_ca() {
        let (kubeconfig, authority) = good();
        let text = answer("relay.example:8443", &cluster().entity(), &kubeconfig);
        let credential = parse(&text).unwrap();
        assert_eq!((credential.host.as_str(), credential.port), ("relay.example", 8443));
        assert_eq!(credential.token.expose(), "SharedAccessSignature sr=x");
        assert_eq!(credential.expires, 1_800_003_600);
        assert_eq!(credential.authority, *authority.certificate());
        assert_eq!(credential.fingerprint, Fingerprint::of(authority.certificate()));
        assert_eq!(credential.server_name, cluster().server_name());
        assert!(!format!("{credential:?}").contains("SharedAccess"));
    }

    #[test]
    fn a_bare_word_is_a_namespace_of_azure_relay() {
        for (text, host, port) in [
            ("contoso", "contoso.servicebus.windows.net", 443),
            ("relay.example", "relay.example", 443),
            ("localhost:8443", "localhost", 8443),
            ("[::1]", "::1", 443),
            ("127.0.0.1:1", "127.0.0.1", 1),
        ] {
            assert_eq!(relay_host(text), Ok((host.to_owned(), port)));
        }
        for text in ["", "a/b", "a:b", "evil@relay", "https://relay.example", "a b"] {
            assert_eq!(relay_host(text), Err(Malformed::Relay), "{text}");
        }
    }

    #[test]
    fn an_answer_about_another_cluster_is_refused() {
        let (kubeconfig_of_ours, authority) = good();
        let other = ResourceId::parse("edge-8").unwrap();
        let swapped = answer("r.example", &other.entity(), &kubeconfig_of_ours);
        assert_eq!(parse(&swapped).unwrap_err(), Malformed::Another);
        let server = format!("https://{}/", other.server_name());
        let swapped = kubeconfig(&server, &authority.certificate_pem());
        let swapped = answer("r.example", &cluster().entity(), &swapped);
        assert_eq!(parse(&swapped).unwrap_err(), Malformed::Another);
    }

    #[test]
    fn a_second_ca_is_not_trusted_unseen() {
        let (_, authority) = good();
        let server = format!("https://{}/", cluster().server_name());
        let pem = format!("{0}{0}", authority.certificate_pem());
        for pem in [pem.as_str(), "", "nonsense", &pem_certificate(b"x")[..40]] {
            let text = answer("r.example", &cluster().entity(), &kubeconfig(&server, pem));
            assert!(matches!(parse(&text), Err(Malformed::Kubeconfig(_))), "{pem}");
        }
    }

    #[test]
    fn what_is_not_such_an_answer_is_refused() {
        let (kubeconfig, _) = good();
        let text = answer("r.example", &cluster().entity(), &kubeconfig);
        for (from, to) in [
            ("hybridConnectionConfig", "x"),
            ("hybridConnectionName", "x"),
            ("expirationTime", "x"),
            ("1800003600", "\"soon\""),
            ("\"token\"", "\"x\""),
            ("SharedAccessSignature sr=x", ""),
            ("SharedAccessSignature sr=x", "a\\r\\nHost: b"),
            ("\"value\"", "\"x\""),
            ("kubeconfigs", "x"),
        ] {
            assert!(parse(&text.replace(from, to)).is_err(), "{from} -> {to}");
        }
        for text in ["", "[]", "null", "{\"hybridConnectionConfig\":[]}"] {
            assert!(matches!(parse(text), Err(Malformed::Shape(_))), "{text}");
        }
        let insecure = kubeconfig.replace("https://", "http://");
        let text = answer("r.example", &cluster().entity(), &insecure);
        assert!(matches!(parse(&text), Err(Malformed::Kubeconfig(_))));
        let long = " ".repeat(CREDENTIAL_MAX + 1);
        assert_eq!(parse(&long).unwrap_err(), Malformed::TooLong(CREDENTIAL_MAX + 1));
    }
}
