//! Who is let in, where, and as whom.

use std::process::Command;

use serde_json::{Value, json};

use super::chain::{ALICE, CLUSTER_AUDIENCE, Chain, Client, Options, Site, private, program};
use super::demo::Server;
use super::door;
use super::kubectl::{self, Kubectl};
use super::raw::{Door, Response};
use super::trial::{Absent, Trial, trial};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial(curl_needs_nothing_but_what_the_kubeconfig_says),
        trial(a_local_caller_without_the_bearer_is_refused),
        trial(one_proxy_serves_two_clusters_and_one_connection_only_one),
        trial(an_edge_in_one_process_serves_the_same),
        trial(a_service_account_is_itself),
        trial(a_kubernetes_token_is_refused_where_nothing_passes_through),
        trial(who_has_no_grant_is_told_so_before_anything_starts),
        trial(a_cluster_that_is_not_there_gives_a_sentence),
        trial(a_relay_that_comes_back_is_found_again),
        trial(a_path_without_a_cluster_is_for_the_only_one),
    ];
    trials.extend(with_ends(kubectl_runs_a_command_through_an_edge));
    trials.extend(with_ends(kubectl_says_that_a_cluster_is_not_there));
    trials
}

const REVIEW: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// With the oldest and the newest kubectl.
fn with_ends<C: Fn(&Kubectl) + Copy + Send + 'static>(check: C) -> Vec<Trial> {
    kubectl::trials(kubectl::ends(), check, |kubectl, check| check(kubectl))
}

/// Who the API server says that the caller is.
fn whoami(client: &Client, cluster: &str) -> (u16, Value) {
    let door = door(client, cluster);
    let fields = format!("Content-Type: application/json\r\n{}", door.bearer());
    let body = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    let path = format!("{}{REVIEW}", door.prefix);
    let answer = door.connect().call("POST", &path, &fields, &body.to_string());
    (answer.code, answer.json())
}

fn is(answer: &(u16, Value), user: &str) {
    let name = answer.1.pointer("/status/userInfo/username");
    assert_eq!((answer.0, name), (201, Some(&json!(user))), "{}", answer.1);
}

fn curl_needs_nothing_but_what_the_kubeconfig_says() -> Result<(), Absent> {
    let chain = Chain::start(Options::default());
    let way = chain.client.way("edge-7");
    let ca = chain.site.path("local-ca.pem");
    private(ca.as_ref(), &way.ca_pem);
    let url = format!("https://127.0.0.1:{}{}/api/v1/namespaces/default/pods", way.port, way.path);
    let bearer = format!("Authorization: Bearer {}", way.token);
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--noproxy", "*", "--cacert", &ca, "-H", &bearer, &url]);
    let output = match curl.output() {
        Ok(output) => output,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            return Err(Absent("curl".to_owned()));
        }
        Err(err) => panic!("{err}"),
    };
    let body: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(body.get("kind"), Some(&json!("PodList")), "{body}");
    Ok(())
}

fn a_local_caller_without_the_bearer_is_refused() {
    let chain = Chain::start(Options::default());
    let door = door(&chain.client, "edge-7");
    let path = format!("{}/api", door.prefix);
    let before = chain.cluster.api.audit().len();
    let real = chain.site.token(CLUSTER_AUDIENCE, ALICE);
    for fields in [
        String::new(),
        "Authorization: Bearer guess\r\n".to_owned(),
        "Authorization: Basic YWxpY2U6eA==\r\n".to_owned(),
        // Not even one that the cluster itself would take.
        format!("Authorization: Bearer {real}\r\n"),
        format!("{0}{0}", door.bearer()),
    ] {
        let answer = door.connect().get(&path, &fields);
        assert_eq!(answer.code, 401, "{fields}: {}", answer.text());
        assert_eq!(answer.json().get("kind"), Some(&json!("Status")));
        assert!(answer.field("www-authenticate").is_some());
    }
    assert_eq!(chain.cluster.api.audit().len(), before, "nothing of that reached the cluster");
}

fn one_proxy_serves_two_clusters_and_one_connection_only_one() {
    let mut site = Site::start();
    let first = site.cluster("edge-1", Options::default());
    let second = site.cluster("edge-2", Options { edge: true, ..Options::default() });
    first.api.bind("who", "cluster-admin", "User", &[ALICE]);
    let client = site.client(&["edge-1", "edge-2"]);
    for (cluster, other) in [("edge-1", "edge-2"), ("edge-2", "edge-1")] {
        is(&whoami(&client, cluster), ALICE);
        let (door, other) = (door(&client, cluster), door(&client, other));
        let mut connection = door.connect();
        connection.send(door.request("/api/v1/namespaces/default/pods", ""));
        assert_eq!(connection.response().code, 200);
        connection.send(other.request("/api/v1/namespaces/default/pods", ""));
        let refused = connection.response();
        assert_eq!(refused.code, 421, "{}", refused.text());
        assert!(connection.is_closed());
    }
    // Each request has gone to its own cluster: only the first lets alice see nodes.
    let nodes = |cluster| {
        let door = door(&client, cluster);
        let mut connection = door.connect();
        connection.send(door.request("/api/v1/nodes", ""));
        connection.response().code
    };
    assert_eq!((nodes("edge-1"), nodes("edge-2")), (200, 403));
    assert!(!second.api.audit().is_empty());
}

fn an_edge_in_one_process_serves_the_same() {
    let chain = Chain::start(Options { edge: true, ..Options::default() });
    is(&whoami(&chain.client, "edge-7"), ALICE);
    assert_eq!(pods(&door(&chain.client, "edge-7")).code, 200);
}

fn kubectl_runs_a_command_through_an_edge(kubectl: &Kubectl) {
    let chain = Chain::start(Options { edge: true, ..Options::default() });
    let session = kubectl.with(&chain.client.kubeconfig);
    let ended = session.run_with_input(&["exec", "-i", "web", "--", "cat"], b"in and out");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "in and out"), "{ended:?}");
}

/// The account's token is written down for `--token-file`; the certificate of the auth proxy, if
/// it has one, would make the caller an administrator.
fn as_service_account(options: Options) {
    let mut site = Site::start();
    let cluster = site.cluster("edge-7", Options { passthrough: true, ..options });
    let token = cluster.api.service_account_token("demo", "robot").expect("a token");
    let file = site.path("robot.token");
    private(file.as_ref(), &token);
    // Somebody without a token for the cluster, too: alone the relay's is needed.
    let client = site.client_with(&["edge-7"], &["--token-file", &file]);
    is(&whoami(&client, "edge-7"), "system:serviceaccount:demo:robot");
    assert_untouched(&cluster.api);
    // And next to it, through the same auth proxy, an identity of the issuer's.
    let client = site.client(&["edge-7"]);
    is(&whoami(&client, "edge-7"), ALICE);
    let client = site.client_with(&["edge-7"], &["--token-file", &file]);
    is(&whoami(&client, "edge-7"), "system:serviceaccount:demo:robot");
    assert_untouched(&cluster.api);
}

/// The last request ran as the account that sent it.
fn assert_untouched(api: &Server) {
    let audit = api.audit();
    let last = audit.last().expect("an audit event");
    let robot = json!("system:serviceaccount:demo:robot");
    assert_eq!(last.pointer("/user/username"), Some(&robot), "{last}");
    assert_eq!(last.get("impersonatedUser"), None, "{last}");
}

fn a_service_account_is_itself() {
    as_service_account(Options::default());
}

fn a_kubernetes_token_is_refused_where_nothing_passes_through() {
    let mut site = Site::start();
    let cluster = site.cluster("edge-7", Options::default());
    let token = cluster.api.service_account_token("demo", "robot").expect("a token");
    private(site.path("robot.token").as_ref(), &token);
    let client = site.client_with(&["edge-7"], &["--token-file", &site.path("robot.token")]);
    let before = cluster.api.audit().len();
    let (code, answer) = whoami(&client, "edge-7");
    assert_eq!(code, 401, "{answer}");
    assert_eq!(cluster.api.audit().len(), before);
}

fn who_has_no_grant_is_told_so_before_anything_starts() {
    let mut site = Site::start();
    let _cluster = site.cluster("edge-7", Options::default());
    let identity = site.identity("mallory@contoso.com");
    let (ca, known) = (site.path("relay/ca.pem"), site.path("known/mallory"));
    let words = ["run", "--relay", &site.url, "--relay-ca", &ca, "-n", "edge-7"];
    let more = ["--identity", &identity, "--known-hosts", &known, "--", "true"];
    let why = program().run(&[&words[..], &more].concat()).expect_err("no grant");
    assert!(why.contains("error[FORBIDDEN]"), "{why}");
}

fn a_cluster_that_is_not_there_gives_a_sentence() {
    let mut chain = Chain::start(Options::default());
    let door = door(&chain.client, "edge-7");
    assert_eq!(pods(&door).code, 200);
    // Once on the session that is just breaking, and once more when it is gone for certain.
    chain.cluster.kill_agent();
    for _ in 0..2 {
        let said = sentence(&pods(&door));
        let reason =
            ["offline", "cannot be reached", "was lost"].iter().any(|it| said.contains(it));
        assert!(said.contains("edge-7") && reason, "{said}");
    }
    chain.cluster.start_agent(&chain.site);
    assert_eq!(pods(&door).code, 200, "without any restart of the client");

    chain.cluster.kill_auth_proxy();
    for _ in 0..2 {
        let said = sentence(&pods(&door));
        assert!(said.contains("edge-7"), "{said}");
    }
    chain.cluster.start_auth_proxy(&chain.site);
    assert_eq!(pods(&door).code, 200);

    chain.cluster.api.stop();
    // A connection that was open may end under the first request.
    let said = sentence(&pods(&door));
    assert!(said.contains("API server") || said.contains("closed the connection"), "{said}");
    let said = sentence(&pods(&door));
    assert!(said.contains("API server"), "{said}");
    chain.cluster.api.restart().expect("the API server starts again");
    assert_eq!(pods(&door).code, 200);
}

fn kubectl_says_that_a_cluster_is_not_there(kubectl: &Kubectl) {
    let mut chain = Chain::start(Options::default());
    assert_eq!(pods(&door(&chain.client, "edge-7")).code, 200);
    chain.cluster.kill_agent();
    // On the session that is just breaking, there may be nothing to tell.
    pods(&door(&chain.client, "edge-7"));
    let ended = kubectl.with(&chain.client.kubeconfig).run(&["get", "pods"]);
    assert_eq!(ended.code, Some(1));
    let reason = ended.stderr.contains("offline") || ended.stderr.contains("cannot be reached");
    assert!(ended.stderr.contains("edge-7") && reason, "{ended:?}");
}

fn a_relay_that_comes_back_is_found_again() {
    let mut chain = Chain::start(Options::default());
    let door = door(&chain.client, "edge-7");
    assert_eq!(pods(&door).code, 200);
    chain.site.kill_relay();
    for _ in 0..2 {
        let said = sentence(&pods(&door));
        assert!(said.contains("edge-7"), "{said}");
    }
    chain.site.restart_relay();
    chain.cluster.is_connected_again();
    assert_eq!(pods(&door).code, 200, "the relay has kept its registry and keys");
}

fn a_path_without_a_cluster_is_for_the_only_one() {
    let mut site = Site::start();
    let _cluster = site.cluster("edge-1", Options::default());
    let other = site.cluster("edge-2", Options::default());
    let code = |client: &Client, prefix: &str| {
        let door = Door { prefix: prefix.to_owned(), ..door(client, "edge-1") };
        pods(&door).code
    };
    let one = site.client(&["edge-1"]);
    assert_eq!(code(&one, ""), 200, "kubectl get --raw leaves the prefix out");
    let both = site.client(&["edge-1", "edge-2"]);
    assert_eq!(code(&both, ""), 404);
    let elsewhere = door(&both, "edge-2").prefix;
    assert_eq!(code(&both, &elsewhere), 200);
    let before = other.api.audit().len();
    assert_eq!(code(&one, &elsewhere), 404);
    assert_eq!(code(&one, "/proxies"), 404);
    assert_eq!(other.api.audit().len(), before);
}

fn pods(door: &Door) -> Response {
    let mut connection = door.connect();
    connection.send(door.request("/api/v1/namespaces/default/pods", ""));
    connection.response()
}

/// The message of a `Status` that says that something on the way is down.
fn sentence(answer: &Response) -> String {
    assert!((502..=504).contains(&answer.code), "{} {}", answer.code, answer.text());
    let status = answer.json();
    assert_eq!(status.get("kind"), Some(&json!("Status")));
    status.get("message").and_then(Value::as_str).expect("a message").to_owned()
}
