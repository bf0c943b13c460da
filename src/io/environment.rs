//! What the process was started with.

use std::ffi::OsString;
use std::path::PathBuf;

/// The arguments, without the name of the program.
#[must_use]
pub fn arguments() -> Vec<OsString> {
    std::env::args_os().skip(1).collect()
}

/// A variable of the environment. One that is empty or not UTF-8 counts as absent.
#[must_use]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The user's home directory.
#[must_use]
pub fn home() -> Option<PathBuf> {
    variable("HOME").map(PathBuf::from)
}

/// The bytes of the executable that runs, where they can be read.
#[must_use]
pub fn own_executable() -> Option<Vec<u8>> {
    std::env::current_exe().ok().and_then(|path| std::fs::read(path).ok())
}

/// How many threads this process can run at a time; 1 where the system does not say.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Bytes of memory that this process may use, where its control group (cgroup v2) has a limit.
#[must_use]
pub fn memory_limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?.trim_end_matches('/');
    let text = std::fs::read_to_string(format!("/sys/fs/cgroup{own}/memory.max")).ok()?;
    text.trim().parse().ok()
}
