//! A process's log, read over a side channel: what is asked of `side.sh`, and what it says.
//!
//! From the node, after `@ GEN OFF`, where the reading begins:
//!
//! ```text
//! = GEN OFF LEN       LEN bytes from that place follow, then a line: + or -
//! E                   the end: everything was said, or the process was removed
//! X why               it can't be read
//! ```
//!
//! After `-` the bytes are not to be used, for the file was rotated while they were read; they come again.
//!
//! **Invariant:** whatever a node says, no more than [`MAX_PIECE_BYTES`] of it are held.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::link::LinkError;
use super::protocol::printable;
use super::side::{Side, Sides};

/// Most bytes in one piece; the script sends no more.
pub const MAX_PIECE_BYTES: usize = 256 * 1024;

/// How long a node may take for what it has to say at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How long a log that is followed may be silent before that is said.
const SILENCE: Duration = Duration::from_secs(15);

/// Longest token of a rotated file.
const MAX_GENERATION_BYTES: usize = 64;

/// Largest offset: what a shell can still count on from.
const MAX_OFFSET: u64 = 1 << 53;

/// A place in a log: so many bytes into the file that began when another was rotated away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The node's token for the file that was rotated away; `-` for none.
    generation: String,
    offset: u64,
}

/// Text that is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no place in a log; such a place is written as it was told, like `-:1024`")]
pub struct NoPosition;

impl Position {
    fn new(generation: &str, offset: &str) -> Option<Position> {
        let is_plain = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'-');
        let fits = (1..=MAX_GENERATION_BYTES).contains(&generation.len()) && generation.bytes().all(is_plain);
        let offset = offset.parse().ok().filter(|offset| *offset <= MAX_OFFSET)?;
        fits.then(|| Position { generation: generation.to_owned(), offset })
    }

    /// So many bytes on.
    pub fn after(&self, bytes: usize) -> Position {
        let offset = self.offset.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX)).min(MAX_OFFSET);
        Position { generation: self.generation.clone(), offset }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.generation, self.offset)
    }
}

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Position, NoPosition> {
        text.split_once(':')
            .and_then(|(generation, offset)| Position::new(generation, offset))
            .ok_or(NoPosition)
    }
}

/// Where a reading begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With the oldest that is kept.
    All,
    /// With the last lines.
    Last(u32),
    /// Where another reading ended.
    At(Position),
}

/// A part of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins.
    pub at: Position,
    /// What stands there.
    pub bytes: Vec<u8>,
}

/// A log that is being read.
#[derive(Debug)]
pub struct Reading {
    side: Side,
    follows: bool,
    at: Position,
}

impl Reading {
    /// Starts to read the log of a process under a root.
    ///
    /// # Errors
    /// As [`Sides::open`], and when the node can't read it.
    pub async fn open(
        sides: &dyn Sides,
        root: &str,
        process: &str,
        start: &Start,
        follow: bool,
    ) -> Result<Reading, LinkError> {
        let follow_word = if follow { "follow" } else { "once" };
        let mut words = vec!["log", root, process, follow_word];
        let (lines, offset);
        match start {
            Start::All => words.push("all"),
            Start::Last(count) => {
                lines = count.to_string();
                words.extend(["last", lines.as_str()]);
            }
            Start::At(position) => {
                offset = position.offset.to_string();
                words.extend(["at", position.generation.as_str(), offset.as_str()]);
            }
        }
        let mut side = sides.open(&words).await?;
        match in_time(side.line()).await?.split(' ').collect::<Vec<_>>()[..] {
            ["@", generation, offset] => match Position::new(generation, offset) {
                Some(at) => Ok(Reading { side, follows: follow, at }),
                None => Err(unexpected()),
            },
            ["X", ref why @ ..] => Err(LinkError::ShellUnusable(printable(&why.join(" ")))),
            _ => Err(unexpected()),
        }
    }

    /// How far it has been read.
    pub fn at(&self) -> &Position {
        &self.at
    }

    /// The next piece; none at the end. A log that is followed ends when its process is removed; while nothing is written, an empty
    /// piece comes now and then, so that who passes it on learns when nobody listens any more. Not cancel safe.
    ///
    /// # Errors
    /// When the connection is lost, or the node says what makes no sense.
    pub async fn next(&mut self) -> Result<Option<Piece>, LinkError> {
        loop {
            let line = if self.follows {
                match timeout(SILENCE, self.side.line()).await {
                    Ok(line) => line?,
                    Err(_) => return Ok(Some(Piece { at: self.at.clone(), bytes: Vec::new() })),
                }
            } else {
                in_time(self.side.line()).await?
            };
            let (at, length) = match line.split(' ').collect::<Vec<_>>()[..] {
                ["=", generation, offset, length] => {
                    let length = length.parse().ok().filter(|length| *length <= MAX_PIECE_BYTES);
                    Position::new(generation, offset).zip(length).ok_or_else(unexpected)?
                }
                ["E"] => return Ok(None),
                _ => return Err(unexpected()),
            };
            let whole = async {
                let mut bytes = vec![0; length];
                let read = self.side.reader.read_exact(&mut bytes).await;
                read.map_err(|error| LinkError::Lost(error.to_string()))?;
                Ok((bytes, self.side.line().await?))
            };
            let (bytes, verdict) = in_time(whole).await?;
            match verdict.as_str() {
                "+" => {
                    self.at = at.after(bytes.len());
                    return Ok(Some(Piece { at, bytes }));
                }
                "-" => {}
                _ => return Err(unexpected()),
            }
        }
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, LinkError>>) -> Result<T, LinkError> {
    match timeout(ANSWER_WITHIN, answer).await {
        Ok(answer) => answer,
        Err(_) => {
            Err(LinkError::TimedOut(format!("no more of the log within {} s", ANSWER_WITHIN.as_secs())))
        }
    }
}

fn unexpected() -> LinkError {
    LinkError::Lost("what the node says is no log".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_back_as_it_was_told() {
        for text in ["-:0", "10061144.21.1795501246:1024"] {
            assert_eq!(text.parse::<Position>().map(|position| position.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_could_mean_more_to_a_shell_is_no_position() {
        let long = format!("{}:0", "1".repeat(65));
        for text in
            ["", ":", "-", "-:", ":1", "$(reboot):1", "a:1", "- :1", "-:-1", "-:99999999999999999999", &long]
        {
            assert_eq!(text.parse::<Position>(), Err(NoPosition), "{text}");
        }
    }
}
