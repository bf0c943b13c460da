//! What is acknowledged is there after a kill, and what is taken away is gone at once.

use cluster_connect::wire::resource::ResourceId;
use serde_json::Value;

use super::answer::{Answer, rest};
use super::chain::{ALICE, Chain, Options, Site};
use super::processes::Process;
use super::raw::Client;
use super::trial::{Trial, trial};
use super::{PODS, door, eventually, get, recovers, refusal, replaced, says};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(all_that_was_acknowledged_is_there_after_kill_9),
        trial(a_journal_of_the_past_is_rewritten_while_the_relay_serves),
        trial(a_join_token_outlives_the_relay_that_gave_it),
        trial(whoever_is_revoked_is_cut_off_at_once_and_alone),
    ]
}

/// What the relay knows of a cluster.
fn shown(site: &Site, name: &str) -> Value {
    serde_json::from_str(&site.operator(&["show", name, "-o", "json"])).expect("JSON")
}

fn all_that_was_acknowledged_is_there_after_kill_9() {
    let mut chain = Chain::start(Options::default());
    let killed = |site: &mut Site, words: &[&str]| {
        let printed = site.operator(words);
        site.kill_relay();
        site.restart_relay();
        printed
    };
    let site = &mut chain.site;
    killed(site, &["add", "edge-8", "--tag", "place=harbour"]);
    assert!(shown(site, "edge-8").to_string().contains("harbour"));
    let issuer = site.issuer.url().to_owned();
    let whom = ["--issuer", &issuer, "--subject", "carol"];
    killed(site, &[&["grant", "edge-8"][..], &whom].concat());
    assert!(shown(site, "edge-8").to_string().contains("carol"));
    killed(site, &[&["revoke", "edge-8"][..], &whom].concat());
    assert!(!shown(site, "edge-8").to_string().contains("carol"));
    killed(site, &["grant", "edge-8", "--user", ALICE]);
    eventually("the relay has the issuer's keys again", || {
        refusal(site, "edge-8", &[]).contains("error[CLUSTER_NEVER_CONNECTED]")
    });
    killed(site, &["remove", "edge-8"]);
    let why = site.try_operator(&["show", "edge-8"]).expect_err("it is removed");
    says(&why, "CLUSTER_UNKNOWN", &[]);
    killed(site, &["revoke", "edge-7", "--user", ALICE]);
    eventually("the agent is back", || shown(site, "edge-7").to_string().contains("\"Connected\""));
    eventually("the relay has the issuer's keys again", || {
        refusal(site, "edge-7", &[]).contains("error[FORBIDDEN]")
    });
    killed(site, &["grant", "edge-7", "--user", ALICE]);
    eventually("the agent is back", || shown(site, "edge-7").to_string().contains("\"Connected\""));
    recovers(&door(&chain.client, "edge-7"));
}

fn a_journal_of_the_past_is_rewritten_while_the_relay_serves() {
    let mut site = Site::start();
    let read = |name: &str| std::fs::read_to_string(site.path(name)).expect("a file");
    let address = site.relay_address().parse().expect("an address");
    let mut client = Client::connect(address, &read("relay/ca.pem"));
    let fields = format!("Authorization: Bearer {}\r\n", read("relay/admin-token").trim());
    let path = format!(
        "{}?api-version=2021-10-01",
        ResourceId::parse("edge-8").expect("a good name").id()
    );
    let journal = site.path("relay/journal");
    let length = || std::fs::metadata(&journal).expect("a journal").len();
    let (mut longest, mut rewritten) = (0, 0);
    for n in 0..250 {
        let tag = |at: usize| format!(r#""tag-{at}":"{n:0>200}""#);
        let tags: Vec<String> = (0..50).map(tag).collect();
        let body = format!(r#"{{"location":"here","tags":{{{}}}}}"#, tags.join(","));
        let answer = client.call("PUT", &path, &fields, &body);
        assert!(matches!(answer.code, 200 | 201), "{}", answer.text());
        let now = length();
        rewritten += u32::from(now < longest);
        longest = if now < longest { now } else { longest.max(now) };
    }
    assert!(rewritten >= 1, "{longest} bytes, and never rewritten");
    site.kill_relay();
    site.restart_relay();
    assert!(shown(&site, "edge-8").to_string().contains(&format!("{:0>200}", 249)));
}

fn a_join_token_outlives_the_relay_that_gave_it() {
    let mut site = Site::start();
    let cluster = site.cluster("edge-7", Options::default());
    let printed = site.operator(&["join-token", "edge-7", "-o", "json"]);
    site.kill_relay();
    site.restart_relay();
    let printed: Value = serde_json::from_str(&printed).expect("JSON");
    let token = printed["joinToken"].as_str().expect("a join token");
    super::chain::private(site.path("edge-7.join-token").as_ref(), token);
    let mut cluster = cluster;
    cluster.kill_agent();
    std::fs::remove_dir_all(site.path("edge-7.agent")).expect("the agent forgets its key");
    cluster.start_agent(&site);
    let client = site.client_with(&["edge-7"], &["--wait", "30s"]);
    recovers(&door(&client, "edge-7"));
}

fn whoever_is_revoked_is_cut_off_at_once_and_alone() {
    let mut site = Site::start();
    let cluster = site.cluster("edge-7", Options::default());
    cluster.api.bind("bob-edits", "edit", "User", &["bob@contoso.com"]);
    let bobs = site.identity("bob@contoso.com");
    // Whoever has shown a token once can be granted by name.
    says(&refusal(&site, "edge-7", &["--identity", &bobs]), "FORBIDDEN", &["cluster grant"]);
    site.operator(&["grant", "edge-7", "--user", "bob@contoso.com"]);
    let alice = site.client(&["edge-7"]);
    let file = site.path("kube/bob.yaml");
    let words = replaced(site.client_words(&["edge-7"]), &["--identity", &bobs, "--port", "0"]);
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.insert(0, "proxy");
    words.extend(["-f", &file]);
    let mut process =
        Process::spawn(&mut site.command(&words), site.logs(), "bob").expect("it starts");
    process.says("ready: ").expect("ready");
    let kubeconfig = std::fs::read_to_string(&file).expect("a kubeconfig");
    let bob = super::Client { process, kubeconfig };
    let (alices, bobs) = (door(&alice, "edge-7"), door(&bob, "edge-7"));
    let watch = |door: &super::Door| {
        let mut client = door.connect();
        client.send(door.request(&format!("{PODS}?watch=true"), ""));
        assert_eq!(client.head().0, 200);
        client.chunk().expect("what is there already");
        client
    };
    let (mut untouched, cut) = (watch(&alices), watch(&bobs));
    site.operator(&["revoke", "edge-7", "--user", "bob@contoso.com"]);
    let (mut stream, seen) = cut.into_parts();
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let ended = rest(&mut stream, [head, seen].concat());
    assert!(matches!(ended, Answer::Broken), "a cut watch does not look whole: {ended:?}");
    let refused = get(&bobs, PODS);
    assert!((400..600).contains(&refused.code), "{}", refused.text());
    assert_eq!(refused.json()["kind"], "Status");
    assert_eq!(get(&alices, PODS).code, 200);
    cluster.api.print_log("default", "web", "web", "still there");
    let map = serde_json::json!({ "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "fresh", "namespace": "default" } });
    assert!(cluster.api.add("", "v1", "pods", map));
    while !String::from_utf8_lossy(&untouched.chunk().expect("the watch goes on")).contains("fresh")
    {
    }
    site.operator(&["grant", "edge-7", "--user", "bob@contoso.com"]);
    recovers(&bobs);
}
