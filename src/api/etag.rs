//! The version of an object as an HTTP header (RFC 9110, section 8.8.3), and requests that are only meant for one version.
//!
//! The version is the document's resourceVersion: every write of the object gives it another one.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;

use super::error::Error;
use crate::model::Document;

/// The versions that a request is meant for, or not meant for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Versions {
    /// Any that there is.
    Any,
    /// These.
    Of(Vec<String>),
}

impl Versions {
    fn has(&self, version: &str) -> bool {
        match self {
            Versions::Any => true,
            Versions::Of(versions) => versions.iter().any(|one| one == version),
        }
    }
}

/// `If-Match` and `If-None-Match` of a request.
#[derive(Debug)]
pub(super) struct Conditions {
    matching: Option<Versions>,
    none_matching: Option<Versions>,
}

/// A request that is meant for any version.
pub(super) static UNCONDITIONAL: Conditions = Conditions { matching: None, none_matching: None };

impl Conditions {
    /// Refuses a change of another version than the one that it is meant for.
    pub(super) fn check(&self, current: &Document) -> Result<(), Error> {
        let version = current.metadata.resource_version.as_str();
        match &self.matching {
            Some(meant) if !meant.has(version) => Err(Error::OtherVersion(format!(
                "{} was changed meanwhile: it has the version {} now, and `If-Match` names another; retrieve it and decide again",
                current.key(),
                quoted(version)
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether the client has this version already.
    pub(super) fn has(&self, current: &Document) -> bool {
        self.none_matching.as_ref().is_some_and(|known| known.has(&current.metadata.resource_version))
    }
}

/// The version as the header `ETag` says it.
pub(super) fn quoted(version: &str) -> String {
    format!("\"{version}\"")
}

impl<S: Send + Sync> FromRequestParts<S> for Conditions {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Conditions, Error> {
        // Only an exact version is a match for a change; for reading, a weak one is as good.
        Ok(Conditions {
            matching: read(&parts.headers, &IF_MATCH, |weak| !weak)?,
            none_matching: read(&parts.headers, &IF_NONE_MATCH, |_| true)?,
        })
    }
}

/// The header's versions, over all its lines; those that `takes` refuses can't match.
fn read(
    headers: &HeaderMap,
    name: &HeaderName,
    takes: impl Fn(bool) -> bool,
) -> Result<Option<Versions>, Error> {
    let mut found = Vec::new();
    let mut is_there = false;
    for line in headers.get_all(name) {
        is_there = true;
        let tags = line.to_str().ok().and_then(tags).ok_or_else(|| {
            Error::BadRequest(format!(
                "{name}: write `*`, or versions in quotes as `ETag` says them: \"7\", \"8\""
            ))
        })?;
        let Some(tags) = tags else { return Ok(Some(Versions::Any)) };
        found.extend(tags.into_iter().filter(|(weak, _)| takes(*weak)).map(|(_, tag)| tag.to_owned()));
    }
    Ok(is_there.then_some(Versions::Of(found)))
}

/// The entity tags of a line, each with whether it is weak; `Some(None)` for `*`, none for what is no such line.
fn tags(line: &str) -> Option<Option<Vec<(bool, &str)>>> {
    let mut rest = line.trim();
    if rest == "*" {
        return Some(None);
    }
    let mut tags = Vec::new();
    loop {
        let (weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |rest| (true, rest));
        let (tag, after) = quoted.strip_prefix('"')?.split_once('"')?;
        tags.push((weak, tag));
        rest = after.trim_start();
        if rest.is_empty() {
            return Some(Some(tags));
        }
        rest = rest.strip_prefix(',')?.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_a_star_or_quoted_versions() {
        assert_eq!(tags("*"), Some(None));
        assert_eq!(tags("\"7\""), Some(Some(vec![(false, "7")])));
        assert_eq!(tags(" \"7\" ,W/\"a,b\""), Some(Some(vec![(false, "7"), (true, "a,b")])));
        for line in ["", "7", "\"7", "\"7\" \"8\"", "\"7\",", "\"7\",*", "w/\"7\"", "**"] {
            assert_eq!(tags(line), None, "{line}");
        }
    }
}
