//! What everyone can do without us: plain scripts over plain ssh.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tempfile::TempDir;

use crate::support::sshd::{Sshd, user};
use crate::support::{carrying, wait_for};

/// An `ssh … sh` that is kept open and fed with scripts.
pub(crate) struct Kept {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Kept {
    /// Opens one; it need not be there yet when this answers.
    pub(crate) fn open(sshd: &Sshd) -> Kept {
        Kept::spawn(ssh(sshd).args(["--", "127.0.0.1", "sh"]))
    }

    fn spawn(command: &mut Command) -> Kept {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Kept { child, input, output }
    }

    /// Sends a script, which has to end with [`DONE`].
    pub(crate) fn send(&mut self, script: &str) {
        self.input.write_all(script.as_bytes()).unwrap();
        self.input.flush().unwrap();
    }

    /// Waits until a script has said that it is done.
    pub(crate) fn wait(&mut self) {
        let mut line = String::new();
        while line != "DONE\n" {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the shell ended");
        }
    }

    pub(crate) fn run(&mut self, script: &str) {
        self.send(script);
        self.wait();
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A ControlMaster, over which each script is an exec of its own.
pub(crate) struct Master {
    child: Child,
    folder: TempDir,
}

impl Master {
    pub(crate) fn open(sshd: &Sshd) -> Master {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let socket = folder.path().join("c");
        let child =
            ssh(sshd).args(["-M", "-N", "-S"]).arg(&socket).args(["--", "127.0.0.1"]).spawn().unwrap();
        wait_for("the master", || socket.exists());
        Master { child, folder }
    }

    pub(crate) fn run(&self, script: &str) {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-S"]).arg(self.folder.path().join("c")).args(["127.0.0.1", "sh -s"]);
        Kept::spawn(&mut command).run(script);
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ssh(sshd: &Sshd) -> Command {
    let mut command = Command::new("ssh");
    command.args(["-F", "none", "-T", "-x", "-a", "-l", &user(), "-p", &sshd.port().to_string()]);
    command.args(["-i", &sshd.identity_file()]);
    for option in [
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "LogLevel=ERROR",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
    ] {
        command.args(["-o", option]);
    }
    command
}

/// Says that a script is done.
const DONE: &str = "echo DONE\n";

/// Starts processes with a supervisor each, the plainest that does what it is called: a folder, a session of its own, the program in
/// another, started again when it ends, its output in a log, its pid in a file. Done when all pids are there. `root` is exported, so
/// that everything can be found by it.
pub(crate) fn start(root: &str, ids: &[String], program: &str) -> String {
    let mut script = format!("R={root}; export R\n");
    for id in ids {
        script.push_str(&supervised(id, program));
    }
    for id in ids {
        script.push_str(&there(id));
    }
    script + DONE
}

fn supervised(id: &str, program: &str) -> String {
    format!(
        "mkdir -p \"$R/{id}\"\nsetsid -f sh -c 'cd \"$R/{id}\" || exit; echo $$ >sup; while :; do setsid {program} >>log 2>&1 & \
         echo $! >pid; wait; done' </dev/null >/dev/null 2>&1\n"
    )
}

fn there(id: &str) -> String {
    format!("while [ ! -s \"$R/{id}/pid\" ]; do sleep 0.002; done\n")
}

/// Stops one process that [`start`] started, with its supervisor, and starts it (or another program in its place) again.
pub(crate) fn restart(root: &str, id: &str, program: &str) -> String {
    let mut script = format!("R={root}; export R; cd \"$R/{id}\"\n");
    // A zombie is gone; who has to notice that is not our matter.
    script.push_str(
        "read sup <sup; read pid <pid; kill -9 $sup; kill -TERM -$pid\n\
         while read -r s </proc/$pid/stat && case $s in *') Z '*) false ;; esac; do sleep 0.002; done 2>/dev/null\n\
         rm -f pid; cd /\n",
    );
    script.push_str(&supervised(id, program));
    script.push_str(&there(id));
    script + DONE
}

/// Starts programs with nothing that looks after them, and waits for nothing.
pub(crate) fn start_unsupervised(root: &str, ids: &[String], program: &str) -> String {
    let mut script = format!("R={root}; export R; mkdir -p \"$R\"\n");
    for id in ids {
        writeln!(script, "setsid -f {program} >\"$R/{id}.log\" 2>&1 </dev/null &").unwrap();
    }
    script + DONE
}

/// Kills everything that carries this text, which is a path that only the benchmark knows, and removes the folder of that path.
pub(crate) fn clear(path: &str) {
    use rustix::process::{Pid, Signal, kill_process};
    wait_for("the node to be clear", || {
        let left = carrying(path);
        for pid in &left {
            // It may have ended by itself.
            let _ = kill_process(Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap(), Signal::KILL);
        }
        left.is_empty()
    });
    let _ = std::fs::remove_dir_all(path);
}
