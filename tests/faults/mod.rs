//! Bad input and faults, against the real programs: a stable code, a sentence that says what to
//! do, and nothing else harmed.

mod answer;
mod callers;
mod durable;
mod full;
mod hostile;
mod joining;
mod killed;
mod middle;
mod places;
mod resumed;
mod roles;

use std::time::{Duration, Instant};

use crate::chain::{self, Client, Site, replaced};
use crate::raw::{self, Door};
use crate::trial::{self, Trial};
use crate::{door, issuer, kubectl, processes};

pub(crate) fn trials() -> Vec<Trial> {
    let all = [
        callers::trials(),
        durable::trials(),
        full::trials(),
        hostile::trials(),
        joining::trials(),
        killed::trials(),
        places::trials(),
        resumed::trials(),
        roles::trials(),
    ];
    all.into_iter().flatten().collect()
}

const PODS: &str = "/api/v1/namespaces/default/pods";

/// What a program complains of, having ended with code 1.
fn complaint(site: &Site, words: &[&str]) -> String {
    let output = site.command(words).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
    said
}

/// The complaint has this code, and all of these words.
fn says(complaint: &str, code: &str, words: &[&str]) {
    assert!(complaint.contains(&format!("error[{code}]: ")), "{code} is not in: {complaint}");
    for word in words {
        assert!(complaint.contains(word), "{word:?} is not in: {complaint}");
    }
}

/// What `run -- true` as alice complains of, with more options.
fn refusal(site: &Site, cluster: &str, more: &[&str]) -> String {
    complaint(site, &run_words(&replaced(site.client_words(&[cluster]), more)))
}

/// `run -- true` with these options of a client.
fn run_words(client: &[String]) -> Vec<&str> {
    let mut words = vec!["run"];
    words.extend(client.iter().map(String::as_str));
    words.extend(["--", "true"]);
    words
}

/// `run -- true` as alice succeeds.
fn works(site: &Site, cluster: &str, more: &[&str]) {
    let client = replaced(site.client_words(&[cluster]), more);
    let output = site.command(&run_words(&client)).output().expect("run starts");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

fn get(door: &Door, path: &str) -> raw::Response {
    let mut client = door.connect();
    client.send(door.request(path, ""));
    client.response()
}

/// Asks until it is so; what has come back to life may need a moment.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < until, "not in time: {what}");
        // std has no way to wait for another process's state; nothing is decided by this pause.
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A new request gets its answer, soon.
fn recovers(door: &Door) {
    eventually("a new request works", || get(door, PODS).code == 200);
}
