//! Side channels: bytes beside the conversation, on the same connection. A log that is read or a file that is sent has a channel
//! of its own, so that it delays no step, and its backpressure is its own.
//!
//! **Invariant:** what a channel started on the node ends with it: at the end of its input the node's side ends, and that is also
//! how it learns that we are gone.
//! **Absent here:** what the bytes mean. The words that open a channel say it, to `side.sh` and to who opens it.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use super::link::{LinkError, read_line};
use super::protocol::quote;

/// The script that is the node's side, in POSIX sh.
pub const SCRIPT: &str = include_str!("side.sh");

/// Opens side channels on one connection. It does not borrow the link, so the conversation goes on meanwhile. Where there is a
/// connection that can be closed or lost, opening fails from then on, and what is open ends.
pub trait Sides: Send + Sync + 'static {
    /// Opens a channel and has the node's script do what the words say. A word may hold anything but NUL; no shell sees it
    /// unquoted, and it is in no argv.
    ///
    /// # Errors
    /// [`LinkError::Busy`] when the node grants no more channels; else as for connecting.
    fn open(&self, words: &[&str]) -> BoxFuture<'static, Result<Side, LinkError>>;
}

/// An open side channel. Dropped, it ends on both sides.
pub struct Side {
    /// What the node sends: first whatever the words make it say.
    pub reader: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    /// What the node reads. Taken and dropped, it is the end of the node's input; flushing does not wait for the node.
    pub writer: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// What the channel ends with.
    _carrier: Box<dyn Any + Send>,
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Side")
    }
}

impl Side {
    /// Sends the script, waits for its greeting, and only then says the words: a node's `head` may swallow what follows the
    /// script too early.
    pub(crate) async fn greet(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        carrier: Box<dyn Any + Send>,
        nonce: &str,
        words: &str,
        patience: Duration,
    ) -> Result<Side, LinkError> {
        let mut side = Side {
            reader: BufReader::new(Box::new(reader)),
            writer: Some(Box::new(writer)),
            _carrier: carrier,
            begun: Vec::new(),
        };
        let greeting = format!("MAINSTAY {nonce}");
        let opening = async {
            side.send(SCRIPT).await?;
            // A banner, a motd, an rc file that echoes come before it.
            while side.line().await? != greeting {}
            side.send(words).await
        };
        match timeout(patience, opening).await {
            Ok(Ok(())) => Ok(side),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(LinkError::TimedOut("no greeting from the shell of a side channel".into())),
        }
    }

    async fn send(&mut self, text: &str) -> Result<(), LinkError> {
        let Some(writer) = &mut self.writer else { return Err(LinkError::Lost("closed".into())) };
        let sent = async {
            writer.write_all(text.as_bytes()).await?;
            writer.flush().await
        };
        sent.await.map_err(|error| LinkError::Lost(error.to_string()))
    }

    /// The next line that the node says, without its end, as text for parsing. Cancel safe.
    ///
    /// # Errors
    /// [`LinkError::Lost`] at the end of what the node says, or when a line is too long.
    pub async fn line(&mut self) -> Result<String, LinkError> {
        read_line(&mut self.reader, &mut self.begun).await
    }
}

/// The line that says the words.
pub(crate) fn line_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    format!("{}\n", quoted.join(" "))
}
