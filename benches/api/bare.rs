//! The floor: hyper as it comes, which knows its one answer already. A process of its own, as ours is.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

const ASKED: &str = "MAINSTAY_BENCH_BARE";

/// A running bare server. Killed with the value.
pub(crate) struct Bare {
    child: Child,
    pub(crate) address: String,
}

impl Bare {
    /// One that answers everything with a body.
    pub(crate) fn start(body: &[u8]) -> Bare {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(ASKED, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(body).unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Bare { child, address: address.trim().to_owned() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// True when this process was started as the bare server, and has been it.
pub(crate) fn run_if_asked() -> bool {
    if std::env::var_os(ASKED).is_none() {
        return false;
    }
    let mut body = Vec::new();
    std::io::stdin().read_to_end(&mut body).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(serve(body.into()));
    true
}

async fn serve(body: Bytes) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let body = body.clone();
        let answer = service_fn(move |_: Request<Incoming>| {
            let response =
                Response::builder().header("content-type", "application/json").body(Full::new(body.clone()));
            std::future::ready(Ok::<_, Infallible>(response.unwrap()))
        });
        tokio::spawn(async move {
            // A client that leaves is no error.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await);
        });
    }
}
