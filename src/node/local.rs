//! The link to the controller's own machine: the same script, run by `/bin/sh`.

use std::process::Stdio;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use uuid::Uuid;

use super::link::{Carrier, Connector, Link, LinkError, ShellLink, Target, bootstrap_words};

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
            let mut child = Command::new("setsid")
                .args(["/bin/sh", "-c", &bootstrap_words(), "mainstay", "link", &nonce])
                .env_clear()
                .envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .map_err(|error| LinkError::Misconfigured(format!("can't run setsid: {error}")))?;
            let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
                return Err(LinkError::Misconfigured("the shell has no pipes".into()));
            };
            let link =
                ShellLink::greet(output, input, Box::new(Shell(child)), &nonce, target.connect_timeout)
                    .await?;
            Ok(Box::new(link) as Box<dyn Link>)
        })
    }

    fn forget_host_key(&self, _: &str) -> std::io::Result<()> {
        Ok(())
    }
}

struct Shell(Child);

impl Carrier for Shell {
    fn end(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // Its input has ended, so it does too; if it hangs, it is killed.
            if timeout(Duration::from_secs(1), self.0.wait()).await.is_err() {
                let _ = self.0.kill().await;
            }
        })
    }
}
