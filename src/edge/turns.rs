//! How many requests are worked on at once. What may take long has turns of its own, so that it never takes those of short reads.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::Method;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Refusal;
use super::places::Place;

/// Of how many eighths of the places those may be that are worked for and wait for what may take long: changes, which wait for the store,
/// start and stop, which wait for nodes, and logs.
const LONG_EIGHTHS: usize = 3;
/// And those of the rest. Together they leave places whose clients can be told to go.
const SHORT_EIGHTHS: usize = 1;

/// The turns.
pub(super) struct Turns {
    long: Arc<Semaphore>,
    short: Arc<Semaphore>,
}

impl Turns {
    /// As many as go with a number of places.
    pub(super) fn new(places: usize) -> Turns {
        let turns = |eighths: usize| Arc::new(Semaphore::new((places * eighths / 8).max(1)));
        Turns { long: turns(LONG_EIGHTHS), short: turns(SHORT_EIGHTHS) }
    }

    /// A turn, if there is one now: a line of those who wait would only be another thing that grows.
    pub(super) fn take(&self, method: &Method, path: &str) -> Result<OwnedSemaphorePermit, Refusal> {
        let turns = if method.is_safe() && !path.ends_with("/logs") { &self.short } else { &self.long };
        Arc::clone(turns).try_acquire_owned().map_err(|_| {
            Refusal::busy("too many requests are being worked on at this moment; try again in a second")
        })
    }
}

/// An answer's body, that keeps what the answer holds until it has been handed on.
pub(super) struct Held {
    body: Body,
    /// Its turn and its room, free again when it is dropped.
    _holds: [Option<OwnedSemaphorePermit>; 2],
    place: Arc<Place>,
}

impl Held {
    pub(super) fn new(body: Body, holds: [Option<OwnedSemaphorePermit>; 2], place: Arc<Place>) -> Held {
        Held { body, _holds: holds, place }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.place.wait();
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
