//! A request's body, taken in before it is answered, whatever the answer: a connection whose body nobody has read is closed, and a
//! client that was about to use it again would hear nothing.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::answer::Refusal;

/// Largest body, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// How much more is read and dropped, so that the client gets to hear that it was too much.
const DRAINED_BYTES: usize = 16 * 1024 * 1024;
/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(30);
/// How long a body may take whose request is refused already.
const REFUSED_TIME: Duration = Duration::from_secs(2);
/// Most that all bodies together have in memory. What they are made into has many times the size, so this is not much.
const ALL_BYTES: usize = 16 * 1024 * 1024;

static ROOM: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(ALL_BYTES)));

/// A body, and the room that it takes.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    pub(super) bytes: Bytes,
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// Takes a body in.
pub(super) async fn take_in(body: Incoming) -> Result<Arrived, Refusal> {
    if body.is_end_stream() {
        return Ok(Arrived::default());
    }
    match timeout(BODY_TIME, collect(body)).await {
        Ok(arrived) => arrived,
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
}

/// Reads a body that nobody wants. True when all of it came.
pub(super) async fn drain(mut body: Incoming) -> bool {
    if body.is_end_stream() {
        return true;
    }
    let read = async {
        let mut total = 0;
        while let Some(frame) = body.frame().await {
            total += frame.ok()?.data_ref().map_or(0, Bytes::len);
            if total > MAX_BODY_BYTES {
                return None;
            }
        }
        Some(())
    };
    matches!(timeout(REFUSED_TIME, read).await, Ok(Some(())))
}

async fn collect(mut body: Incoming) -> Result<Arrived, Refusal> {
    let mut bytes = Vec::new();
    let mut room: Option<OwnedSemaphorePermit> = None;
    let mut total = 0usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Refusal::new(StatusCode::BAD_REQUEST, format!("the body could not be read: {error}"))
        })?;
        let Some(data) = frame.data_ref() else { continue };
        total = total.saturating_add(data.len());
        if total > MAX_BODY_BYTES {
            (bytes, room) = (Vec::new(), None);
            if total > MAX_BODY_BYTES + DRAINED_BYTES {
                break;
            }
            continue;
        }
        let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let more = Arc::clone(&ROOM).try_acquire_many_owned(size).map_err(|_| {
            Refusal::busy("too many bodies are being taken in at this moment; try again in a second")
        })?;
        match &mut room {
            Some(room) => room.merge(more),
            None => room = Some(more),
        }
        bytes.extend_from_slice(data);
    }
    if total > MAX_BODY_BYTES {
        let message = format!("the body is over {MAX_BODY_BYTES} bytes");
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    Ok(Arrived { bytes: bytes.into(), room })
}
