//! The audit log: who changed what, when, and what came of it, a line of JSON a call.
//!
//! A line is written before its answer goes out, and has no body and nothing that could be a secret. It is not synced: the change itself
//! is, and its revision leads to it. Whoever shows no token that we know leaves no line, for else he could push out those that matter.
//!
//! **Decided:** a log that can't be written fails no call. It is told, and counted (`audit_failures`); a full disk is when one most has
//! to be able to stop what fills it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{Method, StatusCode, Uri};
use serde::Serialize;

use crate::clock::precise_timestamp;
use crate::metrics::Metrics;
use crate::state::noted::Noted;

/// How large the file gets before it is put aside.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// How many are put aside, as FILE.1 and so on, the newest first.
const KEPT: u32 = 3;
/// How long an answer waits for its line.
const WRITE_TIME: Duration = Duration::from_secs(5);
/// Parameters in a query whose values are told; all others could hold anything.
const TOLD: [&str; 2] = ["timeout", "wait"];

/// Where it is kept.
pub struct Audit {
    sink: Mutex<Sink>,
    metrics: Arc<Metrics>,
}

struct Sink {
    place: Place,
    /// Whether the last line failed, and may stand there in part.
    is_failing: bool,
}

enum Place {
    Stderr,
    File { path: PathBuf, file: File, size: u64 },
}

/// The log can't be kept there.
#[derive(Debug, thiserror::Error)]
#[error("the audit log {path} can't be written; choose another with --audit FILE, or - for stderr, or none")]
pub struct AuditError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Audit {
    /// On stderr.
    pub fn on_stderr(metrics: Arc<Metrics>) -> Arc<Audit> {
        let sink = Sink { place: Place::Stderr, is_failing: false };
        Arc::new(Audit { sink: Mutex::new(sink), metrics })
    }

    /// In a file that is its owner's alone, after what it holds.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn in_file(path: &Path, metrics: Arc<Metrics>) -> Result<Arc<Audit>, AuditError> {
        let failed = |source| AuditError { path: path.to_owned(), source };
        let file = open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let sink = Sink { place: Place::File { path: path.to_owned(), file, size }, is_failing: false };
        Ok(Arc::new(Audit { sink: Mutex::new(sink), metrics }))
    }

    fn write(&self, line: &[u8]) {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let written = sink.write(line);
        if let Err(error) = &written {
            self.metrics.audit_failures.inc();
            if !sink.is_failing {
                tracing::error!(%error, "the audit log can't be written; calls are answered without");
            }
        }
        sink.is_failing = written.is_err();
    }
}

impl Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        // What stands there in part is not to spoil another line.
        let begin: &[u8] = if self.is_failing { b"\n" } else { b"" };
        let whole = [begin, line, b"\n"].concat();
        match &mut self.place {
            Place::Stderr => io::stderr().write_all(&whole),
            Place::File { path, file, size } => {
                if *size >= MAX_FILE_BYTES {
                    rotate(path)?;
                    *file = open(path)?;
                    *size = 0;
                }
                file.write_all(&whole)?;
                *size = size.saturating_add(u64::try_from(whole.len()).unwrap_or(u64::MAX));
                Ok(())
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Puts the file aside, and forgets the oldest one.
fn rotate(path: &Path) -> io::Result<()> {
    let aside = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    for number in (1..KEPT).rev() {
        match std::fs::rename(aside(number), aside(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    std::fs::rename(path, aside(1))
}

/// A call on its way. Dropped without an end, its client has gone before the answer; that is told too.
pub(super) struct Call {
    audit: Arc<Audit>,
    told: Option<Told>,
    noted: Noted,
}

/// What a line says.
#[derive(Serialize)]
struct Told {
    time: String,
    who: Arc<str>,
    peer: SocketAddr,
    method: String,
    path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    query: String,
    /// None when the client left before there was an answer.
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    /// Why, for what people have to give a reason for.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Call {
    pub(super) fn new(
        audit: &Arc<Audit>,
        who: Option<Arc<str>>,
        peer: SocketAddr,
        method: &Method,
        uri: &Uri,
        noted: Noted,
    ) -> Call {
        let told = Told {
            time: String::new(),
            who: who.unwrap_or_else(|| "anonymous".into()),
            peer,
            method: method.to_string(),
            path: uri.path().to_owned(),
            query: harmless(uri.query().unwrap_or_default()),
            status: None,
            revision: None,
            reason: None,
        };
        Call { audit: Arc::clone(audit), told: Some(told), noted }
    }

    /// Tells how it was answered.
    pub(super) async fn end(mut self, status: StatusCode) {
        let Some(line) = self.line(Some(status)) else { return };
        let audit = Arc::clone(&self.audit);
        let writing = tokio::task::spawn_blocking(move || audit.write(&line));
        if tokio::time::timeout(WRITE_TIME, writing).await.is_err() {
            self.audit.metrics.audit_failures.inc();
        }
    }

    fn line(&mut self, status: Option<StatusCode>) -> Option<Vec<u8>> {
        let told = self.told.take()?;
        let told = Told {
            time: precise_timestamp(),
            status: status.map(|status| status.as_u16()),
            revision: self.noted.last(),
            reason: self.noted.reason(),
            ..told
        };
        serde_json::to_vec(&told).ok()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(line) = self.line(None) {
            self.audit.write(&line);
        }
    }
}

/// A query without what could be a secret.
fn harmless(query: &str) -> String {
    let told = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let is_told = TOLD.contains(&name)
            && value.len() <= 16
            && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
        if is_told { pair.to_owned() } else { "…".to_owned() }
    };
    query.split('&').filter(|pair| !pair.is_empty()).map(told).take(8).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn call(audit: &Arc<Audit>, path: &'static str) -> Call {
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        Call::new(audit, None, peer, &Method::POST, &Uri::from_static(path), Noted::default())
    }

    #[tokio::test]
    async fn a_line_has_what_is_needed_and_nothing_that_could_be_a_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let audit = Audit::in_file(&path, Arc::default()).unwrap();
        call(&audit, "/1.0/a?wait=false&token=hunter2&hunter3&timeout=x%20y").end(StatusCode::OK).await;
        drop(call(&audit, "/1.0/b"));
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["query"], &lines[0]["status"]), (&"wait=false&…&…&…".into(), &200.into()));
        assert_eq!((&lines[0]["who"], &lines[0]["peer"]), (&"anonymous".into(), &"127.0.0.1:9".into()));
        assert!(lines[0].get("revision").is_none() && lines[1]["status"].is_null());
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_log_is_put_aside_when_it_is_large_and_the_oldest_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let audit = Audit::in_file(&path, Arc::default()).unwrap();
        let line = vec![b'x'; usize::try_from(MAX_FILE_BYTES).unwrap()];
        for _ in 0..6 {
            audit.write(&line);
        }
        let mut names: Vec<String> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["audit.log", "audit.log.1", "audit.log.2", "audit.log.3"]);
    }

    #[test]
    fn a_log_that_can_not_be_written_is_counted_and_the_next_line_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let metrics = Arc::new(Metrics::default());
        let audit = Audit::in_file(&path, Arc::clone(&metrics)).unwrap();
        let swap = |other: File| {
            let mut sink = audit.sink.lock().unwrap();
            match &mut sink.place {
                Place::File { file, .. } => std::mem::replace(file, other),
                Place::Stderr => panic!("it is a file"),
            }
        };
        let good = swap(OpenOptions::new().write(true).open("/dev/full").unwrap());
        audit.write(b"lost");
        assert_eq!(metrics.audit_failures.get(), 1);
        drop(swap(good));
        audit.write(b"kept");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "\nkept\n");
    }
}
