//! A real sshd on a loopback port, with keys of its own, for the account that runs the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mainstay::model::kinds::Transport;
use mainstay::node::link::Target;
use tempfile::TempDir;

/// A running sshd; ends with the value.
pub struct Sshd {
    directory: TempDir,
    port: u16,
    child: Child,
}

impl Sshd {
    /// Starts one that takes keys only, for the present account.
    pub fn start() -> Sshd {
        Sshd::start_with("PasswordAuthentication no\n")
    }

    /// Starts one with more lines in its configuration.
    pub fn start_with(more: &str) -> Sshd {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        keygen(&at("host"));
        keygen(&at("id"));
        std::fs::copy(at("id.pub"), at("authorized_keys")).unwrap();
        // What is left in the account's home on the node is left in a folder that goes with the test.
        std::fs::create_dir(at("home")).unwrap();
        // sshd as root wants it, and a machine where sshd never ran as a service has none.
        let _ = std::fs::create_dir_all("/run/sshd");
        let port = super::free_port();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized_keys\nPidFile none\n\
             UsePAM no\nStrictModes no\nMaxStartups 100\nLogLevel ERROR\nPrintMotd no\nSetEnv HOME={0}/home\n{more}",
            directory.path().display(),
        );
        std::fs::write(at("config"), config).unwrap();
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(at("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(at("log")).unwrap())
            .spawn()
            .expect("sshd is installed; tests/run does that");
        let log = at("log");
        let sshd = Sshd { directory, port, child };
        super::wait_for("sshd to listen", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() || panic_if_ended(&log)
        });
        sshd
    }

    /// How to reach it, without credentials.
    pub fn target(&self) -> Target {
        Target { transport: Transport::Ssh, port: Some(self.port), username: user(), ..local_target() }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The key that it takes.
    pub fn identity_file(&self) -> String {
        self.directory.path().join("id").display().to_string()
    }

    /// A key that it does not take.
    pub fn stranger_identity(&self) -> String {
        let path = self.directory.path().join("stranger");
        keygen(&path);
        path.display().to_string()
    }

    /// Its host key, as in a known_hosts line without the host.
    pub fn host_key(&self) -> String {
        let line = std::fs::read_to_string(self.directory.path().join("host.pub")).unwrap();
        line.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    /// The account's home on the node.
    pub fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// The pid of the listening sshd.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn panic_if_ended(log: &Path) -> bool {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    assert!(!said.contains("fatal"), "sshd: {said}");
    false
}

fn keygen(path: &PathBuf) {
    let done =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status().unwrap();
    assert!(done.success());
}

/// A node on this machine that needs no login.
pub fn local_target() -> Target {
    Target {
        name: "IN1/ND1".into(),
        transport: Transport::Local,
        host: "127.0.0.1".into(),
        port: None,
        username: String::new(),
        password: None,
        identity_file: None,
        ssh_config: None,
        host_key: None,
        root: String::new(),
        connect_timeout: Duration::from_secs(10),
    }
}

/// The account that runs the test.
pub fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
