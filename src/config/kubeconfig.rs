//! How the auth proxy reaches its API server: by a kubeconfig with the files it names, or as a pod
//! of the cluster.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;

use super::args::Environment;
use super::errors::{Code, Error};
use crate::engine::tlsconf::{self, Identity};
use crate::io::{files, roots};
use crate::limits::{CERTIFICATES_MAX, KUBECONFIG_MAX, SECRET_FILE_MAX};
use crate::secret::Secret;
use crate::wire::kubeconfig::{Access, Kubeconfig, Malformed, Material, Token};
use crate::wire::url::Url;

/// An API server, and what opens it.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Always `https`; its path is a prefix of every request's.
    pub url: Url,
    /// The name to expect in its certificate.
    pub server_name: String,
    /// The roots to trust.
    pub roots: Vec<CertificateDer<'static>>,
    /// Client certificate and key.
    pub identity: Option<Identity>,
    /// Bearer token.
    pub token: Option<Token>,
}

/// Where Kubernetes puts the service account of a pod.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Reads a kubeconfig and the files that its context names, which are relative to it.
///
/// # Errors
///
/// `KUBECONFIG_INVALID`, `KUBECONFIG_UNSUPPORTED`, `CONTEXT_UNKNOWN`, `TLS_FILE_INVALID`, and what
/// hinders reading.
pub fn load(path: &Path, context: Option<&str>) -> Result<Upstream, Error> {
    let bytes = files::read_limited(path, KUBECONFIG_MAX)?;
    let access = Kubeconfig::parse(&bytes).and_then(|config| config.select(context));
    let access = access.map_err(|why| refused(path, &why))?;
    upstream(path, access)
}

/// What a pod finds in its environment and its service account.
///
/// # Errors
///
/// `NOT_AVAILABLE` outside of a cluster, and what hinders reading.
pub fn in_cluster(environment: Environment<'_>) -> Result<Upstream, Error> {
    in_cluster_at(environment, Path::new(SERVICE_ACCOUNT))
}

fn in_cluster_at(environment: Environment<'_>, account: &Path) -> Result<Upstream, Error> {
    let variable = |name: &str| {
        environment(name).ok_or_else(|| {
            Error::new(Code::NotAvailable, format!("not in a cluster: {name} is not set"))
                .hint("use --kubeconfig outside of a pod")
        })
    };
    let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let url = Url::parse(&format!("https://{host}:{port}")).map_err(|why| {
        Error::new(Code::NotAvailable, format!("KUBERNETES_SERVICE_HOST and _PORT: {why}"))
    })?;
    let token = account.join("token");
    files::read_limited(&token, SECRET_FILE_MAX)?;
    Ok(Upstream {
        server_name: url.host.clone(),
        url,
        roots: trusted(&account.join("ca.crt"))?,
        identity: None,
        token: Some(Token::File(token)),
    })
}

fn upstream(path: &Path, access: Access) -> Result<Upstream, Error> {
    let base = path.parent().unwrap_or_else(|| Path::new("."));
    let roots = match &access.authority {
        Some(Material::File(file)) => trusted(&base.join(file))?,
        Some(Material::Inline(pem)) => tlsconf::certificates(pem.expose()).map_err(|why| {
            let place = path.display();
            Error::new(Code::TlsFileInvalid, format!("{place}: certificate-authority-data: {why}"))
        })?,
        None => roots::load(None).map_err(|why| Error::new(Code::NotAvailable, why.to_string()))?,
    };
    let identity = match &access.certificate {
        Some((chain, key)) => Some(identity(path, base, chain, key)?),
        None => None,
    };
    let token = match access.token {
        Some(Token::File(file)) => {
            let file = base.join(file);
            files::read_limited(&file, SECRET_FILE_MAX)?;
            Some(Token::File(file))
        }
        other => other,
    };
    if identity.is_none() && token.is_none() {
        let (place, name) = (path.display(), &access.context);
        let what =
            format!("{place}: context {name:?} has neither a token nor a client certificate");
        return Err(Error::new(Code::KubeconfigInvalid, what));
    }
    let server_name = access.server_name.unwrap_or_else(|| access.server.host.clone());
    Ok(Upstream { url: access.server, server_name, roots, identity, token })
}

fn trusted(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    roots::load(Some(path)).map_err(|why| Error::from_roots(why, Code::TlsFileInvalid))
}

fn identity(path: &Path, base: &Path, chain: &Material, key: &Material) -> Result<Identity, Error> {
    let chain = match chain {
        Material::Inline(pem) => pem.clone(),
        Material::File(file) => {
            Secret::new(files::read_limited(&base.join(file), CERTIFICATES_MAX)?)
        }
    };
    let key = match key {
        Material::Inline(pem) => pem.clone(),
        Material::File(file) => files::read_secret(&base.join(file), SECRET_FILE_MAX)?,
    };
    Identity::from_pem(chain.expose(), key.expose()).map_err(|why| {
        let what = format!("{}: the client certificate and key: {why}", path.display());
        Error::new(Code::TlsFileInvalid, what)
    })
}

/// What is wrong with a kubeconfig, with the code for it.
pub(super) fn refused(path: &Path, why: &Malformed) -> Error {
    let code = match why {
        Malformed::Unsupported(_) => Code::KubeconfigUnsupported,
        Malformed::Unknown(..) | Malformed::NoCurrent => Code::ContextUnknown,
        Malformed::Taken(..) => Code::ContextTaken,
        Malformed::Unwritable => Code::Internal,
        Malformed::Yaml(_)
        | Malformed::Kind(_)
        | Malformed::Type(..)
        | Malformed::Missing(_)
        | Malformed::Duplicate(..)
        | Malformed::Url(..)
        | Malformed::Base64(_) => Code::KubeconfigInvalid,
    };
    let error = Error::new(code, format!("{}: {why}", path.display()));
    match code {
        Code::ContextUnknown => error.hint("kubectl config get-contexts lists what is there"),
        Code::ContextTaken => error.hint("choose another name with --kube-context"),
        _ => error.hint(format!("cluster-connect explain {}", code.name())),
    }
}

/// Where a kubeconfig of ours goes when nothing is said.
#[must_use]
pub fn own_file(home: &Path, cluster: &str) -> PathBuf {
    home.join(".kube").join("cluster-connect").join(format!("{cluster}.yaml"))
}

/// The file that kubectl reads when nothing is said: the first of `KUBECONFIG`, or `~/.kube/config`.
#[must_use]
pub fn default_file(environment: Environment<'_>, home: &Path) -> PathBuf {
    let first = environment("KUBECONFIG")
        .and_then(|list| list.split(':').find(|path| !path.is_empty()).map(PathBuf::from));
    first.unwrap_or_else(|| home.join(".kube").join("config"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::certify::Authority;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("cc-kube-{}-{name}", std::process::id()));
        files::private_directory(&path).unwrap();
        path
    }

    fn write(path: &Path, text: &str) {
        files::write_atomic(path, text.as_bytes(), 0o600).unwrap();
    }

    fn config(cluster: &str, user: &str) -> String {
        format!(
            "clusters: [{{name: c, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\ncurrent-context: c\n"
        )
    }

    #[test]
    fn files_that_a_kubeconfig_names_are_relative_to_it() {
        let dir = scratch("relative");
        let authority = Authority::create(&["kubernetes"]).unwrap();
        write(&dir.join("ca.crt"), &authority.certificate_pem());
        write(&dir.join("both.pem"), authority.to_pem().expose());
        write(&dir.join("token"), "abc");
        let text = config(
            "server: 'https://10.0.0.1:6443', certificate-authority: ca.crt, tls-server-name: kubernetes",
            "client-certificate: both.pem, client-key: both.pem, tokenFile: token",
        );
        write(&dir.join("config"), &text);
        let upstream = load(&dir.join("config"), None).unwrap();
        assert_eq!(upstream.server_name, "kubernetes");
        assert_eq!(upstream.roots, [authority.certificate().clone()]);
        assert_eq!(upstream.token, Some(Token::File(dir.join("token"))));
        assert_eq!(upstream.identity.unwrap().chain, [authority.certificate().clone()]);
    }

    #[test]
    fn what_cannot_be_used_has_a_code_of_its_own() {
        let dir = scratch("codes");
        write(&dir.join("empty"), "");
        write(&dir.join("key"), "-----BEGIN PRIVATE KEY-----\n");
        let path = dir.join("config");
        let ca = Authority::create(&["k"]).unwrap().certificate_pem();
        write(&dir.join("ca"), &ca);
        for (cluster, user, code) in [
            ("server: 'https://a', certificate-authority: ca", "", Code::KubeconfigInvalid),
            ("server: 'https://a', certificate-authority: gone", "token: t", Code::FileUnreadable),
            ("server: 'https://a', certificate-authority: empty", "token: t", Code::TlsFileInvalid),
            (
                "server: 'https://a', certificate-authority-data: eA==",
                "token: t",
                Code::TlsFileInvalid,
            ),
            (
                "server: 'https://a', certificate-authority: ca",
                "tokenFile: gone",
                Code::FileUnreadable,
            ),
            (
                "server: 'https://a', certificate-authority: ca",
                "client-certificate: ca, client-key: empty",
                Code::TlsFileInvalid,
            ),
            ("server: 'http://a'", "token: t", Code::KubeconfigUnsupported),
            ("server: 'https://a'", "exec: {command: x}", Code::KubeconfigUnsupported),
            ("server: 5", "token: t", Code::KubeconfigInvalid),
        ] {
            write(&path, &config(cluster, user));
            assert_eq!(load(&path, None).unwrap_err().code, code, "{cluster} {user}");
        }
        assert_eq!(load(&path, Some("x")).unwrap_err().code, Code::ContextUnknown);
        assert_eq!(load(&dir.join("gone"), None).unwrap_err().code, Code::FileUnreadable);
        write(&path, "a: *b");
        assert_eq!(load(&path, None).unwrap_err().code, Code::KubeconfigInvalid);
        files::write_atomic(&path, &vec![b' '; KUBECONFIG_MAX + 1], 0o600).unwrap();
        assert_eq!(load(&path, None).unwrap_err().code, Code::FileTooLarge);
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        let dir = scratch("exposed");
        let authority = Authority::create(&["k"]).unwrap();
        write(&dir.join("ca"), &authority.certificate_pem());
        files::write_atomic(&dir.join("key"), authority.to_pem().expose().as_bytes(), 0o644)
            .unwrap();
        let cluster = "server: 'https://a', certificate-authority: ca";
        write(&dir.join("config"), &config(cluster, "client-certificate: ca, client-key: key"));
        let error = load(&dir.join("config"), None).unwrap_err();
        assert_eq!(error.code, Code::FileExposed);
        assert!(error.hint.unwrap().starts_with("chmod 600 "));
    }

    #[test]
    fn a_pod_finds_its_api_server() {
        let dir = scratch("pod");
        let authority = Authority::create(&["k"]).unwrap();
        write(&dir.join("ca.crt"), &authority.certificate_pem());
        write(&dir.join("token"), "abc");
        let environment = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some("fd00::1".to_owned()),
            "KUBERNETES_SERVICE_PORT" => Some("443".to_owned()),
            _ => None,
        };
        let upstream = in_cluster_at(&environment, &dir).unwrap();
        assert_eq!((upstream.url.host.as_str(), upstream.url.port), ("fd00::1", 443));
        assert_eq!(in_cluster_at(&|_| None, &dir).unwrap_err().code, Code::NotAvailable);
        let strange = |_: &str| Some("a b".to_owned());
        assert_eq!(in_cluster_at(&strange, &dir).unwrap_err().code, Code::NotAvailable);
    }

    #[test]
    fn kubectls_own_file_is_the_first_of_its_list() {
        let home = Path::new("/home/a");
        let listed = |_: &str| Some(":/x:/y".to_owned());
        assert_eq!(default_file(&listed, home), PathBuf::from("/x"));
        assert_eq!(default_file(&|_| None, home), PathBuf::from("/home/a/.kube/config"));
        assert!(own_file(home, "edge-7").ends_with(".kube/cluster-connect/edge-7.yaml"));
    }
}
