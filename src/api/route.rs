//! The table of routes: what is served, and what is said of it. The routers and `/openapi.json` are both made from it, so that nothing is
//! served that is not described, and nothing described that is not served.

use axum::Router;
use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::routing::{MethodRouter, delete, get, post, put};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::Shared;
use crate::model::Kind;

/// One method of one path.
pub(super) struct Route {
    /// The path; `{name}` stands for what [`super::body::Place`] takes out of it.
    pub(super) path: String,
    /// The method. HEAD goes with GET, and OPTIONS with every path.
    pub(super) method: Method,
    /// What is said of it.
    pub(super) operation: Operation,
    handler: MethodRouter<Shared>,
}

/// What is said of one method of one path.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    /// Its name for programs.
    pub(super) id: String,
    /// What it does, in a line.
    pub(super) summary: String,
    /// What else is to be known.
    pub(super) description: &'static str,
    /// What the query may say.
    pub(super) query: &'static [Asked],
    /// Whether it obeys `If-Match`, or `If-None-Match` where it reads, and answers an `ETag`.
    pub(super) version: Version,
    /// What has to be sent, or may be, if anything.
    pub(super) body: Option<Content>,
    /// Whether that may be left out.
    pub(super) is_body_optional: bool,
    /// What is answered when it is done.
    pub(super) answer: (StatusCode, Content),
    /// Why it may be refused, besides the reasons that every request, every path and every body has.
    pub(super) refusals: Vec<StatusCode>,
}

/// What versions of an object have to do with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// Nothing.
    Unsaid,
    /// It is answered.
    Answered,
    /// It is answered, and the request may say which one the client has.
    Read,
    /// It is answered, and the request may say which one it is meant for.
    Changed,
    /// The request may say which one it is meant for; then there is none any more.
    Deleted,
}

/// A parameter in a query.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Its JSON Schema.
    pub(super) schema: &'static str,
}

/// What a body holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content {
    /// Nothing.
    Nothing,
    /// An object.
    Object(Kind),
    /// All objects of a list.
    Objects(Kind),
    /// The parameters of an object that is to be made.
    New(Kind),
    /// The parameters of an object that are to be others.
    Changes(Kind),
    /// The ids of two objects, by their kinds.
    Ids(Kind, Kind),
    /// JSON of a type.
    Json(fn(&mut SchemaGenerator) -> Schema),
    /// JSON that has no type of ours.
    AnyJson,
    /// Text of a media type.
    Text(&'static str),
}

impl Content {
    /// JSON of a type.
    pub(super) const fn of<T: JsonSchema>() -> Content {
        Content::Json(|generator| generator.subschema_for::<T>())
    }
}

impl Operation {
    /// Something that is done, and answers 204.
    pub(super) fn new(id: impl Into<String>, summary: impl Into<String>) -> Operation {
        Operation {
            id: id.into(),
            summary: summary.into(),
            description: "",
            query: &[],
            version: Version::Unsaid,
            body: None,
            is_body_optional: false,
            answer: (StatusCode::NO_CONTENT, Content::Nothing),
            refusals: Vec::new(),
        }
    }

    pub(super) fn described(self, description: &'static str) -> Operation {
        Operation { description, ..self }
    }

    pub(super) fn asks(self, query: &'static [Asked]) -> Operation {
        Operation { query, ..self }
    }

    pub(super) fn versioned(self, version: Version) -> Operation {
        Operation { version, ..self }
    }

    pub(super) fn takes(self, body: Content) -> Operation {
        Operation { body: Some(body), ..self }
    }

    pub(super) fn may_take(self, body: Content) -> Operation {
        Operation { is_body_optional: true, ..self.takes(body) }
    }

    pub(super) fn answers(self, status: StatusCode, content: Content) -> Operation {
        Operation { answer: (status, content), ..self }
    }

    /// It may be refused as things are.
    pub(super) fn conflicts(mut self) -> Operation {
        self.refusals.push(StatusCode::CONFLICT);
        self
    }

    /// It may find nothing there that is meant, though its path names none.
    pub(super) fn not_found(mut self) -> Operation {
        self.refusals.push(StatusCode::NOT_FOUND);
        self
    }

    /// It may find that something stored can't be used.
    pub(super) fn meets_damage(mut self) -> Operation {
        self.refusals.push(StatusCode::INTERNAL_SERVER_ERROR);
        self
    }
}

impl Route {
    pub(super) fn get<T: 'static>(
        path: impl Into<String>,
        handler: impl Handler<T, Shared>,
        operation: Operation,
    ) -> Route {
        Route { path: path.into(), method: Method::GET, operation, handler: get(handler) }
    }

    pub(super) fn post<T: 'static>(
        path: impl Into<String>,
        handler: impl Handler<T, Shared>,
        operation: Operation,
    ) -> Route {
        Route { path: path.into(), method: Method::POST, operation, handler: post(handler) }
    }

    pub(super) fn put<T: 'static>(
        path: impl Into<String>,
        handler: impl Handler<T, Shared>,
        operation: Operation,
    ) -> Route {
        Route { path: path.into(), method: Method::PUT, operation, handler: put(handler) }
    }

    pub(super) fn delete<T: 'static>(
        path: impl Into<String>,
        handler: impl Handler<T, Shared>,
        operation: Operation,
    ) -> Route {
        Route { path: path.into(), method: Method::DELETE, operation, handler: delete(handler) }
    }
}

/// What answers at the paths of a table.
pub(super) fn router(table: Vec<Route>) -> Router<Shared> {
    table.into_iter().fold(Router::new(), |router, route| router.route(&route.path, route.handler))
}

/// What a request does, by which is decided who may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It says no more than that we are there.
    Nothing,
    /// It reads.
    Read,
    /// It starts, stops, tries, restarts, moves, takes back: what is declared stays as it is.
    Operate,
    /// It changes what is declared.
    Change,
    /// It tells all that is stored: sealed secrets, and the hashes of passwords.
    Secrets,
}

impl Need {
    /// That of a request, or of all at a path of the table.
    pub fn of(method: &Method, path: &str) -> Need {
        if matches!(path, "/healthz" | "/readyz") {
            return Need::Nothing;
        }
        if path == super::backup::PATH {
            return Need::Secrets;
        }
        // It only says what would change.
        if method.is_safe() || path == "/diff" {
            return Need::Read;
        }
        if path == super::sources::HOOK && method == Method::POST {
            return Need::Operate;
        }
        // Elsewhere such a word is an id that somebody has chosen.
        let is_operated = path.starts_with("/1.0/instances/") || path.starts_with("/1.0/processes/");
        match path.rsplit('/').next().unwrap_or_default() {
            "start" | "stop" | "ping" | "trust" | "restart" | "pause" | "resume" | "rollback" | "cordon"
            | "uncordon" | "drain"
                if method == Method::POST && is_operated =>
            {
                Need::Operate
            }
            _ => Need::Change,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_operates_starts_moves_and_takes_back_and_deletes_nothing() {
        let need = |path: &str| Need::of(&Method::POST, path);
        for verb in ["start", "restart", "pause", "resume", "rollback"] {
            assert_eq!(need(&format!("/1.0/instances/IN1/services/SV1/{verb}")), Need::Operate, "{verb}");
        }
        for verb in ["ping", "trust", "cordon", "drain", "uncordon"] {
            assert_eq!(need(&format!("/1.0/instances/IN1/nodes/ND1/{verb}")), Need::Operate, "{verb}");
        }
        assert_eq!(need("/1.0/instances/IN1/nodes/ND1/forget"), Need::Change);
        // Here it is what somebody called an integration.
        assert_eq!(need("/1.0/tenants/tenant1/integrations/drain"), Need::Change);
        // It has what is declared be looked for, and approving deletions changes that.
        assert_eq!((need("/hooks/git"), need("/sources/approve")), (Need::Operate, Need::Change));
        assert_eq!(Need::of(&Method::GET, "/1.0/explain/processes/x"), Need::Read);
        assert_eq!([need("/diff"), need("/apply")], [Need::Read, Need::Change]);
    }
}
