//! What only shows on real connections.

use crate::server::Server;
use reel_gateway::{ServeLimits, serve_with};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
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
    let request = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
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
        "GET /livez HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
        "x".repeat(64 * 1024)
    );
    let answer = exchange(listening.address, &request).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
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
    let request = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
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
