//! The line protocol between the controller and the shell on a node. Pure: encoding and parsing, no I/O.
//!
//! To the node, each word quoted so that a shell takes it as it is:
//!
//! ```text
//! OPEN root epoch revision           take up the conversation; refused when something newer has spoken
//! BATCH epoch revision n bytes       so many bytes follow: n steps, one a line, and END n; nothing is done before all is there
//! LOOK token                         say again how everything is
//! LEASE epoch revision uptime        renew all leases from when the node said this uptime
//! ```
//!
//! From the node:
//!
//! ```text
//! MAINSTAY nonce version boot-id     the greeting; whatever comes before it is rubbish (a motd, an rc file)
//! P id phase pid start restarts exit hash live age health why     how one process is; age in hundredths of a second; the
//!                                    hash is of what it runs and of how it is looked after, with a dot between, and where
//!                                    it runs under a lease the seconds of that, after another dot; health is healthy,
//!                                    unhealthy, unchecked, or - while there is no answer
//! G id                               there is nothing of this process
//! B sum                              the hash of the bundle that is there, or -
//! R path                             our directory there, in full
//! A address here|gone                whether this artifact is there, complete
//! O clock                            opened: all that is there has been said; the node's time of day in seconds, or -
//! K token clock                      looked
//! L uptime                           how long the machine has been up, in hundredths of a second; before O, and after each LEASE
//! E id message                       a step that could not be done; the bundle's id is its hash
//! D revision done|locked|fenced e r  the batch's trailer
//! X unusable|full|fenced why         this node can't be used like this
//! ```
//!
//! **Invariant:** parsing is total: any line is one of these or [`Line::Rubbish`], and no line makes us panic.
//! **Invariant:** an id that a node says keeps the grammar of ids, for it may come back to the node in a batch.

use std::sync::LazyLock;

use crate::model::artifact::check_digest;
use crate::model::id::check_id;
use crate::plan::step::{Action, Care, Check, Probe, Start, Step};
use crate::plan::world::{Health, Phase};

/// Version of the protocol; the script says it in its greeting.
pub const VERSION: &str = "3";

/// Longest line that is read from a node, in bytes; a longer one ends the conversation.
pub const MAX_LINE_BYTES: usize = 16 * 1024;

/// The script that speaks the node's side, in POSIX sh; without the comments and the indentation, for every supervisor carries
/// half of it.
pub static SCRIPT: LazyLock<String> = LazyLock::new(|| {
    let lines = include_str!("script.sh").lines().map(str::trim_start);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect()
});

/// Quotes a word for a POSIX shell, on one line: what comes out is read back as the same word, whatever it holds but NUL
/// (which admit refuses). A newline is written with the variable NL, which the script sets.
pub fn quote(word: &str) -> String {
    let plain = |b: u8| {
        b.is_ascii_alphanumeric()
            || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b',' | b'@' | b'%' | b'+' | b'=')
    };
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    let mut quoted = String::with_capacity(word.len() + 2);
    quoted.push('\'');
    for c in word.chars() {
        match c {
            '\'' => quoted.push_str("'\\''"),
            '\n' => quoted.push_str("'\"$NL\"'"),
            '\0' => {}
            _ => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// The line that opens the conversation.
pub fn open(root: &str, epoch: u64, revision: u64) -> String {
    format!("OPEN {} {epoch} {revision}\n", quote(root))
}

/// The line that asks for everything again.
pub fn look(token: u64) -> String {
    format!("LOOK {token}\n")
}

/// The line that renews all leases on a node, from when it said this uptime, in hundredths of a second. The revision has to be the last
/// that was sent.
pub fn lease(epoch: u64, revision: u64, uptime: u64) -> String {
    format!("LEASE {epoch} {revision} {uptime}\n")
}

/// A batch of steps with its frame. The revision has to be higher than the last batch's of this epoch.
pub fn batch(epoch: u64, revision: u64, steps: &[Step]) -> String {
    let mut lines = String::new();
    for step in steps {
        lines.push_str(&encode(&step.action));
        lines.push('\n');
    }
    lines.push_str(&format!("END {}\n", steps.len()));
    format!("BATCH {epoch} {revision} {} {}\n{lines}", steps.len(), lines.len())
}

fn encode(action: &Action) -> String {
    match action {
        Action::Start { id, start } => encode_start("start", id, start),
        Action::Adopt { id, start } => encode_start("adopt", id, start),
        Action::Restart { id, start } => encode_start("restart", id, start),
        Action::Stop { id, stop } => format!("stop {id} {} {}", stop.signal.name(), stop.grace_seconds),
        Action::Remove { id, stop } => format!("remove {id} {} {}", stop.signal.name(), stop.grace_seconds),
        Action::Reload { id, signal, live } => format!("reload {id} {} {live}", signal.name()),
        Action::Unbundle => "unbundle -".into(),
        Action::Bundle { hash, text } => format!("bundle {hash} {}", quote(text)),
        Action::Discard { address } => format!("discard {address}"),
    }
}

fn encode_start(word: &str, id: &str, start: &Start) -> String {
    let env: Vec<String> =
        start.env.iter().map(|(name, value)| format!("export {name}={}", quote(value))).collect();
    let Care { log, health, lease, hash } = &start.care;
    // In the hash too, for the node gives that back.
    let (said, lease) = match lease {
        Some(seconds) => (format!(".{seconds}"), seconds.to_string()),
        None => (String::new(), "-".into()),
    };
    let mut line = format!(
        "{word} {id} {}.{hash}{said} {} {} {} {} {}:{} {} {lease}",
        start.hash,
        start.live,
        start.stop.signal.name(),
        start.stop.grace_seconds,
        quote(&env.join("; ")),
        log.max_size,
        log.keep,
        health.as_ref().map_or_else(|| "-".into(), |check| quote(&encode_check(check))),
    );
    for argument in &start.command {
        line.push(' ');
        line.push_str(&quote(argument));
    }
    line
}

/// A health check as words of its own, for the checker to read.
fn encode_check(check: &Check) -> String {
    let Check { probe, interval_seconds, timeout_seconds, failure_threshold, success_threshold } = check;
    let mut text = format!("{interval_seconds} {timeout_seconds} {failure_threshold} {success_threshold} ");
    match probe {
        Probe::Tcp { host, port } => text.push_str(&format!("tcp {} {port}", quote(host))),
        Probe::Http { url } => text.push_str(&format!("http {}", quote(url))),
        Probe::Exec { command } => {
            text.push_str("exec");
            for word in command {
                text.push(' ');
                text.push_str(&quote(word));
            }
        }
    }
    text
}

/// The `P` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessLine {
    /// The process's id.
    pub id: String,
    /// How it is.
    pub phase: Phase,
    /// Its pid, while there is one.
    pub pid: Option<u32>,
    /// How often it was started again since it was last told to run.
    pub restarts: u64,
    /// How it last ended: the exit status, or 128 + the signal.
    pub exit: Option<i32>,
    /// Hash of what it was started with.
    pub hash: String,
    /// Hash of how it is looked after.
    pub care: String,
    /// How many seconds its lease lasts; none when it runs under none.
    pub lease: Option<u32>,
    /// Hash of what it was last told by a reload.
    pub live: String,
    /// Since when it has been like this, in milliseconds before now.
    pub age_ms: u64,
    /// What its health check found.
    pub health: Option<Health>,
}

/// How a batch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every step was taken up; those that could not be were told with [`Line::StepFailed`].
    Done,
    /// Another batch held the node's lock for too long; nothing was done.
    Locked,
    /// A newer controller has spoken to this node; nothing was done.
    Fenced {
        /// The newer epoch.
        epoch: u64,
        /// Its last revision.
        revision: u64,
    },
}

/// Something that a node said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The script runs; it knows the nonce, so this is no echo of another time.
    Greeting {
        /// The nonce that the controller chose.
        nonce: String,
        /// The script's protocol version.
        version: String,
        /// Which boot of the machine this is.
        boot: String,
    },
    /// How a process is.
    Process(ProcessLine),
    /// There is nothing of this process on the node.
    Gone(String),
    /// The bundle's hash; none when there is no bundle.
    Bundle(Option<String>),
    /// Our directory there, in full.
    Root(String),
    /// Whether an artifact is there, complete and verified.
    Artifact {
        /// Its address.
        address: String,
        /// Whether it is.
        is_there: bool,
    },
    /// How long the machine has been up, in hundredths of a second, with the time that it was suspended.
    Uptime(u64),
    /// All that is there has been said.
    Opened {
        /// The node's time of day, in seconds since 1970.
        clock_s: Option<u64>,
    },
    /// All that is there has been said again.
    Looked {
        /// Which question this answers.
        token: u64,
        /// The node's time of day, in seconds since 1970.
        clock_s: Option<u64>,
    },
    /// A step that could not be done.
    StepFailed {
        /// The process's id, the bundle's hash, or the artifact's address.
        id: String,
        /// Why, for people.
        message: String,
    },
    /// The trailer of a batch.
    Done {
        /// The batch's revision.
        revision: u64,
        /// How it ended.
        verdict: Verdict,
    },
    /// A newer controller has spoken to this node.
    Fenced(u64),
    /// The node's disk has no room even for what it takes to speak with it.
    Full(String),
    /// The node can't be used like this.
    Unusable(String),
    /// None of these.
    Rubbish,
}

/// Reads one line, without its end.
pub fn parse(line: &str) -> Line {
    known(line).unwrap_or(Line::Rubbish)
}

fn known(line: &str) -> Option<Line> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    Some(match word {
        "MAINSTAY" => {
            let [nonce, version, boot] = words(rest)?;
            Line::Greeting { nonce: nonce.into(), version: version.into(), boot: boot.into() }
        }
        "P" => {
            // The last word is free text, and may be missing.
            let mut parts = rest.splitn(11, ' ');
            let fixed: Vec<&str> = parts.by_ref().take(10).collect();
            let why = printable(parts.next().unwrap_or_default());
            let [id, phase, pid, _start, restarts, exit, hash, live, age, health] = short(fixed)?;
            let age: u64 = age.parse().ok()?;
            check_id(id).ok()?;
            // What has not been started yet has no hash.
            let (hash, care) = hash.split_once('.').unwrap_or((hash, "-"));
            let (care, lease) = match care.split_once('.') {
                Some((care, lease)) => (care, Some(lease.parse().ok()?)),
                None => (care, None),
            };
            Line::Process(ProcessLine {
                id: id.into(),
                phase: phase_of(phase)?,
                pid: optional(pid)?,
                restarts: restarts.parse().ok()?,
                exit: optional(exit)?,
                hash: hash.into(),
                care: care.into(),
                lease,
                live: live.into(),
                age_ms: age.checked_mul(10)?,
                health: match health {
                    "-" => None,
                    "healthy" => Some(Health::Healthy),
                    "unhealthy" => Some(Health::Unhealthy { why }),
                    "unchecked" => Some(Health::Unchecked { why }),
                    _ => return None,
                },
            })
        }
        "G" => {
            let [id] = words(rest)?;
            check_id(id).ok()?;
            Line::Gone(id.into())
        }
        "B" => {
            let [sum] = words(rest)?;
            Line::Bundle((sum != "-").then(|| sum.to_owned()))
        }
        "R" => {
            let is_path = rest.starts_with('/') && rest.len() <= 1024 && !rest.contains(char::is_control);
            is_path.then(|| Line::Root(rest.to_owned()))?
        }
        "A" => {
            let [address, what] = words(rest)?;
            check_digest(address).ok()?;
            let is_there = match what {
                "here" => true,
                "gone" => false,
                _ => return None,
            };
            Line::Artifact { address: address.into(), is_there }
        }
        "L" => {
            let [uptime] = words(rest)?;
            Line::Uptime(uptime.parse().ok()?)
        }
        "O" => {
            let [clock] = words(rest)?;
            Line::Opened { clock_s: optional(clock)? }
        }
        "K" => {
            let [token, clock] = words(rest)?;
            Line::Looked { token: token.parse().ok()?, clock_s: optional(clock)? }
        }
        "E" => {
            let (id, message) = rest.split_once(' ')?;
            Line::StepFailed { id: id.into(), message: printable(message) }
        }
        "D" => {
            let mut rest = rest.split(' ');
            let revision = rest.next()?.parse().ok()?;
            let verdict = match (rest.next()?, rest.next(), rest.next()) {
                ("done", None, None) => Verdict::Done,
                ("locked", None, None) => Verdict::Locked,
                ("fenced", Some(epoch), Some(revision)) => {
                    Verdict::Fenced { epoch: epoch.parse().ok()?, revision: revision.parse().ok()? }
                }
                _ => return None,
            };
            Line::Done { revision, verdict }
        }
        "X" => match rest.split_once(' ')? {
            ("fenced", epoch) => Line::Fenced(epoch.parse().ok()?),
            ("full", why) => Line::Full(printable(why)),
            ("unusable", why) => Line::Unusable(printable(why)),
            _ => return None,
        },
        _ => return None,
    })
}

fn words<const N: usize>(text: &str) -> Option<[&str; N]> {
    short(text.split(' ').collect())
}

/// Just this many words, none of them empty or long.
fn short<const N: usize>(words: Vec<&str>) -> Option<[&str; N]> {
    let fine = words.iter().all(|word| !word.is_empty() && word.len() <= 256);
    if fine { words.try_into().ok() } else { None }
}

fn optional<T: std::str::FromStr>(word: &str) -> Option<Option<T>> {
    if word == "-" { Some(None) } else { word.parse().ok().map(Some) }
}

fn phase_of(word: &str) -> Option<Phase> {
    Some(match word {
        "running" => Phase::Running,
        "backoff" => Phase::Backoff,
        "stopping" => Phase::Stopping,
        "stopped" => Phase::Stopped,
        "unsupervised" => Phase::Unsupervised,
        "lost" => Phase::Lost,
        "busy" => Phase::Busy,
        _ => return None,
    })
}

/// A node's words reach people's terminals, so no control characters, and not too many.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_quoted_word_is_read_back_as_it_was() {
        for word in
            ["", "a b", "'", "a'b\nc", "$(reboot)", "`x`;&|\\", "\"$HOME\"", "\n", "ä\r\t*?[", "-n", "\\n"]
        {
            for shell in ["dash", "bash"] {
                let script = "NL='\n'; eval \"set -- $1\"; printf %s \"$1\"";
                let output = Command::new(shell).args(["-c", script, "x", &quote(word)]).output().unwrap();
                assert_eq!(String::from_utf8_lossy(&output.stdout), word, "{shell}: {}", quote(word));
            }
            assert!(!quote(word).contains('\n'));
        }
    }

    #[test]
    fn what_the_script_says_is_understood() {
        assert_eq!(
            parse("P bc97-a running 71 33 2 137 h1.c1 l1 150 unhealthy no answer"),
            Line::Process(ProcessLine {
                id: "bc97-a".into(),
                phase: Phase::Running,
                pid: Some(71),
                restarts: 2,
                exit: Some(137),
                hash: "h1".into(),
                care: "c1".into(),
                lease: None,
                live: "l1".into(),
                age_ms: 1500,
                health: Some(Health::Unhealthy { why: "no answer".into() }),
            })
        );
        assert_eq!(
            parse("D 7 fenced 9 3"),
            Line::Done { revision: 7, verdict: Verdict::Fenced { epoch: 9, revision: 3 } }
        );
        assert_eq!(parse("B -"), Line::Bundle(None));
        assert_eq!(parse("R /home/a b/x"), Line::Root("/home/a b/x".into()));
        let address = "0a".repeat(32);
        for (what, is_there) in [("here", true), ("gone", false)] {
            let line = Line::Artifact { address: address.clone(), is_there };
            assert_eq!(parse(&format!("A {address} {what}")), line);
        }
        let Line::Process(guarded) = parse("P a running 71 33 0 - h1.c1.30 - 150 -") else {
            panic!("it is a process");
        };
        assert_eq!((guarded.care.as_str(), guarded.lease), ("c1", Some(30)));
        assert_eq!(parse("L 123456"), Line::Uptime(123_456));
        assert_eq!(parse("O 1767225600"), Line::Opened { clock_s: Some(1_767_225_600) });
        assert_eq!(parse("K 7 -"), Line::Looked { token: 7, clock_s: None });
        assert_eq!(parse("X full of it"), Line::Full("of it".into()));
        assert_eq!(parse("E x can't"), Line::StepFailed { id: "x".into(), message: "can't".into() });
    }

    #[test]
    fn a_motd_is_rubbish() {
        for line in [
            "",
            "Welcome to Debian",
            "G $(reboot)",
            "P a;reboot running 1 1 1 1 h l 1 -",
            "P",
            "P a b",
            "D x done",
            "P a running 1 1 1 1 h l 99999999999999999999 -",
            "P a running 1 1 1 1 h l 1 fine",
            "O",
            "O O",
            "R relative",
            "R /a\u{1b}[2J",
            "A 0a here",
            "A $(reboot) here",
            "A 0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a where",
            "K 7",
            "L -",
            "L 1 2",
            "P a running 1 1 1 1 h.c. l 1 -",
            "P a running 1 1 1 1 h.c.1.2 l 1 -",
            "P a running 1 1 1 1 h.c.-1 l 1 -",
        ] {
            assert_eq!(parse(line), Line::Rubbish, "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_lease_is_read_back_as_it_was_sent(seconds: u32) {
            let line = parse(&format!("P a running 1 1 1 1 h.c.{seconds} l 1 -"));
            let is_it = matches!(&line, Line::Process(ProcessLine { lease, .. }) if *lease == Some(seconds));
            proptest::prop_assert!(is_it, "{line:?}");
        }

        #[test]
        fn no_line_makes_the_parser_panic(line in "[PGBRAOKLEDX]?[ ]?.{0,80}") {
            let _ = parse(&line);
        }
    }
}
