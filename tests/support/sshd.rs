//! A real sshd on a loopback port, with keys of its own, for the account that runs the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mainstay::model::kinds::Transport;
use mainstay::node::link::Target;
use tempfile::TempDir;

/// What the nodes' `/bin/sh` is, and which tools they have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeShell {
    /// The machine's own; dash on Debian.
    Own,
    /// GNU bash, and the machine's own tools.
    Bash,
    /// busybox for everything. Debian's lacks flock, so that is another, kept to the options of busybox's.
    Busybox,
    /// The machine's own, but only the node's own processes are to be seen, as on a machine of its own. With the sshd they all end.
    Alone,
}

/// A running sshd; ends with the value, and so does what was started on its node. A server has to end before, or it starts that again.
pub struct Sshd {
    directory: TempDir,
    port: u16,
    child: Child,
    shell: NodeShell,
}

impl Sshd {
    /// Starts one that takes keys only, for the present account.
    pub fn start() -> Sshd {
        Sshd::start_with("PasswordAuthentication no\n")
    }

    /// Starts one with more lines in its configuration.
    pub fn start_with(more: &str) -> Sshd {
        Sshd::start_any(with_new_keys(), NodeShell::Own, "", more)
    }

    /// Starts one whose nodes have another shell.
    pub fn start_as(shell: NodeShell, more: &str) -> Sshd {
        Sshd::start_any(with_new_keys(), shell, "", more)
    }

    /// Starts one whose sessions have a variable, `NAME=value`, and with more lines in its configuration.
    pub fn start_in(variable: &str, more: &str) -> Sshd {
        Sshd::start_any(with_new_keys(), NodeShell::Own, variable, more)
    }

    /// Starts one with the keys of this one: for many at once, for each of which to make keys would take long.
    pub fn start_another(&self) -> Sshd {
        let directory = make_directory(|path| {
            for name in ["host", "host.pub", "id", "id.pub"] {
                std::fs::copy(self.directory.path().join(name), path.join(name)).unwrap();
            }
        });
        Sshd::start_any(directory, self.shell, "", "PasswordAuthentication no\n")
    }

    fn start_any(directory: TempDir, shell: NodeShell, variable: &str, more: &str) -> Sshd {
        let at = |name: &str| directory.path().join(name);
        std::fs::copy(at("id.pub"), at("authorized_keys")).unwrap();
        // What is left in the account's home on the node is left in a folder that goes with the test.
        std::fs::create_dir(at("home")).unwrap();
        open_to_all(&at("home"), 0o777);
        // sshd as root wants it, and a machine where sshd never ran as a service has none.
        let _ = std::fs::create_dir_all("/run/sshd");
        let port = super::free_port();
        let mut path = String::new();
        if shell == NodeShell::Busybox {
            path = format!(" PATH={}", busybox_tools(&at("tools")));
        }
        // Of this one the last value counts, unlike of all others.
        let startups = if more.contains("MaxStartups") { "" } else { "MaxStartups 100\n" };
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized_keys\nPidFile none\n\
             StrictModes no\n{startups}LogLevel ERROR\nPrintMotd no\nSetEnv HOME={0}/home{path} {variable}\n{more}UsePAM no\n",
            directory.path().display(),
        );
        std::fs::write(at("config"), config).unwrap();
        let child = listen(directory.path(), shell, port);
        Sshd { directory, port, child, shell }
    }

    /// Another machine is there now, at the same address: one with another host key. All connections are broken.
    pub fn become_another(&mut self) {
        self.become_another_of_type("ed25519");
    }

    /// The same, with a host key of this type.
    pub fn become_another_of_type(&mut self, kind: &str) {
        let sessions = super::children(self.child.id());
        self.kill();
        sessions.into_iter().for_each(super::kill);
        for part in ["host", "host.pub"] {
            std::fs::remove_file(self.directory.path().join(part)).unwrap();
        }
        keygen(&self.directory.path().join("host"), kind);
        self.start_again();
    }

    /// The fingerprint of its host key, as ssh shows it.
    pub fn fingerprint(&self) -> String {
        let output = Command::new("ssh-keygen")
            .arg("-lf")
            .arg(self.directory.path().join("host.pub"))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
    }

    /// kill -9 of the listener, and of it alone: those who are logged in stay.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after [`Sshd::kill`], at the same address and with the same keys.
    pub fn start_again(&mut self) {
        self.child = listen(self.directory.path(), self.shell, self.port);
    }

    /// Its folder. The path stands in the environment of all who are logged in, for their home is in it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
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
        keygen(&path, "ed25519");
        path.display().to_string()
    }

    /// Its host key, as in a known_hosts line without the host.
    pub fn host_key(&self) -> String {
        let line = std::fs::read_to_string(self.directory.path().join("host.pub")).unwrap();
        line.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    /// The home of the account on the node.
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
        // What is supervised outlives its session. All that is started on the node has its home in its environment; ssh, which logs in to
        // it from outside, has only the folder of its key in its arguments.
        if self.shell != NodeShell::Alone {
            super::kill_all(&self.home().display().to_string());
        }
    }
}

/// A folder with nothing but busybox, and a flock that can do what busybox's can; its path.
fn busybox_tools(folder: &Path) -> String {
    std::fs::create_dir(folder).unwrap();
    let done = Command::new("busybox").args(["--install", "-s"]).arg(folder).status();
    assert!(done.expect("busybox is installed; tests/run does that").success());
    let flock = folder.join("flock");
    std::fs::write(&flock, "#!/bin/sh\ncase $1 in -[sxun]) exec /usr/bin/flock \"$@\" ;; esac\nexit 1\n")
        .unwrap();
    open_to_all(&flock, 0o755);
    folder.display().to_string()
}

fn with_new_keys() -> TempDir {
    make_directory(|path| ["host", "id"].iter().for_each(|name| keygen(&path.join(name), "ed25519")))
}

/// An sshd's folder, with keys in it.
fn make_directory(put_keys: impl FnOnce(&Path)) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    // Another account than the test's may log in, and has its home here.
    open_to_all(directory.path(), 0o755);
    put_keys(directory.path());
    directory
}

fn open_to_all(folder: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// An account of this machine with a password, for as long as the value lives.
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
}

impl Account {
    /// Makes one; as root only.
    pub fn new() -> Account {
        use std::io::Write;
        let name = format!("mainstay-test-{}", super::free_port());
        let password = format!("it's a \"test\" {}", super::free_port());
        let made = Command::new("useradd").args(["-M", "-s", "/bin/sh", "-d", "/", &name]).status();
        assert!(made.unwrap().success(), "an account is made as root; run the tests as root");
        let account = Account { name, password };
        let mut setting = Command::new("chpasswd").stdin(Stdio::piped()).spawn().unwrap();
        let line = format!("{}:{}\n", account.name, account.password);
        setting.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
        assert!(setting.wait().unwrap().success());
        account
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let _ = Command::new("userdel").args(["-f", &self.name]).stderr(Stdio::null()).status();
    }
}

fn listen(directory: &Path, shell: NodeShell, port: u16) -> Child {
    // Only what this sshd starts sees another program under that name.
    let script = "mount --bind \"$0\" /bin/sh && exec \"$@\"";
    let within: &[&str] = match shell {
        NodeShell::Own => &["env"],
        NodeShell::Bash => &["unshare", "-m", "/bin/bash", "-c", script, "/bin/bash"],
        NodeShell::Busybox => &["unshare", "-m", "/bin/bash", "-c", script, "/bin/busybox"],
        NodeShell::Alone => &["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"],
    };
    let log = directory.join("log");
    let child = Command::new(within[0])
        .args(&within[1..])
        .args(["/usr/sbin/sshd", "-D", "-e", "-f"])
        .arg(directory.join("config"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .expect("sshd is installed; tests/run does that");
    super::wait_for("sshd to listen", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() || panic_if_ended(&log)
    });
    child
}

fn panic_if_ended(log: &Path) -> bool {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    assert!(!said.contains("fatal"), "sshd: {said}");
    false
}

/// An sshd with what is in this directory, that listens.
fn keygen(path: &Path, kind: &str) {
    let done =
        Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-f"]).arg(path).status().unwrap();
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
