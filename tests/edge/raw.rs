//! HTTP as no polite client speaks it: bytes on a socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An answer: its status, the whole of its head, its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// A connection to an API at `http://…`. Nothing waits a minute when it works.
pub(crate) fn connect(api: &str) -> TcpStream {
    let stream = TcpStream::connect(api.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Sends bytes on a connection of their own, and reads until that is closed. None when it was closed without a word.
pub(crate) fn send(api: &str, bytes: &[u8]) -> Option<Answer> {
    let mut stream = connect(api);
    // What a server does not want to read it may refuse to take.
    let _ = stream.write_all(bytes);
    read(&mut stream)
}

/// Reads until the connection is closed.
pub(crate) fn read(stream: &mut impl Read) -> Option<Answer> {
    let mut all = Vec::new();
    // A reset after the answer is an end like another.
    let _ = stream.read_to_end(&mut all);
    let text = String::from_utf8_lossy(&all).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().unwrap();
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// A JSON body, as the rest of a request.
pub(crate) fn json(body: &serde_json::Value) -> String {
    let body = body.to_string();
    // The head's own last line end comes after the body, where nobody reads it.
    format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A request whose connection ends with it, with more header lines.
pub(crate) fn ask(api: &str, method: &str, path: &str, more: &str) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n");
    send(api, request.as_bytes()).unwrap()
}
