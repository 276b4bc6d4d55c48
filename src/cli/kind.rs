//! Kinds as people type them.

use crate::model::Kind;
use crate::model::id::did_you_mean;

/// What each kind is also called: in plural, and in short.
const fn also(kind: Kind) -> (&'static str, &'static [&'static str]) {
    match kind {
        Kind::Instance => ("instances", &["in"]),
        Kind::Integration => ("integrations", &["int"]),
        Kind::ServiceType => ("servicetypes", &["st", "type", "types"]),
        Kind::Tenant => ("tenants", &["tn"]),
        Kind::User => ("users", &["us"]),
        Kind::Node => ("nodes", &["no", "nd"]),
        Kind::Service => ("services", &["svc", "sv"]),
        Kind::Process => ("processes", &["proc", "ps"]),
        Kind::Revision => ("revisions", &["rev"]),
        Kind::Event => ("events", &["ev"]),
    }
}

/// The kind that was typed: in any case, singular, plural or short, and with dashes or without.
///
/// # Errors
/// A sentence that says which there are.
pub(super) fn kind(typed: &str) -> Result<Kind, String> {
    let word = typed.to_ascii_lowercase().replace(['-', '_'], "");
    let is_called = |kind: &Kind| {
        let (plural, short) = also(*kind);
        word == kind.name().to_ascii_lowercase() || word == plural || short.contains(&word.as_str())
    };
    Kind::ALL.into_iter().find(is_called).ok_or_else(|| {
        let singular = Kind::ALL.map(|kind| kind.name().to_ascii_lowercase());
        let names = singular.iter().map(String::as_str).chain(Kind::ALL.map(|kind| also(kind).0));
        match did_you_mean(&word, names) {
            Some(meant) => format!("{typed:?} is no kind; did you mean {meant}?"),
            None => format!("{typed:?} is no kind; there are {}", Kind::ALL.map(Kind::name).join(", ")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_known_by_all_its_names_and_none_is_two_kinds() {
        let mut all = Vec::new();
        for known in Kind::ALL {
            let (plural, short) = also(known);
            let names = [known.name(), plural].into_iter().chain(short.iter().copied());
            for name in names {
                assert_eq!(kind(name), Ok(known), "{name}");
                assert_eq!(kind(&name.to_uppercase()), Ok(known), "{name}");
                all.push(name.to_ascii_lowercase());
            }
        }
        assert_eq!(kind("Service-Types"), Ok(Kind::ServiceType));
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn what_is_no_kind_is_told_which_was_meant() {
        assert_eq!(kind("servce"), Err("\"servce\" is no kind; did you mean service?".into()));
        assert!(kind("").is_err() && kind("deployment").unwrap_err().contains("there are Instance"));
    }
}
