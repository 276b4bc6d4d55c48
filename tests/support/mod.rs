//! What several tests need: real servers on loopback, and looks at processes from outside.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

pub mod etcd;
pub mod program;
pub mod proxy;
pub mod served;
pub mod sshd;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Waits for something that another process does, a minute at most; nothing waits that long when it works.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// True while a process is there and no zombie.
pub fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| !matches!(fields[0].as_str(), "Z" | "X"))
}

/// A process's parent.
pub fn parent(pid: u32) -> u32 {
    stat(pid).expect("the process is there")[1].parse().unwrap()
}

/// A process's children.
pub fn children(parent: u32) -> Vec<u32> {
    matching(|_, _| true)
        .into_iter()
        .filter(|pid| stat(*pid).is_some_and(|fields| fields[1] == parent.to_string()))
        .collect()
}

/// The fields of /proc/PID/stat after the name.
pub fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

/// kill -9.
pub fn kill(pid: u32) {
    signal(pid, rustix::process::Signal::KILL);
}

/// kill -9 for every process that carries a text of the test's own, such as its folder, until none is left: a supervisor may start
/// again what was killed before it.
pub fn kill_all(text: &str) {
    wait_for("all to be killed", || {
        let left = carrying(text);
        for pid in &left {
            if let Some(pid) = i32::try_from(*pid).ok().and_then(rustix::process::Pid::from_raw) {
                // It may have ended meanwhile.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        left.is_empty()
    });
}

/// A folder of a test whose processes end with the value, after a failure too: what runs on a node that is this machine would go on.
pub struct Swept(pub PathBuf);

impl Drop for Swept {
    fn drop(&mut self) {
        kill_all(&self.0.display().to_string());
    }
}

/// Sends a signal to a process that the test started.
pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// A port that nothing listens on, and that no other test of this program was given: below those that the kernel hands out, so that
/// no client's socket takes it meanwhile.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(101).wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(19_000 + number % 12_000).unwrap();
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// Pids of this machine's processes whose command line or environment holds a text, in order.
pub fn carrying(text: &str) -> Vec<u32> {
    let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    matching(|command, environment| holds(command) || holds(environment))
}

/// Pids of this machine's processes that have a variable with a value in their environment, in order.
pub fn with_variable(name: &str, value: &str) -> Vec<u32> {
    let variable = format!("{name}={value}");
    matching(|_, environment| environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes()))
}

/// The values of a variable, by pid, of this machine's processes that have it and whose environment holds a text.
pub fn variable_of(text: &str, name: &str) -> Vec<(u32, String)> {
    let start = format!("{name}=");
    let value = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let environment = String::from_utf8_lossy(&environment).into_owned();
        let entry = environment.split('\0').find_map(|entry| entry.strip_prefix(&start).map(str::to_owned));
        entry.filter(|_| environment.contains(text))
    };
    let found =
        matching(|_, environment| environment.windows(start.len()).any(|part| part == start.as_bytes()));
    found.into_iter().filter_map(|pid| Some((pid, value(&pid)?))).collect()
}

/// Pids of this machine's processes that work in a directory, in order.
pub fn working_in(directory: &std::path::Path) -> Vec<u32> {
    let directory = directory.canonicalize().unwrap();
    let mut found: Vec<u32> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == directory))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| is_alive(*pid))
        .collect();
    found.sort_unstable();
    found
}

/// Pids of the living whose command line and environment match.
fn matching(matches: impl Fn(&[u8], &[u8]) -> bool) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        if pid != std::process::id() && matches(&read("cmdline"), &read("environ")) && is_alive(pid) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    found
}

/// A small disk of its own, that can be filled; unmounted with the value.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one on a folder. Needs root.
    pub fn mount(at: &Path, size: &str) -> SmallDisk {
        let options = format!("size={size},mode=1777");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).status();
        assert!(mount.unwrap().success(), "a disk can't be mounted here; run the tests as root");
        SmallDisk(at.to_owned())
    }

    /// Fills it to the last byte.
    pub fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.filler()).unwrap();
        for size in [4096, 512, 1] {
            while file.write_all(&[0; 4096][..size]).is_ok() {}
        }
    }

    /// Gives that room back.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.join(".filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
