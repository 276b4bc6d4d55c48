//! What a server has to survive. Each is over when it returns, and holds nothing open.

use std::io::Write;
use std::net::TcpStream;

use mainstay::edge::raise_file_limit;

use super::raw::{connect, read, send};
use super::{answers, answers_a_change};

/// Done to the API at an address.
type Assault = fn(&str);

/// By name.
pub(crate) const ALL: [(&str, Assault); 10] = [
    ("bodies of 20 MB", large_bodies),
    ("bodies of 1 MB, 200 at once", many_bodies),
    ("10,000 idle connections", idle_connections),
    ("2,000 heads dripped", slow_heads),
    ("2,000 bodies dripped", slow_bodies),
    ("answers that nobody reads", unread_answers),
    ("what is no UTF-8", no_utf8),
    ("deep and wide JSON", odd_json),
    ("every byte in a path", every_byte),
    ("header floods", header_floods),
];

const POST: &str = "POST /1.0/instances HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

/// A POST with a body.
fn post(api: &str, body: &[u8]) -> Option<u16> {
    let mut request =
        format!("{POST}Connection: close\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    request.extend_from_slice(body);
    send(api, &request).map(|answer| answer.status)
}

fn large_bodies(api: &str) {
    let body = vec![b' '; 20 * 1024 * 1024];
    for _ in 0..5 {
        // Over what is read and dropped, the server may close before the client is done writing.
        assert!(matches!(post(api, &body), Some(413) | None));
    }
    assert_eq!(post(api, &body[..10 * 1024 * 1024]), Some(413), "as long as it is read, the answer is heard");
    let mut endless = connect(api);
    let _ = endless.write_all(format!("{POST}Transfer-Encoding: chunked\r\n\r\n").as_bytes());
    let chunk = [b"100000\r\n", &body[..0x10_0000], b"\r\n"].concat();
    while endless.write_all(&chunk).is_ok() {}
}

fn many_bodies(api: &str) {
    // Of all that fits into a megabyte, an array of small things takes most memory.
    let mut body = b"{\"stats\": [".to_vec();
    body.extend(b"{},".repeat(300_000));
    body.extend(b"{}]}");
    std::thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| {
                let answer = post(api, &body);
                assert!(matches!(answer, Some(400 | 503)), "{answer:?}");
            });
        }
    });
}

fn idle_connections(api: &str) {
    let idle: Vec<TcpStream> = (0..10_000).map(|_| connect(api)).collect();
    answers(api);
    answers_a_change(api);
    drop(idle);
}

fn slow_heads(api: &str) {
    let head = b"GET /1.0/instances HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
    drip(api, 2_000, head);
}

fn slow_bodies(api: &str) {
    drip(api, 2_000, format!("{POST}Content-Length: 100000\r\n\r\n").as_bytes());
}

/// Connections that each send the beginning of something, and then a byte now and then; the others are answered meanwhile.
fn drip(api: &str, count: usize, beginning: &[u8]) {
    let mut all: Vec<TcpStream> = (0..count)
        .map(|_| {
            let mut stream = connect(api);
            let _ = stream.write_all(beginning);
            stream
        })
        .collect();
    for _ in 0..3 {
        answers(api);
        answers_a_change(api);
        for stream in &mut all {
            let _ = stream.write_all(b"x");
        }
    }
}

/// Some megabytes of answers on each connection, more than fits on the way.
fn unread_answers(api: &str) {
    let asked = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2_000);
    let all: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = connect(api);
            stream.set_nonblocking(true).unwrap();
            // As much as is taken; who reads no answers is not read for ever.
            let _ = stream.write_all(asked.as_bytes());
            stream
        })
        .collect();
    for _ in 0..20 {
        answers(api);
        answers_a_change(api);
    }
    drop(all);
}

fn no_utf8(api: &str) {
    assert_eq!(post(api, b"{\"name\": \"\xff\xfe\"}"), Some(400));
    assert_eq!(post(api, b"\xff"), Some(400));
    for request in [
        &b"GET /1.0/instances?\xff\xfe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"[..],
        b"GET /1.0/instances/%FF%FE HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /1.0/instances HTTP/1.1\r\nHost: \xff\r\nConnection: close\r\n\r\n",
        b"GET /1.0/instances HTTP/1.1\r\nHost: localhost\r\nX-\xff: a\r\nConnection: close\r\n\r\n",
        b"G\xffT /1.0/instances HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"\xff\xfe\x00\x00",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        let mut stream = connect(api);
        stream.write_all(request).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        if let Some(answer) = read(&mut stream) {
            assert!((400..500).contains(&answer.status), "{answer:?}");
        }
    }
}

fn odd_json(api: &str) {
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    for body in
        [deep("[", "]"), deep("{\"a\":", "}"), "[".repeat(1_000_000), format!("[{}0]", "0,".repeat(400_000))]
    {
        assert_eq!(post(api, body.as_bytes()), Some(400));
    }
    let wide: String = (0..50_000).map(|n| format!("\"n{n}\":{n},")).collect();
    assert_eq!(post(api, format!("{{{wide}\"name\":1}}").as_bytes()), Some(400));
    assert_eq!(post(api, format!("{{\"name\": 1{}}}", "0".repeat(900_000)).as_bytes()), Some(400));
}

fn every_byte(api: &str) {
    for byte in 0..=255u8 {
        for method in ["GET", "POST", "DELETE"] {
            for (before, after) in
                [("/1.0/instances/", ""), ("/", "/x"), ("", "/1.0"), ("/1.0/instances?", "=1")]
            {
                let mut request = format!("{method} {before}").into_bytes();
                request.push(byte);
                request.extend(
                    format!("{after} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").bytes(),
                );
                check_refused(api, byte, &request);
            }
            let request = format!(
                "{method} /1.0/instances/a%{byte:02X}b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            );
            check_refused(api, byte, request.as_bytes());
        }
    }
}

/// None of it is there, and none of it breaks anything.
fn check_refused(api: &str, byte: u8, request: &[u8]) {
    let mut stream = connect(api);
    stream.write_all(request).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let Some(answer) = read(&mut stream) else { return };
    assert!((200..500).contains(&answer.status), "{byte}: {answer:?}");
}

fn header_floods(api: &str) {
    let flood = |lines: &str| {
        let request = format!("GET /1.0/instances HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
        let answer = send(api, request.as_bytes());
        assert!(answer.as_ref().is_none_or(|answer| answer.status == 431), "{answer:?}");
    };
    flood(&"A: b\r\n".repeat(101));
    flood(&(0..20_000).map(|n| format!("N{n}: {n}\r\n")).collect::<String>());
    flood(&format!("A: {}\r\n", "x".repeat(10_000_000)));
    flood(&format!("{}: a\r\n", "x".repeat(1_000_000)));
    let mut endless = connect(api);
    let _ = endless.write_all(b"GET / HTTP/1.1\r\nA: ");
    while endless.write_all(&[b'x'; 65_536]).is_ok() {}
}

/// As many files as the test may have open: it holds the other ends.
pub(crate) fn prepare() {
    let files = raise_file_limit();
    assert!(
        files >= 10_500,
        "this test needs 10,500 open files; raise the hard limit (ulimit -Hn), which allows {files}"
    );
}
