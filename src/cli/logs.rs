//! `mainstay logs`: what processes have written, of one or of many at once.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use serde_json::Value;
use tokio::signal::unix::SignalKind;

use super::client::{Client, ClientError, printable};
use super::{LogsArguments, Outcome, chain, wire};
use crate::model::id::check_id;
use crate::node::log::{MAX_PIECE_BYTES, Position};

/// How many lines of each process are shown first when there are several, as kubectl does.
const TAIL_OF_SEVERAL: u32 = 10;

/// Longest line that is kept together with its prefix; more of it is shown as another.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// First and longest wait before a stream that broke off is asked for again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// What to show of each process.
#[derive(Clone, Copy)]
struct Ask {
    follow: bool,
    tail: Option<u32>,
}

pub(super) fn run(arguments: LogsArguments) -> Outcome {
    let LogsArguments { server, follow, tail, prefix, no_prefix, targets } = arguments;
    let client = Arc::new(Client::new(&server)?);
    let chosen = choose(&processes(&client)?, &targets)?;
    let are_several = chosen.len() > 1;
    let prefixed = prefix || (are_several && !no_prefix);
    let ask = Ask { follow, tail: tail.or(are_several.then_some(TAIL_OF_SEVERAL)) };
    let output = Arc::new(Mutex::new(Output::new(are_several || prefixed)));
    let (events, happened) = channel();
    tell_of_ctrl_c(events.clone())?;
    tell_of_closed_output(events.clone())?;

    let mut left = chosen.len();
    let numbered: Vec<(usize, Process)> = chosen.into_iter().enumerate().collect();
    // What has no end is shown side by side, what has one in order.
    let side_by_side = if follow { 1 } else { numbered.len() };
    for group in numbered.chunks(side_by_side.max(1)) {
        let (group, client) = (group.to_vec(), Arc::clone(&client));
        let (output, events) = (Arc::clone(&output), events.clone());
        thread::Builder::new().spawn(move || {
            for (number, process) in group {
                let prefix = if prefixed { process.prefix() } else { String::new() };
                let printer = Printer { output: Arc::clone(&output), number, prefix };
                let event = match show(&client, &process.id, ask, &printer) {
                    Ok(()) => Event::Ended(None),
                    Err(ShowError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                        Event::Closed
                    }
                    Err(error) => Event::Ended(Some(format!("{}: {}", process.id, chain(&error)))),
                };
                if events.send(event).is_err() {
                    return;
                }
            }
        })?;
    }
    let mut code = ExitCode::SUCCESS;
    while left > 0 {
        match happened.recv()? {
            Event::Ended(error) => {
                left -= 1;
                if let Some(error) = error {
                    eprintln!("mainstay: {error}");
                    code = ExitCode::FAILURE;
                }
            }
            Event::Interrupted if follow => break,
            // As a shell says it of who ended by this signal: not all was shown.
            Event::Interrupted => return Ok(ExitCode::from(130)),
            // Who reads has enough; that is no error.
            Event::Closed => return Ok(ExitCode::SUCCESS),
        }
    }
    // Not waited for: who holds it may be stuck in an output that nobody reads.
    if let Ok(mut output) = output.try_lock() {
        let _ = output.finish();
    }
    Ok(code)
}

/// What ends the showing, or a part of it.
enum Event {
    /// A process's log was shown, or could not be.
    Ended(Option<String>),
    /// Ctrl-C.
    Interrupted,
    /// Nobody reads what we write.
    Closed,
}

fn tell_of_ctrl_c(events: Sender<Event>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().spawn(move || {
        runtime.block_on(wire::signalled(&[SignalKind::interrupt()]));
        let _ = events.send(Event::Interrupted);
    })?;
    Ok(())
}

/// So that `| head` ends us also while nothing is written.
fn tell_of_closed_output(events: Sender<Event>) -> io::Result<()> {
    thread::Builder::new().spawn(move || {
        let stdout = io::stdout();
        // Asked for nothing, it tells only of an error or of the other end's closing.
        if poll(&mut [PollFd::new(&stdout, PollFlags::empty())], None).is_ok() {
            let _ = events.send(Event::Closed);
        }
    })?;
    Ok(())
}

// ---- which -------------------------------------------------------------------------------------------------------

/// A process that can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    id: String,
    instance: String,
    service: String,
    node: String,
}

impl Process {
    /// `[SV1 ND1 ab12cd34] `: enough to know it by.
    fn prefix(&self) -> String {
        let short: String = self.id.chars().take(8).collect();
        format!("[{} {} {short}] ", self.service, self.node)
    }
}

fn processes(client: &Client) -> Result<Vec<Process>, ClientError> {
    let listed = client.get("/1.0/processes")?;
    let text = |process: &Value, name: &str| printable(process[name].as_str().unwrap_or_default());
    let read = |process: &Value| Process {
        id: text(process, "id"),
        instance: text(process, "instance"),
        service: text(process, "service"),
        node: text(process, "node"),
    };
    // What is no id can't be put into a path.
    let all = listed.as_array().into_iter().flatten().map(read);
    Ok(all.filter(|process| check_id(&process.id).is_ok()).collect())
}

/// The processes that the targets name, each once.
fn choose(all: &[Process], targets: &[String]) -> Result<Vec<Process>, String> {
    let mut chosen: Vec<Process> = Vec::new();
    for target in targets {
        let found: Vec<&Process> = match target.split_once('/') {
            Some((instance, service)) => {
                all.iter().filter(|it| it.instance == instance && it.service == service).collect()
            }
            None => match all.iter().find(|it| it.id == *target) {
                Some(process) => vec![process],
                None => all.iter().filter(|it| it.id.starts_with(target.as_str())).collect(),
            },
        };
        if found.is_empty() {
            return Err(match target.split_once('/') {
                Some(_) => format!("{target} has no processes; INSTANCE/SERVICE names those of a service"),
                None => format!(
                    "there is no process {target}; name one by its id, or a service's as INSTANCE/SERVICE"
                ),
            });
        }
        if !target.contains('/') && found.len() > 1 {
            return Err(format!(
                "{target} is the beginning of {} processes' ids; write more of it",
                found.len()
            ));
        }
        for process in found {
            if !chosen.contains(process) {
                chosen.push(process.clone());
            }
        }
    }
    Ok(chosen)
}

// ---- reading -----------------------------------------------------------------------------------------------------

/// Why a log is not shown to its end.
#[derive(Debug, thiserror::Error)]
enum ShowError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("its log broke off")]
    Broken(#[source] io::Error),
    #[error("can't write")]
    Output(#[source] io::Error),
}

/// Shows one process's log to its end. What broke off is asked for again where it was, if it is followed.
fn show(client: &Client, process: &str, ask: Ask, printer: &Printer) -> Result<(), ShowError> {
    let mut reached: Option<Position> = None;
    let mut pause = AGAIN.0;
    let mut is_told = false;
    loop {
        let begin = match (&reached, ask.tail) {
            (Some(position), _) => format!("&from={position}"),
            (None, Some(lines)) => format!("&tail={lines}"),
            (None, None) => String::new(),
        };
        let before = reached.clone();
        let path = format!("/1.0/processes/{process}/logs?frames=true&follow={}{begin}", ask.follow);
        let shown = client
            .stream(&path)
            .map_err(ShowError::from)
            .and_then(|body| print_frames(&mut BufReader::new(body), &mut reached, printer));
        let error = match shown {
            Ok(()) => return Ok(()),
            Err(ShowError::Client(ClientError::Refused { status: 404, .. })) if reached.is_some() => {
                eprintln!("mainstay: {process}: it was removed");
                return Ok(());
            }
            Err(error @ ShowError::Output(_)) => return Err(error),
            Err(error) if !ask.follow || reached.is_none() => return Err(error),
            Err(error) => error,
        };
        if reached != before {
            (pause, is_told) = (AGAIN.0, false);
        }
        if !is_told {
            eprintln!("mainstay: {process}: {}; trying again", chain(&error));
            is_told = true;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(AGAIN.1);
    }
}

/// Prints a log as the server frames it, and keeps the place that was reached.
fn print_frames(
    body: &mut impl BufRead,
    reached: &mut Option<Position>,
    printer: &Printer,
) -> Result<(), ShowError> {
    let broken = |why: &str| ShowError::Broken(io::Error::new(io::ErrorKind::InvalidData, why.to_owned()));
    let mut buffer = [0; 16 * 1024];
    loop {
        let mut line = Vec::new();
        body.take(256).read_until(b'\n', &mut line).map_err(ShowError::Broken)?;
        let line = String::from_utf8_lossy(&line);
        let (place, length) = match line.split(' ').collect::<Vec<_>>()[..] {
            ["E\n"] => return printer.finish().map_err(ShowError::Output),
            [""] => return Err(broken("the server ended it")),
            ["=", place, length] => (place, length),
            _ => return Err(broken("the server's answer is none of ours")),
        };
        let at: Position = place.parse().map_err(|_| broken("the server's answer is none of ours"))?;
        let length = length.trim_end().parse().ok().filter(|length| *length <= MAX_PIECE_BYTES);
        let length = length.ok_or_else(|| broken("the server's answer is none of ours"))?;
        *reached = Some(at.clone());
        let mut done = 0;
        while done < length {
            let part = buffer.len().min(length - done);
            let count = body.read(&mut buffer[..part]).map_err(ShowError::Broken)?;
            if count == 0 {
                return Err(broken("the server ended it"));
            }
            printer.print(&buffer[..count]).map_err(ShowError::Output)?;
            done += count;
            *reached = Some(at.after(done));
        }
    }
}

// ---- writing -----------------------------------------------------------------------------------------------------

/// One process's way to the output.
struct Printer {
    output: Arc<Mutex<Output<io::Stdout>>>,
    number: usize,
    prefix: String,
}

impl Printer {
    fn print(&self, bytes: &[u8]) -> io::Result<()> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).print(self.number, &self.prefix, bytes)
    }

    fn finish(&self) -> io::Result<()> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).finish_one(self.number)
    }
}

/// What all processes' logs are written to.
struct Output<W> {
    to: W,
    /// Whether lines are kept whole; else bytes go as they come.
    whole_lines: bool,
    /// The beginnings of lines whose end has not come, with their prefixes.
    begun: BTreeMap<usize, Vec<u8>>,
}

impl Output<io::Stdout> {
    fn new(whole_lines: bool) -> Output<io::Stdout> {
        Output { to: io::stdout(), whole_lines, begun: BTreeMap::new() }
    }
}

impl<W: Write> Output<W> {
    fn print(&mut self, number: usize, prefix: &str, bytes: &[u8]) -> io::Result<()> {
        if !self.whole_lines {
            self.to.write_all(bytes)?;
            return self.to.flush();
        }
        let mut ready = Vec::new();
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            let begun = self.begun.entry(number).or_default();
            if begun.is_empty() {
                begun.extend_from_slice(prefix.as_bytes());
            }
            begun.extend_from_slice(part);
            if begun.len() > MAX_LINE_BYTES && !begun.ends_with(b"\n") {
                begun.push(b'\n');
            }
            if begun.ends_with(b"\n") {
                ready.append(begun);
            }
        }
        self.to.write_all(&ready)?;
        self.to.flush()
    }

    /// The last line of one process, which may have no end.
    fn finish_one(&mut self, number: usize) -> io::Result<()> {
        if let Some(mut begun) = self.begun.remove(&number)
            && !begun.is_empty()
        {
            begun.push(b'\n');
            self.to.write_all(&begun)?;
        }
        self.to.flush()
    }

    /// The same of all.
    fn finish(&mut self) -> io::Result<()> {
        let numbers: Vec<usize> = self.begun.keys().copied().collect();
        numbers.into_iter().try_for_each(|number| self.finish_one(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(whole_lines: bool) -> Output<Vec<u8>> {
        Output { to: Vec::new(), whole_lines, begun: BTreeMap::new() }
    }

    fn text(output: &Output<Vec<u8>>) -> &str {
        std::str::from_utf8(&output.to).expect("what was printed is text")
    }

    #[test]
    fn lines_of_several_processes_never_mix() {
        let mut output = output(true);
        for (number, prefix, bytes) in
            [(0, "[a] ", "on"), (1, "[b] ", "uno\ndu"), (0, "[a] ", "e\n"), (1, "[b] ", "e\n\ntr")]
        {
            output.print(number, prefix, bytes.as_bytes()).unwrap();
        }
        assert_eq!(text(&output), "[b] uno\n[a] one\n[b] due\n[b] \n");
        output.finish().unwrap();
        assert_eq!(text(&output), "[b] uno\n[a] one\n[b] due\n[b] \n[b] tr\n");
    }

    #[test]
    fn a_single_log_goes_out_byte_for_byte_as_it_comes() {
        let mut output = output(false);
        output.print(0, "", b"par\0t").unwrap();
        output.finish().unwrap();
        assert_eq!(text(&output), "par\0t");
    }

    #[test]
    fn a_line_without_an_end_is_not_kept_for_ever() {
        let mut output = output(true);
        for _ in 0..100 {
            output.print(0, "[a] ", &[b'x'; 10_000]).unwrap();
            assert!(output.begun[&0].len() <= MAX_LINE_BYTES);
        }
        assert!(text(&output).lines().all(|line| line.starts_with("[a] x")));
    }

    fn process(id: &str, service: &str) -> Process {
        Process { id: id.into(), instance: "IN1".into(), service: service.into(), node: "ND1".into() }
    }

    #[test]
    fn a_target_is_an_id_the_beginning_of_one_or_a_service() {
        let all = [process("ab12", "SV1"), process("ab34", "SV1"), process("ab", "SV2")];
        let chosen = |targets: &[&str]| {
            let targets: Vec<String> = targets.iter().map(|target| (*target).to_owned()).collect();
            choose(&all, &targets).map(|found| found.into_iter().map(|it| it.id).collect::<Vec<_>>())
        };
        assert_eq!(chosen(&["IN1/SV1"]).unwrap(), ["ab12", "ab34"]);
        assert_eq!(
            chosen(&["ab3", "IN1/SV1"]).unwrap(),
            ["ab34", "ab12"],
            "each once, in the order asked for"
        );
        assert_eq!(chosen(&["ab"]).unwrap(), ["ab"], "a whole id is that process");
        for nothing in ["a", "IN1/SV3", "IN2/SV1", "x", ""] {
            assert!(chosen(&[nothing]).is_err(), "{nothing}");
        }
    }

    #[test]
    fn what_broke_off_is_known_to_the_byte() {
        let printer =
            Printer { output: Arc::new(Mutex::new(Output::new(true))), number: 0, prefix: String::new() };
        let mut reached = None;
        let broken = print_frames(&mut &b"= -:5 0\n= -:5 10\nabc"[..], &mut reached, &printer);
        assert!(matches!(broken, Err(ShowError::Broken(_))));
        assert_eq!(reached, "-:8".parse().ok());
        for rubbish in ["hello\n", "= x 1\na", "= -:1 999999999\n", "= -:1 -1\n"] {
            let broken = print_frames(&mut rubbish.as_bytes(), &mut reached, &printer);
            assert!(matches!(broken, Err(ShowError::Broken(_))), "{rubbish}");
        }
    }
}
