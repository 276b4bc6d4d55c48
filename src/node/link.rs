//! The link: one open conversation with the shell on a node, whatever carries it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use super::protocol::{self, Line};
use super::side::Sides;
use crate::model::kinds::Transport;
use crate::model::secret::Clear;

/// Everything needed to reach a node. No store, no documents: what is read from files and secrets was read already.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name of the node for messages, such as `IN1/ND1`.
    pub name: String,
    /// How it is reached.
    pub transport: Transport,
    /// Address, host name or ssh_config alias.
    pub host: String,
    /// Port of the SSH server; none leaves it to the ssh_config, or 22.
    pub port: Option<u16>,
    /// Account; empty leaves it to the ssh_config.
    pub username: String,
    /// The account's password.
    pub password: Option<Clear>,
    /// Private key file.
    pub identity_file: Option<String>,
    /// An ssh_config file to obey.
    pub ssh_config: Option<String>,
    /// The host key, as in a known_hosts line without the host; none trusts on first use.
    pub host_key: Option<String>,
    /// Directory on the node that is ours: absolute, or relative to the account's home.
    pub root: String,
    /// How long a connection may take.
    pub connect_timeout: Duration,
}

/// Why a node can't be spoken to. The names are what people see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The server refused the password or key.
    #[error("auth failed: {0}")]
    AuthFailed(String),
    /// Nothing answers there.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The server's key is not the one that is known. Zero steps until a person has looked.
    #[error("host key changed: {0}")]
    HostKeyChanged(String),
    /// An answer took too long.
    #[error("timed out: {0}")]
    TimedOut(String),
    /// There is a shell, but it can't do what is needed.
    #[error("shell unusable: {0}")]
    ShellUnusable(String),
    /// The node's disk has no room even for what it takes to speak with it. What runs goes on.
    #[error("disk full: {0}")]
    DiskFull(String),
    /// The conversation broke off; what was under way may have happened.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The node's server grants no more channels on this connection.
    #[error("busy: {0}")]
    Busy(String),
    /// A newer controller has spoken to the node.
    #[error("fenced: a newer controller (epoch {0}) has taken this node over")]
    Fenced(u64),
    /// Something of our own machine: no ssh program, an unreadable key or password file.
    #[error("not configured: {0}")]
    Misconfigured(String),
}

impl LinkError {
    /// The state in one word, as events say it.
    pub const fn word(&self) -> &'static str {
        match self {
            LinkError::AuthFailed(_) => "AuthFailed",
            LinkError::Unreachable(_) => "Unreachable",
            LinkError::HostKeyChanged(_) => "HostKeyChanged",
            LinkError::TimedOut(_) => "TimedOut",
            LinkError::ShellUnusable(_) => "ShellUnusable",
            LinkError::DiskFull(_) => "DiskFull",
            LinkError::Lost(_) => "ConnectionLost",
            LinkError::Busy(_) => "Busy",
            LinkError::Fenced(_) => "Fenced",
            LinkError::Misconfigured(_) => "NotConfigured",
        }
    }

    /// The state in one or two words.
    pub const fn name(&self) -> &'static str {
        match self {
            LinkError::AuthFailed(_) => "auth failed",
            LinkError::Unreachable(_) => "unreachable",
            LinkError::HostKeyChanged(_) => "host key changed",
            LinkError::TimedOut(_) => "timed out",
            LinkError::ShellUnusable(_) => "shell unusable",
            LinkError::DiskFull(_) => "disk full",
            LinkError::Lost(_) => "connection lost",
            LinkError::Busy(_) => "busy",
            LinkError::Fenced(_) => "fenced",
            LinkError::Misconfigured(_) => "not configured",
        }
    }
}

/// An open conversation with a node's shell.
pub trait Link: Send {
    /// Sends text to the node. Dropped midway, the node does nothing of an incomplete batch.
    fn send<'a>(&'a mut self, text: &'a str) -> BoxFuture<'a, Result<(), LinkError>>;
    /// The next line that the node says. Cancel safe.
    fn next(&mut self) -> BoxFuture<'_, Result<Line, LinkError>>;
    /// What opens side channels on the same connection.
    fn sides(&self) -> Arc<dyn Sides>;
    /// Ends the conversation in good order: the node's side sees the end of its input and leaves nothing behind.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// Opens conversations. The seam for the kinds of links: ssh, local, later others and a simulated one.
pub trait Connector: Send + Sync + 'static {
    /// Connects, and answers once the node's shell has greeted.
    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Box<dyn Link>, LinkError>>;

    /// Forgets the host key that was recorded for a node of this name, so that the next one is taken as on first use.
    ///
    /// # Errors
    /// When the record can't be removed.
    fn forget_host_key(&self, name: &str) -> std::io::Result<()>;
}

/// What keeps a conversation's carrier alive, and ends it.
pub(crate) trait Carrier: Send + 'static {
    /// What opens side channels on it.
    fn sides(&self) -> Arc<dyn Sides>;
    /// Ends the carrier; why it ended, as far as it can tell.
    fn end(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// The line protocol over any pair of pipes.
pub(crate) struct ShellLink<R, W> {
    reader: BufReader<R>,
    writer: Option<W>,
    buffer: Vec<u8>,
    carrier: Box<dyn Carrier>,
}

impl<R, W> fmt::Debug for ShellLink<R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShellLink")
    }
}

/// The command that a login shell is asked to run: read exactly this script from the input, then be this part of it. One line,
/// no characters that csh or fish read otherwise, and nothing of the script in any argv.
pub(crate) fn bootstrap(script: &str, part: &str, nonce: &str) -> String {
    format!("exec /bin/sh -c '{}' mainstay {part} {nonce}", bootstrap_words(script))
}

/// The same for a caller that needs no login shell.
pub(crate) fn bootstrap_words(script: &str) -> String {
    format!("MAINSTAY=$(head -c {}); eval \"$MAINSTAY\"", script.len())
}

impl<R, W> ShellLink<R, W>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    /// Sends the script and waits for its greeting.
    pub(crate) async fn greet(
        reader: R,
        writer: W,
        carrier: Box<dyn Carrier>,
        nonce: &str,
        patience: Duration,
    ) -> Result<ShellLink<R, W>, LinkError> {
        let mut link =
            ShellLink { reader: BufReader::new(reader), writer: Some(writer), buffer: Vec::new(), carrier };
        let greeting = async {
            link.send(&protocol::SCRIPT).await?;
            loop {
                match link.next().await? {
                    Line::Greeting { nonce: said, version, .. } if said == nonce => {
                        if version == protocol::VERSION {
                            return Ok(());
                        }
                        return Err(LinkError::ShellUnusable(format!(
                            "it speaks version {version} of the protocol"
                        )));
                    }
                    Line::Unusable(why) => return Err(LinkError::ShellUnusable(why)),
                    // A banner, a motd, an rc file that echoes. What it may look like, nobody was asked yet.
                    Line::Greeting { .. }
                    | Line::Process(_)
                    | Line::Gone(_)
                    | Line::Bundle(_)
                    | Line::Root(_)
                    | Line::Artifact { .. }
                    | Line::Uptime(_)
                    | Line::Opened { .. }
                    | Line::Looked { .. }
                    | Line::StepFailed { .. }
                    | Line::Done { .. }
                    | Line::Fenced(_)
                    | Line::Full(_)
                    | Line::Rubbish => {}
                }
            }
        };
        match timeout(patience, greeting).await {
            Ok(Ok(())) => Ok(link),
            Ok(Err(LinkError::Lost(why))) => Err(LinkError::ShellUnusable(format!(
                "the shell ended before it greeted ({why}); is the account's login shell usable, and /bin/sh there?"
            ))),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(LinkError::TimedOut("no greeting from the shell".into())),
        }
    }

    async fn read_line(&mut self) -> Result<Line, LinkError> {
        let line = read_line(&mut self.reader, &mut self.buffer).await?;
        Ok(protocol::parse(&line))
    }
}

/// Reads a line, without its end. Cancel safe: a line that came in parts stays in the buffer when this call is dropped.
pub(crate) async fn read_line(
    reader: &mut BufReader<impl AsyncRead + Unpin>,
    buffer: &mut Vec<u8>,
) -> Result<String, LinkError> {
    let lost = |error: &dyn fmt::Display| LinkError::Lost(error.to_string());
    loop {
        let room = protocol::MAX_LINE_BYTES - buffer.len();
        let available = reader.fill_buf().await.map_err(|error| lost(&error))?;
        if available.is_empty() {
            return Err(lost(&"the node closed it"));
        }
        match available.iter().position(|&b| b == b'\n') {
            Some(end) if end <= room => {
                buffer.extend_from_slice(&available[..end]);
                reader.consume(end + 1);
                let line = String::from_utf8_lossy(buffer).into_owned();
                buffer.clear();
                return Ok(line);
            }
            None if available.len() <= room => {
                let length = available.len();
                buffer.extend_from_slice(available);
                reader.consume(length);
            }
            Some(_) | None => return Err(lost(&"a line from the node was too long")),
        }
    }
}

impl<R, W> Link for ShellLink<R, W>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    fn send<'a>(&'a mut self, text: &'a str) -> BoxFuture<'a, Result<(), LinkError>> {
        Box::pin(async move {
            let Some(writer) = &mut self.writer else { return Err(LinkError::Lost("closed".into())) };
            let sent = async {
                writer.write_all(text.as_bytes()).await?;
                writer.flush().await
            };
            sent.await.map_err(|error| LinkError::Lost(error.to_string()))
        })
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Line, LinkError>> {
        Box::pin(self.read_line())
    }

    fn sides(&self) -> Arc<dyn Sides> {
        self.carrier.sides()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let ShellLink { mut reader, writer, carrier, .. } = *self;
            drop(writer);
            // The node's side ends at the end of its input; give it the time to end its helpers.
            let mut nowhere = tokio::io::sink();
            let _ = timeout(Duration::from_secs(1), tokio::io::copy(&mut reader, &mut nowhere)).await;
            carrier.end().await;
        })
    }
}
