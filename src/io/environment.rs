//! What the process was started with.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

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

/// Bytes of memory that this process may use, where its control group, of either version, or one
/// above it has a limit.
#[must_use]
pub fn memory_limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let files = groups.lines().filter_map(memory_group).flat_map(|(root, group, limit)| {
        // In a container the path may be the host's: then the root is the container's own.
        Path::new(group).ancestors().map(move |group| root.join(group).join(limit))
    });
    // Where there is no limit a file says "max", or a number beyond all memory.
    files.filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok()).min()
}

/// What a line of `/proc/self/cgroup` says of memory: where its groups are, the group, and the file
/// that has the limit of one.
fn memory_group(line: &str) -> Option<(&'static Path, &str, &'static str)> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, group) = rest.split_once(":/")?;
    if controllers.is_empty() {
        return Some((Path::new("/sys/fs/cgroup"), group, "memory.max"));
    }
    let is_memory = controllers.split(',').any(|it| it == "memory");
    is_memory.then(|| (Path::new("/sys/fs/cgroup/memory"), group, "memory.limit_in_bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_group_is_found_in_both_versions() {
        let v2 = (Path::new("/sys/fs/cgroup"), "kubepods/pod1", "memory.max");
        assert_eq!(memory_group("0::/kubepods/pod1"), Some(v2));
        let v1 = (Path::new("/sys/fs/cgroup/memory"), "docker/a:b", "memory.limit_in_bytes");
        assert_eq!(memory_group("4:memory:/docker/a:b"), Some(v1));
        let joint = memory_group("5:cpu,memory:/").expect("it counts memory");
        assert_eq!(joint.1, "");
        for other in ["3:cpuset:/x", "1:name=systemd:/", "", "0:", "4:memory"] {
            assert_eq!(memory_group(other), None, "{other}");
        }
    }
}
