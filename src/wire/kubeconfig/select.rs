//! What one context of a kubeconfig gives: a server, its roots, a credential.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Kubeconfig, Malformed, text_of};
use crate::secret::Secret;
use crate::wire::url::Url;
use crate::wire::yaml::{Meaning, Node};

/// How to reach a Kubernetes API server, by one context.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Access {
    /// The context's name.
    pub context: String,
    /// The namespace of the context.
    pub namespace: Option<String>,
    /// Always `https`.
    pub server: Url,
    /// The name to expect in its certificate, where it is not the host.
    pub server_name: Option<String>,
    /// The roots to trust, in PEM; without them the system's.
    pub authority: Option<Material>,
    /// Client certificate chain and key, in PEM.
    pub certificate: Option<(Material, Material)>,
    /// Bearer token.
    pub token: Option<Token>,
}

/// Bytes in the file itself, or the path of a file that has them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Material {
    /// Decoded.
    Inline(Secret<Vec<u8>>),
    /// As written, so relative to the kubeconfig's own directory.
    File(PathBuf),
}

/// A bearer token, or where it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Token {
    /// The token.
    Inline(Secret<String>),
    /// A file that is read again and again.
    File(PathBuf),
}

impl Kubeconfig {
    /// What `context`, or else the current context, gives.
    ///
    /// # Errors
    ///
    /// [`Malformed`] where the context, its cluster or its user is missing, wrong, or asks for what
    /// is not done here.
    pub fn select(&self, context: Option<&str>) -> Result<Access, Malformed> {
        let name = context.or_else(|| self.current()).ok_or(Malformed::NoCurrent)?;
        let chosen = Fields::new(self.entry("contexts", "context", name)?, "context", name);
        let cluster_name = chosen.required("cluster")?;
        let cluster = self.entry("clusters", "cluster", cluster_name)?;
        let cluster = Fields::new(cluster, "cluster", cluster_name);
        let user_name = chosen.text("user")?;
        let nobody = Node::Map(Vec::new());
        let user = match user_name {
            Some(user) => self.user(user)?.unwrap_or(&nobody),
            None => &nobody,
        };
        let user = Fields::new(user, "user", user_name.unwrap_or_default());
        cluster.refuse(&CLUSTER_REFUSED)?;
        user.refuse(&USER_REFUSED)?;
        cluster.refuse_unverified()?;
        Ok(Access {
            context: name.to_owned(),
            namespace: chosen.text("namespace")?.map(str::to_owned),
            server: cluster.server()?,
            server_name: cluster.text("tls-server-name")?.map(str::to_owned),
            authority: cluster.material("certificate-authority")?,
            certificate: user.certificate()?,
            token: user.token()?,
        })
    }

    /// A user that is there and says nothing is a user without credentials.
    fn user(&self, name: &str) -> Result<Option<&Node>, Malformed> {
        let found = self.entries("users")?.into_iter().find(|(n, _)| *n == name);
        let (_, item) = found.ok_or_else(|| Malformed::Unknown("users", name.to_owned()))?;
        match item.get("user").filter(|node| !node.is_null()) {
            None => Ok(None),
            Some(node @ Node::Map(_)) => Ok(Some(node)),
            Some(Node::Scalar(_) | Node::List(_)) => {
                Err(Malformed::Type(format!("user of {name:?} in users"), "a mapping"))
            }
        }
    }
}

const CLUSTER_REFUSED: [(&str, &str); 1] =
    [("proxy-url", "a proxy on the way to the API server is not supported")];

const USER_REFUSED: [(&str, &str); 8] = [
    ("exec", "exec plug-ins are not run; use a token, a token file or a client certificate"),
    ("auth-provider", "auth-provider is not supported; use a token or a client certificate"),
    ("username", "a user name and password are not supported by Kubernetes any more"),
    ("password", "a user name and password are not supported by Kubernetes any more"),
    ("as", "impersonation in the kubeconfig is not supported"),
    ("as-uid", "impersonation in the kubeconfig is not supported"),
    ("as-groups", "impersonation in the kubeconfig is not supported"),
    ("as-user-extra", "impersonation in the kubeconfig is not supported"),
];

/// The fields of one entry, with what it takes to name them in an error.
struct Fields<'a> {
    node: &'a Node,
    kind: &'static str,
    name: &'a str,
}

impl<'a> Fields<'a> {
    const fn new(node: &'a Node, kind: &'static str, name: &'a str) -> Self {
        Self { node, kind, name }
    }

    fn place(&self, field: &str) -> String {
        format!("{field} of {} {:?}", self.kind, self.name)
    }

    /// A field with something in it.
    fn get(&self, field: &str) -> Option<&'a Node> {
        self.node.get(field).filter(|node| !node.is_null() && text_of(node) != Some(""))
    }

    fn text(&self, field: &str) -> Result<Option<&'a str>, Malformed> {
        match self.get(field) {
            None => Ok(None),
            Some(node) => match text_of(node) {
                Some(text) => Ok(Some(text)),
                None => Err(Malformed::Type(self.place(field), "text")),
            },
        }
    }

    fn required(&self, field: &str) -> Result<&'a str, Malformed> {
        self.text(field)?.ok_or_else(|| Malformed::Missing(self.place(field)))
    }

    fn refuse(&self, fields: &[(&str, &str)]) -> Result<(), Malformed> {
        match fields.iter().find(|(field, _)| self.get(field).is_some()) {
            Some((_, why)) => {
                let Self { kind, name, .. } = self;
                Err(Malformed::Unsupported(format!("{kind} {name:?}: {why}")))
            }
            None => Ok(()),
        }
    }

    fn refuse_unverified(&self) -> Result<(), Malformed> {
        let field = "insecure-skip-tls-verify";
        let meaning = match self.node.get(field) {
            None => return Ok(()),
            Some(Node::Scalar(scalar)) => scalar.meaning(),
            Some(_) => Meaning::Text(""),
        };
        match meaning {
            Meaning::Bool(false) | Meaning::Null => Ok(()),
            Meaning::Bool(true) => Err(Malformed::Unsupported(format!(
                "cluster {:?} skips TLS verification ({field}), and so anybody could be its API \
                 server; give its certificate-authority-data instead",
                self.name
            ))),
            Meaning::Number | Meaning::Text(_) => {
                Err(Malformed::Type(self.place(field), "true or false"))
            }
        }
    }

    fn server(&self) -> Result<Url, Malformed> {
        let url = Url::parse(self.required("server")?)
            .map_err(|why| Malformed::Url(self.place("server"), why))?;
        if url.tls {
            return Ok(url);
        }
        Err(Malformed::Unsupported(format!(
            "cluster {:?} is reached without TLS ({url}), and tokens would cross the network in \
             the clear",
            self.name
        )))
    }

    /// Inline data beat a file, as they do for kubectl.
    fn material(&self, field: &str) -> Result<Option<Material>, Malformed> {
        let data = format!("{field}-data");
        if let Some(text) = self.text(&data)? {
            let compact: String = text.split_ascii_whitespace().collect();
            let bytes =
                STANDARD.decode(compact).map_err(|_| Malformed::Base64(self.place(&data)))?;
            return Ok(Some(Material::Inline(Secret::new(bytes))));
        }
        Ok(self.text(field)?.map(|path| Material::File(PathBuf::from(path))))
    }

    fn certificate(&self) -> Result<Option<(Material, Material)>, Malformed> {
        match (self.material("client-certificate")?, self.material("client-key")?) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(Malformed::Missing(self.place("client-key"))),
            (None, Some(_)) => Err(Malformed::Missing(self.place("client-certificate"))),
        }
    }

    /// A file beats a token, as it does for kubectl.
    fn token(&self) -> Result<Option<Token>, Malformed> {
        if let Some(path) = self.text("tokenFile")? {
            return Ok(Some(Token::File(PathBuf::from(path))));
        }
        let Some(token) = self.text("token")? else { return Ok(None) };
        if !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Malformed::Type(self.place("token"), "one word of printable ASCII"));
        }
        Ok(Some(Token::Inline(Secret::new(token.to_owned()))))
    }
}
