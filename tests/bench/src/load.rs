//! A load generator: kept connections, each with one request at a time, as little work as possible between an answer
//! and the next request.

use anyhow::Context;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of an answer that are read at a time.
const BUFFER_BYTES: usize = 256 * 1_024;
/// Before a measurement: caches fill, connections open.
const WARM_UP: Duration = Duration::from_millis(200);

/// A connection that is kept.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// The head of an answer.
struct Head {
    status: u16,
    body_bytes: usize,
    /// Bytes of the body that came with it lie in the buffer from here,
    begin: usize,
    /// to here.
    end: usize,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Sends a request; the status of the answer and the length of its body, which is read and thrown away.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> anyhow::Result<(u16, usize)> {
        self.stream.write_all(request).await?;
        let head = self.head().await?;
        let mut left = head.body_bytes.saturating_sub(head.end - head.begin);
        while left > 0 {
            left = left.saturating_sub(self.read(0).await?);
        }
        Ok((head.status, head.body_bytes))
    }

    /// As [`ask`](Self::ask), with the body.
    pub(crate) async fn ask_for_body(&mut self, request: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
        self.stream.write_all(request).await?;
        let head = self.head().await?;
        let mut body = self.buffer[head.begin..head.end].to_vec();
        while body.len() < head.body_bytes {
            let read = self.read(0).await?;
            body.extend(&self.buffer[..read]);
        }
        Ok((head.status, body))
    }

    /// Sends a request whose answer does not end, and reads until it begins.
    pub(crate) async fn follow(mut self, request: &[u8]) -> anyhow::Result<TcpStream> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        while !self.buffer[..filled]
            .windows(4)
            .any(|end| end == b"\r\n\r\n")
        {
            filled += self.read(filled).await?;
        }
        anyhow::ensure!(
            self.buffer.starts_with(b"HTTP/1.1 200"),
            "the stream was refused"
        );
        Ok(self.stream)
    }

    async fn read(&mut self, at: usize) -> anyhow::Result<usize> {
        let read = self.stream.read(&mut self.buffer[at..]).await?;
        anyhow::ensure!(read > 0, "the server hung up");
        Ok(read)
    }

    async fn head(&mut self) -> anyhow::Result<Head> {
        let mut filled = 0;
        loop {
            filled += self.read(filled).await?;
            let got = &self.buffer[..filled];
            let Some(end) = got.windows(4).position(|end| end == b"\r\n\r\n") else {
                continue;
            };
            let head = std::str::from_utf8(&got[..end])?;
            let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse().ok())?
            });
            return Ok(Head {
                status: status.context("no status")?,
                body_bytes: length.context("no content-length")?,
                begin: end + 4,
                end: filled,
            });
        }
    }
}

/// What a load of some seconds came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Time of each answer, sorted, in seconds.
    took: Vec<f64>,
    bytes: u64,
    elapsed: Duration,
}

impl Outcome {
    /// Answers per second.
    pub(crate) fn rate(&self) -> f64 {
        self.took.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// Bytes of bodies per second.
    pub(crate) fn throughput(&self) -> f64 {
        self.bytes as f64 / self.elapsed.as_secs_f64()
    }

    /// A percentile by nearest rank, in milliseconds.
    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        let rank = (self.took.len() * percent).div_ceil(100).max(1);
        self.took.get(rank - 1).copied().unwrap_or(f64::NAN) * 1e3
    }
}

/// Asks for the same thing over so many connections, each as soon as it has its answer, for so long.
pub(crate) async fn closed_loop(
    address: &str,
    request: &'static [u8],
    connections: usize,
    time: Duration,
) -> anyhow::Result<Outcome> {
    let clients = (0..connections).map(|_| client(address.to_owned(), request, time));
    let clients: Vec<_> = clients.map(tokio::spawn).collect();
    let mut all = Outcome::default();
    for client in clients {
        let one = client.await??;
        all.took.extend(one.took);
        all.bytes += one.bytes;
        all.elapsed = all.elapsed.max(one.elapsed);
    }
    all.took.sort_by(f64::total_cmp);
    Ok(all)
}

async fn client(
    address: String,
    request: &'static [u8],
    time: Duration,
) -> anyhow::Result<Outcome> {
    let mut connection = Connection::open(&address).await?;
    let warm = Instant::now();
    while warm.elapsed() < WARM_UP {
        connection.ask(request).await?;
    }
    let mut outcome = Outcome::default();
    let begin = Instant::now();
    let mut last = begin;
    while last - begin < time {
        let (status, bytes) = connection.ask(request).await?;
        anyhow::ensure!(status == 200, "it answers {status}");
        let now = Instant::now();
        outcome.took.push((now - last).as_secs_f64());
        outcome.bytes += bytes as u64;
        last = now;
    }
    outcome.elapsed = last - begin;
    Ok(outcome)
}
