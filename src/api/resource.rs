//! Create, retrieve, update, delete and list, for every kind the same.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::ETAG;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::body::{Parameters, Place};
use super::credentials::{CLIENT_SECRET, Credentials, check_client_id, hash, take_password};
use super::error::Error;
use super::etag::{Conditions, quoted};
use super::flat::{self, Face, Flat, admitted, check_names, face, merged, reseal};
use super::route::{Content, Operation, Route, Version};
use super::running::WAITS;
use super::{Context, Shared};
use crate::clock::timestamp;
use crate::model::kinds::Object;
use crate::model::locate::dotted;
use crate::model::meta::{FILE, SET, SOURCE};
use crate::model::owners::{API, Conflict};
use crate::model::{Document, Documents, Key, Kind, Spec};
use crate::plan::orders::starts_after;
use crate::state::{self, Edit, Snapshot};
use crate::store::Revision;

/// How often a change is decided anew because somebody else was faster.
const ATTEMPTS: u32 = 8;
/// How long the snapshot may take to show what somebody else did.
const CATCH_UP: Duration = Duration::from_secs(1);
/// How long the store may take to answer.
const STORE_TIME: Duration = Duration::from_secs(30);

/// A kind of objects that people create, retrieve, update, delete and list under one path.
pub(super) struct Resource {
    /// The kind.
    pub(super) kind: Kind,
    /// Where its list is; `{instance}` stands for the instance of kinds that live in one.
    pub(super) path: &'static str,
    /// What numbered ids start with; none for kinds whose ids are always chosen.
    pub(super) prefix: Option<&'static str>,
    /// Ids that paths below the list have already.
    pub(super) reserved: &'static [&'static str],
    /// What follows when one is deleted, as it is described.
    pub(super) gone: &'static str,
}

/// An object as an answer, with its version.
pub(super) struct Shown {
    status: StatusCode,
    version: String,
    object: Flat,
}

impl Shown {
    pub(super) fn of(status: StatusCode, document: &Document, context: &Context) -> Shown {
        let version = document.metadata.resource_version.clone();
        Shown { status, version, object: Flat::of(document, context.opener()) }
    }

    /// A new object; where it waits for an older one to go, with that.
    pub(super) fn created(before: &Documents, document: &Document, context: &Context) -> Shown {
        let waits = awaited(before, document).filter(|_| document.metadata.waiting);
        let waits =
            waits.map(|older| ("waits-for", format!("the older {older} to be gone; see /1.0/events")));
        Shown::of(StatusCode::CREATED, document, context).with(waits)
    }

    /// With something that is said in this answer only.
    pub(super) fn with(self, extra: Option<(&'static str, String)>) -> Shown {
        Shown { object: self.object.with(extra), ..self }
    }
}

impl IntoResponse for Shown {
    fn into_response(self) -> Response {
        (self.status, [(ETAG, quoted(&self.version))], Json(self.object)).into_response()
    }
}

/// The five verbs.
pub(super) fn routes(resource: &'static Resource) -> Vec<Route> {
    let kind = resource.kind;
    let list = move |State(context): State<Shared>, place: Place| async move {
        let documents = context.documents();
        let objects = listed(&documents, kind, &place.instance)?;
        Ok::<_, Error>(Json(objects.into_iter().map(|it| Flat::of(it, context.opener())).collect::<Vec<_>>()))
    };
    let create = move |State(context): State<Shared>, place: Place, Parameters(given): Parameters| async move {
        create(&context, resource, &place.instance, given).await
    };
    let update = move |State(context): State<Shared>,
                       place: Place,
                       conditions: Conditions,
                       Parameters(given): Parameters| async move {
        update(&context, &place.key(kind), given, &conditions).await
    };
    let delete = move |State(context): State<Shared>, place: Place, conditions: Conditions| async move {
        delete(&context, &place.key(kind), &conditions).await
    };
    let name = kind.name();
    let said = |verb: &str| Operation::new(format!("{}{name}", verb.to_lowercase()), about(verb, kind));
    let lists = Operation::new(format!("list{name}s"), format!("List all {}s", name.to_lowercase()))
        .answers(StatusCode::OK, Content::Objects(kind));
    let creates = said("Create")
        .takes(Content::New(kind))
        .versioned(Version::Answered)
        .answers(StatusCode::CREATED, Content::Object(kind))
        .conflicts();
    let updates = said("Update")
        .described("What is given is changed, null takes a parameter away, and the others stay as they are.")
        .takes(Content::Changes(kind))
        .versioned(Version::Changed)
        .answers(StatusCode::OK, Content::Object(kind))
        .conflicts();
    // The password that a node keeps has to be opened.
    let updates = if kind == Kind::Node { updates.meets_damage() } else { updates };
    let deletes = said("Delete").described(resource.gone).versioned(Version::Deleted).conflicts();
    let one = format!("{}/{{id}}", resource.path);
    vec![
        Route::get(resource.path, list, lists),
        Route::post(resource.path, create, creates),
        get_one(&one, kind, retrieved(kind)),
        Route::put(&one, update, updates),
        Route::delete(&one, delete, deletes),
    ]
}

/// GET of one object of a kind, as it is described.
pub(super) fn retrieved(kind: Kind) -> Operation {
    Operation::new(format!("retrieve{}", kind.name()), about("Retrieve", kind))
        .versioned(Version::Read)
        .answers(StatusCode::OK, Content::Object(kind))
}

/// A sentence such as "Create an instance".
fn about(verb: &str, kind: Kind) -> String {
    let noun = kind.name().to_lowercase();
    // A user: as it is spoken.
    let article = if noun.starts_with('i') { "an" } else { "a" };
    format!("{verb} {article} {noun}")
}

/// Answers one object, or that the client has it already.
pub(super) fn retrieve(context: &Context, key: &Key, conditions: &Conditions) -> Result<Response, Error> {
    let documents = context.documents();
    let found = visible(&documents, key)?;
    if conditions.has(found) {
        let version = quoted(&found.metadata.resource_version);
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, version)]).into_response());
    }
    Ok(Shown::of(StatusCode::OK, found, context).into_response())
}

/// GET of one object of a kind.
pub(super) fn get_one(path: &str, kind: Kind, operation: Operation) -> Route {
    let get_one = move |State(context): State<Shared>, place: Place, conditions: Conditions| {
        std::future::ready(retrieve(&context, &place.key(kind), &conditions))
    };
    Route::get(path, get_one, operation)
}

/// The object, as long as neither it nor anything it can't be without is being deleted.
pub(super) fn visible<'a>(documents: &'a Documents, key: &Key) -> Result<&'a Arc<Document>, Error> {
    if key.kind.is_namespaced() {
        visible(documents, &Key::cluster(Kind::Instance, key.namespace.as_str()))?;
    }
    documents
        .live(key)
        .filter(|document| has_all(documents, document))
        .ok_or_else(|| Error::NotFound(format!("{key} does not exist")))
}

/// The object, as long as it is visible and is there: one that waits for an older one to go is not yet.
pub(super) fn spoken_of<'a>(documents: &'a Documents, key: &Key) -> Result<&'a Document, Error> {
    let document = visible(documents, key)?;
    if document.metadata.waiting {
        return Err(Error::Conflict(format!("{key}: {WAITS}")));
    }
    Ok(document)
}

/// Whether there is all that an object goes with: a process goes with its service and its node.
pub(super) fn has_all(documents: &Documents, document: &Document) -> bool {
    document.needs().iter().all(|need| documents.live(need).is_some())
}

/// The objects of a kind in an instance, in the order of their ids' numbers.
pub(super) fn listed<'a>(
    documents: &'a Documents,
    kind: Kind,
    instance: &'a str,
) -> Result<Vec<&'a Arc<Document>>, Error> {
    if kind.is_namespaced() {
        visible(documents, &Key::cluster(Kind::Instance, instance))?;
    }
    let mut found: Vec<_> = documents
        .within(kind, instance)
        .map(|(_, document)| document)
        .filter(|document| !document.is_deleting() && has_all(documents, document))
        .collect();
    found.sort_by(|a, b| natural(&a.metadata.name, &b.metadata.name));
    Ok(found)
}

/// The objects of a kind in all instances, instance by instance; in the order of their ids' numbers.
pub(super) fn everywhere(documents: &Documents, kind: Kind) -> Result<Vec<&Arc<Document>>, Error> {
    if !kind.is_namespaced() {
        return listed(documents, kind, "");
    }
    let mut all = Vec::new();
    for instance in listed(documents, Kind::Instance, "")? {
        all.extend(listed(documents, kind, &instance.metadata.name)?);
    }
    Ok(all)
}

/// The order of people: SV9 before SV10.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    fn split(id: &str) -> (&str, &str) {
        let digits = id.len() - id.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        id.split_at(id.len() - digits)
    }
    let ((word_a, number_a), (word_b, number_b)) = (split(a), split(b));
    let (number_a, number_b) = (number_a.trim_start_matches('0'), number_b.trim_start_matches('0'));
    word_a.cmp(word_b).then(number_a.len().cmp(&number_b.len())).then(number_a.cmp(number_b)).then(a.cmp(b))
}

/// Decides on the present snapshot and commits, and does so again when somebody else was faster.
pub(super) async fn change<T>(
    context: &Context,
    decide: impl Fn(&Documents) -> Result<(Vec<Edit>, T), Error>,
) -> Result<T, Error> {
    change_at(context, decide).await.map(|(decided, _)| decided)
}

/// As [`change`]; answers the revision at which it was written, none where there was nothing to write.
async fn change_at<T>(
    context: &Context,
    decide: impl Fn(&Documents) -> Result<(Vec<Edit>, T), Error>,
) -> Result<(T, Option<Revision>), Error> {
    change_slowly(context, |snapshot| std::future::ready(decide(&snapshot.documents.declared()))).await
}

/// As [`change_at`], where to decide takes its time.
pub(super) async fn change_slowly<T, D: Future<Output = Result<(Vec<Edit>, T), Error>>>(
    context: &Context,
    decide: impl Fn(Snapshot) -> D,
) -> Result<(T, Option<Revision>), Error> {
    let mut bell = context.state.changes();
    for _ in 0..ATTEMPTS {
        let snapshot = bell.borrow_and_update().clone();
        let (edits, decided) = decide(snapshot).await?;
        if edits.is_empty() {
            return Ok((decided, None));
        }
        match in_time(context.state.commit_at(&edits, None)).await? {
            Some(revision) => return Ok((decided, Some(revision))),
            // Without news of it there is nothing else to decide on, but the next try costs little.
            None => drop(tokio::time::timeout(CATCH_UP, bell.changed()).await),
        }
    }
    Err(Error::Conflict("others change the same object at this moment; try again".into()))
}

/// Changes one object as is decided on its present spec. Answers it as it is stored then.
pub(super) async fn change_one(
    context: &Context,
    key: &Key,
    conditions: &Conditions,
    decide: impl Fn(&Documents, &Document) -> Result<Spec, Error>,
) -> Result<Document, Error> {
    let (mut document, revision) = change_at(context, |documents| {
        let current = visible(documents, key)?;
        conditions.check(current)?;
        let Some(edit) = by_api(current, decide(documents, current)?)? else {
            return Ok((Vec::new(), Document::clone(current)));
        };
        let document = edit.document().clone();
        let mut edits = guards(documents, &document, &current.names());
        edits.push(edit);
        Ok((edits, document))
    })
    .await?;
    if let Some(revision) = revision {
        document.metadata.resource_version = revision.to_string();
    }
    Ok(document)
}

/// The edit that gives an object another spec, as people ask for it here; none when it is the same. Refused where others have set what
/// would change.
pub(super) fn by_api(document: &Document, spec: Spec) -> Result<Option<Edit>, Error> {
    state::update_by_api(document, spec, &timestamp()).map_err(|conflicts| {
        let said = conflicts.iter().map(|Conflict { pointer, owner }| {
            let name = dotted(pointer.strip_prefix("/spec").unwrap_or(pointer));
            format!("{name}: {} says otherwise; change it there", where_declared(document, owner))
        });
        Error::Conflict(format!("{}: {}", document.key(), said.collect::<Vec<_>>().join("; ")))
    })
}

/// Where others than people who ask here have set a field: in a source's file, most often.
pub(super) fn declared_in<'a>(document: &'a Document, pointer: &'a str) -> Option<&'a str> {
    let mut owners = document.metadata.managed_fields.of(pointer);
    owners.find(|manager| *manager != API).map(|manager| where_declared(document, manager))
}

/// Where a manager has set what it owns of an object: its source's file, or the manager itself.
fn where_declared<'a>(document: &'a Document, manager: &'a str) -> &'a str {
    file(document).filter(|_| document.is_of(manager)).unwrap_or(manager)
}

/// Has a spec written only while there is what it names and did not before. Of more than a transaction can watch, the first; the
/// placement takes away what is missed.
fn guards(documents: &Documents, document: &Document, known: &[Key]) -> Vec<Edit> {
    let new = document.names().into_iter().filter(|key| !known.contains(key));
    // All that a service is to be started after indirectly: else two who change at once could close a circle.
    let new: BTreeSet<Key> =
        new.flat_map(|key| iter::once(key.clone()).chain(starts_after(documents, &key))).collect();
    let watched = new.iter().filter_map(|key| documents.live(key)).take(state::BATCH / 2);
    watched.map(|document| Edit::Expect(Document::clone(document))).collect()
}

/// The edits after which nothing names the object any more, but for what a folder keeps: that is as the folder says.
fn unlinked(documents: &Documents, gone: &Key) -> Vec<Edit> {
    let naming = documents.naming(gone.clone()).filter(|(_, document)| file(document).is_none());
    naming.filter_map(|(_, document)| state::update(document, document.spec.clone().without(gone))).collect()
}

/// Waits for the store, but not for ever.
pub(super) async fn in_time<T>(
    answer: impl Future<Output = Result<T, state::StateError>>,
) -> Result<T, Error> {
    match tokio::time::timeout(STORE_TIME, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::Unavailable(
            "the store did not answer in time; what was asked may or may not have been done: look again"
                .into(),
        )),
    }
}

async fn create(
    context: &Context,
    resource: &Resource,
    instance: &str,
    mut given: Object,
) -> Result<Shown, Error> {
    let kind = resource.kind;
    let Face { id: id_name, required, .. } = face(kind);
    let documents = context.documents();
    if kind.is_namespaced() {
        visible(&documents, &Key::cluster(Kind::Instance, instance))?;
    }
    check_names(kind, &given, required)?;
    given.retain(|_, value| !value.is_null());
    let chosen = given.remove(id_name);
    let names: Vec<String> = given.keys().cloned().collect();
    if kind == Kind::Service {
        // What is created here is started here.
        given.entry("running").or_insert(false.into());
    }
    // Until it has its number, one that no other has: what it names is not itself.
    let unnumbered = || format!("{}{}", resource.prefix.unwrap_or_default(), u64::MAX).into();
    let id = chosen.clone().unwrap_or_else(unnumbered);
    if let Some(taken) = resource.reserved.iter().find(|name| id == **name) {
        return Err(Error::BadRequest(format!(
            "id: `{taken}` can't be an id: it stands for something else in paths; choose another"
        )));
    }
    let mut password = None;
    if kind == Kind::User {
        check_client_id(None, &given)?;
        password = take_password(&mut given)?;
    }
    let mut document = admitted(kind, &instance.into(), &id, given, &documents, &context.sealer)?;
    let mut once = None;
    if let Some(password) = password {
        refuse_taken(&documents, &document.key())?;
        let (credentials, secret) = Credentials::of_new_client(hash(password).await?)?;
        credentials.put_into(&mut document.spec)?;
        once = Some((CLIENT_SECRET, secret.expose().to_owned()));
    }
    let mut document = state::born_of_api(document, &names, &timestamp());
    document.metadata.waiting = waiting_need(&documents, &document).is_some();
    let created = match resource.prefix {
        Some(prefix) if chosen.is_none() => {
            let clear = flat::password(&document, &context.sealer)?;
            let bind = |document: &mut Document| reseal(document, clear.as_ref(), &context.sealer);
            in_time(context.state.create_numbered(prefix, document, bind)).await?
        }
        Some(_) | None => create_chosen(context, document).await?,
    };
    Ok(Shown::created(&documents, &created, context).with(once))
}

/// What a new object has to wait for: an older one of its name that is still being deleted, or something that it needs and that waits
/// itself.
pub(super) fn awaited(documents: &Documents, document: &Document) -> Option<Key> {
    let key = document.key();
    if documents.get(&key).is_some_and(|old| old.is_deleting()) {
        return Some(key);
    }
    waiting_need(documents, document)
}

fn waiting_need(documents: &Documents, document: &Document) -> Option<Key> {
    let waits = |need: &Key| documents.live(need).is_some_and(|need| need.metadata.waiting);
    document.needs().into_iter().find(waits)
}

/// Creates an object under the name that it has.
pub(super) async fn create_chosen(context: &Context, document: Document) -> Result<Document, Error> {
    let key = document.key();
    let (mut document, revision) = change_at(context, |documents| {
        refuse_taken(documents, &key)?;
        // Who was given access to an older one of this name was not given access to this one.
        let mut edits = unlinked(documents, &key);
        edits.truncate(state::BATCH / 2 - 1);
        edits.extend(guards(documents, &document, &[]));
        let mut document = document.clone();
        document.metadata.waiting = awaited(documents, &document).is_some();
        edits.push(Edit::Create(document.clone()));
        Ok((edits, document))
    })
    .await?;
    document.metadata.resource_version = revision.unwrap_or_default().to_string();
    Ok(document)
}

fn refuse_taken(documents: &Documents, key: &Key) -> Result<(), Error> {
    match documents.live(key) {
        Some(_) => Err(Error::Conflict(format!("{key} exists already; choose another id"))),
        None => Ok(()),
    }
}

async fn update(
    context: &Context,
    key: &Key,
    mut given: Object,
    conditions: &Conditions,
) -> Result<Shown, Error> {
    let id_name = face(key.kind).id;
    if given.remove(id_name).is_some_and(|id| id != key.name.as_str()) {
        return Err(Error::BadRequest(format!("{id_name}: that of {key} can't be changed; leave it out")));
    }
    check_names(key.kind, &given, &[])?;
    if key.kind == Kind::Service && given.get("running").is_some_and(Value::is_null) {
        given.insert("running".into(), false.into());
    }
    let mut credentials = Credentials::default();
    if key.kind == Kind::User {
        conditions.check(visible(&context.documents(), key)?)?;
        // Once, whatever the number of tries to write it.
        if let Some(password) = take_password(&mut given)? {
            credentials = Credentials::of_password(Some(hash(password).await?));
        }
    }
    let updated = change_one(context, key, conditions, |documents, current| {
        if let Spec::User(user) = &current.spec {
            check_client_id(user.client_id.as_deref(), &given)?;
        }
        let fields = merged(current, &given, &context.sealer)?;
        let (instance, id) = (key.namespace.as_str().into(), key.name.as_str().into());
        let mut wanted = admitted(key.kind, &instance, &id, fields, documents, &context.sealer)?;
        credentials.put_into(&mut wanted.spec)?;
        Ok(wanted.spec)
    })
    .await?;
    Ok(Shown::of(StatusCode::OK, &updated, context))
}

/// Decides that an object goes. Nothing names it any more from then on.
pub(super) async fn delete(
    context: &Context,
    key: &Key,
    conditions: &Conditions,
) -> Result<StatusCode, Error> {
    if key.kind == Kind::Integration {
        visible(&context.documents(), key)?;
        // Before it goes: a shipped one would come back with the next start.
        in_time(context.state.set_aside(key)).await?;
    }
    change(context, |documents| Ok((deleting(documents, key, conditions)?, ()))).await?;
    // More than one transaction takes, and what began to name it meanwhile. It is deleted in any case, and who is told of a failure
    // would ask again in vain; the placement does the rest.
    let rest = change(context, |documents| match documents.live(key) {
        Some(_) => Ok((Vec::new(), ())),
        None => Ok((unlinked(documents, key), ())),
    });
    if let Err(error) = rest.await {
        tracing::warn!(%key, ?error, "something still names what was deleted");
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The edits by which an object goes, its own first; refused where something else would put it back or needs it.
pub(super) fn deleting(
    documents: &Documents,
    key: &Key,
    conditions: &Conditions,
) -> Result<Vec<Edit>, Error> {
    let current = visible(documents, key)?;
    conditions.check(current)?;
    refuse_owned(current)?;
    refuse_placed(documents, current)?;
    refuse_needed(documents, key)?;
    let mut edits = vec![state::deletion(current, &timestamp())];
    edits.extend(unlinked(documents, key));
    edits.truncate(state::BATCH);
    if current.metadata.waiting {
        // What needs it waits as well; a later one of this name would find it there.
        let needing = documents.waiting().filter(|(_, other)| other.needs().contains(key));
        edits.extend(needing.map(|(_, other)| Edit::Remove(Document::clone(other))));
    }
    Ok(edits)
}

/// The file that an object stands in, when a manifests folder keeps it as it is there.
fn file(document: &Document) -> Option<&str> {
    let annotations = &document.metadata.annotations;
    let kept = |source: &&String| *source != state::CATALOGUE && !source.starts_with(SET);
    let source = annotations.get(SOURCE).filter(kept)?;
    Some(annotations.get(FILE).unwrap_or(source))
}

fn refuse_owned(document: &Document) -> Result<(), Error> {
    match file(document) {
        None => Ok(()),
        Some(file) => Err(Error::Conflict(format!(
            "{} stands in {file}; change it there, for the folder would put it back",
            document.key()
        ))),
    }
}

/// What a folder's objects need or name is not deleted here: the folder would have a mistake then.
fn refuse_needed(documents: &Documents, key: &Key) -> Result<(), Error> {
    if key.kind == Kind::ServiceType {
        let services = documents.of_kind(Kind::Service).filter(|(_, document)| !document.is_deleting());
        let mut users =
            services.filter(|(service, _)| documents.service(service).is_some_and(|it| it.kind == key.name));
        if let Some((service, _)) = users.next() {
            return Err(Error::Conflict(format!(
                "{service} is of this type; delete it first, or give it another"
            )));
        }
    }
    let live = documents.needing(key).filter(|(_, document)| !document.is_deleting());
    let needing = live.map(|(other, document)| (other, "belongs", document));
    let naming = documents.naming(key.clone()).map(|(other, document)| (other, "refers", document));
    let mut kept = needing.chain(naming).filter_map(|(other, how, by)| Some((other, how, file(by)?)));
    match kept.next() {
        None => Ok(()),
        Some((other, how, file)) => Err(Error::Conflict(format!(
            "{other} {how} to {key} and stands in {file}; change it there first"
        ))),
    }
}

fn refuse_placed(documents: &Documents, document: &Document) -> Result<(), Error> {
    let instance = document.metadata.namespace.as_str();
    let owner = document.metadata.owner_references.iter().find(|owner| {
        let key = Key::within(owner.kind, instance, owner.name.as_str());
        documents.live(&key).is_some()
    });
    match owner {
        None => Ok(()),
        Some(owner) => Err(Error::Conflict(format!(
            "{}'s placement would make it again; change the service",
            owner.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ordered_as_people_count() {
        let mut ids = ["SV10", "web", "SV9", "SV1", "a-2", "10", "9", "SV01", "a-10"];
        ids.sort_by(|a, b| natural(a, b));
        assert_eq!(ids, ["9", "10", "SV01", "SV1", "SV9", "SV10", "a-2", "a-10", "web"]);
    }
}
