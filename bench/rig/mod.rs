#![allow(dead_code, reason = "each bench uses its own part of this")]
//! What several benches need: the chains as processes, what stands at both ends of them, and how
//! the figures are printed.

pub(crate) mod chain;
pub(crate) mod hop;
#[path = "../../bin/quickstart/issuer.rs"]
mod issuer;
pub(crate) mod origin;
pub(crate) mod process;
pub(crate) mod rendezvous;
pub(crate) mod report;
mod sender;
pub(crate) mod stream;
#[path = "../../tests/support/tls.rs"]
pub(crate) mod tls;
#[path = "../../tests/support/upstream.rs"]
pub(crate) mod upstream;

use report::Options;

/// What a bench does in a process of its own: the word that asks for it, which is the first, and
/// what then becomes of the others.
type Part = (&'static str, fn(&[String]));

/// What every bench can be.
const PARTS: [Part; 4] = [
    (process::SELF, process::be_cluster_connect),
    (sender::SENDER, |words| sender::run(words)),
    (origin::ORIGIN, |words| origin::run(words)),
    (hop::HOP, hop::run),
];

/// The `main` of a bench that starts itself again: plays the part that the command line asks for, or
/// else measures.
pub(crate) fn play(measure: fn(&Options)) {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let part = words.split_first().and_then(|(first, rest)| {
        let (_, part) = PARTS.iter().find(|(word, _)| word == first)?;
        Some((part, rest))
    });
    match part {
        Some((part, rest)) => part(rest),
        None => measure(&Options::read()),
    }
}
