//! The documents of a manifest.
//!
//! The account has the [`Rights`] of an auth proxy, and may use the one Secret that holds its keys.

use super::Manifest;
use super::rights::Rule;
use crate::secret::Secret;
use crate::wire::yaml::{Node, Scalar};

const NAME: &str = "cluster-connect";
const STATE: &str = "cluster-connect-state";
const JOIN: &str = "cluster-connect-join";
const FILES: &str = "cluster-connect-files";
const PLACEHOLDER: &str = "REPLACE-WITH-THE-OUTPUT-OF-cluster-connect-cluster-join-token";

impl Manifest {
    /// The documents, with `token` or a placeholder.
    #[must_use]
    pub fn render(&self, token: Option<&Secret<String>>) -> String {
        let mut text = format!(
            "# {} behind {}. Apply with: kubectl apply -f -\n",
            self.cluster.name(),
            self.relay
        );
        if token.is_none() {
            text.push_str(&format!("# Put a join token into the Secret {JOIN} first.\n"));
        }
        let token = token.map_or(PLACEHOLDER, |token| token.expose().as_str());
        for document in self.documents(token) {
            text.push_str("---\n");
            text.push_str(&document.to_yaml());
        }
        text
    }

    fn documents(&self, token: &str) -> Vec<Node> {
        let mut all = vec![
            object("v1", "Namespace", &self.namespace, None, []),
            self.object(
                "v1",
                "ServiceAccount",
                NAME,
                [("automountServiceAccountToken", plain("false"))],
            ),
            object(RBAC, "ClusterRole", NAME, None, [("rules", self.cluster_rules())]),
            object(
                RBAC,
                "ClusterRoleBinding",
                NAME,
                None,
                [("roleRef", role_ref("ClusterRole")), ("subjects", self.subjects())],
            ),
            self.object(RBAC, "Role", NAME, [("rules", state_rules())]),
            self.object(
                RBAC,
                "RoleBinding",
                NAME,
                [("roleRef", role_ref("Role")), ("subjects", self.subjects())],
            ),
            self.object("v1", "Secret", STATE, [("type", Node::text("Opaque"))]),
            self.object(
                "v1",
                "Secret",
                JOIN,
                [
                    ("type", Node::text("Opaque")),
                    ("stringData", Node::map([("token", Node::text(token))])),
                ],
            ),
        ];
        let files = self.files();
        if !files.is_empty() {
            let data = files.into_iter().map(|(name, text)| (Scalar::text(name), Node::text(text)));
            let data = Node::Map(data.collect());
            all.push(self.object("v1", "ConfigMap", FILES, [("data", data)]));
        }
        all.push(self.object("apps/v1", "Deployment", NAME, [("spec", self.deployment())]));
        all
    }

    fn object<const N: usize>(
        &self,
        version: &str,
        kind: &str,
        name: &str,
        rest: [(&str, Node); N],
    ) -> Node {
        object(version, kind, name, Some(&self.namespace), rest)
    }

    fn subjects(&self) -> Node {
        Node::List(vec![Node::map([
            ("kind", Node::text("ServiceAccount")),
            ("name", Node::text(NAME)),
            ("namespace", Node::text(&self.namespace)),
        ])])
    }

    fn cluster_rules(&self) -> Node {
        Node::List(self.rights.rules().iter().map(Rule::to_node).collect())
    }

    fn files(&self) -> Vec<(&'static str, &str)> {
        let ca = self.relay_ca.as_deref().map(|text| ("relay-ca.pem", text));
        let auth = self.auth_config.as_deref().map(|text| ("auth.json", text));
        ca.into_iter().chain(auth).collect()
    }

    fn arguments(&self) -> Node {
        let mut words = vec![
            "edge".to_owned(),
            "--in-cluster".to_owned(),
            format!("--relay={}", self.relay),
            format!("--name={}", self.cluster.id()),
            format!("--state-secret={STATE}"),
            "--join-token-file=/etc/cluster-connect/join/token".to_owned(),
            "--admin-listen=:8080".to_owned(),
            "--admin-listen-anywhere".to_owned(),
            "--audit-log=-".to_owned(),
        ];
        if self.relay_ca.is_some() {
            words.push("--relay-ca=/etc/cluster-connect/files/relay-ca.pem".to_owned());
        }
        if self.auth_config.is_some() {
            words.push("--auth-config=/etc/cluster-connect/files/auth.json".to_owned());
        }
        words.extend(self.options.iter().cloned());
        Node::List(words.into_iter().map(Node::text).collect())
    }

    fn deployment(&self) -> Node {
        let labels = Node::map([("app.kubernetes.io/name", Node::text(NAME))]);
        let pod = Node::map([
            ("serviceAccountName", Node::text(NAME)),
            ("automountServiceAccountToken", plain("false")),
            (
                "securityContext",
                Node::map([
                    ("runAsNonRoot", plain("true")),
                    ("runAsUser", plain("65532")),
                    ("runAsGroup", plain("65532")),
                    ("fsGroup", plain("65532")),
                    ("seccompProfile", Node::map([("type", Node::text("RuntimeDefault"))])),
                ]),
            ),
            ("containers", Node::List(vec![self.container()])),
            ("volumes", self.volumes()),
        ]);
        Node::map([
            ("replicas", plain(&self.replicas.to_string())),
            ("selector", Node::map([("matchLabels", labels.clone())])),
            ("template", Node::map([("metadata", Node::map([("labels", labels)])), ("spec", pod)])),
        ])
    }

    fn container(&self) -> Node {
        let probe = |path: &str| {
            let get = Node::map([("path", Node::text(path)), ("port", plain("8080"))]);
            Node::map([("httpGet", get)])
        };
        let mut mounts = vec![
            mount("account", "/var/run/secrets/kubernetes.io/serviceaccount"),
            mount("join", "/etc/cluster-connect/join"),
            Node::map([
                ("name", Node::text("keys")),
                ("mountPath", Node::text("/run/cluster-connect")),
            ]),
        ];
        if !self.files().is_empty() {
            mounts.push(mount("files", "/etc/cluster-connect/files"));
        }
        Node::map([
            ("name", Node::text("edge")),
            ("image", Node::text(&self.image)),
            ("args", self.arguments()),
            ("livenessProbe", probe("/healthz")),
            ("readinessProbe", probe("/readyz")),
            (
                "securityContext",
                Node::map([
                    ("allowPrivilegeEscalation", plain("false")),
                    ("readOnlyRootFilesystem", plain("true")),
                    ("capabilities", Node::map([("drop", texts(&["ALL"]))])),
                ]),
            ),
            (
                "resources",
                Node::map([
                    (
                        "requests",
                        Node::map([("cpu", Node::text("10m")), ("memory", Node::text("16Mi"))]),
                    ),
                    ("limits", Node::map([("memory", Node::text("256Mi"))])),
                ]),
            ),
            ("volumeMounts", Node::List(mounts)),
        ])
    }

    fn volumes(&self) -> Node {
        let source = |kind: &str, node: Node| Node::map([(kind, node)]);
        let item = |key: &str, path: &str| {
            Node::List(vec![Node::map([("key", Node::text(key)), ("path", Node::text(path))])])
        };
        let namespace = Node::List(vec![Node::map([
            ("path", Node::text("namespace")),
            ("fieldRef", Node::map([("fieldPath", Node::text("metadata.namespace"))])),
        ])]);
        let account = Node::List(vec![
            source(
                "serviceAccountToken",
                Node::map([("path", Node::text("token")), ("expirationSeconds", plain("600"))]),
            ),
            source(
                "configMap",
                Node::map([
                    ("name", Node::text("kube-root-ca.crt")),
                    ("items", item("ca.crt", "ca.crt")),
                ]),
            ),
            source("downwardAPI", Node::map([("items", namespace)])),
        ]);
        let mut volumes = vec![
            Node::map([
                ("name", Node::text("keys")),
                ("emptyDir", Node::map([("medium", Node::text("Memory"))])),
            ]),
            Node::map([
                ("name", Node::text("account")),
                ("projected", Node::map([("sources", account)])),
            ]),
            Node::map([
                ("name", Node::text("join")),
                (
                    "secret",
                    Node::map([
                        ("secretName", Node::text(JOIN)),
                        ("defaultMode", plain("288")),
                        ("optional", plain("true")),
                    ]),
                ),
            ]),
        ];
        if !self.files().is_empty() {
            let name = Node::map([("name", Node::text(FILES))]);
            volumes.push(Node::map([("name", Node::text("files")), ("configMap", name)]));
        }
        Node::List(volumes)
    }
}

const RBAC: &str = "rbac.authorization.k8s.io/v1";

fn object<const N: usize>(
    version: &str,
    kind: &str,
    name: &str,
    namespace: Option<&str>,
    rest: [(&str, Node); N],
) -> Node {
    let mut metadata = Node::map([("name", Node::text(name))]);
    if let Some(namespace) = namespace {
        metadata.set("namespace", Node::text(namespace));
    }
    let mut node = Node::map([
        ("apiVersion", Node::text(version)),
        ("kind", Node::text(kind)),
        ("metadata", metadata),
    ]);
    for (key, value) in rest {
        node.set(key, value);
    }
    node
}

/// The one Secret with the keys: the manifest makes it empty, the first writer fills it.
fn state_rules() -> Node {
    Node::List(vec![Node::map([
        ("apiGroups", texts(&[""])),
        ("resources", texts(&["secrets"])),
        ("verbs", texts(&["get", "update", "patch"])),
        ("resourceNames", texts(&[STATE])),
    ])])
}

fn role_ref(kind: &str) -> Node {
    Node::map([
        ("apiGroup", Node::text("rbac.authorization.k8s.io")),
        ("kind", Node::text(kind)),
        ("name", Node::text(NAME)),
    ])
}

fn mount(name: &str, path: &str) -> Node {
    Node::map([
        ("name", Node::text(name)),
        ("mountPath", Node::text(path)),
        ("readOnly", plain("true")),
    ])
}

fn texts(words: &[&str]) -> Node {
    Node::List(words.iter().map(|word| Node::text(*word)).collect())
}

fn plain(word: &str) -> Node {
    Node::Scalar(Scalar::plain(word))
}
