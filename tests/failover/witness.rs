//! Whom the processes are connected to: it knows from outside which copies live.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Something that was seen of a process.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Which it is.
    pub(crate) process: String,
    /// Where it is.
    pub(crate) node: String,
    /// Whether it began or ended.
    pub(crate) began: bool,
    /// When.
    pub(crate) at: Instant,
}

/// What was seen, in order.
#[derive(Default)]
pub(crate) struct Witness {
    seen: Mutex<Vec<Seen>>,
    is_over: AtomicBool,
}

/// Ends the watch with itself, after a failure too.
pub(crate) struct Watching<'a>(&'a Witness);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

impl Witness {
    /// Watches from a thread of its own, until the value that is answered goes.
    pub(crate) fn watched<'a, 'scope>(
        &'a self,
        scope: &'scope Scope<'scope, 'a>,
        listener: &'a TcpListener,
    ) -> Watching<'a> {
        scope.spawn(|| self.watch(listener));
        Watching(self)
    }

    /// Sees who comes and who goes. One thread, that takes note of who has gone before who has come.
    fn watch(&self, listener: &TcpListener) {
        let mut connected: Vec<(TcpStream, String, String)> = Vec::new();
        while !self.is_over.load(Ordering::Relaxed) {
            let mut ready: Vec<PollFd<'_>> = vec![PollFd::new(listener, PollFlags::IN)];
            ready.extend(connected.iter().map(|(stream, ..)| PollFd::new(stream, PollFlags::IN)));
            let _ = poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 20_000_000 })).unwrap();
            let is_ready: Vec<bool> = ready.iter().map(|fd| !fd.revents().is_empty()).collect();
            let mut seen = self.seen.lock().unwrap();
            let mut note = |process: &str, node: &str, began: bool| {
                let (process, node) = (process.to_owned(), node.to_owned());
                seen.push(Seen { process, node, began, at: Instant::now() });
            };
            let mut gone = is_ready[1..].iter();
            connected.retain(|(_, process, node)| {
                let has_gone = *gone.next().unwrap();
                if has_gone {
                    note(process, node, false);
                }
                !has_gone
            });
            if is_ready[0] {
                let (mut stream, _) = listener.accept().unwrap();
                let (process, node) = introduced(&mut stream);
                note(&process, &node, true);
                connected.push((stream, process, node));
            }
        }
    }

    /// All that was seen.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many copies live, of whatever process.
    pub(crate) fn running(&self) -> usize {
        let seen = self.seen.lock().unwrap();
        let began = seen.iter().filter(|it| it.began).count();
        began * 2 - seen.len()
    }

    /// The most that have lived at once.
    pub(crate) fn most(&self) -> usize {
        let mut living = 0_usize;
        let counts = self.seen().into_iter().map(|it| {
            living = if it.began { living + 1 } else { living - 1 };
            living
        });
        counts.max().unwrap_or(0)
    }
}

/// Who a process says it is, and where.
fn introduced(stream: &mut TcpStream) -> (String, String) {
    let mut said = String::new();
    while !said.ends_with('\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        said.push(char::from(byte[0]));
    }
    let mut words = said.split_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}
