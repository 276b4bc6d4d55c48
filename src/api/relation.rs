//! What one object is given of others and loses again: a tenant its integrations, a user its tenants.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::json;

use super::Shared;
use super::body::Place;
use super::error::Error;
use super::etag::UNCONDITIONAL;
use super::flat::face;
use super::resource::{change_one, visible};
use super::route::{Content, Operation, Route};
use crate::model::{Key, Kind};

/// A list in the objects of one kind that names objects of another ([`crate::model::Spec::list_mut`]).
pub(super) struct Relation {
    /// Whose list it is.
    pub(super) from: Kind,
    /// What it names.
    pub(super) to: Kind,
    /// Where one of the list is; `{id}` stands for whose list it is, `{other}` for what it names.
    pub(super) path: &'static str,
    /// What it is called to give and to take away, for programs and for people.
    pub(super) about: [(&'static str, &'static str); 2],
}

/// To give and to take away.
pub(super) fn routes(relation: &'static Relation) -> [Route; 2] {
    let Relation { from, to, path, about: [(add_id, add_about), (remove_id, remove_about)] } = relation;
    let add = move |State(context): State<Shared>, place: Place| async move {
        let other = Key::cluster(*to, place.other.as_str());
        let key = place.key(*from);
        let given = change_one(&context, &key, &UNCONDITIONAL, |documents, current| {
            visible(documents, &other)?;
            let mut spec = current.spec.clone();
            if let Some(list) = spec.list_mut(*to)
                && !list.contains(&other.name)
            {
                list.push(other.name.clone());
            }
            Ok(spec)
        });
        given.await?;
        // As the answer to a tenant's instance: both ids, by their kinds. The seed shows no body here.
        let named = |kind: Kind| kind.name().to_lowercase();
        let answer = json!({ named(*from): key.name, named(*to): other.name });
        Ok::<_, Error>((StatusCode::CREATED, Json(answer)))
    };
    let remove = move |State(context): State<Shared>, place: Place| async move {
        let other = Key::cluster(*to, place.other.as_str());
        let key = place.key(*from);
        let taken = change_one(&context, &key, &UNCONDITIONAL, |_, current| {
            if !current.names().contains(&other) {
                let id = face(*to).id;
                return Err(Error::NotFound(format!("{key} has no {} with the {id} {}", *to, other.name)));
            }
            Ok(current.spec.clone().without(&other))
        });
        taken.await?;
        Ok::<_, Error>(StatusCode::NO_CONTENT)
    };
    let added = Operation::new(*add_id, *add_about).answers(StatusCode::CREATED, Content::Ids(*from, *to));
    [
        Route::post(*path, add, added.conflicts()),
        Route::delete(*path, remove, Operation::new(*remove_id, *remove_about).conflicts()),
    ]
}
