//! Logs as they are read: each line once, over rotations and breaks.

use std::path::PathBuf;

use mainstay::node::log::{Reading, Start as From};

use super::{Case, PATIENCE, remove, sh, start, support};

/// A log of numbered lines, written and rotated as a supervisor does it while its process runs: copied, then truncated.
struct Writer {
    folder: PathBuf,
    file: std::fs::File,
    lines: u64,
}

impl Writer {
    fn new(case: &Case, id: &str) -> Writer {
        let folder = case.root.join("p").join(id);
        std::fs::create_dir_all(&folder).unwrap();
        let file = std::fs::File::options().append(true).create(true).open(folder.join("log")).unwrap();
        Writer { folder, file, lines: 0 }
    }

    fn write(&mut self, lines: u64) {
        use std::io::Write as _;
        for _ in 0..lines {
            self.lines += 1;
            writeln!(self.file, "line {}", self.lines).unwrap();
        }
    }

    /// The file is named log at first, then log.1, log.2; the one after is dropped.
    fn rotate(&mut self) {
        let at = |name: &str| self.folder.join(name);
        if at("log.1").exists() {
            std::fs::rename(at("log.1"), at("log.2")).unwrap();
        }
        std::fs::copy(at("log"), at("log.new")).unwrap();
        std::fs::rename(at("log.new"), at("log.1")).unwrap();
        self.file.set_len(0).unwrap();
    }

    /// What the lines up to a number are.
    fn text(from: u64, to: u64) -> String {
        (from..=to).map(|number| format!("line {number}\n")).collect()
    }
}

async fn read_log(case: &mut Case, id: &str, from: From, follow: bool) -> Reading {
    Reading::open(&*case.link.sides(), &case.target.root, id, &from, follow).await.unwrap()
}

/// The next bytes of a log that is followed.
async fn more(reading: &mut Reading) -> Vec<u8> {
    tokio::time::timeout(PATIENCE, reading.next()).await.unwrap().unwrap().expect("it has no end").bytes
}

pub(super) async fn a_log_is_read_from_its_beginning_or_its_last_lines(mut case: Case) {
    let mut writer = Writer::new(&case, "a");
    writer.write(20);
    writer.rotate();
    writer.write(20_000);
    writer.rotate();
    writer.write(5);
    for (from, first) in [
        (From::All, 1),
        (From::Last(0), 20_026),
        (From::Last(3), 20_023),
        (From::Last(5), 20_021),
        (From::Last(7), 20_019),
        (From::Last(20_007), 19),
        (From::Last(99_999), 1),
    ] {
        let mut reading = read_log(&mut case, "a", from, false).await;
        let mut read = Vec::new();
        while let Some(piece) = reading.next().await.unwrap() {
            read.extend(piece.bytes);
        }
        assert!(String::from_utf8(read).unwrap() == Writer::text(first, 20_025), "from line {first}");
    }
    // What is written meanwhile is not waited for.
    let mut reading = read_log(&mut case, "a", From::Last(2), false).await;
    writer.write(100_000);
    writer.rotate();
    writer.write(1);
    let mut read = Vec::new();
    while let Some(piece) = reading.next().await.unwrap() {
        read.extend(piece.bytes);
    }
    assert_eq!(String::from_utf8(read).unwrap(), Writer::text(20_024, 20_025));
    let mut nothing = read_log(&mut case, "never-started", From::Last(5), false).await;
    assert_eq!(nothing.next().await, Ok(None));
    drop(nothing);
    case.end().await;
}

pub(super) async fn a_followed_log_is_read_exactly_once_over_rotations_and_breaks(mut case: Case) {
    let mut writer = Writer::new(&case, "a");
    writer.write(10);
    let mut reading = read_log(&mut case, "a", From::All, true).await;
    let mut read = Vec::new();
    for round in 0..12_u64 {
        // Read to the end, to somewhere, or not at all before the next thing happens.
        let wanted = Writer::text(1, writer.lines).len();
        while round % 3 == 0 && read.len() < wanted {
            read.extend(more(&mut reading).await);
        }
        if round % 3 == 1 {
            read.extend(more(&mut reading).await);
        }
        if round % 2 == 0 {
            writer.rotate();
        }
        if round % 4 == 3 {
            let at = reading.at().clone();
            drop(reading);
            writer.write(100 * round);
            writer.rotate();
            writer.write(100 * round);
            reading = read_log(&mut case, "a", From::At(at), true).await;
        }
        writer.write(1 + 50 * round);
    }
    let wanted = Writer::text(1, writer.lines);
    while read.len() < wanted.len() {
        read.extend(more(&mut reading).await);
    }
    assert!(String::from_utf8(read).unwrap() == wanted, "lines were lost, repeated or changed");
    drop(reading);
    case.end().await;
}

pub(super) async fn a_log_that_is_emptied_by_hand_goes_on_from_its_new_beginning(mut case: Case) {
    let mut writer = Writer::new(&case, "a");
    writer.write(10);
    let mut reading = read_log(&mut case, "a", From::All, true).await;
    assert_eq!(more(&mut reading).await, Writer::text(1, 10).into_bytes());
    writer.file.set_len(0).unwrap();
    writer.write(1);
    assert_eq!(more(&mut reading).await, b"line 11\n");
    drop(reading);
    case.end().await;
}

pub(super) async fn what_follows_a_log_ends_with_its_channel_and_with_its_process(mut case: Case) {
    let folder = Writer::new(&case, "a").folder;
    let reading = read_log(&mut case, "a", From::All, true).await;
    support::wait_for("the tail and its shell", || support::working_in(&folder).len() >= 2);
    drop(reading);
    support::wait_for("nothing of it to be left", || support::working_in(&folder).is_empty());

    case.batch(vec![start("b", sh("echo last words; exec sleep 1000"))]).await;
    case.wait_for_log("b", "last words\n");
    let mut reading = read_log(&mut case, "b", From::All, true).await;
    assert_eq!(more(&mut reading).await, b"last words\n");
    case.batch(vec![remove("b")]).await;
    assert_eq!(tokio::time::timeout(PATIENCE, reading.next()).await.unwrap(), Ok(None));
    drop(reading);
    case.end().await;
}
