//! The other end of `/1.0`: what the commands ask a server.

use std::io::Read;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Method, Request, Response};
use ureq::{Agent, Body};

use crate::store::backup::PROCESS_HEADER;

/// How long a connection to the server may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long an answer may take: longer than any that the server may be asked to wait for.
const ANSWER_WITHIN: Duration = Duration::from_secs(660);

/// How long a stream may be silent. The server says something more often.
const SILENCE: Duration = Duration::from_secs(60);

/// Most that is read of an answer.
const MAX_ANSWER_BYTES: u64 = 256 * 1024 * 1024;

/// Longest message of an error that is shown.
const MAX_MESSAGE_BYTES: u64 = 64 * 1024;

/// Asks one server.
pub(super) struct Client {
    /// Such as `http://127.0.0.1:8080`.
    base: String,
    agent: Agent,
    streams: Agent,
}

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// What was typed is no address.
    #[error("{server:?} is no server's address: {why}")]
    Address { server: String, why: &'static str },
    /// Nobody answers.
    #[error("no server answers at {server}; is `mainstay serve` running? name another with --server")]
    NoAnswer {
        server: String,
        #[source]
        source: ureq::Error,
    },
    /// The server does not do it.
    #[error("{message}")]
    Refused { status: u16, message: String },
    /// Something else answers.
    #[error("what answers at {server} is no mainstay server: {what}")]
    Stranger { server: String, what: String },
}

impl Client {
    pub(super) fn new(server: &str) -> Result<Client, ClientError> {
        let wrong = |why| Err(ClientError::Address { server: server.to_owned(), why });
        let base = server.trim_end_matches('/');
        match base.split_once("://") {
            Some(("http", host)) if !host.is_empty() && !host.contains(['/', '?', '#', '@']) => {}
            Some(("https", _)) => {
                return wrong(
                    "TLS is not there yet; write http://HOST:PORT, over a tunnel if others can listen",
                );
            }
            Some(_) | None => return wrong("write http://HOST:PORT"),
        }
        let config = || {
            Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                // The server is most often this machine, which no proxy reaches.
                .proxy(None)
                .timeout_connect(Some(CONNECT_WITHIN))
        };
        Ok(Client {
            base: base.to_owned(),
            agent: config().timeout_global(Some(ANSWER_WITHIN)).build().into(),
            streams: config().timeout_per_read(Some(SILENCE)).build().into(),
        })
    }

    /// GET of an object or a list.
    pub(super) fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.answer(Method::GET, path, String::new())
    }

    /// POST, with parameters if there are any.
    pub(super) fn post(&self, path: &str, parameters: Option<&Value>) -> Result<Value, ClientError> {
        self.answer(Method::POST, path, parameters.map(Value::to_string).unwrap_or_default())
    }

    /// GET of a body that may have no end.
    pub(super) fn stream(&self, path: &str) -> Result<impl Read + use<>, ClientError> {
        let response = self.call(&self.streams, Method::GET, path, String::new())?;
        Ok(response.into_body().into_reader())
    }

    /// A backup of the server's store, and which process makes it.
    pub(super) fn backup(&self) -> Result<(Option<u32>, impl Read + use<>), ClientError> {
        let response = self.call(&self.streams, Method::GET, "/store/backup", String::new())?;
        let process = response.headers().get(PROCESS_HEADER).and_then(|id| id.to_str().ok()?.parse().ok());
        Ok((process, response.into_body().into_reader()))
    }

    fn answer(&self, method: Method, path: &str, body: String) -> Result<Value, ClientError> {
        let mut response = self.call(&self.agent, method, path, body)?;
        let text = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string();
        let text = text.map_err(|source| self.no_answer(source))?;
        serde_json::from_str(&text).map_err(|error| self.stranger(format!("its answer is no JSON ({error})")))
    }

    fn call(
        &self,
        agent: &Agent,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<Response<Body>, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("Content-Type", "application/json");
        let sent = match body.as_str() {
            "" => request.body(()).map_err(ureq::Error::from).and_then(|request| agent.run(request)),
            _ => request.body(body).map_err(ureq::Error::from).and_then(|request| agent.run(request)),
        };
        let mut response = sent.map_err(|source| self.no_answer(source))?;
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(response);
        }
        let mut text = String::new();
        let said = response.body_mut().as_reader().take(MAX_MESSAGE_BYTES).read_to_string(&mut text);
        let message = said.ok().and_then(|_| serde_json::from_str::<Value>(&text).ok());
        match message.as_ref().and_then(|message| message["error"].as_str()) {
            Some(message) => Err(ClientError::Refused { status, message: printable(message) }),
            None => Err(self.stranger(format!("it answers with status {status} and no error of ours"))),
        }
    }

    fn no_answer(&self, source: ureq::Error) -> ClientError {
        ClientError::NoAnswer { server: self.base.clone(), source }
    }

    fn stranger(&self, what: String) -> ClientError {
        ClientError::Stranger { server: self.base.clone(), what }
    }
}

/// What comes from elsewhere is shown without what moves a terminal's cursor.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_port() {
        for server in ["http://127.0.0.1:8080", "http://box/", "http://[::1]:8080"] {
            assert!(Client::new(server).is_ok(), "{server}");
        }
        for server in
            ["", "box:8080", "http://", "http://box/1.0", "http://me@box", "ftp://box", "http://box?a"]
        {
            assert!(Client::new(server).is_err(), "{server}");
        }
        let error = Client::new("https://box").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("TLS"), "{error}");
    }
}
