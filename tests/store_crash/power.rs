//! Power cuts: the system calls of a writing process are recorded with strace, and replayed up to some moment onto fresh
//! files. What was synced by then is there; of the rest, each sector of 512 bytes is there or not, by chance, so that
//! writes are dropped, torn and reordered. What was acknowledged by that moment has to be there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use mainstay::store::embedded::Embedded;

use crate::{CYCLES, Random, Writing, counts, in_runtime, rounds};

/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// What was done, in the order in which it ended.
#[derive(Debug)]
enum Call {
    Write {
        file: String,
        offset: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        file: String,
        length: usize,
    },
    Sync {
        file: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Unlink {
        file: String,
    },
    /// A writer was told that its number is kept.
    Acknowledged {
        writer: u64,
        number: u64,
    },
}

/// A file on a disk with a cache.
#[derive(Debug, Default, Clone)]
struct Disk {
    synced: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

impl Disk {
    fn sync(&mut self) {
        for (offset, bytes) in std::mem::take(&mut self.pending) {
            put(&mut self.synced, offset, &bytes);
        }
    }

    /// What is found after the power has gone.
    fn after_a_cut(&self, random: &mut Random, keeps_of_four: u64) -> Vec<u8> {
        let mut content = self.synced.clone();
        for (offset, bytes) in &self.pending {
            let mut start = 0;
            while start < bytes.len() {
                let place = offset + start;
                let end = bytes.len().min(start + SECTOR - place % SECTOR);
                if random.below(4) < keeps_of_four {
                    put(&mut content, place, &bytes[start..end]);
                }
                start = end;
            }
        }
        content
    }
}

/// Runs the child under strace, to its end.
fn recorded(temp: &Path) -> Vec<Call> {
    let trace = temp.join("trace");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "-y", "-xx", "-s", "1000000", "-e", "signal=none", "-e"])
        .arg("trace=write,pwrite64,lseek,ftruncate,fsync,fdatasync,rename,unlink")
        .arg("-o")
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .env(CYCLES, "6");
    let dir = temp.join("data");
    let mut writing = Writing::of(command, &dir);
    writing.read(None);
    let status = writing.child.wait().unwrap();
    assert!(status.success(), "these tests need strace, and may trace: {status}");
    assert!(writing.total > 100);
    let text = std::fs::read_to_string(&trace).unwrap();
    let mut unfinished: BTreeMap<&str, String> = BTreeMap::new();
    let mut positions: BTreeMap<String, usize> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let (thread, line) = line.split_once(' ').unwrap();
        let line = line.trim_start();
        let whole = if let Some(begun) = line.strip_suffix(" <unfinished ...>") {
            unfinished.insert(thread, begun.to_owned());
            continue;
        } else if let Some((_, rest)) = line.split_once(" resumed>") {
            unfinished.remove(thread).unwrap_or_default() + rest
        } else {
            line.to_owned()
        };
        calls.extend(call(&whole, &dir, &mut positions));
    }
    calls
}

/// One line of strace's. None for what is not about the store's files.
fn call(line: &str, dir: &Path, positions: &mut BTreeMap<String, usize>) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().strip_suffix(')')?;
    let result: i64 = result.split_whitespace().next()?.parse().ok()?;
    if result < 0 {
        return None;
    }
    if matches!(name, "rename" | "unlink") {
        let mut paths = arguments.split(", ").map(|word| String::from_utf8(unquoted(word)).unwrap());
        let from = local(&paths.next()?, dir)?;
        return match paths.next() {
            Some(to) => Some(Call::Rename { from, to: local(&to, dir)? }),
            None => Some(Call::Unlink { file: from }),
        };
    }
    let (descriptor, rest) = arguments.split_once('>').unwrap_or((arguments, ""));
    let (descriptor, path) = descriptor.split_once('<')?;
    let rest = rest.strip_prefix(", ").unwrap_or(rest);
    if name == "write" && descriptor == "1" {
        let said = String::from_utf8(unquoted(rest.rsplit_once(", ")?.0)).ok()?;
        let (_, numbers) = said.split_once("acknowledged ")?;
        let (writer, number) = numbers.trim_end().strip_suffix(" .")?.split_once(' ')?;
        return Some(Call::Acknowledged { writer: writer.parse().ok()?, number: number.parse().ok()? });
    }
    let file = local(&decoded_path(path), dir)?;
    let position = positions.entry(format!("{descriptor} {file}")).or_default();
    match name {
        "lseek" => {
            *position = result as usize;
            None
        }
        "write" | "pwrite64" => {
            let mut bytes = unquoted(rest.split(", ").next()?);
            bytes.truncate(result as usize);
            let offset = match name {
                "write" => *position,
                _ => rest.rsplit_once(", ")?.1.parse().ok()?,
            };
            if name == "write" {
                *position += bytes.len();
            }
            Some(Call::Write { file, offset, bytes })
        }
        "ftruncate" => Some(Call::Truncate { file, length: rest.parse().ok()? }),
        "fsync" | "fdatasync" => Some(Call::Sync { file }),
        _ => None,
    }
}

/// The name of one of the store's files; the directory and the lock are none.
fn local(path: &str, dir: &Path) -> Option<String> {
    let name = Path::new(path).strip_prefix(dir).ok()?.to_str()?;
    name.starts_with("store.db").then(|| name.to_owned())
}

/// strace's paths are hexadecimal with `-xx`, or as they are.
fn decoded_path(path: &str) -> String {
    if path.starts_with("\\x") {
        String::from_utf8(unquoted(path)).unwrap_or_default()
    } else {
        path.to_owned()
    }
}

fn unquoted(word: &str) -> Vec<u8> {
    let digits = word.trim_matches('"').split("\\x").skip(1);
    digits.map(|digits| u8::from_str_radix(&digits[..2], 16).unwrap()).collect()
}

/// The files and what had been acknowledged when so many calls had been made. `honest`: a sync does what it says.
fn at(calls: &[Call], honest: bool) -> (BTreeMap<&str, Disk>, BTreeMap<u64, u64>) {
    let mut disks: BTreeMap<&str, Disk> = BTreeMap::new();
    let mut acknowledged = BTreeMap::new();
    for call in calls {
        match call {
            Call::Write { file, offset, bytes } => {
                disks.entry(file).or_default().pending.push((*offset, bytes.clone()));
            }
            Call::Truncate { file, length } => {
                let disk = disks.entry(file).or_default();
                disk.sync();
                disk.synced.resize(*length, 0);
            }
            Call::Sync { file } if honest => disks.entry(file).or_default().sync(),
            Call::Sync { .. } => {}
            Call::Rename { from, to } => {
                if let Some(disk) = disks.remove(from.as_str()) {
                    disks.insert(to, disk);
                }
            }
            Call::Unlink { file } => drop(disks.remove(file.as_str())),
            Call::Acknowledged { writer, number } => drop(acknowledged.insert(*writer, *number)),
        }
    }
    (disks, acknowledged)
}

/// Err with what was lost.
fn cut(calls: &[Call], honest: bool, temp: &Path, seed: u64) -> Result<(), String> {
    let mut random = Random(seed + 1);
    // Spread over the whole recording, at a place that is different in each round.
    let moment = random.below(calls.len() as u64) as usize;
    let (disks, acknowledged) = at(&calls[..moment], honest);
    let dir: PathBuf = temp.join(format!("cut{seed}{honest}"));
    std::fs::create_dir(&dir).unwrap();
    let keeps = random.below(5);
    for (name, disk) in &disks {
        std::fs::write(dir.join(name), disk.after_a_cut(&mut random, keeps)).unwrap();
    }
    let store = Embedded::open(&dir).map_err(|error| format!("after {moment} calls: {error}"))?;
    let kept = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| in_runtime(counts(&store))))
        .map_err(|_| format!("after {moment} calls: not whole"))?;
    drop(store);
    std::fs::remove_dir_all(&dir).unwrap();
    for (writer, number) in acknowledged {
        let kept = kept.get(&writer).copied().unwrap_or(0);
        if kept < number {
            return Err(format!(
                "after {moment} calls: writer {writer} was told {number}, and {kept} is there"
            ));
        }
    }
    Ok(())
}

#[test]
fn what_was_acknowledged_survives_a_power_cut() {
    let temp = tempfile::tempdir().unwrap();
    let calls = recorded(temp.path());
    let syncs = calls.iter().filter(|call| matches!(call, Call::Sync { .. })).count();
    let writes = calls.iter().filter(|call| matches!(call, Call::Write { .. })).count();
    assert!(syncs > 20 && writes > 100, "{syncs} syncs, {writes} writes: the recording lacks something");
    let failed: Vec<String> =
        (0..rounds() * 3).filter_map(|seed| cut(&calls, true, temp.path(), seed).err()).collect();
    println!("{} power cuts in {} calls, {} failed", rounds() * 3, calls.len(), failed.len());
    assert_eq!(failed, [""; 0]);
    // On a disk whose syncs do nothing, the same has to be noticed, or nothing was tested.
    let lying = (0..20).filter(|seed| cut(&calls, false, temp.path(), *seed).is_err()).count();
    assert!(lying > 10, "of 20 cuts without any sync, {lying} were noticed");
}
