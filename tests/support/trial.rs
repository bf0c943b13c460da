//! Tests that may find something absent: a kubectl of some version, an SDK, curl.
//!
//! The standard harness counts every test that returns as passed. Programs whose tests are made
//! here have `harness = false`, list their tests, and count a test that lacks what it needs as
//! ignored, with what is lacking; the summary says it once more. Options are those of the standard
//! harness; there is one filter at a time.

use std::any::type_name;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

pub(crate) use libtest_mimic::Trial;
use libtest_mimic::{Arguments, Completion};

/// Something that this machine does not have.
#[derive(Debug)]
pub(crate) struct Absent(pub(crate) String);

/// What a test gives back.
pub(crate) trait Ending {
    fn absent(self) -> Option<Absent>;
}

impl Ending for () {
    fn absent(self) -> Option<Absent> {
        None
    }
}

impl Ending for Result<(), Absent> {
    fn absent(self) -> Option<Absent> {
        self.err()
    }
}

/// A test with the name of its function, below that of its module.
pub(crate) fn trial<E: Ending, T: FnOnce() -> E + Send + 'static>(test: T) -> Trial {
    named(name_of::<T>(), test)
}

pub(crate) fn named<E: Ending>(
    name: impl Into<String>,
    test: impl FnOnce() -> E + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, || {
        Ok(match test().absent() {
            None => Completion::Completed,
            Some(Absent(what)) => {
                let reason = format!("there is no {what} here");
                *lacking().entry(what).or_default() += 1;
                Completion::ignored_with(reason)
            }
        })
    })
}

/// `module::function`, without the name of the program.
pub(crate) fn name_of<T>() -> &'static str {
    let name = type_name::<T>();
    name.split_once("::").map_or(name, |(_, name)| name)
}

/// Runs what the command line of `cargo test` asks for.
pub(crate) fn run(trials: impl IntoIterator<Item = Vec<Trial>>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Such tests wait for other processes more than they compute.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(TESTS_PER_CORE * cores);
    let conclusion = libtest_mimic::run(&arguments, trials.into_iter().flatten().collect());
    for (what, count) in std::mem::take(&mut *lacking()) {
        println!("ignored for want of {what}: {count}");
    }
    conclusion.exit_code()
}

/// How many tests found each thing absent.
fn lacking() -> std::sync::MutexGuard<'static, BTreeMap<String, usize>> {
    static LACKING: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
    LACKING.lock().unwrap_or_else(PoisonError::into_inner)
}

const TESTS_PER_CORE: usize = 3;
