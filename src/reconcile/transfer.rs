//! One artifact on its way to a node: a task beside the conversation, so that a large one delays no step.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::node_task::Shared;
use crate::artifact::{PackError, pack};
use crate::model::secret::hex;
use crate::node::side::{Side, Sides};
use crate::plan::step::Delivery;
use crate::state::Epoch;

/// What is taken from the disk, and handed to the node, at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// How many of those wait for the node: what one transfer holds in memory.
const CHUNKS_WAITING: usize = 2;

/// How long a node may take nothing in before it is given up.
const STALL: Duration = Duration::from_secs(30);

/// How long a node may take to say that it is ready: it may have to remove what was left of others.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long it may take to write what it has got to its disk: so long, and a second more for every so many bytes.
const STORED_WITHIN: (Duration, u64) = (Duration::from_secs(120), 1 << 20);

/// Longest text of a node that is shown.
const MAX_WORDS: usize = 300;

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivered {
    /// It was sent.
    Sent,
    /// The node had it already.
    WasThere,
}

/// A transfer under way. Dropped, it is broken off, and the node removes what it has of it.
pub(super) struct Transfer {
    address: String,
    sent: Arc<AtomicU64>,
    task: JoinHandle<Result<Delivered, String>>,
}

impl Transfer {
    /// Starts to send. `root` is our directory on the node, in full.
    pub(super) fn start(
        shared: &Arc<Shared>,
        sides: Arc<dyn Sides>,
        root: String,
        delivery: Delivery,
        epoch: Epoch,
    ) -> Transfer {
        let sent = Arc::new(AtomicU64::new(0));
        let (shared, counter, address) = (Arc::clone(shared), Arc::clone(&sent), delivery.address.clone());
        let task = tokio::spawn(async move {
            // Each holds a thread that reads from the disk.
            let _turn = shared.sending.acquire().await.map_err(|_| "we are ending")?;
            deliver(&*sides, &root, epoch.0, &delivery, &counter).await
        });
        Transfer { address, sent, task }
    }

    /// What is sent.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// How many bytes are on their way.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits for its end. Cancel safe.
    pub(super) async fn ended(&mut self) -> Result<Delivered, String> {
        match (&mut self.task).await {
            Ok(result) => result,
            Err(error) => Err(format!("the transfer broke: {error}")),
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn deliver(
    sides: &dyn Sides,
    root: &str,
    epoch: u64,
    delivery: &Delivery,
    sent: &AtomicU64,
) -> Result<Delivered, String> {
    let Delivery { address, source } = delivery;
    let words = ["put", root, &epoch.to_string(), address, &source.size.to_string()];
    let mut side = sides.open(&words).await.map_err(|error| error.to_string())?;
    match answer(&mut side, READY_WITHIN).await? {
        Answer::Ready => {}
        Answer::Done => return Ok(Delivered::WasThere),
    }
    let Some(mut writer) = side.writer.take() else { return Err("the channel has no input".into()) };
    let (mut chunks, packing) = packed(source.path.clone());
    let mut digest = Sha256::new();
    let changed = || {
        let path = &source.path;
        format!(
            "{path} changed on disk while it was sent; it is sent as it is now once its manifest was read again"
        )
    };
    let sending = async {
        let mut write = async |chunk: &[u8]| match timeout(STALL, writer.write_all(chunk)).await {
            Ok(Ok(())) => {
                sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                Ok(())
            }
            Ok(Err(error)) => Err(Broken::Pipe(format!("the connection broke: {error}"))),
            Err(_) => Err(Broken::Here(format!("the node took nothing in for {} s", STALL.as_secs()))),
        };
        let mut left = source.size;
        // The last chunk stays here until all are known to be what they should be: of anything else, the node never gets all.
        let mut last: Vec<u8> = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            digest.update(&chunk);
            left = left.checked_sub(chunk.len() as u64).ok_or_else(|| Broken::Here(changed()))?;
            write(&last).await?;
            last = chunk;
        }
        match packing.await {
            Ok(Ok(())) if hex(&digest.finalize()) == *address => {}
            Ok(Ok(()) | Err(PackError::Changed(_))) => return Err(Broken::Here(changed())),
            Ok(Err(error)) => {
                return Err(Broken::Here(format!("{} can't be sent: {error}", source.path)));
            }
            Err(error) => return Err(Broken::Here(format!("the transfer broke: {error}"))),
        }
        write(&last).await?;
        match timeout(STALL, writer.flush()).await {
            // Open until the node has said how it went: the end of its input is also how it learns that we are gone.
            Ok(Ok(())) => Ok(writer),
            Ok(Err(_)) | Err(_) => Err(Broken::Pipe("the connection broke".into())),
        }
    };
    let mut early = std::pin::pin!(side.line());
    let _writer = tokio::select! {
        biased;
        // Whatever it says before all is there is why it takes no more.
        line = &mut early => return Err(refusal(line.map_err(|error| error.to_string()))),
        writer = sending => match writer {
            Ok(writer) => writer,
            Err(Broken::Here(why)) => return Err(why),
            // A broken pipe has a reason, and the node may have said it.
            Err(Broken::Pipe(why)) => match timeout(Duration::from_secs(1), early).await {
                Ok(Ok(line)) if line.starts_with("failed ") => return Err(refusal(Ok(line))),
                Ok(_) | Err(_) => return Err(why),
            },
        },
    };
    let (patience, bytes_a_second) = STORED_WITHIN;
    let patience = patience + Duration::from_secs(source.size / bytes_a_second);
    let line = match timeout(patience, early).await {
        Ok(line) => line.map_err(|error| error.to_string()),
        Err(_) => return Err(format!("the node did not store it within {} s", patience.as_secs())),
    };
    match line.as_deref() {
        Ok("done") => Ok(Delivered::Sent),
        Ok(_) | Err(_) => Err(refusal(line)),
    }
}

/// Why not everything could be handed to the node.
enum Broken {
    /// The node takes no more.
    Pipe(String),
    /// Something of ours.
    Here(String),
}

/// What a node may say when all is well.
enum Answer {
    /// It waits for the bytes.
    Ready,
    /// It has them.
    Done,
}

async fn answer(side: &mut Side, patience: Duration) -> Result<Answer, String> {
    let line = match timeout(patience, side.line()).await {
        Ok(line) => line.map_err(|error| error.to_string()),
        Err(_) => return Err(format!("the node did not answer within {} s", patience.as_secs())),
    };
    match line.as_deref() {
        Ok("ready") => Ok(Answer::Ready),
        Ok("done") => Ok(Answer::Done),
        Ok(_) | Err(_) => Err(refusal(line)),
    }
}

/// What a node says that is not well, for people: no control characters, and not too much.
fn refusal(line: Result<String, String>) -> String {
    match line {
        Ok(line) => {
            let why = line.strip_prefix("failed ").unwrap_or(&line);
            why.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect()
        }
        Err(error) => error,
    }
}

/// The artifact's tar, chunk by chunk, made by a thread for work that blocks. It ends when nobody takes the chunks.
fn packed(path: String) -> (mpsc::Receiver<Vec<u8>>, JoinHandle<Result<(), PackError>>) {
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    let packing = tokio::task::spawn_blocking(move || {
        let mut out = BufWriter::with_capacity(CHUNK_BYTES, Chunks(sender));
        pack(&path, &mut out)?;
        out.flush().map_err(PackError::Write)
    });
    (receiver, packing)
}

/// Writes into a channel.
struct Chunks(mpsc::Sender<Vec<u8>>);

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK_BYTES);
        match self.0.blocking_send(bytes[..count].to_vec()) {
            Ok(()) => Ok(count),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
