//! A node's document to what a link needs: secrets opened, password files read, our directory named.

use std::path::PathBuf;
use std::time::Duration;

use crate::home;
use crate::model::admit::password_place;
use crate::model::kinds::{NodeSpec, PasswordFrom, Transport};
use crate::model::meta::Key;
use crate::model::secret::{Clear, Sealer};
use crate::node::link::{LinkError, Target};

/// Longest password file that is read, in bytes.
const MAX_PASSWORD_FILE: usize = 4096;

/// What all nodes' targets have in common.
#[derive(Debug, Clone)]
pub struct Common {
    /// Opens sealed passwords.
    pub sealer: Sealer,
    /// Id of the store's world; names our directory on the nodes.
    pub cluster: String,
    /// The controller's own directory; what runs on this machine keeps its state there.
    pub data_dir: PathBuf,
    /// How long a connection may take.
    pub connect_timeout: Duration,
}

/// The name that a node goes by where nodes of all instances are: its host key is recorded under it.
pub(super) fn name_of(node: &Key) -> String {
    format!("{}/{}", node.namespace, node.name)
}

impl Common {
    /// How to reach a node.
    ///
    /// # Errors
    /// [`LinkError::Misconfigured`] when its password can't be had.
    pub async fn target(&self, key: &Key, node: &NodeSpec) -> Result<Target, LinkError> {
        let place = name_of(key);
        let root = match node.transport {
            Transport::Local => {
                let directory = self.data_dir.join("nodes").join(&key.namespace).join(&key.name);
                std::path::absolute(&directory).unwrap_or(directory).display().to_string()
            }
            Transport::Ssh => format!(".mainstay/{}/{place}", self.cluster),
        };
        Ok(Target {
            name: place,
            transport: node.transport,
            host: node.ip_address.clone(),
            port: match (node.port, &node.ssh_config) {
                (None, Some(_)) => None,
                (port, _) => Some(port.unwrap_or(22)),
            },
            username: node.username.clone(),
            password: self.password(key, node).await?,
            identity_file: node.identity_file.clone(),
            ssh_config: node.ssh_config.clone(),
            host_key: node.host_key.clone(),
            root,
            connect_timeout: self.connect_timeout,
        })
    }

    async fn password(&self, key: &Key, node: &NodeSpec) -> Result<Option<Clear>, LinkError> {
        let misconfigured = |why: String| Err(LinkError::Misconfigured(why));
        if let Some(sealed) = &node.password {
            return match self.sealer.open(&password_place(key), sealed) {
                Ok(clear) => Ok(Some(clear)),
                Err(error) => misconfigured(format!("its password can't be opened: {error}")),
            };
        }
        match &node.password_from {
            None => Ok(None),
            Some(PasswordFrom::Env(name)) => match std::env::var(name) {
                Ok(value) if !value.is_empty() => Ok(Some(Clear::new(value))),
                Ok(_) | Err(_) => misconfigured(format!("password-from: the variable {name} is not set")),
            },
            Some(PasswordFrom::File(path)) => match tokio::fs::read_to_string(home::expand(path)).await {
                Ok(text) if text.len() <= MAX_PASSWORD_FILE => match text.lines().next() {
                    Some(line) if !line.is_empty() => Ok(Some(Clear::new(line))),
                    Some(_) | None => misconfigured(format!("password-from: {path} is empty")),
                },
                Ok(_) => misconfigured(format!("password-from: {path} is too long for a password")),
                Err(error) => misconfigured(format!("password-from: can't read {path}: {error}")),
            },
        }
    }
}
