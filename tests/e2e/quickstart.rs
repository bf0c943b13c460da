//! The first of the README's commands, at a terminal, as somebody new here runs it, and what it
//! invites to.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use super::faults::eventually;
use super::kubectl::{Running, Transport, in_terminal, newest};
use super::trial::{Absent, Trial, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(it_shows_a_request_and_ends_when_told_to_show_no_more),
        trial(kubectl_works_as_it_says_until_ctrl_c),
        trial(a_part_that_ends_is_named),
        trial(one_that_is_killed_leaves_no_process_behind),
    ]
}

/// Built by `cargo test`, but not by `cargo test --test e2e` alone: one of other sources than these
/// is none.
fn program() -> Result<PathBuf, Absent> {
    let own = env::current_exe().expect("this program has a place");
    let place = own.parent().and_then(Path::parent).expect("target/debug/deps");
    let program = place.join("examples/quickstart");
    match is_of_these_sources(&program) {
        true => Ok(program),
        false => {
            let what = "quickstart of the sources as they are now";
            Err(Absent(format!("{what} (cargo build --example quickstart)")))
        }
    }
}

/// Whether it is newer than all that it was made of, which cargo has listed beside it.
fn is_of_these_sources(program: &Path) -> bool {
    let age = |path: &Path| fs::metadata(path).and_then(|it| it.modified()).ok();
    let list = fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let (Some((of, sources)), Some(built)) = (list.split_once(": "), age(program)) else {
        return false;
    };
    // A blank in a name has a backslash before it.
    let plain = |path: &str| PathBuf::from(path.replace('\0', " "));
    let is_older = |path: &str| age(&plain(path)).is_some_and(|changed| changed <= built);
    let sources = sources.replace("\\ ", "\0");
    of.replace("\\ ", " ") == program.to_string_lossy() && sources.split_whitespace().all(is_older)
}

fn at_terminal(line: &str) -> Result<Running, Absent> {
    let mut command = Command::new("script");
    command.args(in_terminal(line));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    match Running::spawn(&mut command) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Err(Absent("script".into())),
        other => Ok(other.expect("a terminal")),
    }
}

fn it_shows_a_request_and_ends_when_told_to_show_no_more() -> Result<(), Absent> {
    let output = Command::new(program()?).arg("--once").output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for words in [
        "who am I?                 alice@contoso.com, in system:authenticated, developers",
        "secrets of kube-system?   403: secrets is forbidden: User \"alice@contoso.com\"",
        "pods of demo?             200: 1 found",
        "whom did it let in?       system:serviceaccount:kube-system:kube-aad-proxy",
        "acting for?               alice@contoso.com",
    ] {
        assert!(said.contains(words), "{words:?} is not in:\n{said}");
    }
    Ok(())
}

/// Its kubeconfig, which its first line to try names.
fn kubeconfig(quickstart: &mut Running) -> PathBuf {
    let line = quickstart.line_with("get namespaces");
    line.split(' ').find(|word| word.ends_with("/kubeconfig")).expect("a kubeconfig").into()
}

fn kubectl_works_as_it_says_until_ctrl_c() -> Result<(), Absent> {
    let mut quickstart = at_terminal(&program()?.display().to_string())?;
    let path = kubeconfig(&mut quickstart);
    quickstart.line_with("until Ctrl-C");
    let mut kubectl = newest()?.with(&fs::read_to_string(&path).expect("the kubeconfig is there"));
    assert!(kubectl.output(&["get", "namespaces"]).contains("demo"));
    kubectl.output(&["-n", "demo", "create", "configmap", "mine", "--from-literal=a=b"]);
    let refused = kubectl.run(&["-n", "kube-system", "get", "secrets"]);
    assert!(refused.stderr.contains("Forbidden"), "{refused:?}");
    for transport in [Transport::WebSocket, Transport::Spdy] {
        kubectl.stream_over(transport);
        let mut shell =
            kubectl.start_in_terminal(&["-n", "demo", "exec", "-it", "web", "--", "sh"])?;
        // What is typed is echoed; what the shell makes of it is not what was typed.
        shell.type_in("echo it is $((6 * 7))\n");
        shell.line_with("it is 42");
        shell.type_in("exit 5\n");
        assert_eq!(shell.ended(), Some(5));
    }
    quickstart.type_in("\x03");
    quickstart.line_with("stopping");
    assert_eq!(quickstart.ended(), Some(0));
    assert!(!path.parent().expect("a directory").exists(), "it has taken everything away");
    assert_ne!(kubectl.run(&["get", "namespaces"]).code, Some(0), "nothing listens any more");
    Ok(())
}

/// Processes of the chain whose kubeconfig is `path`: their ids and command lines.
fn parts(path: &Path) -> Vec<(String, String)> {
    let dir = path.parent().expect("a directory").display().to_string();
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let lines = processes.filter_map(|process| {
        let line = fs::read_to_string(process.path().join("cmdline")).ok()?.replace('\0', " ");
        Some((process.file_name().into_string().ok()?, line))
    });
    lines.filter(|(_, line)| line.contains("--as-cluster-connect") && line.contains(&dir)).collect()
}

/// However it ends, its parts do not outlive it.
fn one_that_is_killed_leaves_no_process_behind() -> Result<(), Absent> {
    let mut command = Command::new(program()?);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut quickstart = Running::spawn(&mut command).expect("it starts");
    let path = kubeconfig(&mut quickstart);
    quickstart.line_with("until Ctrl-C");
    assert!(3 <= parts(&path).len(), "relay, edge, client proxy: {:?}", parts(&path));
    // A drop kills it as `kill -9` does.
    drop(quickstart);
    // They notice by themselves; how long that takes is the kernel's affair.
    eventually("its parts end", || parts(&path).is_empty());
    let dir = path.parent().expect("a directory");
    fs::remove_dir_all(dir).expect("what it could not take away");
    Ok(())
}

fn a_part_that_ends_is_named() -> Result<(), Absent> {
    let mut quickstart = at_terminal(&program()?.display().to_string())?;
    let path = kubeconfig(&mut quickstart);
    let relay = parts(&path).into_iter().find(|(_, line)| line.contains(" relay "));
    let (relay, _) = relay.expect("the relay runs");
    Command::new("kill").args(["-9", &relay]).status().expect("kill runs");
    quickstart.line_with("quickstart: relay has ended");
    assert_eq!(quickstart.ended(), Some(1));
    assert!(!path.exists(), "it has taken everything away");
    Ok(())
}
