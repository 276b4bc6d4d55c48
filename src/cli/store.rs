//! `mainstay store`: check, back up, restore and move what a store holds.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::client::Client;
use super::etcd::{EtcdArguments, EtcdIdentity};
use super::{Outcome, ServerArguments};
use crate::clock::{self, Clock};
use crate::state;
use crate::store::backup::{self, Backup, Lines};
use crate::store::embedded::{self, Damage, Embedded};
use crate::store::etcd::Etcd;
use crate::store::{Store, StoreError};

#[derive(Debug, Args)]
pub(super) struct StoreArguments {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Read all of a data folder's store and say what is damaged. Exit code 1 when anything is. The store must not be in use.
    Check {
        #[arg(value_name = "DIR", default_value = "mainstay-data")]
        data_dir: PathBuf,
    },
    /// Write everything that a store holds into one file. A store in use is asked of the server that has it.
    Backup {
        /// The data folder.
        #[arg(long, value_name = "DIR", default_value = "mainstay-data")]
        data_dir: PathBuf,
        /// Ask the server, whatever store it has.
        #[arg(long, conflicts_with = "etcd")]
        served: bool,
        #[command(flatten)]
        server: ServerArguments,
        #[command(flatten)]
        etcd: EtcdArguments,
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Make a store of a backup. There must be none yet.
    Restore {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The data folder.
        #[arg(long, value_name = "DIR", default_value = "mainstay-data")]
        data_dir: PathBuf,
        #[command(flatten)]
        etcd: EtcdArguments,
    },
    /// Copy a store into an empty one of another engine. Nothing must be using either.
    Migrate {
        /// A data folder, or etcd://HOST:PORT,HOST:PORT/PREFIX.
        #[arg(long, value_name = "STORE")]
        from: String,
        /// The same.
        #[arg(long, value_name = "STORE")]
        to: String,
        #[command(flatten)]
        identity: EtcdIdentity,
    },
}

#[derive(Debug, thiserror::Error)]
enum StoreCommandError {
    #[error("{path} can't be written")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} can't be read")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("there is no store in {path}; name its folder with --data-dir")]
    NoStore { path: PathBuf },
    #[error(
        "{dir} is in use by process {holder}, and the server at {server} is {other}; name the one that has it with --server"
    )]
    OtherServer { dir: String, holder: String, server: String, other: String },
}

pub(super) async fn run(arguments: StoreArguments) -> Outcome {
    match arguments.command {
        StoreCommand::Check { data_dir } => check(&data_dir),
        StoreCommand::Backup { data_dir, served, server, etcd, file } => {
            let backup = match (served, etcd.config()?) {
                (true, _) => save(&file, asked(&server, None)?)?,
                (false, Some(config)) => {
                    let store = Etcd::open(&config).await?;
                    save(&file, read_out(&store).await?)?
                }
                (false, None) => match open(&data_dir) {
                    Ok(store) => save(&file, read_out(&store).await?)?,
                    Err(error) => match error.downcast::<StoreError>().map(|error| *error) {
                        Ok(StoreError::InUse { dir, holder }) => {
                            save(&file, asked(&server, Some((dir, holder)))?)?
                        }
                        Ok(other) => return Err(other.into()),
                        Err(other) => return Err(other),
                    },
                },
            };
            eprintln!(
                "mainstay: {} holds {} keys at revision {}; secrets in it are sealed, so keep the key file, too, elsewhere",
                file.display(),
                backup.items.len(),
                backup.revision
            );
            Ok(ExitCode::SUCCESS)
        }
        StoreCommand::Restore { file, data_dir, etcd } => {
            let source =
                File::open(&file).map_err(|source| StoreCommandError::Read { path: file.clone(), source })?;
            let mut backup = backup::read(&mut BufReader::new(source))?;
            // Controllers may have taken over since it was made, and the nodes remember.
            state::raise_epoch(&mut backup.items, Clock::default().time_of_day_s());
            let said = format!("{} keys of {}", backup.items.len(), backup.made);
            match etcd.config()? {
                Some(config) => backup::restore(backup, &Etcd::open(&config).await?).await?,
                None => embedded::restore(&data_dir, &backup)?,
            }
            eprintln!(
                "mainstay: restored {said}; secrets are sealed as they were, so start with the key file of that time"
            );
            Ok(ExitCode::SUCCESS)
        }
        StoreCommand::Migrate { from, to, identity } => migrate(&from, &to, &identity).await,
    }
}

fn check(data_dir: &Path) -> Outcome {
    let survey = embedded::survey(data_dir)?;
    let unreadable = survey
        .items
        .iter()
        .filter_map(|item| state::flaw(item).map(|what| Damage { key: Some(item.key.clone()), what }));
    let damages: Vec<Damage> = survey.damages.iter().cloned().chain(unreadable).collect();
    for Damage { key, what } in &damages {
        println!("{}: {what}", key.as_deref().unwrap_or("-"));
    }
    eprintln!(
        "mainstay: {}: {} keys, revisions {} to {}, {} writes; {}",
        data_dir.display(),
        survey.items.len(),
        survey.oldest,
        survey.revision,
        survey.rows,
        match damages.len() {
            0 => "all sound".to_owned(),
            count => format!("{count} damaged; restore it from a backup"),
        }
    );
    Ok(if damages.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Opens a store that is there; nothing is made.
fn open(data_dir: &Path) -> Result<Embedded, Box<dyn std::error::Error + Send + Sync>> {
    if !data_dir.join("store.db").exists() {
        return Err(StoreCommandError::NoStore { path: data_dir.to_owned() }.into());
    }
    Ok(Embedded::open(data_dir)?)
}

/// A store as a stream of lines.
async fn read_out(store: &dyn Store) -> Result<impl Read + use<>, StoreError> {
    let lines = Lines::new(store.list("", None).await?, clock::timestamp());
    Ok(Reader { lines, line: Vec::new(), read: 0 })
}

struct Reader {
    lines: Lines,
    line: Vec<u8>,
    read: usize,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.read == self.line.len() {
            self.line = self.lines.next().unwrap_or_default();
            self.read = 0;
        }
        let count = self.line.get(self.read..).unwrap_or_default().read(buffer)?;
        self.read += count;
        Ok(count)
    }
}

/// The backup that a server makes. `locked`: only if it is the server that has this directory.
fn asked(
    server: &ServerArguments,
    locked: Option<(String, Option<u32>)>,
) -> Result<impl Read + use<>, Box<dyn std::error::Error + Send + Sync>> {
    let (process, body) = Client::new(server)?.backup()?;
    if let Some((dir, holder)) = locked
        && (process.is_none() || process != holder)
    {
        let name = |process: Option<u32>| {
            process.map_or_else(|| "another".to_owned(), |process| format!("process {process}"))
        };
        let holder = holder.map_or_else(|| "?".to_owned(), |holder| holder.to_string());
        let (server, other) = (server.server.clone(), name(process));
        let error = StoreCommandError::OtherServer { dir, holder, server, other };
        return Err(error.into());
    }
    Ok(body)
}

/// Writes a backup under another name, reads it back, and only then calls it by its own.
fn save(path: &Path, mut from: impl Read) -> Result<Backup, Box<dyn std::error::Error + Send + Sync>> {
    let failed = |source| StoreCommandError::Write { path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error).into()),
        Ok(()) | Err(_) => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(failed)?;
    let mut writer = BufWriter::new(file);
    std::io::copy(&mut from, &mut writer).and_then(|_| writer.flush()).map_err(failed)?;
    writer.get_ref().sync_all().map_err(failed)?;
    let backup = backup::read(&mut BufReader::new(File::open(&part).map_err(failed)?))?;
    std::fs::rename(&part, path).map_err(failed)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(backup)
}

async fn migrate(from: &str, to: &str, identity: &EtcdIdentity) -> Outcome {
    let listing = match identity.at(from)? {
        Some(config) => read_out(&Etcd::open(&config).await?).await?,
        None => read_out(&open(Path::new(from))?).await?,
    };
    // Through the form of the file, so that this is a backup and a restore and nothing else.
    let backup = backup::read(&mut BufReader::new(listing))?;
    let (count, revision) = (backup.items.len(), backup.revision);
    match identity.at(to)? {
        Some(config) => backup::restore(backup, &Etcd::open(&config).await?).await?,
        None => embedded::restore(Path::new(to), &backup)?,
    }
    eprintln!(
        "mainstay: moved {count} keys of revision {revision} from {from} to {to}. Secrets are sealed as they were: take the \
         key file along (secret.key in the data folder, or --secret-key). Start nothing on {from} any more: two controllers \
         with two stores would both act on the nodes."
    );
    Ok(ExitCode::SUCCESS)
}
