//! The real `mainstay` program as a child, and what it says.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;

/// A running `mainstay`. Killed with the value if it still runs then.
pub struct Program {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    readers: [std::thread::JoinHandle<()>; 2],
}

impl Program {
    /// Starts it; everything it says is collected.
    pub fn start(arguments: &[&str]) -> Program {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mainstay"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let readers = [
            collect(BufReader::new(stdout), Arc::clone(&said)),
            collect(BufReader::new(stderr), Arc::clone(&said)),
        ];
        Program { child, said, readers }
    }

    /// `mainstay up` on a folder, with an API on a port of its own and a data folder.
    pub fn up(folder: &Path, data_dir: &Path) -> Program {
        let [folder, data_dir] = [folder, data_dir].map(|path| path.to_str().unwrap());
        Program::start(&["up", folder, "--data-dir", data_dir, "--listen", "127.0.0.1:0"])
    }

    /// `mainstay serve` with an API on a port of its own.
    pub fn serve(data_dir: &Path, more: &[&str]) -> Program {
        let mut arguments =
            vec!["serve", "--data-dir", data_dir.to_str().unwrap(), "--listen", "127.0.0.1:0"];
        arguments.extend(more);
        Program::start(&arguments)
    }

    /// All that it has said, both streams.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    /// Waits until it has said something.
    pub fn wait_for(&self, what: &str) {
        super::wait_for(&format!("{what:?} to be said"), || {
            self.said().contains(what) || self.has_said_all()
        });
        assert!(self.said().contains(what), "never said {what:?}:\n{}", self.said());
    }

    /// True once it has ended and its last words were read.
    fn has_said_all(&self) -> bool {
        self.readers.iter().all(std::thread::JoinHandle::is_finished)
    }

    /// The address of its API, as `http://127.0.0.1:PORT`, or https.
    pub fn api(&self) -> String {
        self.wait_for("/1.0");
        let said = self.said();
        let start = said.find("http").unwrap();
        said[start..start + said[start..].find("/1.0").unwrap()].to_owned()
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        super::signal(self.child.id(), signal);
    }

    /// kill -9, and waits for its end.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ctrl-C, and waits for its end.
    pub fn end(mut self) -> (ExitStatus, String) {
        self.signal(Signal::INT);
        let status = self.child.wait().unwrap();
        super::wait_for("its last words", || self.has_said_all());
        (status, self.said())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(
    stream: impl BufRead + Send + 'static,
    said: Arc<Mutex<Vec<String>>>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for line in stream.lines() {
            let Ok(line) = line else { return };
            said.lock().unwrap().push(line);
        }
    })
}

/// GET of a page, as status and body; none when nothing answers.
pub fn get(url: &str) -> Option<(u16, String)> {
    call("GET", url, "")
}

/// A call with a JSON body.
pub fn call(method: &str, url: &str, body: &str) -> Option<(u16, String)> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(std::time::Duration::from_secs(60)))
        .build()
        .into();
    let request =
        ureq::http::Request::builder().method(method).uri(url).header("Content-Type", "application/json");
    let mut response = match body {
        "" => agent.run(request.body(()).unwrap()),
        body => agent.run(request.body(body.to_owned()).unwrap()),
    }
    .ok()?;
    let text = response.body_mut().read_to_string().ok()?;
    Some((response.status().as_u16(), text))
}

/// One of the program's counters.
pub fn counter(api: &str, name: &str) -> u64 {
    let (_, text) = get(&format!("{api}/metrics")).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("mainstay_{name}_total "))).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}
