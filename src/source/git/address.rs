//! Where a Git source is: a repository, a branch of it, and a folder in that: `URL[#BRANCH][:PATH]`.
//!
//! **Invariant:** nothing of it is taken for an option by git or ssh, names a transport that runs a program, or holds a secret.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A repository, a branch, a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// What git is told to fetch from.
    pub(super) url: String,
    /// None for the one that the repository's HEAD names.
    pub(super) branch: Option<String>,
    /// The folder whose manifests are read, such as `deploy/eu`; empty for the whole.
    pub(super) path: String,
}

/// Why something names no Git source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} names no Git source: {why}")]
pub struct AddressError {
    given: String,
    why: &'static str,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)?;
        let branch = self.branch.as_deref().unwrap_or_default();
        match (branch, self.path.as_str()) {
            ("", "") => Ok(()),
            (branch, "") => write!(f, "#{branch}"),
            (branch, path) => write!(f, "#{branch}:{path}"),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(given: &str) -> Result<Address, AddressError> {
        let wrong = |why| {
            // What is wrong with it may be that it holds a password.
            let given = given.rsplit_once('@').map_or(given, |(_, rest)| rest).to_owned();
            AddressError { given, why }
        };
        if given.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(wrong("it holds a space or what can't be seen"));
        }
        let (url, branch, path) = match given.split_once('#') {
            Some((url, rest)) => {
                let (branch, path) = rest.split_once(':').unwrap_or((rest, ""));
                (url, branch, path)
            }
            // Without a branch a colon may be the URL's own, but not behind this.
            None => match given.split_once(".git:") {
                Some((before, path)) => (&given[..before.len() + ".git".len()], "", path),
                None => (given, "", ""),
            },
        };
        let url = check_url(url).map_err(wrong)?;
        if !branch.is_empty() {
            check_branch(branch).map_err(wrong)?;
        }
        let path = path.trim_matches('/');
        if path.split('/').any(|part| matches!(part, "." | "..")) || path.contains("//") {
            return Err(wrong(
                "its path is no folder of the repository; write it from the top, such as deploy/eu",
            ));
        }
        let branch = (!branch.is_empty()).then(|| branch.to_owned());
        Ok(Address { url, branch, path: path.to_owned() })
    }
}

fn check_url(url: &str) -> Result<String, &'static str> {
    const FORMS: &str = "write https://HOST/PATH, ssh://USER@HOST/PATH, USER@HOST:PATH, or the path of a repository on this machine";
    if url.is_empty() || url.starts_with('-') {
        return Err(FORMS);
    }
    if let Some((scheme, rest)) = url.split_once("://") {
        let (authority, _) = rest.split_once('/').ok_or(FORMS)?;
        let (user, host) =
            authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        return match scheme {
            "file" if authority.is_empty() => Ok(url.to_owned()),
            "https" | "ssh" if host.is_empty() || host.starts_with('-') => Err(FORMS),
            "https" if user.is_some() => Err(
                "it holds a user or a password, which would be shown wherever the source is; let git's credential helper know them",
            ),
            "ssh" if user.is_some_and(|user| user.contains(':') || user.starts_with('-')) => {
                Err("it holds a password, which would be shown wherever the source is; give ssh a key")
            }
            "https" | "ssh" => Ok(url.to_owned()),
            _ => Err("only https, ssh, and repositories on this machine are fetched"),
        };
    }
    // git takes a colon before the first slash for the end of a host.
    match url.split_once('/').map_or(url, |(first, _)| first).split_once(':') {
        Some((host, _)) if host.is_empty() || host.starts_with('-') || host.contains("@-") => Err(FORMS),
        // As in ext::COMMAND.
        Some((_, rest)) if rest.starts_with(':') => {
            Err("only https, ssh, and repositories on this machine are fetched")
        }
        Some(_) => Ok(url.to_owned()),
        None => {
            let full = std::path::absolute(Path::new(url)).map_err(|_| FORMS)?;
            full.into_os_string().into_string().map_err(|_| FORMS)
        }
    }
}

/// The rules of `git check-ref-format`, and no name that could be anything else than a branch's.
fn check_branch(branch: &str) -> Result<(), &'static str> {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && !part.ends_with(".lock")
            && !part.ends_with('.')
            && !part.contains("..")
            && !part.contains("@{")
            && !part.contains(['~', '^', ':', '?', '*', '[', '\\'])
    };
    match branch != "@" && branch.split('/').all(is_part) {
        true => Ok(()),
        false => Err("what stands behind the # is no branch's name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(given: &str) -> Result<(String, String, String), AddressError> {
        let address: Address = given.parse()?;
        assert_eq!(address.to_string().parse::<Address>(), Ok(address.clone()), "its name is its address");
        Ok((address.url, address.branch.unwrap_or_default(), address.path))
    }

    fn wanted(url: &str, branch: &str, path: &str) -> Result<(String, String, String), AddressError> {
        Ok((url.into(), branch.into(), path.into()))
    }

    #[test]
    fn an_address_is_a_url_a_branch_and_a_folder() {
        let https = "https://box.example:8443/fleet.git";
        assert_eq!(parts(https), wanted(https, "", ""));
        assert_eq!(parts(&format!("{https}#main")), wanted(https, "main", ""));
        assert_eq!(parts(&format!("{https}#eu/live:deploy/eu/")), wanted(https, "eu/live", "deploy/eu"));
        assert_eq!(parts(&format!("{https}#:deploy")), wanted(https, "", "deploy"));
        assert_eq!(parts(&format!("{https}:deploy")), wanted(https, "", "deploy"));
        assert_eq!(parts("git@box:fleet.git:deploy"), wanted("git@box:fleet.git", "", "deploy"));
        assert_eq!(parts("git@box:team/fleet#v"), wanted("git@box:team/fleet", "v", ""));
        for url in ["ssh://git@box:22/fleet", "file:///srv/fleet.git", "/srv/fleet.git", "/srv/a:b/fleet"] {
            assert_eq!(parts(url), wanted(url, "", ""));
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(parts("fleet.git#main"), wanted(here.join("fleet.git").to_str().unwrap(), "main", ""));
    }

    #[test]
    fn what_could_be_an_option_or_run_a_program_is_refused() {
        for given in [
            "",
            "#main",
            "-oProxyCommand=reboot",
            "--upload-pack=reboot",
            "ext::sh -c reboot",
            "ext::reboot",
            "http://box/a",
            "git://box/a",
            "https://box",
            "https:///a",
            "ssh://-oProxyCommand=reboot/a",
            "-x@box:a",
            "me@-x:a",
            "ssh://-x@box/a",
            "file://box/a",
            "/a#-x",
            "/a#a..b",
            "/a#a b",
            "/a#a~1",
            "/a#refs/heads/a.lock",
            "/a#a:../b",
            "/a#a:b//c",
            "/a\nb",
            "/a#@",
        ] {
            assert!(given.parse::<Address>().is_err(), "{given:?}");
        }
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        for given in ["https://me:butter@box/a", "https://butter@box/a", "ssh://me:butter@box/a"] {
            let error = given.parse::<Address>().unwrap_err().to_string();
            assert!(!error.contains("butter"), "{error}");
        }
    }
}
