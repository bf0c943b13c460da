//! Ports, files and directories that cannot be had.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use super::chain::{CLUSTER_AUDIENCE, Options, Site, private, replaced};
use super::trial::{Trial, trial};
use super::{complaint, refusal, says, works};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(a_port_that_is_taken_is_named_with_the_option_that_chooses_another),
        trial(a_kubeconfig_that_cannot_be_read_says_which_and_why),
        trial(a_relay_does_not_start_on_a_state_that_is_not_its_own),
        trial(a_state_directory_that_cannot_be_written_is_named),
    ]
}

fn taken() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    (listener, address)
}

fn a_port_that_is_taken_is_named_with_the_option_that_chooses_another() {
    let mut site = Site::start();
    let _cluster = site.cluster("edge-7", Options::default());
    let (_listener, address) = taken();
    let port = address.rsplit(':').next().expect("a port");
    let words = replaced(site.client_words(&["edge-7"]), &["--port", port, "-f", "-"]);
    let words: Vec<&str> =
        std::iter::once("proxy").chain(words.iter().map(String::as_str)).collect();
    let why = complaint(&site, &words);
    says(&why, "PORT_TAKEN", &[port, "in use", "--port"]);
    let (state, relay) = (site.path("second-relay"), site.path("second.audit"));
    let words = ["relay", "--listen", &address, "--no-tls", "--state-dir", &state];
    let why = complaint(&site, &[&words[..], &["--audit-log", &relay]].concat());
    says(&why, "PORT_TAKEN", &[port, "in use", "--listen"]);
    let gate = gate(&site, "second-gate");
    let gate: Vec<&str> = gate.iter().map(String::as_str).collect();
    let words = [&["auth-proxy", "-n", "edge-7", "--listen", &address][..], &gate].concat();
    says(&complaint(&site, &words), "PORT_TAKEN", &[port, "in use", "--listen"]);
    works(&site, "edge-7", &[]);
}

/// What an auth proxy of edge-7's needs, but for where it listens.
fn gate(site: &Site, state: &str) -> Vec<String> {
    let (state, kubeconfig) = (site.path(state), site.path("edge-7.apiserver"));
    let words =
        ["--state-dir", &state, "--kubeconfig", &kubeconfig, "--no-require-least-privilege"];
    let ca = site.path("issuer-ca.pem");
    let issuer = ["--oidc-issuer", site.issuer.url(), "--oidc-audience", CLUSTER_AUDIENCE];
    let more = ["--oidc-ca-file", &ca, "--oidc-username-prefix", "-"];
    [&words[..], &issuer, &more].concat().into_iter().map(str::to_owned).collect()
}

fn a_kubeconfig_that_cannot_be_read_says_which_and_why() {
    let mut site = Site::start();
    let _cluster = site.cluster("edge-7", Options::default());
    let file = site.path("broken.yaml");
    let try_with = |path: &str| {
        let gate = replaced(gate(&site, "third"), &["--kubeconfig", path]);
        let gate: Vec<&str> = gate.iter().map(String::as_str).collect();
        let words = ["auth-proxy", "-n", "edge-7", "--listen", "127.0.0.1:0"];
        complaint(&site, &[&words[..], &gate].concat())
    };
    let missing = site.path("missing.yaml");
    says(&try_with(&missing), "FILE_UNREADABLE", &["missing.yaml", "No such file"]);
    says(&try_with(&site.path("relay")), "FILE_UNREADABLE", &["relay"]);
    for content in
        ["", "not: a: kubeconfig", "{", "\tapiVersion: v1\n", "apiVersion: v1\n", "\u{0}"]
    {
        private(file.as_ref(), content);
        let why = try_with(&file);
        let ours = ["KUBECONFIG_INVALID", "CONTEXT_UNKNOWN", "KUBECONFIG_UNSUPPORTED"];
        assert!(ours.iter().any(|code| why.contains(code)), "{content:?}: {why}");
        assert!(why.contains("broken.yaml"), "{content:?}: {why}");
    }
    // The client's: what is there and cannot be understood is left as it is.
    private(file.as_ref(), "{ not yaml");
    let more = ["--port", "0", "--merge", "-f", &file];
    let mut words = site.client_words(&["edge-7"]);
    words.insert(0, "proxy".to_owned());
    let words: Vec<&str> = words.iter().map(String::as_str).chain(more).collect();
    says(&complaint(&site, &words), "KUBECONFIG_INVALID", &["broken.yaml"]);
    assert_eq!(fs::read_to_string(&file).expect("the file"), "{ not yaml");
}

fn a_relay_does_not_start_on_a_state_that_is_not_its_own() {
    let mut site = Site::start();
    let _cluster = site.cluster("edge-7", Options::default());
    let relay = |dir: &str| {
        complaint(&site, &["relay", "--listen", "127.0.0.1:0", "--no-tls", "--state-dir", dir])
    };
    let taken = site.path("relay");
    says(&relay(&taken), "STATE_UNUSABLE", &[&taken, "in use"]);
    let file = site.path("a-file");
    private(file.as_ref(), "x");
    let below = format!("{file}/state");
    let why = relay(&below);
    assert!(why.contains("error[") && why.contains("a-file"), "{why}");
    let journal = fs::read(site.path("relay/journal")).expect("the journal");
    for (name, change) in [("newer", true), ("garbage", false)] {
        let dir = site.path(name);
        fs::create_dir(&dir).expect("a directory");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("a mode is set");
        let path = format!("{dir}/journal");
        let mut bytes = journal.clone();
        let line = bytes.iter().position(|b| *b == b'\n').expect("a title");
        if change {
            bytes[line - 1] = b'9';
        } else {
            bytes[..line].fill(b'x');
        }
        fs::write(&path, &bytes).expect("a journal");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode is set");
        let why = relay(&dir);
        says(&why, "STATE_UNUSABLE", &[&path]);
        assert_eq!(why.contains("version"), change, "{why}");
        assert_eq!(fs::read(&path).expect("the journal"), bytes, "it is left as it was");
    }
    works(&site, "edge-7", &[]);
}

fn a_state_directory_that_cannot_be_written_is_named() {
    let mut site = Site::start();
    let cluster = site.cluster("edge-7", Options::default());
    let file = site.path("not-a-directory");
    private(file.as_ref(), "x");
    let state = format!("{file}/state");
    let gate = replaced(gate(&site, "third"), &["--state-dir", &state]);
    let gate: Vec<&str> = gate.iter().map(String::as_str).collect();
    let words = [&["auth-proxy", "-n", "edge-7", "--listen", "127.0.0.1:0"][..], &gate].concat();
    says(&complaint(&site, &words), "FILE_UNWRITABLE", &["not-a-directory"]);
    let (ca, relay_ca) = (site.path("edge-7.auth-proxy/ca.pem"), site.path("relay/ca.pem"));
    let words = ["agent", "--relay", &site.url, "-n", "edge-7", "--state-dir", &state];
    let more = ["--relay-ca", &relay_ca, "--auth-proxy", cluster.auth_proxy_address()];
    let last = ["--auth-proxy-ca", &ca, "--auth-proxy-audience", CLUSTER_AUDIENCE];
    let why = complaint(&site, &[&words[..], &more, &last].concat());
    says(&why, "FILE_UNWRITABLE", &["not-a-directory"]);
    let known = format!("{file}/known");
    let why = refusal(&site, "edge-7", &["--known-hosts", &known]);
    assert!(why.contains("error[FILE_") && why.contains("not-a-directory"), "{why}");
    let known = site.path("damaged");
    private(known.as_ref(), "what is this\n");
    let why = refusal(&site, "edge-7", &["--known-hosts", &known]);
    says(&why, "KNOWN_HOSTS_INVALID", &["damaged", "line 1"]);
    assert_eq!(fs::read_to_string(&known).expect("the file"), "what is this\n");
}
