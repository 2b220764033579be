//! How soon a create is answered, which it is only when it is durable: over HTTP, to a real server whose workers never
//! become ready, so that nothing but accepting jobs takes the processors.

use crate::load::Connection;
use crate::server::{MUTE, Server, Site};
use crate::table::Table;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Connections, and creates per second of all of them, while the latency is measured.
const CONNECTIONS: u32 = 16;
const CREATES_PER_S: u32 = 200;
/// Connections while the throughput is measured.
const CONNECTIONS_FULL: usize = 48;
const MEASURED: Duration = Duration::from_secs(5);

/// Nobody is refused for the number of their jobs.
const CONFIG: &str = "[pool]\nqueue_jobs_max = 10000000\n[scheduler]\ntenant_jobs_max = 10000000\n";

const REQUEST: &str = concat!(
    "POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 47\r\n\r\n",
    "{\"prompt\": \"a circle\", \"num_inference_steps\":1}"
);

/// Latency at a steady rate, and the rate when everybody asks as fast as they can.
pub(crate) async fn durable(
    site: Site<'_>,
    rounds: usize,
    table: &mut Table,
) -> anyhow::Result<()> {
    let server = Server::start(site, MUTE, CONFIG).await?;
    server.until_ok(REQUEST.as_bytes()).await?;
    table.add_p99(
        &format!("create to its 200, durable, at {CREATES_PER_S} creates/s"),
        "ms",
        steady(&server.address).await?,
        15.0,
    );
    let mut rates = Vec::new();
    for _ in 0..rounds {
        rates.push(full(&server.address).await?);
    }
    table.add_at_least(
        "creates per second, durable, as many as there can be",
        "1/s",
        rates,
        1_000.0,
    );
    Ok(())
}

/// From the moment at which a request was due, whether it could be sent then or not.
async fn steady(address: &str) -> anyhow::Result<Vec<f64>> {
    let gap = Duration::from_secs(1) * CONNECTIONS / CREATES_PER_S;
    let begin = Instant::now();
    let clients = (0..CONNECTIONS).map(|number| {
        let address = address.to_owned();
        tokio::spawn(async move {
            let mut connection = Connection::open(&address).await?;
            let mut due = begin + gap * number / CONNECTIONS;
            let mut took = Vec::new();
            while due < begin + MEASURED {
                tokio::time::sleep_until(due.into()).await;
                let status = create(&mut connection).await?;
                anyhow::ensure!(status == 200, "a create answered {status}");
                took.push(due.elapsed().as_secs_f64() * 1e3);
                due += gap;
            }
            Ok(took)
        })
    });
    let mut all = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        all.extend(client.await??);
    }
    Ok(all)
}

async fn full(address: &str) -> anyhow::Result<f64> {
    let created = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let clients = (0..CONNECTIONS_FULL).map(|_| {
        let (address, created) = (address.to_owned(), Arc::clone(&created));
        tokio::spawn(async move {
            let mut connection = Connection::open(&address).await?;
            while begin.elapsed() < MEASURED {
                let status = create(&mut connection).await?;
                anyhow::ensure!(status == 200, "a create answered {status}");
                created.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await??;
    }
    Ok(created.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64())
}

/// Asks for a video; the status of the answer.
async fn create(connection: &mut Connection) -> anyhow::Result<u16> {
    Ok(connection.ask(REQUEST.as_bytes()).await?.0)
}
