//! Requests to servers on this machine, which do what servers should not.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use reel_outbound::{FetchError, Hosts, Limits, Outbound, Resolve, Schemes, Status, UrlPolicy};
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

const MOST: usize = 100_000;
/// Of tests in which the deadline passes.
const SOON: Duration = Duration::from_millis(300);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Requests that were seen, as text.
type Seen = mpsc::Receiver<String>;

/// A server that answers each request by `answer`, and its port.
fn server(answer: impl Fn(&str, &mut TcpStream) -> io::Result<()> + Send + 'static) -> (u16, Seen) {
    let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, seen) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = read_request(&stream).unwrap_or_default();
            let _ = sender.send(request.clone());
            // A client that has heard enough hangs up.
            let _ = answer(&request, &mut stream);
        }
    });
    (port, seen)
}

fn read_request(stream: &TcpStream) -> io::Result<String> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        if reader.read_line(&mut request)? == 0 {
            return Ok(request);
        }
    }
    let length = request
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(request + &String::from_utf8_lossy(&body))
}

/// A server that always says the same.
fn saying(answer: impl Into<Vec<u8>>) -> (u16, Seen) {
    let answer = answer.into();
    server(move |_, stream| stream.write_all(&answer))
}

fn file(bytes: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n");
    [head.into_bytes(), vec![b'x'; bytes]].concat()
}

/// The same without saying beforehand how much it is.
fn unannounced(bytes: usize) -> Vec<u8> {
    let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
    [head, vec![b'x'; bytes]].concat()
}

fn redirect(status: u16, location: &str) -> String {
    format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
}

/// Allows this machine: the servers are here.
fn local(ports: &[u16]) -> UrlPolicy {
    UrlPolicy {
        schemes: Schemes::HttpsAndHttp,
        hosts: Hosts::Any,
        ports: ports.to_vec(),
        private_addresses: true,
    }
}

fn fetch(port: u16) -> Result<usize, FetchError> {
    let url = format!("http://127.0.0.1:{port}/file");
    let file = Outbound::default().fetch(&local(&[port]), &url, MOST);
    file.map(|file| file.len())
}

fn fetch_soon(port: u16) -> Result<usize, FetchError> {
    let limits = Limits {
        total: SOON,
        ..Limits::default()
    };
    let outbound = Outbound::new(Arc::new(reel_outbound::SystemResolver), limits);
    let url = format!("http://127.0.0.1:{port}/file");
    let file = outbound.fetch(&local(&[port]), &url, MOST);
    file.map(|file| file.len())
}

/// Answers every question by the next of these addresses, whatever the name; none is the end of them.
#[derive(Debug)]
struct Scripted(Mutex<VecDeque<Vec<IpAddr>>>);

impl Scripted {
    fn outbound(answers: &[&[&str]]) -> (Arc<Self>, Outbound) {
        let answers = answers
            .iter()
            .map(|addresses| addresses.iter().map(|text| text.parse().unwrap()).collect());
        let resolver = Arc::new(Self(Mutex::new(answers.collect())));
        (resolver.clone(), Outbound::new(resolver, Limits::default()))
    }

    fn left(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Resolve for Scripted {
    fn resolve(&self, _: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let answer = self.0.lock().unwrap().pop_front();
        let addresses = answer.ok_or(io::ErrorKind::NotFound)?;
        Ok(addresses
            .into_iter()
            .map(|address| (address, port).into())
            .collect())
    }
}

#[test]
fn a_file_is_fetched_without_cookies_or_compression() {
    let (port, seen) = saying(file(5));
    assert_eq!(fetch(port), Ok(5));
    let request = seen.recv().unwrap().to_lowercase();
    assert!(request.starts_with("get /file http/1.1\r\n"), "{request}");
    assert!(request.contains("accept-encoding: identity"), "{request}");
    assert!(
        !request.contains("cookie") && !request.contains("authorization"),
        "{request}"
    );
}

#[test]
fn a_file_of_the_most_bytes_is_fetched_and_one_byte_more_is_refused() {
    for answer in [file, unannounced] {
        let (port, _seen) = saying(answer(MOST));
        assert_eq!(fetch(port), Ok(MOST));
        let (port, _seen) = saying(answer(MOST + 1));
        let refused = fetch(port).unwrap_err();
        assert!(matches!(refused, FetchError::TooLarge { most: MOST, .. }));
    }
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let (port, _seen) = server(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            stream.write_all(&[0; 4096])?;
        }
    });
    assert!(matches!(fetch(port), Err(FetchError::TooLarge { .. })));
}

#[test]
fn a_slow_answer_meets_the_deadline_wherever_it_is_slow() {
    for prefix in [
        "HTTP/1.1 200 OK\r\nslow: ",
        "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n",
    ] {
        // One byte after the other, each in time.
        let (port, _seen) = server(move |_, stream| {
            stream.write_all(prefix.as_bytes())?;
            loop {
                std::thread::sleep(SOON / 10);
                stream.write_all(b"0")?;
            }
        });
        let refused = fetch_soon(port).unwrap_err();
        assert!(
            matches!(refused, FetchError::TooSlow { .. }),
            "{prefix}: {refused}"
        );
    }
}

#[test]
fn silence_meets_the_deadline() {
    let (port, _seen) = server(|_, stream| stream.read(&mut [0]).map(drop));
    let refused = fetch_soon(port).unwrap_err();
    assert!(matches!(refused, FetchError::TooSlow { .. }));
}

#[test]
fn a_slow_resolver_meets_the_deadline() {
    #[derive(Debug)]
    struct Never(Mutex<mpsc::Receiver<()>>);
    impl Resolve for Never {
        fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            let _ = self.0.lock().unwrap().recv();
            Ok(Vec::new())
        }
    }
    let (_keep, never) = mpsc::channel();
    let limits = Limits {
        total: SOON,
        ..Limits::default()
    };
    let outbound = Outbound::new(Arc::new(Never(Mutex::new(never))), limits);
    let refused = outbound.fetch(&local(&[]), "https://slow.example/", MOST);
    assert!(matches!(refused, Err(FetchError::TooSlow { .. })));
}

#[test]
fn redirects_are_followed_to_the_file() {
    let (to, _seen) = saying(file(7));
    for status in [301, 302, 303, 307, 308] {
        let (from, _seen) = saying(redirect(status, &format!("http://127.0.0.1:{to}/there")));
        let url = format!("http://127.0.0.1:{from}/here");
        let file = Outbound::default().fetch(&local(&[from, to]), &url, MOST);
        assert_eq!(file.unwrap().len(), 7, "{status}");
    }
}

#[test]
fn a_redirect_is_relative_to_where_it_came_from() {
    let (port, seen) = server(|request, stream| match request.starts_with("GET /a/b ") {
        true => stream.write_all(redirect(302, "c?d").as_bytes()),
        false => stream.write_all(&file(1)),
    });
    let url = format!("http://127.0.0.1:{port}/a/b");
    let file = Outbound::default().fetch(&local(&[port]), &url, MOST);
    assert_eq!(file.unwrap().len(), 1);
    let last = seen.try_iter().last().unwrap();
    assert!(last.starts_with("GET /a/c?d HTTP/1.1\r\n"), "{last}");
}

#[test]
fn every_hop_is_judged() {
    let fetched = |location: &str| {
        let (port, _seen) = saying(redirect(302, location));
        fetch(port).unwrap_err()
    };
    let cloud = fetched("http://169.254.169.254/latest/meta-data");
    assert_eq!(
        cloud.to_string(),
        "the host 169.254.169.254 resolves to a private address; name one that is public"
    );
    for (location, expected) in [
        ("http://[fe80::1]/", "private"),
        ("http://0/", "private"),
        ("http://127.0.0.1:22/", "port 22"),
        ("file:///etc/passwd", "scheme"),
        ("gopher://127.0.0.1/", "scheme"),
        ("http://u:p@127.0.0.1/", "password"),
        ("http://", "nowhere"),
    ] {
        let refused = fetched(location).to_string();
        assert!(refused.contains(expected), "{location}: {refused}");
    }
}

#[test]
fn a_redirect_to_a_host_that_is_not_on_the_list_is_refused() {
    let (port, _seen) = saying(redirect(302, "http://evil.example/"));
    let mut policy = local(&[port]);
    policy.hosts = Hosts::Only(vec!["127.0.0.1".parse().unwrap()]);
    let url = format!("http://127.0.0.1:{port}/");
    let refused = Outbound::default().fetch(&policy, &url, MOST);
    let host = "evil.example".into();
    assert_eq!(refused, Err(FetchError::Host { host }));
}

#[test]
fn a_redirect_loop_ends() {
    let (port, seen) = saying(redirect(302, "/again"));
    let refused = fetch(port).unwrap_err();
    assert!(matches!(refused, FetchError::TooManyRedirects { .. }));
    assert_eq!(
        seen.try_iter().count(),
        1 + reel_outbound::client::REDIRECTS_MAX
    );
}

#[test]
fn a_redirect_without_a_target_is_named() {
    let (port, _seen) = saying("HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n");
    assert!(matches!(fetch(port), Err(FetchError::NoTarget { .. })));
}

#[test]
fn a_name_that_means_this_machine_is_refused_unless_that_is_allowed() {
    let (port, seen) = saying(file(3));
    let url = format!("http://images.example:{port}/");
    let mut policy = local(&[port]);
    let (_, allowed) = Scripted::outbound(&[&["127.0.0.1"]]);
    assert_eq!(allowed.fetch(&policy, &url, MOST).unwrap().len(), 3);
    assert_eq!(seen.try_iter().count(), 1);
    policy.private_addresses = false;
    for address in [
        "127.0.0.1",
        "10.1.2.3",
        "::1",
        "::ffff:127.0.0.1",
        "fd00::1",
        "0.0.0.0",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ] {
        let (_, outbound) = Scripted::outbound(&[&["1.1.1.1", address]]);
        let refused = outbound.fetch(&policy, &url, MOST).unwrap_err();
        let host = "images.example".to_owned();
        assert_eq!(refused, FetchError::Private { host }, "{address}");
        assert!(!refused.to_string().contains(address), "{refused}");
    }
    assert_eq!(seen.try_iter().count(), 0);
}

#[test]
fn an_address_in_the_url_is_judged_however_it_is_written() {
    let (port, seen) = saying(file(3));
    let mut policy = local(&[port]);
    policy.private_addresses = false;
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "0",
        "①27.0.0.1",
    ] {
        let url = format!("http://{host}:{port}/");
        let refused = Outbound::default().fetch(&policy, &url, MOST);
        assert!(
            matches!(refused, Err(FetchError::Private { .. })),
            "{host}: {refused:?}"
        );
    }
    assert_eq!(seen.try_iter().count(), 0);
}

#[test]
fn a_name_is_resolved_once_and_what_it_means_later_changes_nothing() {
    let (port, _seen) = saying(file(3));
    let (resolver, outbound) = Scripted::outbound(&[&["127.0.0.1"], &["169.254.169.254"]]);
    let url = format!("http://rebinding.example:{port}/");
    let file = outbound.fetch(&local(&[port]), &url, MOST).unwrap();
    assert_eq!((file.len(), resolver.left()), (3, 1));
}

#[test]
fn every_hop_is_resolved_anew_and_judged() {
    let (port, _seen) = saying(redirect(302, "/again"));
    let (resolver, outbound) = Scripted::outbound(&[&["127.0.0.1"], &["169.254.169.254"]]);
    let url = format!("http://rebinding.example:{port}/");
    let refused = outbound.fetch(&local(&[port]), &url, MOST);
    assert!(matches!(refused, Err(FetchError::Private { .. })));
    assert_eq!(resolver.left(), 0);
}

#[test]
fn a_name_without_an_address_is_named() {
    for answers in [&[][..], &[&[][..]][..]] {
        let (_, outbound) = Scripted::outbound(answers);
        let refused = outbound.fetch(&local(&[]), "https://nobody.example/", MOST);
        let host = "nobody.example".into();
        assert_eq!(refused, Err(FetchError::Unresolved { host }));
    }
}

#[test]
fn an_answer_that_is_no_file_is_refused() {
    let (port, _seen) = saying("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno");
    let refused = fetch(port).unwrap_err();
    assert!(matches!(refused, FetchError::Status { status: 404, .. }));
    let (port, _seen) =
        saying("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nno");
    assert!(matches!(fetch(port), Err(FetchError::Compressed { .. })));
    let (port, _seen) = saying("SSH-2.0-OpenSSH_9.6\r\n\r\n");
    assert!(matches!(fetch(port), Err(FetchError::Garbled { .. })));
    let (port, _seen) = saying(format!(
        "HTTP/1.1 200 OK\r\nx: {}\r\n\r\n",
        "x".repeat(reel_outbound::client::HEADER_BYTES_MAX)
    ));
    assert!(matches!(fetch(port), Err(FetchError::Garbled { .. })));
    let (port, _seen) = saying("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
    assert!(matches!(fetch(port), Err(FetchError::Unreachable { .. })));
}

#[test]
fn nobody_at_the_port_is_named() {
    let port = TcpListener::bind((LOOPBACK, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let refused = fetch(port).unwrap_err();
    assert!(matches!(refused, FetchError::Unreachable { .. }));
    assert!(refused.may_pass());
}

#[test]
fn a_server_that_speaks_no_tls_is_named() {
    let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")?;
        // Until the client hangs up.
        stream.read_to_end(&mut Vec::new())
    });
    let url = format!("https://127.0.0.1:{port}/");
    let refused = Outbound::default().fetch(&local(&[port]), &url, MOST);
    assert!(
        matches!(refused, Err(FetchError::Tls { .. })),
        "{refused:?}"
    );
    let _ = server.join().unwrap();
}

#[test]
fn a_message_is_delivered_with_its_headers_and_the_answer_s_status_comes_back() {
    let (port, seen) = saying("HTTP/1.1 204 No Content\r\n\r\n");
    let url = format!("http://127.0.0.1:{port}/hook?a=b");
    let status = Outbound::default()
        .post(
            &local(&[port]),
            &url,
            [
                ("webhook-id", "msg_1"),
                ("content-type", "application/json"),
            ],
            br#"{"type":"video.completed"}"#,
        )
        .unwrap();
    assert_eq!((status, status.is_success()), (Status(204), true));
    let request = seen.recv().unwrap();
    assert!(
        request.starts_with("POST /hook?a=b HTTP/1.1\r\n")
            && request.contains("webhook-id: msg_1\r\n")
            && request.ends_with("\r\n\r\n{\"type\":\"video.completed\"}"),
        "{request}"
    );
}

#[test]
fn a_delivery_follows_no_redirect_and_reads_no_endless_answer() {
    let post = |port: u16| {
        let url = format!("http://127.0.0.1:{port}/");
        Outbound::default().post(&local(&[port]), &url, [], b"{}")
    };
    let (port, seen) = saying(redirect(307, "/elsewhere"));
    assert_eq!(post(port), Ok(Status(307)));
    assert_eq!(seen.try_iter().count(), 1);
    let (port, _seen) = server(|_, stream| {
        stream.write_all(b"HTTP/1.1 500 Oops\r\n\r\n")?;
        loop {
            stream.write_all(&[b'x'; 4096])?;
        }
    });
    assert_eq!(post(port), Ok(Status(500)));
}

#[test]
fn a_delivery_goes_to_no_private_address_and_carries_no_second_header() {
    let (port, seen) = saying(file(0));
    let url = format!("http://127.0.0.1:{port}/");
    let mut policy = local(&[port]);
    let injected = [("webhook-id", "a\r\nevil: b")];
    let refused = Outbound::default().post(&policy, &url, injected, b"{}");
    assert_eq!(refused, Err(FetchError::Header));
    policy.private_addresses = false;
    let refused = Outbound::default().post(&policy, &url, [], b"{}");
    assert!(matches!(refused, Err(FetchError::Private { .. })));
    assert_eq!(seen.try_iter().count(), 0);
}
