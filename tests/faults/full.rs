//! A relay whose disk is full: it says so, changes nothing, goes on with everything else, and
//! writes again once there is room.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::chain::{Chain, Options};
use super::trial::{Absent, Trial, trial};
use super::{PODS, door, eventually, get, recovers, says};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial(a_relay_with_a_full_disk_refuses_changes_and_does_everything_else)]
}

/// A small file system of its own in place of a directory; what was in there is there again.
struct Disk(PathBuf);

impl Disk {
    fn mount(dir: &Path) -> Result<Self, Absent> {
        let kept = dir.with_extension("kept");
        fs::create_dir(&kept).expect("room for a copy");
        copy(dir, &kept);
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=128k,mode=0700", "tmpfs"]).arg(dir);
        mount.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if !mount.status().is_ok_and(|status| status.success()) {
            return Err(Absent("right to mount a file system (root)".to_owned()));
        }
        copy(&kept, dir);
        Ok(Self(dir.to_owned()))
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let file = OpenOptions::new().create(true).append(true).open(self.filler());
        let mut file = file.expect("room for an empty file");
        while file.write_all(&[0; 1024]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).expect("it is there");
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

/// All files, with their permissions.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("a file");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("room for a copy");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The relay may still have it.
        let done = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(done.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

fn a_relay_with_a_full_disk_refuses_changes_and_does_everything_else() -> Result<(), Absent> {
    let mut chain = Chain::start(Options::default());
    let door = door(&chain.client, "edge-7");
    chain.site.kill_relay();
    let disk = Disk::mount(Path::new(&chain.site.path("relay")))?;
    chain.site.restart_relay();
    recovers(&door);
    let mut open = door.connect();
    open.send(door.request(PODS, ""));
    assert_eq!(open.response().code, 200);

    disk.fill();
    // The end of the last page of the journal is there still: a record or two may fit.
    let names: Vec<String> = (0..8).map(|n| format!("edge-{}", 10 + n)).collect();
    let add = |name: &String| chain.site.try_operator(&["add", name, "--no-join-token"]);
    let (added, refused): (Vec<_>, Vec<_>) =
        names.iter().map(|name| (name, add(name))).partition(|(_, done)| done.is_ok());
    assert!(!refused.is_empty(), "the disk is not full");
    for (name, complaint) in &refused {
        let complaint = complaint.as_ref().expect_err("it was refused");
        let words = ["cannot write its state", "nothing was changed (ServiceUnavailable)"];
        says(complaint, "RELAY_ANSWER", &words);
        let why = chain.site.try_operator(&["show", name]).expect_err("nobody knows it");
        says(&why, "CLUSTER_UNKNOWN", &[]);
    }
    let log = || fs::read_to_string(chain.site.logs().join("relay.log")).expect("a log");
    eventually("the log says why", || log().contains("No space left on device"));

    open.send(door.request(PODS, ""));
    assert_eq!(open.response().code, 200, "what is open goes on");
    assert_eq!(get(&door, PODS).code, 200, "and new sessions are joined");
    super::works(&chain.site, "edge-7", &[]);
    assert!(chain.site.operator(&["list"]).contains("edge-7"));

    disk.make_room();
    let (again, _) = refused[0];
    add(again).expect("there is room again");
    chain.site.kill_relay();
    chain.site.restart_relay();
    let listed = chain.site.operator(&["list"]);
    for name in added.iter().map(|(name, _)| *name).chain([again]) {
        assert!(listed.contains(name.as_str()), "{name} was acknowledged: {listed}");
    }
    for (name, _) in &refused[1..] {
        assert!(!listed.contains(name.as_str()), "{name} was refused: {listed}");
    }
    recovers(&door);
    drop(chain);
    Ok(())
}
