//! The other end of `/1.0`: what the commands ask a server.

use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderValue, Method, Request, Response};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use super::ServerArguments;
use crate::edge::private;
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
    /// What is shown to the server.
    authorization: Option<HeaderValue>,
}

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// What was typed is no address.
    #[error("{server:?} is no server's address: {why}")]
    Address { server: String, why: &'static str },
    /// The token can't be shown.
    #[error("the token can't be used: {why}")]
    Token { why: String },
    /// The server can't be known by these.
    #[error("{path} can't be used as certificates in PEM")]
    Authorities {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
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
    pub(super) fn new(arguments: &ServerArguments) -> Result<Client, ClientError> {
        Client::patient(arguments, CONNECT_WITHIN, ANSWER_WITHIN)
    }

    /// One that waits for each answer for so long at most.
    pub(super) fn hurried(arguments: &ServerArguments, within: Duration) -> Result<Client, ClientError> {
        Client::patient(arguments, within, within)
    }

    fn patient(
        arguments: &ServerArguments,
        connect_within: Duration,
        answer_within: Duration,
    ) -> Result<Client, ClientError> {
        let server = &arguments.server;
        let wrong = |why| Err(ClientError::Address { server: server.to_owned(), why });
        let base = server.trim_end_matches('/');
        let (scheme, host) = match base.split_once("://") {
            Some((scheme @ ("http" | "https"), host))
                if !host.is_empty() && !host.contains(['/', '?', '#', '@']) =>
            {
                (scheme, host)
            }
            Some(_) | None => return wrong("write http://HOST:PORT or https://HOST:PORT"),
        };
        let token = token(arguments)?;
        if token.is_some() && scheme == "http" && !is_near(host) {
            return Err(ClientError::Token {
                why: format!("it would go to {host} for everyone on the way to read; write https://{host}"),
            });
        }
        let authorities = match &arguments.ca {
            Some(path) => authorities(path)?,
            None => RootCerts::WebPki,
        };
        let tls = TlsConfig::builder().root_certs(authorities).build();
        let config = || {
            Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                // The server is most often this machine, which no proxy reaches.
                .proxy(None)
                .tls_config(tls.clone())
                .timeout_connect(Some(connect_within))
        };
        Ok(Client {
            base: base.to_owned(),
            agent: config().timeout_global(Some(answer_within)).build().into(),
            streams: config().timeout_per_read(Some(SILENCE)).build().into(),
            authorization: token,
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
        if text.is_empty() {
            // Done, and there is nothing to say.
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|error| self.stranger(format!("its answer is no JSON ({error})")))
    }

    fn call(
        &self,
        agent: &Agent,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<Response<Body>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("Content-Type", "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
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

/// The token that a command shows: a file's, or the environment's. Never an argument's, which everyone on the machine could read.
fn token(arguments: &ServerArguments) -> Result<Option<HeaderValue>, ClientError> {
    let wrong = |why: String| ClientError::Token { why };
    let token = match &arguments.token_file {
        Some(path) => private::read(path).map_err(|error| wrong(super::chain(&error)))?,
        None => match std::env::var("MAINSTAY_TOKEN") {
            Ok(token) => token,
            Err(std::env::VarError::NotPresent) => return Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(wrong("MAINSTAY_TOKEN holds something else".into()));
            }
        },
    };
    let mut header = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        .map_err(|_| wrong("it has more than one line, or what no token has".into()))?;
    header.set_sensitive(true);
    Ok(Some(header))
}

/// Whether a host is this machine.
fn is_near(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn authorities(path: &Path) -> Result<RootCerts, ClientError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| ClientError::Authorities {
        path: path.to_owned(),
        source,
    };
    let text = std::fs::read(path).map_err(|error| failed(error.into()))?;
    let mut found = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| failed(error.into()))? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(failed("it holds none".into()));
    }
    Ok(RootCerts::Specific(Arc::new(found)))
}

/// What comes from elsewhere is shown without what moves a terminal's cursor.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(server: &str) -> Result<Client, ClientError> {
        Client::new(&ServerArguments { server: server.to_owned(), token_file: None, ca: None })
    }

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_port() {
        for server in ["http://127.0.0.1:8080", "http://box/", "http://[::1]:8080", "https://box:8443"] {
            assert!(client(server).is_ok(), "{server}");
        }
        for server in
            ["", "box:8080", "http://", "http://box/1.0", "http://me@box", "ftp://box", "http://box?a"]
        {
            assert!(client(server).is_err(), "{server}");
        }
    }

    #[test]
    fn a_token_goes_in_clear_to_this_machine_only() {
        for host in ["localhost", "localhost:8080", "127.0.0.1:1", "127.3.2.1", "[::1]:8080", "[::1]"] {
            assert!(is_near(host), "{host}");
        }
        for host in
            ["box", "localhost.evil.example:80", "192.0.2.1:8080", "[2001:db8::1]:80", "127.0.0.1.evil"]
        {
            assert!(!is_near(host), "{host}");
        }
    }
}
