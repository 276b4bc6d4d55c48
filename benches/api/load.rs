//! A client that costs as little as a client can: one request, known by heart, and an answer whose length is known.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One contender.
pub(crate) struct Load {
    address: String,
    request: String,
    pid: u32,
    /// The length of the whole answer.
    pub(crate) bytes: usize,
}

/// What a round showed.
pub(crate) struct Seen {
    pub(crate) per_second: f64,
    /// Microseconds of the server's processor time a request.
    pub(crate) cpu_us: f64,
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n")
}

/// The body of an answer.
pub(crate) fn once(address: &str, path: &str) -> Vec<u8> {
    let (answer, head) = whole(address, path);
    answer[head..].to_vec()
}

/// An answer, and the length of its head.
fn whole(address: &str, path: &str) -> (Vec<u8>, usize) {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let asked = request(path).replace("Accept: */*", "Connection: close");
    stream.write_all(asked.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..head]));
    (answer, head)
}

impl Load {
    pub(crate) fn new(address: &str, path: &str, pid: u32) -> Load {
        let (answer, _) = whole(address, path);
        // All but that the connection goes on.
        let bytes = answer.len() - "connection: close\r\n".len();
        Load { address: address.to_owned(), request: request(path), pid, bytes }
    }

    /// Asks for a while, many at once.
    pub(crate) fn run(&self, clients: usize, time: Duration) -> Seen {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut streams = Vec::new();
            for _ in 0..clients {
                streams.push(tokio::net::TcpStream::connect(&self.address).await.unwrap());
            }
            let (before, began) = (cpu_us(self.pid), Instant::now());
            let asking = streams.into_iter().map(|mut stream| async move {
                let mut answer = vec![0; self.bytes];
                let mut count = 0u32;
                while began.elapsed() < time {
                    stream.write_all(self.request.as_bytes()).await.unwrap();
                    stream.read_exact(&mut answer).await.unwrap();
                    count += 1;
                }
                assert!(
                    answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"}") | answer.ends_with(b"]")
                );
                count
            });
            let count: u32 = futures_util::future::join_all(asking).await.into_iter().sum();
            let took = began.elapsed();
            Seen {
                per_second: f64::from(count) / took.as_secs_f64(),
                cpu_us: (cpu_us(self.pid) - before) / f64::from(count),
            }
        })
    }
}

/// How long each of many answers took, asked for by some at once, each after something else was done.
pub(crate) fn latencies(
    address: &str,
    path: &str,
    clients: usize,
    count: usize,
    before: impl Fn(usize),
) -> Vec<Duration> {
    let load = Load::new(address, path, std::process::id());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let asking = (0..clients).map(|_| async {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let mut answer = vec![0; load.bytes];
            let mut all = Vec::new();
            for number in 0..count / clients {
                before(number);
                let began = Instant::now();
                stream.write_all(load.request.as_bytes()).await.unwrap();
                stream.read_exact(&mut answer).await.unwrap();
                all.push(began.elapsed());
            }
            all
        });
        futures_util::future::join_all(asking).await.concat()
    })
}

/// Processor time of a process, all its threads.
fn cpu_us(pid: u32) -> f64 {
    let fields = crate::support::stat(pid).unwrap();
    let ticks: f64 = fields[11..=12].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    // Linux has shown a hundred ticks a second since ever.
    ticks * 10_000.0
}
