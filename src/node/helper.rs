//! Two small things that our own binary does when ssh or we start it again: asking for a password, and launching ssh.
//!
//! Both are here so that no unsafe code is needed: what has to happen in a child before it becomes ssh happens in a program of our
//! own that then becomes ssh.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal};

/// Set in ssh's environment: when ssh starts us, it wants a password.
pub(crate) const ASKPASS: &str = "MAINSTAY_ASKPASS";

/// First argument that makes us launch ssh; then the pid that must be our parent, then ssh's arguments.
pub(crate) const LAUNCH: &str = "launch-ssh";

/// Does the helper's work when we were started for it. Called first thing in `main`.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next();
    if std::env::var_os(ASKPASS).is_some() && first.as_deref().is_none_or(|word| word != LAUNCH) {
        return Some(askpass(&first.unwrap_or_default().to_string_lossy()));
    }
    if first.as_deref().is_some_and(|word| word == LAUNCH) {
        return Some(launch(arguments.collect()));
    }
    None
}

/// Answers ssh's question for the password with the one line that stands in ssh's standard input: ssh closes every other
/// descriptor that it inherits, and an environment or a file could be read by others.
fn askpass(prompt: &str) -> ExitCode {
    let input = std::io::stdin();
    // In an ssh that ssh itself starts (a ProxyJump) descriptor 0 is the transport, no pipe.
    let is_pipe = rustix::fs::fstat(&input)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_fifo());
    // "confirm" and "none" ask for no secret.
    let asks_secret = std::env::var_os("SSH_ASKPASS_PROMPT").is_none_or(|hint| hint.is_empty());
    if !is_pipe || !asks_secret || !wants_login_password(prompt) {
        return ExitCode::FAILURE;
    }
    // Byte by byte: what follows the line is not ours.
    let mut line = Vec::new();
    for byte in input.lock().bytes() {
        match byte {
            Ok(b'\n') => break,
            Ok(byte) => line.push(byte),
            Err(_) => return ExitCode::FAILURE,
        }
    }
    if line.is_empty() {
        return ExitCode::FAILURE;
    }
    line.push(b'\n');
    match std::io::stdout().write_all(&line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Our password goes only to a question for the account's present password. The server words keyboard-interactive
/// questions, so this is a filter against mistakes; what keeps the password safe is that the host key was checked before.
fn wants_login_password(prompt: &str) -> bool {
    let prompt = prompt.to_ascii_lowercase();
    let other = ["passphrase", "(yes/no", "new password", "old password", "current password", " pin "];
    !other.iter().any(|word| prompt.contains(word))
}

/// Becomes ssh, in a session of its own (so that a Ctrl-C in our terminal is not its), bound to end when the controller ends.
fn launch(arguments: Vec<OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let parent = arguments.next().and_then(|word| word.to_str()?.parse().ok()).and_then(Pid::from_raw);
    if let Err(error) = rustix::process::setsid()
        && error != rustix::io::Errno::PERM
    {
        eprintln!("setsid: {error}");
        return ExitCode::FAILURE;
    }
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::TERM)) {
        eprintln!("prctl: {error}");
        return ExitCode::FAILURE;
    }
    // The parent may have ended before the line above.
    if parent.is_none() || rustix::process::getppid() != parent {
        return ExitCode::FAILURE;
    }
    let error = Command::new("ssh").args(arguments).exec();
    eprintln!("can't run ssh: {error}");
    ExitCode::from(127)
}

#[cfg(test)]
mod tests {
    use super::wants_login_password;

    #[test]
    fn only_the_login_password_is_answered() {
        assert!(wants_login_password("cxengage@127.0.0.1's password: "));
        assert!(wants_login_password("(cxengage@127.0.0.1) Password: "));
        for prompt in [
            "Enter passphrase for key 'id': ",
            "Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
            "New password: ",
            "Enter PIN for ECDSA-SK key: enter pin now",
        ] {
            assert!(!wants_login_password(prompt), "{prompt}");
        }
    }
}
