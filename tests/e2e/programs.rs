//! `run` and `proxy` as programs: what they print, leave behind, and pass on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cluster_connect::wire::kubeconfig::Kubeconfig;

use super::chain::{Chain, Options, Site, private, terminate};
use super::kubectl::newest;
use super::processes::Process;
use super::trial::{Absent, Trial, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(run_passes_the_exit_code_on_and_cleans_up),
        trial(run_gives_kubectl_the_cluster),
        trial(proxy_prints_its_kubeconfig_and_nothing_else),
        trial(a_merged_kubeconfig_is_given_back_as_it_was),
        trial(ready_in_json_names_port_and_file_and_both_are_gone_at_the_end),
    ]
}

fn words<'a>(first: &'a str, rest: &'a [String], last: &[&'a str]) -> Vec<&'a str> {
    let rest = rest.iter().map(String::as_str);
    std::iter::once(first).chain(rest).chain(last.iter().copied()).collect()
}

/// Directories and files that the client has made for kubeconfigs below `TMPDIR`.
fn left_behind(site: &Site) -> Vec<String> {
    let entries = fs::read_dir(site.path("")).expect("the directory of the test");
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("cluster-connect-")).collect()
}

fn run_passes_the_exit_code_on_and_cleans_up() {
    let chain = Chain::start(Options::default());
    let site = &chain.site;
    let client = site.client_words(&["edge-7"]);
    for code in [0, 1, 7, 113] {
        let script = format!("test -r \"$KUBECONFIG\" && echo \"$KUBECONFIG\"; exit {code}");
        let words = words("run", &client, &["--", "sh", "-c", &script]);
        let output = site.command(&words).output().expect("run runs");
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let path = String::from_utf8(output.stdout).expect("a path");
        assert!(path.trim().starts_with('/'), "{path}");
        assert!(!Path::new(path.trim()).exists(), "{path} is still there");
    }
    assert_eq!(left_behind(site), Vec::<String>::new());
    let words = words("run", &client, &["--", "no-such-program"]);
    let output = site.command(&words).output().expect("run runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such-program"), "{output:?}");
    assert_eq!(left_behind(site), Vec::<String>::new());
}

fn run_gives_kubectl_the_cluster() -> Result<(), Absent> {
    let kubectl = newest()?;
    let chain = Chain::start(Options::default());
    let client = chain.site.client_words(&["edge-7"]);
    let path = kubectl.path().to_str().expect("a path in UTF-8");
    let words = words("run", &client, &["--", path, "get", "pods", "-o", "name"]);
    let output = chain.site.command(&words).output().expect("run runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.lines().all(|line| line.starts_with("pod/")), "{printed}");
    assert!(printed.contains("pod/web"), "{printed}");
    Ok(())
}

fn proxy_prints_its_kubeconfig_and_nothing_else() {
    let chain = Chain::start(Options::default());
    let client = chain.site.client_words(&["edge-7"]);
    let words = words("proxy", &client, &["--port", "0", "-f", "-"]);
    let mut command = chain.site.command(&words);
    let mut process = Process::spawn(&mut command, chain.site.logs(), "printed").expect("starts");
    process.says("current-context: ").expect("the kubeconfig's current context");
    let (status, printed) = terminate(process).expect("it ends");
    assert_eq!(status.code(), Some(0));
    let config = Kubeconfig::parse(printed.as_bytes()).expect("only YAML");
    config.select(None).expect("a current context");
    let keys = ["apiVersion:", "kind:", "clusters:", "users:", "contexts:", "current-context:"];
    for line in printed.lines().filter(|line| !line.starts_with([' ', '-'])) {
        assert!(keys.iter().any(|key| line.starts_with(key)), "{line:?} in:\n{printed}");
    }
}

fn a_merged_kubeconfig_is_given_back_as_it_was() {
    let chain = Chain::start(Options::default());
    let client = chain.site.client_words(&["edge-7"]);
    let file = chain.site.path("merged");
    let before = "apiVersion: v1\nkind: Config\nclusters:\n- name: other\n  cluster:\n    server: \
                  https://other.example\nusers:\n- name: other\n  user:\n    token: theirs\n\
                  contexts:\n- name: other\n  context:\n    cluster: other\n    user: other\n\
                  current-context: other\n";
    private(file.as_ref(), before);
    for (more, current) in [(None, "edge-7"), (Some("--no-set-current"), "other")] {
        let mut last = vec!["--port", "0", "--merge", "-f", &file];
        last.extend(more);
        let words = words("proxy", &client, &last);
        let mut command = chain.site.command(&words);
        let mut process =
            Process::spawn(&mut command, chain.site.logs(), "merged").expect("starts");
        process.says("ready: ").expect("ready");
        let text = fs::read(&file).expect("the merged file");
        let config = Kubeconfig::parse(&text).expect("a kubeconfig");
        config.select(Some("other")).expect("what was there is there");
        let ours = config.select(Some("edge-7")).expect("what is new");
        let now = config.select(None).expect("a current context");
        assert_eq!(now.server.authority() == ours.server.authority(), current == "edge-7");
        let mode = fs::metadata(&file).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        terminate(process).expect("it ends");
        let after = fs::read(&file).expect("the file is still there");
        let config = Kubeconfig::parse(&after).expect("a kubeconfig");
        config.select(Some("other")).expect("what was there is there");
        assert!(config.select(Some("edge-7")).is_err());
        let now = config.select(None).expect("a current context");
        assert_eq!(now.server.authority(), "other.example");
    }
}

fn ready_in_json_names_port_and_file_and_both_are_gone_at_the_end() {
    let chain = Chain::start(Options::default());
    let client = chain.site.client_words(&["edge-7"]);
    let file = chain.site.path("own/kubeconfig");
    let words = words("proxy", &client, &["--port", "0", "-f", &file, "-o", "json"]);
    let mut command = chain.site.command(&words);
    let mut process = Process::spawn(&mut command, chain.site.logs(), "json").expect("starts");
    process.says("{").expect("a line of JSON");
    let mode = fs::metadata(&file).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (status, printed) = terminate(process).expect("it ends");
    assert_eq!(status.code(), Some(0));
    let ready: serde_json::Value = serde_json::from_str(&printed).expect("one JSON document");
    assert_eq!(ready["kubeconfig"].as_str(), Some(file.as_str()));
    assert!(ready["port"].as_u64().is_some_and(|port| port > 0), "{ready}");
    assert!(!Path::new(&file).exists());
}
