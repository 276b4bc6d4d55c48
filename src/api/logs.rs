//! `GET /1.0/processes/{id}/logs`, an addition to the seed: what a process has written, read on its node.
//!
//! ```text
//! ?tail=100         the last 100 lines; without it all that is kept
//! ?follow=true      goes on with what is written, over reconnects, until the process is removed or the client ends it
//! ?frames=true      says before each piece where it stands, as a line `= PLACE LENGTH`, and at the end a line `E`; an empty
//!                   piece comes first, and now and then while nothing is written
//! ?from=PLACE       goes on at a place: PLACE of the last piece, with its offset raised by its length
//! ```
//!
//! The body is what was written, byte for byte. What is found out before its first byte is answered as everywhere.

use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;

use super::Shared;
use super::body::{Place, pairs, unasked};
use super::error::Error;
use super::processes::find;
use super::resource::visible;
use super::route::{Asked, Content, Operation, Route};
use super::running::WAITS;
use crate::model::Spec;
use crate::reconcile::logs::{Following, LogError, Piece, Position, Start};

static QUERY: [Asked; 4] = [
    Asked {
        name: "tail",
        about: "Only so many of the last lines. Without it, all that is kept.",
        schema: r#"{"type": "integer", "minimum": 0, "maximum": 4294967295}"#,
    },
    Asked {
        name: "follow",
        about: "Goes on with what is written, until the process is removed or the client ends it.",
        schema: r#"{"type": "boolean", "default": false}"#,
    },
    Asked {
        name: "frames",
        about: "Says before each piece where it stands, as a line `= PLACE LENGTH`, and at the end a line `E`.",
        schema: r#"{"type": "boolean", "default": false}"#,
    },
    Asked {
        name: "from",
        about: "Goes on at a place: that of the last piece, its offset raised by its length. Not together with `tail`.",
        schema: r#"{"type": "string", "pattern": "^[0-9.-]{1,64}:[0-9]{1,15}$", "examples": ["-:7"]}"#,
    },
];

pub(super) fn routes() -> Vec<Route> {
    let read = Operation::new("readProcessLogs", "Read what a process has written, on its node")
        .described("The body is what was written, byte for byte. Without a connection to the node it is refused with 503.")
        .asks(&QUERY)
        .answers(StatusCode::OK, Content::Text("text/plain"))
        .conflicts();
    vec![Route::get("/1.0/processes/{id}/logs", logs, read)]
}

/// What the query asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    start: Start,
    follow: bool,
    frames: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Wish {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Wish, Error> {
        wish(&parts.uri).map_err(Error::BadRequest)
    }
}

fn wish(uri: &Uri) -> Result<Wish, String> {
    let (mut tail, mut from, mut follow, mut frames) = (None, None, false, false);
    let flag = |name: &str, value: &str| match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{name}: write true or false")),
    };
    for (name, value) in pairs(uri)? {
        match (name.as_str(), value.as_str()) {
            ("tail", lines) => {
                let lines: u32 = lines.parse().map_err(|_| "tail: write a number of lines")?;
                tail = Some(lines);
            }
            ("from", place) => {
                let position: Position = place.parse().map_err(|error| format!("from: {error}"))?;
                from = Some(position);
            }
            ("follow", value) => follow = flag("follow", value)?,
            ("frames", value) => frames = flag("frames", value)?,
            (other, _) => return Err(unasked(other, &QUERY)),
        }
    }
    let start = match (tail, from) {
        (None, None) => Start::All,
        (Some(lines), None) => Start::Last(lines),
        (None, Some(position)) => Start::At(position),
        (Some(_), Some(_)) => return Err("tail and from: each says where to begin; leave one out".into()),
    };
    Ok(Wish { start, follow, frames })
}

async fn logs(State(context): State<Shared>, place: Place, wish: Wish) -> Result<Response, Error> {
    let documents = context.documents();
    let key = find(&documents, &place.id)?;
    let document = visible(&documents, &key)?;
    let Spec::Process(spec) = &document.spec else {
        return Err(Error::NotFound(format!("{key} does not exist")));
    };
    if document.metadata.waiting {
        return Err(Error::Conflict(format!("{key} has no log yet: {WAITS}")));
    }
    let log = context.logs.open(key, &spec.node, &wish.start, wish.follow).await?;
    let body = Body::from_stream(unfold(Some(log), move |log| pass_on(log, wish.frames)));
    let headers = [
        (CONTENT_TYPE, "text/plain"),
        // Whatever a process writes, a browser is not to make a page of it.
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, body).into_response())
}

/// The next bytes of the body. An error breaks it off, which a client sees.
async fn pass_on(
    log: Option<Following>,
    frames: bool,
) -> Option<(Result<Vec<u8>, LogError>, Option<Following>)> {
    let mut log = log?;
    loop {
        return match log.next().await {
            Some(Ok(piece)) if frames => Some((Ok(framed(piece)), Some(log))),
            Some(Ok(piece)) if piece.bytes.is_empty() => continue,
            Some(Ok(piece)) => Some((Ok(piece.bytes), Some(log))),
            Some(Err(error)) => Some((Err(error), None)),
            None if frames => Some((Ok(b"E\n".to_vec()), None)),
            None => None,
        };
    }
}

fn framed(Piece { at, bytes }: Piece) -> Vec<u8> {
    let mut framed = format!("= {at} {}\n", bytes.len()).into_bytes();
    framed.extend(bytes);
    framed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_where_to_begin_and_whether_to_go_on() {
        let wish = |query: &str| wish(&format!("/?{query}").parse().unwrap());
        let at = |text: &str| Start::At(text.parse().unwrap());
        let meant = |start, follow, frames| Ok(Wish { start, follow, frames });
        assert_eq!(wish(""), meant(Start::All, false, false));
        assert_eq!(wish("tail=0&follow=true"), meant(Start::Last(0), true, false));
        assert_eq!(wish("from=-%3A7&frames=true&follow=false"), meant(at("-:7"), false, true));
        for query in
            ["tail=", "tail=-1", "tail=99999999999", "follow", "folow=true", "from=x", "from=-:1&tail=1"]
        {
            assert!(wish(query).is_err(), "{query}");
        }
    }
}
