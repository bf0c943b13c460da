//! Dependencies point one way, and only `io` touches the world. Read from the source text, so that
//! nobody has to remember it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// In order: each may use itself, what stands before it, and what has no layer (`limits`, `secret`).
const LAYERS: [&str; 8] = ["buf", "wire", "engine", "auth", "role", "io", "config", "start"];

/// Layers that may name sockets, threads, clocks, files and the environment. `start` joins roles
/// to them, before there is a loop.
const WORLDLY: [&str; 2] = ["io", "start"];

/// What stands for the world.
const EFFECTS: [&str; 17] = [
    "mio::",
    "socket2::",
    "signal_hook",
    "ureq::",
    "TcpStream",
    "TcpListener",
    "UnixStream",
    "UnixListener",
    "UdpSocket",
    "Instant::now",
    "SystemTime::now",
    "SystemRandom",
    "std::thread",
    "std::fs",
    "std::env",
    "std::process",
    "std::io::std",
];

/// Lines of one file.
const LINES_MAX: usize = 500;

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn layer(&self) -> Option<usize> {
        let first = self.path.strip_prefix("src").ok()?.components().next()?;
        let name = first.as_os_str().to_str()?.trim_end_matches(".rs");
        LAYERS.iter().position(|layer| *layer == name)
    }

    fn is_test(&self) -> bool {
        let name = self.path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let in_tests = self.path.components().any(|part| part.as_os_str() == "tests");
        in_tests || name.ends_with("tests") || name == "testing"
    }

    /// Lines that are not comments, up to the tests, and their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        let lines = lines.take_while(|(_, line)| *line != "mod tests {");
        lines.map(|(number, line)| (number + 1, line.split("//").next().unwrap_or(line)))
    }

    fn at(&self, number: usize, line: &str) -> String {
        format!("{}:{number}: {}", self.path.display(), line.trim())
    }
}

fn sources(of: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(of)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path).expect("UTF-8");
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// What `line` names behind `crate::`, also in braces.
fn named(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("crate::").flat_map(|(at, start)| {
        let rest = &line[at + start.len()..];
        let list = rest.strip_prefix('{').map(|rest| rest.split('}').next().unwrap_or(rest));
        let parts: Vec<&str> = match list {
            Some(list) => list.split(',').collect(),
            None => vec![rest],
        };
        parts.into_iter().map(|part| {
            let part = part.trim();
            part.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(part)
        })
    })
}

#[test]
fn no_layer_uses_a_later_one() {
    let mut faults = Vec::new();
    for source in sources("src") {
        for (number, line) in source.code() {
            let used = named(line).filter_map(|name| LAYERS.iter().position(|it| *it == name));
            for layer in used {
                // What has no layer is below them all; the crate's root is above.
                let is_root = source.path == Path::new("src/lib.rs");
                let own = source.layer().or_else(|| is_root.then_some(LAYERS.len()));
                if own.is_none_or(|own| own < layer) {
                    faults.push(source.at(number, line));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn only_io_touches_the_world() {
    let mut faults = Vec::new();
    for source in sources("src") {
        let layer = source.layer().and_then(|layer| LAYERS.get(layer));
        if source.is_test() || layer.is_some_and(|layer| WORLDLY.contains(layer)) {
            continue;
        }
        for (number, line) in source.code() {
            if EFFECTS.iter().any(|effect| line.contains(effect)) {
                faults.push(source.at(number, line));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn no_file_is_longer_than_one_idea() {
    let mut faults = Vec::new();
    for source in ["src", "bin", "tests"].into_iter().flat_map(sources) {
        let lines = source.text.lines().count();
        if LINES_MAX < lines {
            faults.push(format!("{}: {lines} lines", source.path.display()));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn nothing_is_left_to_a_harness_that_is_not_there() {
    let manifest = fs::read_to_string("Cargo.toml").expect("readable");
    let programs = manifest.split("[[test]]").skip(1).map(|rest| rest.split("[[").next());
    let alone = programs.flatten().filter(|program| program.contains("harness = false"));
    let named = alone.filter_map(|program| program.split('"').nth(1));
    let mut listed: Vec<String> = named.map(|name| format!("tests/{name}")).collect();
    assert!(3 <= listed.len(), "{listed:?}");
    // Programs of one file, and what several of them share.
    listed.retain(|place| Path::new(place).is_dir());
    listed.extend(["tests/faults", "tests/demo"].map(str::to_owned));
    let faults: Vec<String> = listed
        .iter()
        .map(String::as_str)
        .flat_map(sources)
        .filter(|source| source.text.contains("#[test]"))
        .map(|source| source.path.display().to_string())
        .collect();
    assert!(faults.is_empty(), "list them in trials(): {faults:?}");
}

/// In what is shipped; tests may hold more.
#[test]
fn no_executable_holds_a_crate_in_two_versions() {
    let tree = |more: &[&str]| {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none"])
            .args(["--target", "x86_64-unknown-linux-musl"])
            .args(more)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert!(tree(&[]).contains("rustls v"), "this is how dependencies are listed");
    let twice = tree(&["--duplicates"]);
    assert!(twice.trim().is_empty(), "{twice}");
}
