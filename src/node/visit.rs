//! A visit to a machine that may become a node: what it can do, without any conversation, and nothing is left there.
//!
//! **Absent here:** what the answers mean. Who asks knows what is needed.

use std::sync::Arc;
use std::time::Duration;

use openssh::Session;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::timeout;
use uuid::Uuid;

use super::link::{LinkError, Target, bootstrap, read_line};
use super::local;
use super::ssh::{Master, Ssh, channel};

/// The script that looks, in POSIX sh.
const SCRIPT: &str = include_str!("probe.sh");

/// Most lines that are read of an answer.
const MAX_LINES: usize = 200;

/// What a machine said: names and values, in order.
pub type Answers = Vec<(String, String)>;

/// A login, kept open.
pub struct Visit {
    master: Master,
    session: Arc<Session>,
    patience: Duration,
}

impl std::fmt::Debug for Visit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Visit")
    }
}

impl Visit {
    /// Logs in, by what the target has. A host key that is not known yet is recorded, as for a node.
    ///
    /// # Errors
    /// As for connecting.
    pub async fn begin(ssh: &Ssh, target: &Target) -> Result<Visit, LinkError> {
        let master = ssh.log_in(target).await?;
        let session = Arc::new(Session::resume_mux(master.socket.clone().into_boxed_path(), None));
        Ok(Visit { master, session, patience: target.connect_timeout })
    }

    /// Asks what the machine can do; `root` is the directory that a node's state would be in.
    ///
    /// # Errors
    /// When there is no shell that could say it, or no channel for one.
    pub async fn ask(&self, root: &str) -> Result<Answers, LinkError> {
        let nonce = Uuid::new_v4().simple().to_string();
        let command = bootstrap(SCRIPT, "probe", &nonce);
        let (channel, input, output) = channel(&self.session, command, self.patience).await?;
        let answers = listen(output, input, &nonce, root, self.patience).await;
        // So that it does not count among those that are open at once.
        let _ = timeout(self.patience, channel.wait()).await;
        answers
    }

    /// How many channels the machine grants at once, `most` at most; they are all closed again.
    pub async fn count_channels(&self, most: usize) -> usize {
        let mut open = Vec::new();
        while open.len() < most {
            match channel(&self.session, "exec cat".into(), self.patience).await {
                Ok(channel) => open.push(channel),
                Err(_) => break,
            }
        }
        open.len()
    }

    /// Logs out.
    pub async fn end(self) {
        self.master.end().await;
    }
}

/// Asks this machine the same.
///
/// # Errors
/// When it has no shell that could say it.
pub async fn ask_here(root: &str, patience: Duration) -> Result<Answers, LinkError> {
    let nonce = Uuid::new_v4().simple().to_string();
    let (_child, input, output) = local::shell(SCRIPT, "probe", &nonce)?;
    listen(output, input, &nonce, root, patience).await
}

async fn listen(
    output: impl AsyncRead + Unpin,
    mut input: impl AsyncWrite + Unpin,
    nonce: &str,
    root: &str,
    patience: Duration,
) -> Result<Answers, LinkError> {
    let mut reader = BufReader::new(output);
    let mut begun = Vec::new();
    let mut answers = Vec::new();
    let mut has_greeted = false;
    let conversation = async {
        let lost = |error: std::io::Error| LinkError::Lost(error.to_string());
        input.write_all(SCRIPT.as_bytes()).await.map_err(lost)?;
        input.flush().await.map_err(lost)?;
        let greeting = format!("MAINSTAY {nonce}");
        for _ in 0..MAX_LINES {
            let line = read_line(&mut reader, &mut begun).await?;
            if !has_greeted {
                has_greeted = line == greeting;
                if has_greeted {
                    input.write_all(format!("{root}\n").as_bytes()).await.map_err(lost)?;
                    input.flush().await.map_err(lost)?;
                }
                continue;
            }
            let (name, value) = line.split_once(' ').unwrap_or((&line, ""));
            if name == "end" {
                return Ok(());
            }
            answers.push((name.to_owned(), value.chars().filter(|c| !c.is_control()).collect()));
        }
        Err(LinkError::ShellUnusable("it says too much".into()))
    };
    match timeout(patience, conversation).await {
        Ok(Ok(())) => Ok(answers),
        Ok(Err(LinkError::Lost(_))) if !has_greeted => {
            Err(LinkError::ShellUnusable("it ended before it said a word".into()))
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(LinkError::TimedOut("no answer from the shell".into())),
    }
}
