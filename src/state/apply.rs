//! What applying a set of documents changes: pure but for the new objects' uids.

use std::collections::BTreeMap;

use crate::model::admit::Admitted;
use crate::model::locate::dotted;
use crate::model::meta::{FILE, Key, SOURCE};
use crate::model::owners::{self, API, Conflict, Operation, Refused};
use crate::model::{Document, Documents, Problem, Spec};

use super::{CATALOGUE, Edit, born, deletion};

/// Who applies a set.
#[derive(Debug, Clone, Copy)]
pub struct Applier<'a> {
    /// The name under which it owns what it sets ([`crate::model::owners`]).
    pub manager: &'a str,
    /// Whether the objects are its own, and belong to no other such manager. Else it adds its fields to objects whosever they are.
    pub keeps: bool,
    /// Whether those of its own objects that it does not name any more are deleted.
    pub prunes: bool,
    /// Whether it takes the fields that others have set to something else.
    pub force: bool,
}

/// What applying a whole set would change.
#[derive(Debug, Default)]
pub struct SetChange {
    /// The edits, what is referred to first.
    pub edits: Vec<Edit>,
    /// What is to be applied but has to wait for an older object of the same name to go.
    pub waiting: Vec<Key>,
}

/// What makes the store's documents of one source equal to a set: creates, replaces, and deletes those that the source had and
/// no longer names.
///
/// # Errors
/// What can't be applied: an object is another source's, others have set a field to something else, a process would change what it can't.
pub fn apply_set(
    documents: &Documents,
    source: &str,
    set: &[Admitted],
    now: &str,
) -> Result<SetChange, Vec<Problem>> {
    apply_as(documents, Applier { manager: source, keeps: true, prunes: true, force: false }, set, now)
}

/// What makes the store's documents say what a set says.
///
/// # Errors
/// As [`apply_set`].
pub fn apply_as(
    documents: &Documents,
    applier: Applier<'_>,
    set: &[Admitted],
    now: &str,
) -> Result<SetChange, Vec<Problem>> {
    let mut change = SetChange::default();
    let mut problems = Vec::new();
    let wanted: BTreeMap<Key, &Admitted> =
        set.iter().map(|admitted| (admitted.document.key(), admitted)).collect();
    for (key, admitted) in &wanted {
        match documents.get(key) {
            None => change.edits.push(Edit::Create(create(admitted, applier, now))),
            Some(current) if current.is_deleting() => change.waiting.push(key.clone()),
            Some(current) => match replace(current, admitted, applier, now) {
                Ok(edit) => change.edits.extend(edit),
                Err(found) => problems.extend(found),
            },
        }
    }
    for (key, document) in documents.iter().filter(|_| applier.prunes) {
        let is_gone = document.is_of(applier.manager) && !wanted.contains_key(key) && !document.is_deleting();
        match is_gone.then(|| others(document, applier.manager)) {
            None => {}
            Some(None) => change.edits.push(deletion(document, now)),
            Some(Some(other)) => problems.push(kept_by(document, other)),
        }
    }
    if problems.is_empty() { Ok(change) } else { Err(problems) }
}

/// Somebody else who declares what the source does not: the object is not deleted under them. What was said through `/1.0` goes with it.
fn others<'a>(document: &'a Document, source: &str) -> Option<&'a str> {
    let owners = &document.metadata.managed_fields;
    let mut others = owners.managers().filter(|manager| *manager != source && *manager != API);
    others.find(|manager| {
        owners.fields_of(manager).any(|field| owners.of(field).all(|owner| owner == *manager))
    })
}

fn kept_by(document: &Document, other: &str) -> Problem {
    Problem {
        file: document.metadata.annotations.get(FILE).cloned(),
        at: None,
        path: String::new(),
        message: format!(
            "{} is no longer declared here, and {other} has set fields of it; remove it there first, or declare it here again",
            document.key()
        ),
    }
}

fn create(admitted: &Admitted, applier: Applier<'_>, now: &str) -> Document {
    let mut document = born(admitted.document.clone(), now);
    mark(&mut document, admitted, applier);
    document.metadata.managed_fields =
        owners::born(&admitted.statement(), applier.manager, Operation::Apply, now);
    document
}

/// Marks a document with where it comes from.
fn mark(document: &mut Document, admitted: &Admitted, applier: Applier<'_>) {
    if !applier.keeps {
        return;
    }
    let annotations = &mut document.metadata.annotations;
    annotations.insert(SOURCE.into(), applier.manager.into());
    match &admitted.file {
        Some(file) => annotations.insert(FILE.into(), file.clone()),
        None => annotations.remove(FILE),
    };
}

fn replace(
    current: &Document,
    admitted: &Admitted,
    applier: Applier<'_>,
    now: &str,
) -> Result<Option<Edit>, Vec<Problem>> {
    let key = current.key();
    let mut base = current.clone();
    match current.metadata.annotations.get(SOURCE) {
        // It wins over what is shipped, in all: of that nothing is to be left.
        Some(owner) if owner == CATALOGUE => base.metadata.managed_fields.pass_on(CATALOGUE, applier.manager),
        Some(owner) if applier.keeps && owner != applier.manager => {
            return Err(vec![admitted.problem(
                "/metadata/name",
                format!("{key} belongs to {owner}; remove it there first, or choose another name"),
            )]);
        }
        Some(_) | None => {}
    }
    if let (Spec::Process(new), Spec::Process(old)) = (&admitted.document.spec, &current.spec)
        && (new.service != old.service || new.node != old.node)
    {
        return Err(vec![admitted.problem(
            "/spec",
            format!(
                "a process stays with its service and node ({} on {}); give the new one another name",
                old.service, old.node
            ),
        )]);
    }
    let force = applier.force || admitted.takes_over();
    let applied = owners::applied(&base, &admitted.statement(), applier.manager, force, now);
    let mut document =
        applied.map_err(|refused| match refused {
            Refused::Conflicts(conflicts) => {
                conflicts.iter().map(|conflict| in_conflict(current, admitted, conflict)).collect()
            }
            Refused::Unfit(error) => vec![admitted.problem(
                "/spec",
                format!("with what others have set of {key} it is no {}: {error}", key.kind),
            )],
        })?;
    mark(&mut document, admitted, applier);
    if document.spec != current.spec {
        document.metadata.generation += 1;
    }
    Ok((document != *current).then_some(Edit::Replace(document)))
}

fn in_conflict(current: &Document, admitted: &Admitted, conflict: &Conflict) -> Problem {
    let since = current.metadata.managed_fields.time_of(&conflict.owner).unwrap_or_default();
    admitted.problem(
        &conflict.pointer,
        format!(
            "{} has set {} of {} to something else ({since}); say the same, leave it out here, or take it over: \
             --force-conflicts, or the annotation mainstay.dev/take-over: \"true\"",
            owner(current, &conflict.owner),
            dotted(&conflict.pointer),
            current.key(),
        ),
    )
}

/// A manager as people know it: of the object's own source the file.
fn owner(document: &Document, manager: &str) -> String {
    match document.metadata.annotations.get(FILE) {
        Some(file) if document.is_of(manager) => format!("{manager} ({file})"),
        Some(_) | None => manager.to_owned(),
    }
}

/// Makes what was shipped with the program anybody's: another version won't put it back, and nobody is held to it.
pub(super) fn disown(document: &mut Document) {
    if document.is_of(CATALOGUE) {
        let metadata = &mut document.metadata;
        metadata.annotations.remove(SOURCE);
        metadata.annotations.remove(FILE);
        metadata.managed_fields.forget(CATALOGUE);
    }
}
