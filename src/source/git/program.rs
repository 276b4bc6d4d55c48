//! The program git, and how it is run: with an argv of ours, no shell, and nothing that a repository holds is run or changes what we see.
//!
//! Only a bare mirror of our own is written, and blobs are read out of it as they are: there is no checkout, so no filters, links,
//! submodules or hooks. Whoever runs the server may have set up git for it: credentials, a proxy, `insteadOf`; that counts.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a fetch may take, and anything else.
pub(super) const FETCH_WITHIN: Duration = Duration::from_secs(120);
pub(super) const READ_WITHIN: Duration = Duration::from_secs(60);

/// How long git has to put its locks away when it takes too long.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Most that is read of what git says, and of what it answers.
const MAX_SAID: u64 = 4 * 1024;
const MAX_ANSWER: u64 = 64 * 1024 * 1024;

/// Variables of the environment that would have git work on something else.
const NOT_OURS: [&str; 10] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_SHALLOW_FILE",
    "GIT_TRACE",
    "GIT_WORK_TREE",
];

/// What is set for every command. No hooks; nothing goes on when it has ended.
const CONFIG: [&str; 6] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "gc.autoDetach=false",
    "maintenance.autoDetach=false",
    "submodule.recurse=false",
    "transfer.bundleURI=false",
];

/// Why git did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum GitError {
    /// It can't be started.
    #[error("the program git can't be run; it has to be installed where this server runs")]
    Start(#[source] std::io::Error),
    /// It said no.
    #[error("git says: {said}")]
    Refused { said: String },
    /// It took too long.
    #[error("git did not end within {} s", within.as_secs())]
    TimedOut { within: Duration },
    /// What it answers is not what it should.
    #[error("git can't be understood: {what}")]
    Strange { what: &'static str },
    /// It can't be heard.
    #[error("git broke off")]
    Broken(#[source] std::io::Error),
}

/// git on a mirror.
pub(super) struct Program {
    mirror: PathBuf,
}

impl Program {
    pub(super) fn new(mirror: PathBuf) -> Program {
        Program { mirror }
    }

    pub(super) fn mirror(&self) -> &Path {
        &self.mirror
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        for setting in CONFIG {
            command.args(["-c", setting]);
        }
        command.arg("--git-dir").arg(&self.mirror).args(arguments);
        for name in NOT_OURS {
            command.env_remove(name);
        }
        command
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", "file:https:ssh")
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .env("LC_ALL", "C");
        // ssh, too, has nobody to ask.
        if std::env::var_os("SSH_ASKPASS").is_none() {
            command.env("SSH_ASKPASS", "false").env("SSH_ASKPASS_REQUIRE", "force");
        }
        // A group of its own, to be ended with all that it has started.
        command.process_group(0).kill_on_drop(true).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What a command answers.
    pub(super) async fn answer(&self, arguments: &[&str], within: Duration) -> Result<Vec<u8>, GitError> {
        let mut running = Running(self.command(arguments).spawn().map_err(GitError::Start)?);
        let work = async {
            let (stdout, stderr) = (running.0.stdout.take(), running.0.stderr.take());
            let (answer, said) = tokio::join!(up_to(stdout, MAX_ANSWER + 1), up_to(stderr, MAX_SAID));
            let status = running.0.wait().await.map_err(GitError::Broken)?;
            let (answer, said) = (answer.map_err(GitError::Broken)?, said.map_err(GitError::Broken)?);
            if !status.success() {
                return Err(GitError::Refused { said: spoken(&said, status.code()) });
            }
            if answer.len() as u64 > MAX_ANSWER {
                return Err(GitError::Strange { what: "it answers too much" });
            }
            Ok(answer)
        };
        match timeout(within, work).await {
            Ok(answer) => answer,
            Err(_) => {
                running.end().await;
                Err(GitError::TimedOut { within })
            }
        }
    }

    /// The bytes of blobs, in their order, by their ids; none of one that is larger than so many.
    pub(super) async fn blobs(&self, ids: &[&str], most: usize) -> Result<Vec<Option<Vec<u8>>>, GitError> {
        let mut command = self.command(&["cat-file", "--batch"]);
        command.stdin(Stdio::piped()).stderr(Stdio::null());
        let mut running = Running(command.spawn().map_err(GitError::Start)?);
        let strange = GitError::Strange { what: "no pipe" };
        let (Some(mut asks), Some(answers)) = (running.0.stdin.take(), running.0.stdout.take()) else {
            return Err(strange);
        };
        let mut answers = BufReader::new(answers);
        let work = async {
            let mut found = Vec::new();
            for id in ids {
                asks.write_all(format!("{id}\n").as_bytes()).await.map_err(GitError::Broken)?;
                asks.flush().await.map_err(GitError::Broken)?;
                found.push(blob(&mut answers, id, most).await?);
            }
            Ok(found)
        };
        match timeout(READ_WITHIN, work).await {
            Ok(found) => found,
            Err(_) => {
                running.end().await;
                Err(GitError::TimedOut { within: READ_WITHIN })
            }
        }
    }
}

/// One answer of `git cat-file --batch`: `ID blob SIZE`, the bytes, and the end of a line.
async fn blob(
    answers: &mut BufReader<impl AsyncRead + Unpin>,
    id: &str,
    most: usize,
) -> Result<Option<Vec<u8>>, GitError> {
    let mut head = String::new();
    let line = answers.take(256).read_line(&mut head).await;
    line.map_err(GitError::Broken)?;
    let size = head.trim_end().strip_prefix(id).and_then(|rest| rest.strip_prefix(" blob "));
    let Some(size) = size.and_then(|size| size.parse::<u64>().ok()) else {
        return Err(GitError::Strange { what: "a blob is missing" });
    };
    let mut rest = answers.take(size + 1);
    if size > most as u64 {
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.map_err(GitError::Broken)?;
        return Ok(None);
    }
    let mut bytes = Vec::new();
    rest.read_to_end(&mut bytes).await.map_err(GitError::Broken)?;
    match bytes.pop() {
        Some(b'\n') if bytes.len() as u64 == size => Ok(Some(bytes)),
        Some(_) | None => Err(GitError::Strange { what: "a blob is cut short" }),
    }
}

/// Reads so much, and drops the rest, so that whoever writes it can end.
async fn up_to(stream: Option<impl AsyncRead + Unpin>, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        (&mut stream).take(most).read_to_end(&mut bytes).await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}

/// What git said, as one line.
fn spoken(said: &[u8], code: Option<i32>) -> String {
    let said = String::from_utf8_lossy(said);
    let lines = said.lines().map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>());
    let lines: Vec<String> =
        lines.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    match lines.is_empty() {
        true => format!("nothing, and ended with {code:?}"),
        false => lines.join("; "),
    }
}

/// A git that runs, and what it started.
struct Running(Child);

impl Running {
    /// Ends it in good order: it has locks to put away.
    async fn end(&mut self) {
        self.signal(Signal::TERM);
        if timeout(END_WITHIN, self.0.wait()).await.is_err() {
            self.signal(Signal::KILL);
        }
    }

    fn signal(&self, signal: Signal) {
        let group = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            // It may have ended meanwhile.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only what still runs has an id.
        self.signal(Signal::TERM);
    }
}
