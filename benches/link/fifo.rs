//! What programs say the moment they run, through a FIFO: the truth, from outside of all that is measured.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A FIFO, and a program that writes its first argument into it and then sleeps.
pub(crate) struct Fifo {
    said: Receiver<(String, Instant)>,
    program: PathBuf,
    _folder: TempDir,
}

impl Fifo {
    pub(crate) fn new() -> Fifo {
        let folder = tempfile::tempdir().unwrap();
        let [path, program] = ["fifo", "program"].map(|name| folder.path().join(name));
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        std::fs::write(&program, format!("echo \"$1\" >{}\nexec sleep 1000\n", path.display())).unwrap();
        // For writing too, so that it never ends.
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let (sender, said) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(file).lines().map_while(Result::ok) {
                if sender.send((line, Instant::now())).is_err() {
                    return;
                }
            }
        });
        Fifo { said, program, _folder: folder }
    }

    /// The program's command line, to say this.
    pub(crate) fn command(&self, says: &str) -> Vec<String> {
        vec!["sh".into(), self.program.display().to_string(), says.into()]
    }

    /// When this was said; what else was said before is passed over.
    pub(crate) fn wait(&self, what: &str) -> Instant {
        loop {
            let (said, at) = self.said.recv_timeout(Duration::from_secs(60)).expect("the program runs");
            if said == what {
                return at;
            }
        }
    }

    /// Passes over what was said until now.
    pub(crate) fn clear(&self) {
        while self.said.try_recv().is_ok() {}
    }
}
