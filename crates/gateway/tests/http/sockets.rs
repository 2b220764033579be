//! What only shows on real connections.

use crate::pool::progress;
use crate::server::Server;
use reel_domain::JobStatus;
use reel_gateway::{GatewayConfig, ServeLimits, serve_with};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Listening {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

async fn listen(server: &Server, limits: ServeLimits) -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let router = server.router.clone();
    let task = tokio::spawn(serve_with(listener, router, limits, async {
        // A dropped sender stops the server too.
        let _ = stopped.await;
    }));
    Listening {
        address,
        stop,
        task,
    }
}

async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_to_end(stream).await
}

async fn read_to_end(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset ends the answer like a close does.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_socket_is_served() {
    let server = Server::new();
    let listening = listen(&server, ServeLimits::default()).await;
    let request = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = exchange(listening.address, request).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let server = Server::new();
    let limits = ServeLimits {
        head_read_deadline: Duration::from_millis(50),
        ..ServeLimits::default()
    };
    let listening = listen(&server, limits).await;
    let answer = exchange(listening.address, "GET /livez HTTP/1.1\r\nHost:").await;
    assert!(!answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_refused() {
    let server = Server::new();
    let limits = ServeLimits {
        head_bytes_max: 16 * 1024,
        ..ServeLimits::default()
    };
    let listening = listen(&server, limits).await;
    let request = format!(
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(64 * 1024)
    );
    let answer = exchange(listening.address, &request).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn who_is_refused_while_sending_gets_the_answer_and_not_a_broken_connection() {
    const BYTES: usize = 4 * 1024 * 1024;
    let server = Server::new();
    let listening = listen(&server, ServeLimits::default()).await;
    for (path, status) in [("/v1/videos/edits", "501"), ("/v1/nothing", "404")] {
        let mut stream = TcpStream::connect(listening.address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {BYTES}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; BYTES]).await.unwrap();
        let answer = read_to_end(stream).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn more_connections_than_allowed_wait_for_their_turn() {
    let server = Server::new();
    let limits = ServeLimits {
        connections_max: 1,
        ..ServeLimits::default()
    };
    let listening = listen(&server, limits).await;
    let first = TcpStream::connect(listening.address).await.unwrap();
    let request = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let second = tokio::spawn(exchange(listening.address, request));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!second.is_finished());
    drop(first);
    assert!(second.await.unwrap().contains("200 OK"));
}

#[tokio::test]
async fn a_response_in_flight_survives_a_shutdown() {
    let server = Server::new();
    let id = server.job().await;
    let video = vec![b'v'; 8 * 1024 * 1024];
    server.pool.complete(id, &video).await;
    let listening = listen(&server, ServeLimits::default()).await;
    let mut stream = TcpStream::connect(listening.address).await.unwrap();
    let request = format!("GET /v1/videos/{id}/content HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut begin = [0; 1024];
    stream.read_exact(&mut begin).await.unwrap();
    listening.stop.send(()).unwrap();
    let rest = read_to_end(stream).await;
    let body = begin.len() + rest.len();
    assert!(body > video.len(), "{body} bytes came");
    listening.task.await.unwrap().unwrap();
    assert!(
        TcpStream::connect(listening.address).await.is_err(),
        "still listening"
    );
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_a_shutdown() {
    let server = Server::new();
    let listening = listen(&server, ServeLimits::default()).await;
    let idle = TcpStream::connect(listening.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    listening.stop.send(()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), listening.task).await;
    assert!(ended.is_ok());
    drop(idle);
}

/// Longest wait for a connection to be cut.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends a byte again and again, as long as the server listens.
async fn dribble(stream: &mut TcpStream, byte: u8) {
    let dribbled = tokio::time::timeout(PATIENCE, async {
        while stream.write_all(&[byte]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    dribbled.await.expect("cut in time");
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_cut_off_all_the_same() {
    let server = Server::new();
    let limits = ServeLimits {
        head_read_deadline: Duration::from_millis(100),
        ..ServeLimits::default()
    };
    let listening = listen(&server, limits).await;
    let mut stream = TcpStream::connect(listening.address).await.unwrap();
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nX: ")
        .await
        .unwrap();
    dribble(&mut stream, b'x').await;
}

#[tokio::test]
async fn a_connection_that_asks_nothing_more_is_closed() {
    let server = Server::new();
    let limits = ServeLimits {
        head_read_deadline: Duration::from_millis(100),
        ..ServeLimits::default()
    };
    let listening = listen(&server, limits).await;
    let request = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = tokio::time::timeout(PATIENCE, exchange(listening.address, request)).await;
    assert!(answer.unwrap().contains("200 OK"));
}

#[tokio::test]
async fn a_body_that_comes_byte_by_byte_is_given_up_and_its_place_is_free_again() {
    let server = Server::with(GatewayConfig {
        body_read_deadline: Duration::from_millis(100),
        creates_at_once_max: 1,
        ..GatewayConfig::default()
    });
    let listening = listen(&server, ServeLimits::default()).await;
    let mut stream = TcpStream::connect(listening.address).await.unwrap();
    let head = "POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 1000000\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    dribble(&mut stream, b' ').await;
    let answer = server.create(&json!({"prompt": "a"})).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
}

#[tokio::test]
async fn a_body_that_claims_to_be_too_large_is_not_waited_for() {
    let server = Server::with(GatewayConfig {
        json_bytes_max: 1_000,
        ..GatewayConfig::default()
    });
    let listening = listen(&server, ServeLimits::default()).await;
    let request = "POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                   Content-Length: 1000000\r\n\r\n";
    let answer = tokio::time::timeout(PATIENCE, exchange(listening.address, request)).await;
    let answer = answer.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

/// A connection that can take little before it is read.
async fn narrow(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    socket.connect(address).await.unwrap()
}

/// Limits under which a stuck reader is seen soon, and holds the only connection until then.
fn impatient() -> ServeLimits {
    ServeLimits {
        connections_max: 1,
        write_stall_deadline: Duration::from_millis(200),
        ..ServeLimits::default()
    }
}

/// The next connection is served: the one before has been cut.
async fn assert_served(address: SocketAddr) {
    let request = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = tokio::time::timeout(PATIENCE, exchange(address, request)).await;
    assert!(answer.expect("a free place in time").contains("200 OK"));
}

#[tokio::test]
async fn who_does_not_read_a_video_loses_the_connection() {
    let server = Server::new();
    let id = server.job().await;
    server.pool.complete(id, &vec![b'v'; 64 << 20]).await;
    let listening = listen(&server, impatient()).await;
    let mut stuck = narrow(listening.address).await;
    let request = format!("GET /v1/videos/{id}/content HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stuck.write_all(request.as_bytes()).await.unwrap();
    assert_served(listening.address).await;
    drop(stuck);
}

#[tokio::test]
async fn who_does_not_read_events_loses_the_connection() {
    let server = Server::new();
    let body = json!({"prompt": "x".repeat(2_000)});
    let video = server.create(&body).await.json();
    let id = video["id"].as_str().unwrap().parse().unwrap();
    let listening = listen(&server, impatient()).await;
    let mut stuck = narrow(listening.address).await;
    let request = "GET /v1/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 0\r\n\r\n";
    stuck.write_all(request.as_bytes()).await.unwrap();
    let served = tokio::spawn(assert_served(listening.address));
    let mut step = 0;
    while !served.is_finished() {
        step += 1;
        for _ in 0..200 {
            server
                .pool
                .change(id, progress(JobStatus::InProgress, step));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    served.await.unwrap();
    drop(stuck);
}

#[tokio::test]
async fn who_reads_slowly_gets_everything() {
    let server = Server::new();
    let id = server.job().await;
    let video = vec![b'v'; 4 << 20];
    server.pool.complete(id, &video).await;
    // Shorter than all of it takes; but a window as narrow as this one may be shut for a moment on a busy machine.
    let limits = ServeLimits {
        write_stall_deadline: Duration::from_secs(2),
        ..impatient()
    };
    let listening = listen(&server, limits).await;
    let mut slow = narrow(listening.address).await;
    let request = format!(
        "GET /v1/videos/{id}/content HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    slow.write_all(request.as_bytes()).await.unwrap();
    let (mut bytes, mut chunk) = (0, vec![0; 256 * 1024]);
    loop {
        match slow.read(&mut chunk).await.unwrap() {
            0 => break,
            read => bytes += read,
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(bytes > video.len(), "{bytes}");
}

#[tokio::test]
async fn open_streams_of_events_do_not_hold_up_a_shutdown_when_the_pool_is_gone() {
    let server = Server::new();
    let listening = listen(&server, ServeLimits::default()).await;
    let mut reader = TcpStream::connect(listening.address).await.unwrap();
    let request = "GET /v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    reader.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    reader.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    drop(server.state);
    let rest = tokio::time::timeout(PATIENCE, read_to_end(reader)).await;
    assert!(rest.unwrap().contains("text/event-stream"));
    listening.stop.send(()).unwrap();
    listening.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn many_more_connections_than_allowed_are_all_served_in_the_end() {
    let server = Server::new();
    let limits = ServeLimits {
        connections_max: 4,
        ..ServeLimits::default()
    };
    let listening = listen(&server, limits).await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..64 {
        clients.spawn(assert_served(listening.address));
    }
    clients.join_all().await;
}
