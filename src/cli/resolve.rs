//! What ssh makes of a host: its account, address, port and keys, by `ssh -G`, which connects to nothing.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::home;
use crate::model::admit::{check_host, check_user_name};

/// How long ssh may take to say it; a `Match exec` of a person's ssh_config may run programs.
const WITHIN: Duration = Duration::from_secs(10);

/// Most that is read of what a program says.
const MAX_SAID_BYTES: usize = 256 * 1024;

/// A host as people type it: `[user@]host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Typed {
    pub(super) user: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

impl std::str::FromStr for Typed {
    type Err = String;

    fn from_str(text: &str) -> Result<Typed, String> {
        let wrong = |why: &str| format!("{text:?} is no [user@]host[:port]: {why}");
        let (user, place) = match text.rsplit_once('@') {
            Some((user, place)) => {
                check_user_name(user).map_err(|why| wrong(&why))?;
                (Some(user.to_owned()), place)
            }
            None => (None, text),
        };
        // An IPv6 address has colons of its own: one with a port stands in brackets.
        let (host, port) = match place.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(None) => return Err(wrong("the bracket is not closed")),
            Some(Some((host, ""))) => (host, None),
            Some(Some((host, rest))) => {
                (host, Some(rest.strip_prefix(':').ok_or_else(|| wrong("a port stands after a colon"))?))
            }
            None if place.matches(':').count() > 1 => (place, None),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let port = match port.map(str::parse) {
            None => None,
            Some(Ok(0) | Err(_)) => return Err(wrong("a port is a number from 1 to 65535")),
            Some(Ok(port)) => Some(port),
        };
        check_host(host).map_err(|why| wrong(&why))?;
        Ok(Typed { user, host: host.to_owned(), port })
    }
}

/// What ssh would do with a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) user: String,
    pub(super) host: String,
    pub(super) port: u16,
    /// Those that were configured for the host, and are not just ssh's usual ones.
    pub(super) identity_files: Vec<String>,
    /// Reached through another host or program, so that its address can't be tried from here.
    pub(super) is_proxied: bool,
    /// Where its host key may be recorded.
    pub(super) known_hosts: Vec<String>,
}

/// Asks ssh. `config` is an ssh_config to obey instead of the person's own; `none` for no such file.
///
/// # Errors
/// A sentence that says why ssh does not know.
pub(super) async fn resolve(typed: &Typed, config: Option<&str>) -> Result<Resolved, String> {
    let usual = parse(&ask(typed, Some("none")).await?);
    let mut resolved = parse(&ask(typed, config).await?);
    resolved.identity_files.retain(|file| !usual.identity_files.contains(file));
    Ok(resolved)
}

async fn ask(typed: &Typed, config: Option<&str>) -> Result<String, String> {
    let mut command = Command::new("ssh");
    command.arg("-G").arg("-T");
    if let Some(config) = config {
        command.arg("-F").arg(home::expand(config));
    }
    if let Some(user) = &typed.user {
        command.args(["-l", user]);
    }
    if let Some(port) = typed.port {
        command.args(["-p", &port.to_string()]);
    }
    command.args(["--", &typed.host]);
    said(command, WITHIN).await
}

/// What a program says on stdout.
///
/// # Errors
/// A sentence: it is not there, takes too long, or its last words where it failed.
pub(super) async fn said(mut command: Command, within: Duration) -> Result<String, String> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).kill_on_drop(true).env("LC_ALL", "C");
    let output = match timeout(within, command.output()).await {
        Ok(output) => output.map_err(|error| format!("can't run {program}: {error}"))?,
        Err(_) => return Err(format!("{program} did not answer within {} s", within.as_secs())),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_SAID_BYTES)]).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let last = text(&output.stderr);
    let last = last.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed without a word");
    Err(format!("{program}: {}", super::client::printable(last)))
}

fn parse(said: &str) -> Resolved {
    let mut resolved = Resolved { port: 22, ..Resolved::default() };
    for line in said.lines() {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        match name {
            "user" => resolved.user = value.to_owned(),
            "hostname" => resolved.host = value.to_owned(),
            "port" => resolved.port = value.parse().unwrap_or(22),
            "identityfile" => resolved.identity_files.push(value.to_owned()),
            "proxyjump" | "proxycommand" => resolved.is_proxied |= value != "none",
            "userknownhostsfile" | "globalknownhostsfile" => {
                resolved.known_hosts.extend(value.split(' ').map(str::to_owned));
            }
            _ => {}
        }
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Option<(Option<String>, String, Option<u16>)> {
        text.parse::<Typed>().ok().map(|Typed { user, host, port }| (user, host, port))
    }

    #[test]
    fn a_host_has_an_account_and_a_port_if_it_is_said() {
        let host =
            |user: Option<&str>, host: &str, port| Some((user.map(str::to_owned), host.to_owned(), port));
        assert_eq!(typed("box"), host(None, "box", None));
        assert_eq!(typed("me@box.example.org:2222"), host(Some("me"), "box.example.org", Some(2222)));
        assert_eq!(typed("2001:db8::1"), host(None, "2001:db8::1", None));
        assert_eq!(typed("me@[2001:db8::1]:22"), host(Some("me"), "2001:db8::1", Some(22)));
        assert_eq!(typed("[::1]"), host(None, "::1", None));
    }

    #[test]
    fn what_ssh_or_a_shell_would_read_otherwise_is_no_host() {
        for text in [
            "",
            "-oProxyCommand=x",
            "me@",
            "@box",
            "-l@box",
            "box:0",
            "box:99999",
            "box:ssh",
            "[::1",
            "[::1]22",
            "a b",
            "$(x)",
        ] {
            assert_eq!(typed(text), None, "{text}");
        }
    }

    #[test]
    fn what_ssh_says_is_read() {
        let said = "user me\nhostname h\nport 2222\nidentityfile ~/.ssh/a\nproxyjump none\nproxycommand nc h\n\
                    userknownhostsfile /a /b\n";
        let resolved = parse(said);
        assert_eq!((resolved.user.as_str(), resolved.host.as_str(), resolved.port), ("me", "h", 2222));
        assert_eq!((resolved.identity_files.len(), resolved.is_proxied), (1, true));
        assert_eq!(resolved.known_hosts, ["/a", "/b"]);
        assert!(!parse("proxyjump none\n").is_proxied);
    }
}
