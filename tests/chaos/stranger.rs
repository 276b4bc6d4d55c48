//! Somebody else's process that has a pid which was ours.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::census::look_at_stat;

/// How often the pid is tried for: other processes of this machine take pids too.
const TRIES: usize = 100;

/// A stranger; ends with the value.
pub(crate) struct Stranger(Child);

impl Stranger {
    /// Has a stranger in the place of a program that is gone: with its very pid where the kernel lets itself be told which
    /// pid comes next and nobody has it, else with the program's record naming the stranger's pid, which looks the same to
    /// who reads it. Answers how it was done; none when the record names another by now.
    pub(crate) fn in_place_of(pid: u32, record: &Path) -> Option<(Stranger, &'static str)> {
        let text = std::fs::read_to_string(record).ok()?;
        // 1 PHASE BOOT SUP SUPSTART PID START …
        let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let named = words.get_mut(5).filter(|word| **word == pid.to_string())?;
        for _ in 0..TRIES {
            if std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).is_err() {
                break;
            }
            let stranger = Stranger::start();
            if stranger.0.id() == pid {
                return Some((stranger, "give the pid to a stranger"));
            }
        }
        let stranger = Stranger::start();
        *named = stranger.0.id().to_string();
        std::fs::write(record, format!("{}\n", words.join(" "))).ok()?;
        Some((stranger, "give a stranger's pid to the record"))
    }

    /// Leads a session, as the program did, so that its number is a session's too.
    fn start() -> Stranger {
        let child = Command::new("setsid")
            .args(["sleep", "86400"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Stranger(child)
    }

    pub(crate) fn lives(&self) -> bool {
        look_at_stat(self.0.id()).is_some()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
