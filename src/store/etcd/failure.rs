//! What a failed call to etcd means: whether it reached etcd, whether a write can have happened, and what is to be done.
//!
//! **Invariant:** what is not known to have failed before it could be applied is [`Kind::Lost`] or [`Kind::Slow`].

use std::error::Error;
use std::io;

use crate::store::StoreError;

/// gRPC's codes by number, as tonic is not a dependency of ours.
const INVALID_ARGUMENT: i32 = 3;
const NOT_FOUND: i32 = 5;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;
const OUT_OF_RANGE: i32 = 11;
const UNIMPLEMENTED: i32 = 12;
const UNAUTHENTICATED: i32 = 16;

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It never reached etcd, or was turned away at the door: another member may be asked.
    NotSent,
    /// The revision is no longer there.
    Compacted,
    /// The revision is not there yet.
    Future,
    /// The answer to a read was larger than the client takes.
    Oversized,
    /// etcd will not do this.
    Refused,
    /// There is no such lease; nothing was written.
    NoLease,
    /// etcd's disk quota is used up; nothing was written.
    Full,
    /// No answer in time. A write may have happened.
    Slow,
    /// Anything else. A write may have happened.
    Lost,
}

impl Kind {
    /// Whether a write that failed so can have happened, or can still happen.
    pub(super) fn leaves_doubt(self) -> bool {
        match self {
            Kind::Lost | Kind::Slow | Kind::Oversized => true,
            Kind::NotSent | Kind::Compacted | Kind::Future | Kind::Refused | Kind::NoLease | Kind::Full => {
                false
            }
        }
    }
}

/// A failed call.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    /// Members are there, and have no leader.
    no_quorum: bool,
    text: String,
}

impl Failure {
    pub(super) fn new(error: &etcd_client::Error) -> Self {
        let etcd_client::Error::GRpcStatus(status) = error else {
            let text = error.to_string();
            // The client library's own words, when etcd answers that a lease has no time left.
            let kind = if text.contains("lease not found") { Kind::NoLease } else { Kind::Lost };
            return Failure { kind, no_quorum: false, text };
        };
        let message = status.message();
        // Said by a member before it looks at the call, because we ask for a leader.
        let no_quorum = message.contains("etcdserver: no leader");
        let kind = match i32::from(status.code()) {
            _ if no_quorum || refused_connection(status) => Kind::NotSent,
            OUT_OF_RANGE if message.contains("has been compacted") => Kind::Compacted,
            OUT_OF_RANGE if message.contains("future revision") => Kind::Future,
            OUT_OF_RANGE if message.contains("decoded message length too large") => Kind::Oversized,
            NOT_FOUND if message.contains("lease not found") => Kind::NoLease,
            // One code for three things: the disk is full, the message is too large, the member is too busy.
            RESOURCE_EXHAUSTED if message.contains("space exceeded") => Kind::Full,
            RESOURCE_EXHAUSTED if message.contains("larger than max") => Kind::Refused,
            RESOURCE_EXHAUSTED => Kind::NotSent,
            INVALID_ARGUMENT | PERMISSION_DENIED | UNIMPLEMENTED | UNAUTHENTICATED => Kind::Refused,
            _ => Kind::Lost,
        };
        let text = match innermost(status) {
            Some(cause) => format!("{message}: {cause}"),
            None => message.to_owned(),
        };
        Failure { kind, no_quorum, text }
    }

    /// Why no connection came about: whatever it was, the call itself was not sent.
    pub(super) fn of_connecting(error: &etcd_client::Error) -> Self {
        let failure = Failure::new(error);
        match failure.kind {
            Kind::Refused => failure,
            Kind::NotSent
            | Kind::Compacted
            | Kind::Future
            | Kind::Oversized
            | Kind::NoLease
            | Kind::Full
            | Kind::Slow
            | Kind::Lost => Failure { kind: Kind::NotSent, ..failure },
        }
    }

    pub(super) fn timed_out() -> Self {
        Failure { kind: Kind::Slow, no_quorum: false, text: "no answer in time".into() }
    }

    /// Names the member.
    pub(super) fn at(self, endpoint: &str) -> Self {
        Failure { text: format!("{endpoint}: {}", self.text), ..self }
    }

    /// Says that the members were asked, and know no leader.
    pub(super) fn without_quorum(self) -> Self {
        Failure { no_quorum: true, ..self }
    }

    /// The error for a call that only reads, can be repeated, or is known not to have been applied.
    pub(super) fn unavailable(self) -> StoreError {
        let text = format!("etcd at {}", self.text);
        match self.kind {
            _ if self.no_quorum => StoreError::NoQuorum(text),
            Kind::Refused => StoreError::Invalid(text),
            Kind::Full => StoreError::NoSpace(text),
            Kind::Slow => StoreError::Slow(text),
            Kind::NotSent | Kind::Compacted | Kind::Future | Kind::Oversized | Kind::NoLease | Kind::Lost => {
                StoreError::Unavailable(text)
            }
        }
    }

    /// The error for a call that writes, and of which nothing more could be found out.
    pub(super) fn of_a_write(self) -> StoreError {
        if !self.kind.leaves_doubt() {
            return self.unavailable();
        }
        let state = if self.no_quorum { "; it has lost its quorum" } else { "" };
        StoreError::Unknown(format!("etcd at {}{state}", self.text))
    }
}

/// Whether the connection itself was refused, so that nothing can have been sent over it.
fn refused_connection(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
    })
}

fn innermost(error: &(dyn Error + 'static)) -> Option<String> {
    causes(error).last().map(ToString::to_string)
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}
