//! A TCP proxy that can be cut, as a network can: what is under way then waits, and arrives when it is whole again. Nothing is
//! refused and nothing is closed, so that neither side is told.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// What is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Nothing gets to the server; what it says still arrives.
    Requests,
    /// Nothing gets through.
    Both,
}

/// Where what passes waits.
#[derive(Default)]
struct Gate {
    cut: Mutex<Option<Cut>>,
    changed: Condvar,
}

impl Gate {
    fn wait(&self, is_request: bool) {
        let is_held = |cut: &mut Option<Cut>| match cut {
            Some(Cut::Both) => true,
            Some(Cut::Requests) => is_request,
            None => false,
        };
        drop(self.changed.wait_while(self.cut.lock().unwrap(), is_held).unwrap());
    }

    fn set(&self, cut: Option<Cut>) {
        *self.cut.lock().unwrap() = cut;
        self.changed.notify_all();
    }
}

/// A way to some servers that can be cut. Its threads end with their connections, or with the test.
pub struct Network {
    endpoints: Vec<String>,
    gate: Arc<Gate>,
}

impl Network {
    /// A way to each of these, `HOST:PORT`.
    pub fn to(servers: &[String]) -> Network {
        let gate = Arc::new(Gate::default());
        let endpoints = servers.iter().map(|server| listen(server.clone(), Arc::clone(&gate))).collect();
        Network { endpoints, gate }
    }

    /// Where to go instead.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    pub fn cut(&self, cut: Cut) {
        self.gate.set(Some(cut));
    }

    pub fn mend(&self) {
        self.gate.set(None);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.mend();
    }
}

fn listen(server: String, gate: Arc<Gate>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (server, gate) = (server.clone(), Arc::clone(&gate));
            std::thread::spawn(move || connect(client, &server, &gate));
        }
    });
    endpoint
}

fn connect(client: TcpStream, server: &str, gate: &Arc<Gate>) {
    gate.wait(true);
    // A server that is not there refuses, by the end of the connection.
    let Ok(server) = TcpStream::connect(server) else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else { return };
    let gate = Arc::clone(gate);
    std::thread::spawn({
        let gate = Arc::clone(&gate);
        move || pass(from, to, &gate, true)
    });
    pass(server, client, &gate, false);
}

fn pass(mut from: TcpStream, mut to: TcpStream, gate: &Gate, is_request: bool) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        gate.wait(is_request);
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            // An end is passed on, too.
            let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
            return;
        }
    }
}
