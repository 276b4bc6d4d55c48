//! `mainstay secrets`: what is done to the key that secrets are sealed with.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::etcd::EtcdArguments;
use super::{Outcome, key};
use crate::state::rotation;
use crate::store::Store;
use crate::store::embedded::Embedded;
use crate::store::etcd::Etcd;

#[derive(Debug, Args)]
pub(super) struct SecretsArguments {
    #[command(subcommand)]
    command: SecretsCommand,
}

#[derive(Debug, Subcommand)]
enum SecretsCommand {
    /// Seal all secrets with another key. Stop every server of this store before; what is interrupted is finished by doing
    /// it again.
    Rotate {
        /// The data folder.
        #[arg(long, value_name = "DIR", default_value = "mainstay-data")]
        data_dir: PathBuf,
        #[command(flatten)]
        etcd: EtcdArguments,
        /// The key that secrets are sealed with now. [default: secret.key in the data folder]
        #[arg(long, value_name = "FILE")]
        secret_key: Option<PathBuf>,
        /// The key that they are to be sealed with. Made when absent.
        #[arg(long, value_name = "FILE")]
        new_key: PathBuf,
    },
}

pub(super) async fn run(arguments: SecretsArguments) -> Outcome {
    let SecretsCommand::Rotate { data_dir, etcd, secret_key, new_key } = arguments.command;
    let old_key = secret_key.unwrap_or_else(|| data_dir.join("secret.key"));
    let old = key::existing(&old_key)?;
    let store: Arc<dyn Store> = match etcd.config()? {
        Some(config) => Arc::new(Etcd::open(&config).await?),
        None => Arc::new(Embedded::open(&data_dir)?),
    };
    let new = key::sealer(&new_key, None)?;
    let count = rotation::rotate(&*store, &old, &new).await?;
    eprintln!(
        "mainstay: {count} documents were sealed anew; secrets are now sealed with the key {0} in {1}. Start mainstay with \
         --secret-key {1}, or put that file in the place of {2}; keep the old key for older backups.",
        new.id(),
        new_key.display(),
        old_key.display(),
    );
    Ok(ExitCode::SUCCESS)
}
