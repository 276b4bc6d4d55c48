//! Under which names the API may be asked.
//!
//! A page in a browser can reach what only its user can reach: it gives its own name our address (DNS rebinding) and is then, to the
//! browser, the same origin as we are. What it can't choose is the name in the Host header. So a name that is none of ours is refused.

use std::collections::BTreeSet;
use std::net::IpAddr;

use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, Version};

use super::answer::Refusal;

/// The names that the API answers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    is_loopback: bool,
    names: BTreeSet<String>,
}

/// What was given is no name of a machine.
#[derive(Debug, thiserror::Error)]
#[error(
    "{name:?} is no name of a machine; write it as in a URL, without scheme and port, such as box.example.org"
)]
pub struct NoHost {
    name: String,
}

impl Hosts {
    /// Those of a listener's address, and more. On loopback that is `localhost` and the loopback addresses; elsewhere any address too, for
    /// an address in the Host header is no name that somebody could have given another meaning.
    ///
    /// # Errors
    /// When one of them can't be a name.
    pub fn new(listening: IpAddr, more: &[String]) -> Result<Hosts, NoHost> {
        let mut names = BTreeSet::from(["localhost".to_owned()]);
        for name in more {
            let authority: Option<Authority> = name.parse().ok();
            match authority {
                Some(authority) if authority.host() == name => names.insert(canonical(name)),
                Some(_) | None => return Err(NoHost { name: name.clone() }),
            };
        }
        Ok(Hosts { is_loopback: listening.is_loopback(), names })
    }

    /// The one that a request names, with its port, when it is ours. HTTP/1.0 may leave it out: no browser speaks that, and probes do.
    pub(super) fn check(
        &self,
        version: Version,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Option<Authority>, Refusal> {
        let bad = |message: &str| Refusal::new(StatusCode::BAD_REQUEST, message);
        let mut given = headers.get_all(HOST).iter();
        let header = match (given.next(), given.next()) {
            (Some(one), None) => match one.to_str().ok().and_then(|name| name.parse::<Authority>().ok()) {
                Some(authority) if !authority.as_str().contains('@') => Some(authority),
                Some(_) | None => return Err(bad("the header Host is no host; write HOST or HOST:PORT")),
            },
            (None, _) if version == Version::HTTP_11 && uri.authority().is_none() => {
                return Err(bad("the header Host is missing; HTTP/1.1 needs it"));
            }
            (None, _) => None,
            (Some(_), Some(_)) => return Err(bad("there are several headers Host; send one")),
        };
        for authority in header.iter().chain(uri.authority()) {
            if !self.is_ours(authority.host()) {
                return Err(Refusal::new(
                    StatusCode::MISDIRECTED_REQUEST,
                    format!(
                        "this server does not answer to the name {:?}; ask it by its address, or start it with --host NAME",
                        authority.host()
                    ),
                ));
            }
        }
        Ok(header.or_else(|| uri.authority().cloned()))
    }

    fn is_ours(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match bare.parse::<IpAddr>() {
            Ok(address) if !self.is_loopback || address.is_loopback() => true,
            Ok(_) | Err(_) => self.names.contains(&canonical(host)),
        }
    }
}

/// Names are the same in any case, and with the dot that ends a full one.
fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::http::HeaderValue;

    use super::*;

    fn asked(hosts: &Hosts, host: &str) -> u16 {
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap())]);
        hosts
            .check(Version::HTTP_11, &Uri::from_static("/"), &headers)
            .map_or_else(|refusal| refusal.status.as_u16(), |_| 200)
    }

    #[test]
    fn a_name_that_is_none_of_ours_is_refused() {
        let more = ["Box.Example.Org".to_owned()];
        let near = Hosts::new(Ipv4Addr::LOCALHOST.into(), &more).unwrap();
        for host in [
            "localhost",
            "LocalHost.:80",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:1",
            "box.example.org",
            "BOX.example.org.:443",
        ] {
            assert_eq!(asked(&near, host), 200, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.0.2.1",
            "0.0.0.0",
            "[::]",
        ] {
            assert_eq!(asked(&near, host), 421, "{host}");
        }
        for host in ["", "a b", "me@localhost", "http://localhost", "localhost/", "[::1"] {
            assert_eq!(asked(&near, host), 400, "{host}");
        }
        let far = Hosts::new(Ipv4Addr::UNSPECIFIED.into(), &[]).unwrap();
        assert_eq!([asked(&far, "192.0.2.1:80"), asked(&far, "[2001:db8::1]")], [200, 200]);
        assert_eq!(asked(&far, "evil.example"), 421);
    }

    #[test]
    fn a_missing_host_is_for_http_1_0_and_a_full_url_is_looked_at_too() {
        let hosts = Hosts::new(Ipv4Addr::LOCALHOST.into(), &[]).unwrap();
        let check = |version, uri| {
            hosts
                .check(version, &Uri::from_static(uri), &HeaderMap::new())
                .map_err(|refusal| refusal.status.as_u16())
        };
        assert_eq!(check(Version::HTTP_10, "/"), Ok(None));
        assert_eq!(check(Version::HTTP_11, "/"), Err(400));
        assert_eq!(check(Version::HTTP_11, "http://evil.example/"), Err(421));
        assert!(check(Version::HTTP_11, "http://localhost:1/").is_ok());
    }

    #[test]
    fn what_is_no_name_is_not_taken_for_one() {
        for name in ["http://box", "box:80", "", "me@box", "a b"] {
            assert!(Hosts::new(Ipv4Addr::LOCALHOST.into(), &[name.to_owned()]).is_err(), "{name}");
        }
    }
}
