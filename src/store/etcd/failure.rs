//! What a failed call to etcd means: whether it reached etcd, and whether a write can have happened.
//!
//! **Invariant:** what is not known to have failed before it could be applied is [`Kind::Lost`].

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
    /// etcd's disk quota is used up; nothing was written.
    Full,
    /// There is no such lease; nothing was written.
    NoLease,
    /// Anything else. A write may have happened.
    Lost,
}

/// A failed call.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    text: String,
}

impl Failure {
    pub(super) fn new(error: &etcd_client::Error) -> Self {
        let etcd_client::Error::GRpcStatus(status) = error else {
            let text = error.to_string();
            // The client library's own words, when etcd answers that a lease has no time left.
            let kind = if text.contains("lease not found") { Kind::NoLease } else { Kind::Lost };
            return Failure { kind, text };
        };
        let message = status.message();
        let kind = match i32::from(status.code()) {
            _ if refused_connection(status) => Kind::NotSent,
            // Said by a member before it looks at the call, because we ask for a leader.
            _ if message.contains("etcdserver: no leader") => Kind::NotSent,
            NOT_FOUND if message.contains("lease not found") => Kind::NoLease,
            OUT_OF_RANGE if message.contains("has been compacted") => Kind::Compacted,
            OUT_OF_RANGE if message.contains("future revision") => Kind::Future,
            OUT_OF_RANGE if message.contains("decoded message length too large") => Kind::Oversized,
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
        Failure { kind, text }
    }

    pub(super) fn timed_out() -> Self {
        Failure { kind: Kind::Lost, text: "no answer in time".into() }
    }

    /// Names the member.
    pub(super) fn at(self, endpoint: &str) -> Self {
        Failure { text: format!("{endpoint}: {}", self.text), ..self }
    }

    /// The error for a call that only reads, or can be repeated.
    pub(super) fn unavailable(self) -> StoreError {
        match self.kind {
            Kind::Refused => StoreError::Invalid(format!("etcd at {}", self.text)),
            Kind::Full => StoreError::Unavailable(format!(
                "etcd at {}; compact and defragment it, then disarm its alarm",
                self.text
            )),
            Kind::NotSent | Kind::Compacted | Kind::Future | Kind::Oversized | Kind::NoLease | Kind::Lost => {
                StoreError::Unavailable(format!("etcd at {}", self.text))
            }
        }
    }

    /// The error for a call that writes.
    pub(super) fn of_a_write(self) -> StoreError {
        match self.kind {
            Kind::Lost | Kind::Oversized => StoreError::Unknown(format!("etcd at {}", self.text)),
            Kind::NotSent | Kind::Compacted | Kind::Future | Kind::Refused | Kind::Full | Kind::NoLease => {
                self.unavailable()
            }
        }
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
