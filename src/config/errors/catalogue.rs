//! What every code means, why it happens and what to do. `cluster-connect explain` prints it.

use super::Code;

/// Code, name, explanation. A test holds it against the enum.
pub(super) const CATALOGUE: [(Code, &str, &str); 45] = [
    (
        Code::Usage,
        "USAGE",
        "The command line is not understood. Unknown options are errors, so that a misspelt \
             one is not\na missing one.",
    ),
    (
        Code::FileUnreadable,
        "FILE_UNREADABLE",
        "A file that was named does not exist or may not be read. The sentence names the \
             file\nand what the system said. Check the path and the owner.",
    ),
    (
        Code::FileUnwritable,
        "FILE_UNWRITABLE",
        "A file could not be written. Files are written beside their place and renamed, \
             so the\ndirectory must be writable too. Nothing was changed.",
    ),
    (
        Code::FileExposed,
        "FILE_EXPOSED",
        "A file with a secret in it can be read by others. Whoever can read it can act as \
             you.\nTake the rights of group and others away: chmod 600 FILE. In a container, mount \
             Secrets\nwith defaultMode 0400.",
    ),
    (
        Code::FileTooLarge,
        "FILE_TOO_LARGE",
        "A file is larger than anything of its kind. It is probably not the file that was \
             meant.",
    ),
    (
        Code::FileBusy,
        "FILE_BUSY",
        "Another process holds the lock of this file or state directory. Two processes with \
             one\nstate directory would overwrite each other.",
    ),
    (
        Code::KubeconfigInvalid,
        "KUBECONFIG_INVALID",
        "The file is not a kubeconfig, or a broken one. The sentence says where. Tabs, \
             duplicate\nkeys, aliases and values of the wrong type are refused, because readers \
             disagree about them.\nkubectl config view --raw --flatten often writes a clean copy.",
    ),
    (
        Code::KubeconfigUnsupported,
        "KUBECONFIG_UNSUPPORTED",
        "The kubeconfig asks for something that is not done here: an exec plug-in, an \
             auth-provider,\na password, impersonation, a proxy, or TLS without verification. Use \
             a kubeconfig with a\ntoken or a client certificate, and with the cluster's CA.",
    ),
    (
        Code::ContextUnknown,
        "CONTEXT_UNKNOWN",
        "The kubeconfig has no context of that name, or the context names a cluster or user \
             that\nis not there. kubectl config get-contexts lists what it has.",
    ),
    (
        Code::ContextTaken,
        "CONTEXT_TAKEN",
        "The kubeconfig to merge into has a context, cluster or user of that name that does \
             not\nbelong to this cluster. It is left alone. Choose another name with \
             --kube-context, or leave\n--merge away and use the file that the proxy writes for \
             itself.",
    ),
    (
        Code::TlsFileInvalid,
        "TLS_FILE_INVALID",
        "A certificate or key file holds no usable certificate or key. Both are PEM. The key \
             must be\nPKCS#8, PKCS#1 or SEC1, without a password, and belong to the first \
             certificate.",
    ),
    (
        Code::AuthConfigInvalid,
        "AUTH_CONFIG_INVALID",
        "The file of issuers (--auth-config) is wrong; the sentence names the place. Unknown \
             keys are\nrefused, so that a misspelt rule is not a missing rule. See \
             cluster-connect auth-proxy --help\nfor the format.",
    ),
    (
        Code::AudienceConflict,
        "AUDIENCE_CONFLICT",
        "The relay and the auth proxy of a cluster accept tokens of the same audience. Then \
             the relay\nwould be given tokens that open the cluster. Give each an audience of its \
             own.",
    ),
    (
        Code::AudienceShared,
        "AUDIENCE_SHARED",
        "A warning: the relay takes tokens for an audience that others take, too. Whoever is given \
             such a\ntoken can use it at all of them: a relay that is not to be trusted could act \
             here as one of its\ncallers, and this one there. Give each relay an audience of its \
             own: with Entra ID an application\nof its own, elsewhere https:// and its name.",
    ),
    (
        Code::ResourceInvalid,
        "RESOURCE_INVALID",
        "The name of the cluster is not one. It is a name, group/name, or a whole resource \
             id:\n/subscriptions/S/resourceGroups/G/providers/Microsoft.Kubernetes/\
             connectedClusters/NAME.",
    ),
    (
        Code::IdentityFailed,
        "IDENTITY_FAILED",
        "No token could be had from the source that --identity names. The sentence says why. \
             Two tokens\nare wanted, one for the relay and one for the cluster, each for an \
             audience of its own.",
    ),
    (Code::NotAvailable, "NOT_AVAILABLE", "This build or this machine cannot do what was asked."),
    (
        Code::PortTaken,
        "PORT_TAKEN",
        "The local port is in use, by another proxy or by an outgoing connection: 47011 lies \
             in the\nrange that Linux gives to those. Choose another with --port, or --port 0 for \
             any.",
    ),
    (
        Code::ConnectionStringInvalid,
        "CONNECTION_STRING_INVALID",
        "A connection string has the form\n\n  \
             Endpoint=sb://HOST/;SharedAccessKeyName=RULE;SharedAccessKey=KEY;EntityPath=NAME\n\n\
             and is that of one hybrid connection: one of the whole namespace has no EntityPath, \
             which can\nbe put behind it. An agent needs a rule with the right Listen, a client \
             one with Send.",
    ),
    (
        Code::RelayUnreachable,
        "RELAY_UNREACHABLE",
        "No connection to the relay could be made. Check the name, the port, and whether a \
             proxy is\nneeded (HTTPS_PROXY, NO_PROXY).",
    ),
    (
        Code::RelayUntrusted,
        "RELAY_UNTRUSTED",
        "The relay's certificate was not issued by a CA that this machine trusts, or names \
             another\nhost, or its time is over. For a CA of your own, give its certificate with \
             --relay-ca.",
    ),
    (
        Code::RelayAnswer,
        "RELAY_ANSWER",
        "Something answered that does not speak as a relay does, or the relay reported a \
             fault of its\nown. Check the URL; the relay's log has more.",
    ),
    (
        Code::TokenRefused,
        "TOKEN_REFUSED",
        "The relay does not accept the token: expired, of an issuer that the relay does not \
             know, or\nfor another audience. The relay's audience and the cluster's are two \
             different ones. The\nrelay's log says which rule refused it.",
    ),
    (
        Code::Forbidden,
        "FORBIDDEN",
        "The relay knows who asks, and that is not enough. An operator grants access to a \
             cluster with\ncluster-connect cluster grant NAME --user WHO.",
    ),
    (
        Code::ClusterUnknown,
        "CLUSTER_UNKNOWN",
        "The relay has no cluster of that name, in that resource group and subscription. \
             cluster-connect\ncluster list shows what there is.",
    ),
    (
        Code::HybridConnectionUnknown,
        "HYBRID_CONNECTION_UNKNOWN",
        "The relay has no hybrid connection, rule or role assignment of that name. \
             cluster-connect hc\nlist shows the hybrid connections, hc show NAME what belongs to one.",
    ),
    (
        Code::ClusterNeverConnected,
        "CLUSTER_NEVER_CONNECTED",
        "The cluster was added, but no agent has ever connected for it. Start one at the \
             cluster:\ncluster-connect edge, with a join token.",
    ),
    (
        Code::ClusterOffline,
        "CLUSTER_OFFLINE",
        "The cluster's agent is not connected now. The sentence says since when. Look at the \
             agent's log\nand at the way out of the cluster's network.",
    ),
    (
        Code::ClusterChanged,
        "CLUSTER_CHANGED",
        "The cluster's CA certificate is not the one that this machine has seen before. \
             Either the\ncluster was set up anew, or somebody between you and the cluster \
             pretends to be it. Ask whoever\nruns the cluster for its fingerprint; \
             --ca-fingerprint checks it, --accept-new-ca replaces\nwhat was known.",
    ),
    (
        Code::KnownHostsInvalid,
        "KNOWN_HOSTS_INVALID",
        "The file of known clusters has a line that cannot be read. Each line is: the \
             cluster's id, the\nfingerprint of its CA, and when it was first seen. Correct or \
             delete that line; the cluster\nis then trusted on first use again.",
    ),
    (
        Code::JoinTokenRefused,
        "JOIN_TOKEN_REFUSED",
        "The join token was used by another agent, has expired, or is for another cluster. \
             Ask for a\nnew one: cluster-connect cluster join-token NAME.",
    ),
    (
        Code::NotEnrolled,
        "NOT_ENROLLED",
        "The agent has not enrolled yet, or its state directory is another one than before, \
             and no\njoin token was given. Give one with --join-token-file; it is needed once. \
             Ask for it:\ncluster-connect cluster join-token NAME.",
    ),
    (
        Code::PrincipalUnknown,
        "PRINCIPAL_UNKNOWN",
        "Nobody of that name has presented a token to the relay yet, so the name cannot be \
             bound to an\nidentity. Let the user run cluster-connect proxy once, which will be \
             refused, or grant by\n--issuer and --subject.",
    ),
    (
        Code::LeastPrivilege,
        "LEAST_PRIVILEGE",
        "The auth proxy's service account may do more than impersonate users and groups. \
             Whoever breaks\ninto it would have those rights. Apply the ClusterRole of \
             cluster-connect manifest, or start with\n--no-require-least-privilege.",
    ),
    (
        Code::StateUnusable,
        "STATE_UNUSABLE",
        "The state directory cannot be used: another process has it, its version is newer than \
             this\nprogram, or it is damaged. The sentence names the file. Nothing was changed in \
             it.",
    ),
    (
        Code::ClusterUnreachable,
        "CLUSTER_UNREACHABLE",
        "The relay was reached, but no session with the cluster came about: its agent did not \
             accept\nin time, or its auth proxy does not run. cluster-connect cluster show NAME \
             tells since when.",
    ),
    (
        Code::ClusterUntrusted,
        "CLUSTER_UNTRUSTED",
        "The other end of the session does not have the certificate that is pinned for the \
             cluster, or\nthe session was tampered with. Somebody may be in the middle: compare \
             the CA with what the\ncluster's own log says at its start.",
    ),
    (
        Code::BenchRefused,
        "BENCH_REFUSED",
        "The auth proxy does not let this caller measure the tunnel. With 401 it does not take the \
             token;\nwith 403 the caller or the measuring is not allowed; with 429 somebody else \
             measures, or it was\ndone too often: wait two minutes.",
    ),
    (
        Code::ApiServerUnreachable,
        "API_SERVER_UNREACHABLE",
        "No connection to the cluster's API server could be made. Check the server address in \
             the\nkubeconfig, and that the API server runs.",
    ),
    (
        Code::ApiServerUntrusted,
        "API_SERVER_UNTRUSTED",
        "The API server's certificate was not issued by the CA in the kubeconfig, or names \
             another host,\nor its time is over. Take the kubeconfig anew from the cluster; \
             verification cannot be turned\noff.",
    ),
    (
        Code::ApiServerAnswer,
        "API_SERVER_ANSWER",
        "Something answered that does not speak as an API server does, or the API server \
             reported a\nfault of its own. The sentence has its words.",
    ),
    (
        Code::ApiServerCredential,
        "API_SERVER_CREDENTIAL",
        "The API server does not accept the credential: a token or a client certificate that \
             has expired,\nor of another cluster. A running edge that says this has lost its \
             token: started again, it asks\nfor a new one with the kubeconfig.",
    ),
    (
        Code::ApiServerForbidden,
        "API_SERVER_FORBIDDEN",
        "The credential may not do what is needed. At its first start an edge makes a \
             namespace, a service\naccount and its rights, for which it needs an \
             administrator's kubeconfig once. Or apply the\nmanifest that cluster-connect \
             manifest writes, and give a kubeconfig of that account with\n--no-bootstrap.",
    ),
    (
        Code::BootstrapConflict,
        "BOOTSTRAP_CONFLICT",
        "The cluster has a role binding of the name that the edge uses, for another role; \
             that cannot be\nchanged, only deleted. The sentence names it. Delete it if nobody \
             needs it, and start again.",
    ),
    (
        Code::Internal,
        "INTERNAL",
        "A fault in cluster-connect. Please report it with the whole line.",
    ),
];
