//! From outside: whether a name resolves, what listens there, and how many logins it lets begin at once.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::report::Report;

/// How long a name, a connection or a server's first line may take.
const WITHIN: Duration = Duration::from_secs(5);

/// Logins that are begun at once to see whether they are let; few, for a server may take many for an attack.
const STARTUPS: usize = 3;

/// Longest first line of a server that is read (RFC 4253, section 4.2: 255 bytes).
const MAX_BANNER_BYTES: usize = 255;

/// Checks the name. The first of its addresses that can be tried.
pub(super) async fn address(host: &str, port: u16, report: &mut Report) -> Option<SocketAddr> {
    let fix = "correct `ip-address`, or the name server";
    match timeout(WITHIN, lookup_host((host, port))).await {
        Err(_) => {
            report.fail("address", &format!("{host} was not resolved within {} s", WITHIN.as_secs()), fix)
        }
        Ok(Err(error)) => report.fail("address", &format!("{host} does not resolve ({error})"), fix),
        Ok(Ok(found)) => {
            let mut found: Vec<SocketAddr> = found.collect();
            found.dedup();
            let Some(first) = found.first().copied() else {
                report.fail("address", &format!("{host} has no address"), fix);
                return None;
            };
            let first_ip = first.ip().to_string();
            let others =
                if found.len() > 1 { format!(", and {} more", found.len() - 1) } else { String::new() };
            let message = if first_ip == host { first_ip } else { format!("{host} is {first_ip}{others}") };
            report.ok("address", &message);
            return Some(first);
        }
    }
    None
}

/// Checks what listens there. False when it is no SSH server.
pub(super) async fn port(address: SocketAddr, report: &mut Report) -> bool {
    let port = address.port();
    match banner(address).await {
        Ok((_, banner)) if banner.starts_with("SSH-2.0-") || banner.starts_with("SSH-1.99-") => {
            report.ok("port", &format!("{port} is open: {banner}"));
            return true;
        }
        Ok((_, banner)) if banner.is_empty() => report.fail(
            "port",
            &format!("{port} is open, but what listens there says nothing"),
            "correct `port`; or sshd refuses this address (its log, hosts.deny, MaxStartups)",
        ),
        Ok(_) => report.fail("port", &format!("{port} is open, but that is no SSH server"), "correct `port`"),
        Err(error) => report.fail(
            "port",
            &format!("{port} can't be reached ({error})"),
            "start sshd there, correct `port`, or let the firewall pass it",
        ),
    }
    false
}

/// Checks how many logins may begin at once.
pub(super) async fn startups(address: SocketAddr, report: &mut Report) {
    let mut held = Vec::new();
    for _ in 0..STARTUPS {
        match banner(address).await {
            Ok((stream, banner)) if banner.starts_with("SSH-") => held.push(stream),
            Ok(_) | Err(_) => break,
        }
    }
    match held.len() {
        STARTUPS => report.ok("startups", &format!("at least {STARTUPS} logins may begin at once")),
        count => report.warn(
            "startups",
            &format!("only {count} logins may begin at once"),
            "raise MaxStartups in its sshd_config",
        ),
    }
}

/// The first line that a server says; empty when it ends without one.
async fn banner(address: SocketAddr) -> Result<(TcpStream, String), String> {
    let slow = |_| format!("no answer within {} s", WITHIN.as_secs());
    let connected = timeout(WITHIN, TcpStream::connect(address)).await.map_err(slow)?;
    let mut stream = connected.map_err(|error| error.to_string())?;
    let mut line = Vec::new();
    let read = async {
        while line.len() < MAX_BANNER_BYTES {
            match stream.read_u8().await {
                Ok(b'\n') | Err(_) => break,
                Ok(byte) => line.push(byte),
            }
        }
    };
    // Who says nothing in that time has said what it has to say.
    let _ = timeout(WITHIN, read).await;
    Ok((stream, String::from_utf8_lossy(&line).trim().to_owned()))
}
