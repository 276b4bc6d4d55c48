//! The node's side of a side channel, in the shells and with the tools that nodes have: Debian's dash, bash, and a busybox with
//! nothing beside it.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use mainstay::node::side::SCRIPT;
use tempfile::TempDir;

mod support;

/// A shell, and where its tools are.
struct Shell {
    command: Vec<String>,
    path: String,
}

impl Shell {
    fn new(words: &[&str], path: &str) -> Shell {
        Shell { command: words.iter().map(|word| (*word).to_owned()).collect(), path: path.into() }
    }

    fn run(&self, words: &str) -> Channel {
        let mut child = Command::new("setsid")
            .args(&self.command)
            .args(["-c", SCRIPT, "mainstay", "side", "nonce"])
            .env("PATH", &self.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "{words}").unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut channel = Channel { child, output };
        while channel.line() != "MAINSTAY nonce" {}
        channel
    }
}

struct Channel {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Channel {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "it ended");
        line.trim_end().to_owned()
    }

    /// The next piece; none at the end.
    fn piece(&mut self) -> Option<String> {
        loop {
            let line = self.line();
            let words: Vec<&str> = line.split(' ').collect();
            let ["=", _, _, length] = words[..] else {
                assert_eq!(line, "E");
                return None;
            };
            let mut bytes = vec![0; length.parse().unwrap()];
            self.output.read_exact(&mut bytes).unwrap();
            if self.line() == "+" {
                return Some(String::from_utf8(bytes).unwrap());
            }
        }
    }

    fn whole(mut self) -> String {
        assert!(self.line().starts_with("@ "));
        let mut text = String::new();
        while let Some(piece) = self.piece() {
            text.push_str(&piece);
        }
        text
    }
}

fn busybox(directory: &Path) -> Shell {
    let applets = directory.join("bin");
    std::fs::create_dir(&applets).unwrap();
    let at = |name: &str| applets.join(name).display().to_string();
    let found = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let found = found.expect("busybox is installed; tests/run does that");
    let done = Command::new(found).args(["--install", "-s"]).arg(&applets).status().unwrap();
    assert!(done.success());
    Shell::new(&[&at("sh")], &applets.display().to_string())
}

fn lines(from: u32, to: u32) -> String {
    (from..=to).map(|number| format!("line {number}\n")).collect()
}

/// A process's folder under a root, with lines 1 to 40 in three files.
fn logs(root: &Path) -> PathBuf {
    let folder = root.join("p/a");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, text) in [("log.2", lines(1, 10)), ("log.1", lines(11, 30)), ("log", lines(31, 40))] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    folder
}

fn reads_and_follows(shell: &Shell) {
    let directory = TempDir::new().unwrap();
    let (root, folder) = (directory.path().display().to_string(), logs(directory.path()));
    let at = |name: &str| folder.join(name);
    assert_eq!(shell.run(&format!("log {root} a once all")).whole(), lines(1, 40));
    assert_eq!(shell.run(&format!("log {root} a once last 15")).whole(), lines(26, 40));
    assert_eq!(shell.run(&format!("log {root} a once at - 7")).whole(), lines(2, 40));

    let mut channel = shell.run(&format!("log {root} a follow last 1"));
    assert!(channel.line().starts_with("@ "));
    assert_eq!(channel.piece().unwrap(), lines(40, 40));
    let mut log = std::fs::File::options().append(true).open(at("log")).unwrap();
    log.write_all(lines(41, 42).as_bytes()).unwrap();
    std::fs::rename(at("log.1"), at("log.2")).unwrap();
    std::fs::copy(at("log"), at("log.1")).unwrap();
    log.set_len(0).unwrap();
    log.write_all(lines(43, 43).as_bytes()).unwrap();
    let mut text = String::new();
    while text.len() < lines(41, 43).len() {
        text.push_str(&channel.piece().unwrap());
    }
    assert_eq!(text, lines(41, 43));

    drop(channel.child.stdin.take());
    channel.child.wait().unwrap();
    support::wait_for("nothing of it to be left", || support::working_in(&folder).is_empty());
}

#[test]
fn dash_reads_and_follows_a_log() {
    reads_and_follows(&Shell::new(&["dash"], "/usr/bin:/bin"));
}

#[test]
fn bash_reads_and_follows_a_log() {
    reads_and_follows(&Shell::new(&["bash", "--posix"], "/usr/bin:/bin"));
}

#[test]
fn a_busybox_reads_and_follows_a_log() {
    let directory = TempDir::new().unwrap();
    reads_and_follows(&busybox(directory.path()));
}
