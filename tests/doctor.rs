//! `mainstay doctor` on real SSH servers, whole and broken.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::path::Path;
use std::process::{Command, Output};

mod support;
use support::SmallDisk;
use support::sshd::{NodeShell, Sshd, user};

/// What was said on stdout, and whether all was well.
fn doctor(arguments: &[&str]) -> (String, bool) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_mainstay")).arg("doctor").args(arguments).output().unwrap();
    let said = String::from_utf8(stdout).unwrap();
    assert!(!said.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    (said, status.success())
}

/// Looks at a server as at a machine that is no node yet.
fn look_at(sshd: &Sshd) -> (String, bool) {
    doctor(&[
        "--ssh-config",
        "none",
        "--identity-file",
        &sshd.identity_file(),
        &format!("{}@127.0.0.1:{}", user(), sshd.port()),
    ])
}

/// The line of a check.
fn line<'a>(said: &'a str, check: &str) -> &'a str {
    let is_of = |line: &&str| line.get(6..).is_some_and(|rest| rest.trim_start().starts_with(check));
    said.lines().find(is_of).unwrap_or_else(|| panic!("nothing is said of {check}:\n{said}"))
}

/// A folder with one node.
fn manifest(spec: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "apiVersion: mainstay.dev/v1\nkind: Node\nmetadata: {{name: ND1, namespace: IN1}}\nspec:\n  name: a\n  ip-address: 127.0.0.1\n{spec}"
    );
    std::fs::write(folder.path().join("node.yaml"), text).unwrap();
    folder
}

fn look_at_node(folder: &Path) -> (String, bool) {
    let data = folder.join("no-data");
    doctor(&["-f", folder.to_str().unwrap(), "--data-dir", data.to_str().unwrap(), "IN1/ND1"])
}

fn spec(sshd: &Sshd, more: &str) -> String {
    format!(
        "  port: {}\n  username: {}\n  identity-file: {}\n{more}",
        sshd.port(),
        user(),
        sshd.identity_file()
    )
}

#[test]
fn a_machine_that_will_do_is_fine_but_for_its_host_key_that_nobody_knows_yet() {
    let sshd = Sshd::start();
    let (said, is_fine) = look_at(&sshd);
    assert!(is_fine, "{said}");
    assert!(!said.contains("fail"), "{said}");
    let key = line(&said, "host key");
    assert!(
        key.starts_with("warn") && key.contains(&sshd.fingerprint()) && key.contains(&sshd.host_key()),
        "{said}"
    );
    for check in [
        "address",
        "port",
        "login",
        "shell",
        "flock",
        "tail",
        "setsid",
        "sha256sum",
        "tar",
        "mkfifo",
        "tee",
        "clock",
        "disk",
        "sessions",
        "startups",
    ] {
        assert!(line(&said, check).starts_with("ok"), "{check}:\n{said}");
    }
    let left: Vec<_> = std::fs::read_dir(sshd.home()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_busybox_will_do() {
    let sshd = Sshd::start_as(NodeShell::Busybox, "");
    let (said, is_fine) = look_at(&sshd);
    assert!(is_fine && !said.contains("fail"), "{said}");
}

#[test]
fn a_declared_node_is_logged_in_to_as_its_manifest_says() {
    let sshd = Sshd::start();
    let folder = manifest(&spec(&sshd, &format!("  host-key: {}\n", sshd.host_key())));
    let (said, is_fine) = look_at_node(folder.path());
    assert!(is_fine, "{said}");
    assert!(line(&said, "host key").starts_with("ok    host key    the one that is pinned"), "{said}");
}

#[test]
fn this_machine_needs_no_login() {
    let folder = manifest("  transport: local\n");
    let (said, _) = look_at_node(folder.path());
    assert!(line(&said, "address").contains("this machine"), "{said}");
    assert!(line(&said, "flock").starts_with("ok"), "{said}");
}

#[test]
fn a_key_that_is_recorded_is_known_and_another_one_has_changed() {
    let mut sshd = Sshd::start();
    let folder = manifest(&spec(&sshd, ""));
    let data = folder.path().join("no-data/known_hosts.d");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("IN1+ND1"), format!("IN1+ND1 {}\n", sshd.host_key())).unwrap();
    let (said, is_fine) = look_at_node(folder.path());
    assert!(is_fine && line(&said, "host key").contains("recorded by the server"), "{said}");

    sshd.become_another();
    let (said, is_fine) = look_at_node(folder.path());
    let key = line(&said, "host key");
    assert!(!is_fine && key.starts_with("fail") && key.contains("find out why it changed"), "{said}");
    assert!(!said.contains("login"), "nobody logs in there:\n{said}");
}

#[test]
fn a_port_that_nobody_listens_on_and_one_that_is_no_ssh_are_told_apart() {
    let closed = support::free_port();
    let (said, is_fine) = doctor(&["--ssh-config", "none", &format!("me@127.0.0.1:{closed}")]);
    assert!(!is_fine && line(&said, "port").contains("can't be reached"), "{said}");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        use std::io::Write;
        listener.accept().unwrap().0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let (said, is_fine) = doctor(&["--ssh-config", "none", &format!("me@127.0.0.1:{open}")]);
    server.join().unwrap();
    assert!(!is_fine && line(&said, "port").contains("no SSH server"), "{said}");
}

#[test]
fn a_name_that_does_not_resolve_is_told() {
    // Reserved for being nobody's (RFC 6761, section 6.4).
    let (said, is_fine) = doctor(&["--ssh-config", "none", "me@nowhere.invalid"]);
    assert!(!is_fine && line(&said, "address").starts_with("fail"), "{said}");
}

#[test]
fn a_wrong_login_is_told_with_what_the_server_takes() {
    let sshd = Sshd::start();
    let folder = manifest(&spec(&sshd, "").replace(&sshd.identity_file(), &sshd.stranger_identity()));
    let (said, is_fine) = look_at_node(folder.path());
    let login = line(&said, "login");
    assert!(!is_fine && login.starts_with("fail") && login.contains("publickey"), "{said}");
}

#[test]
fn no_password_is_shown() {
    let sshd = Sshd::start_with("PasswordAuthentication yes\n");
    let folder = manifest(&format!("  port: {}\n  username: {}\n  password: butter\n", sshd.port(), user()));
    let (said, is_fine) = look_at_node(folder.path());
    assert!(!is_fine && line(&said, "login").starts_with("fail") && !said.contains("butter"), "{said}");
}

#[test]
fn an_account_that_runs_no_commands_is_told() {
    let sshd = Sshd::start_with("ForceCommand /bin/false\n");
    let (said, is_fine) = look_at(&sshd);
    assert!(!is_fine && line(&said, "shell").starts_with("fail"), "{said}");
    assert!(line(&said, "login").starts_with("ok"), "{said}");
}

#[test]
fn a_tool_that_is_not_on_the_path_is_told_with_its_package() {
    let tools = tempfile::tempdir().unwrap();
    for entry in ["/bin", "/usr/bin"].iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()) {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if name != "flock" && name != "tar" {
            let _ = std::os::unix::fs::symlink(&path, tools.path().join(name));
        }
    }
    let sshd = Sshd::start_in(&format!("PATH={}", tools.path().display()), "");
    let (said, is_fine) = look_at(&sshd);
    let flock = line(&said, "flock");
    assert!(!is_fine && flock.starts_with("fail") && flock.contains("install util-linux"), "{said}");
    assert!(line(&said, "tar").starts_with("warn"), "{said}");
    assert!(line(&said, "tail").starts_with("ok"), "{said}");
}

#[test]
fn a_full_disk_is_told() {
    let sshd = Sshd::start();
    let disk = SmallDisk::mount(&sshd.home(), "1m");
    disk.fill();
    let (said, is_fine) = look_at(&sshd);
    assert!(!is_fine && line(&said, "disk").contains("is full"), "{said}");
    disk.free();
    let (said, is_fine) = look_at(&sshd);
    assert!(is_fine && line(&said, "disk").starts_with("warn"), "{said}");
}

#[test]
fn a_server_that_grants_little_is_told() {
    let sshd = Sshd::start_with("MaxSessions 1\n");
    let (said, is_fine) = look_at(&sshd);
    let sessions = line(&said, "sessions");
    assert!(is_fine && sessions.starts_with("warn") && sessions.contains("only 1 at once"), "{said}");

    let sshd = Sshd::start_with("MaxStartups 2\n");
    let (said, is_fine) = look_at(&sshd);
    assert!(is_fine && line(&said, "startups").contains("only 2 logins"), "{said}");
}

#[test]
fn programs_are_told_the_same() {
    let sshd = Sshd::start_with("MaxSessions 1\n");
    let machine = format!("{}@127.0.0.1:{}", user(), sshd.port());
    let (said, _) =
        doctor(&["--ssh-config", "none", "--identity-file", &sshd.identity_file(), "-o", "json", &machine]);
    let value: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(value["fine"], true);
    let sessions =
        value["checks"].as_array().unwrap().iter().find(|check| check["check"] == "sessions").unwrap();
    assert_eq!(sessions["state"], "warn");
    assert!(sessions["fix"].as_str().unwrap().contains("MaxSessions"));
}
