//! The link to the controller's own machine: the same script, run by `/bin/sh`.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use uuid::Uuid;

use super::link::{Carrier, Connector, Link, LinkError, ShellLink, Target, bootstrap_words};
use super::protocol;
use super::side::{self, Side, Sides};

/// Opens links to this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Local;

/// What an account's processes get from a login, and nothing of what the controller was started with: that could hold
/// its secrets.
const KEPT: [&str; 7] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ"];

impl Connector for Local {
    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Box<dyn Link>, LinkError>> {
        Box::pin(async move {
            let nonce = Uuid::new_v4().simple().to_string();
            let (child, input, output) = shell(&protocol::SCRIPT, "link", &nonce)?;
            let patience = target.connect_timeout;
            let carrier = Box::new(Shell { child, patience });
            let link = ShellLink::greet(output, input, carrier, &nonce, patience).await?;
            Ok(Box::new(link) as Box<dyn Link>)
        })
    }

    fn forget_host_key(&self, _: &str) -> std::io::Result<()> {
        Ok(())
    }
}

/// The soft limit of open files that a login has nearly everywhere, for programs that use `select`. Ours is higher.
const OPEN_FILES: &str = "ulimit -S -n 1024 2>/dev/null";

/// Starts a shell, in a session of its own, that reads a script from its input and is then this part of it.
pub(super) fn shell(
    script: &str,
    part: &str,
    nonce: &str,
) -> Result<(Child, ChildStdin, ChildStdout), LinkError> {
    let words = format!("{OPEN_FILES}; {}", bootstrap_words(script));
    let mut child = Command::new("setsid")
        .args(["/bin/sh", "-c", &words, "mainstay", part, nonce])
        .env_clear()
        .envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| LinkError::Misconfigured(format!("can't run setsid: {error}")))?;
    match (child.stdin.take(), child.stdout.take()) {
        (Some(input), Some(output)) => Ok((child, input, output)),
        _ => Err(LinkError::Misconfigured("the shell has no pipes".into())),
    }
}

struct Shell {
    child: Child,
    patience: Duration,
}

impl Carrier for Shell {
    fn sides(&self) -> Arc<dyn Sides> {
        Arc::new(Shells { patience: self.patience })
    }

    fn end(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // Its input has ended, so it does too; if it hangs, it is killed.
            if timeout(Duration::from_secs(1), self.child.wait()).await.is_err() {
                let _ = self.child.kill().await;
            }
        })
    }
}

/// Side channels to this machine: a shell each.
struct Shells {
    patience: Duration,
}

impl Sides for Shells {
    fn open(&self, words: &[&str]) -> BoxFuture<'static, Result<Side, LinkError>> {
        let (words, patience) = (side::line_of(words), self.patience);
        Box::pin(async move {
            let nonce = Uuid::new_v4().simple().to_string();
            let (child, input, output) = shell(side::SCRIPT, "side", &nonce)?;
            Side::greet(output, input, Box::new(child), &nonce, &words, patience).await
        })
    }
}
