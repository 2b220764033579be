//! `reel serve`, from the top: what must be there, the supervisor, the port, the bakes, the end.
//!
//! Two runtimes: a flood of HTTP requests cannot starve supervision.

use crate::baker;
use crate::catalog;
use crate::config::Config;
use crate::operator::{Operator, Source};
use crate::outbound;
use crate::service::ServiceManager;
use crate::startup::{self, Storage, UsageError};
use anyhow::Context;
use futures_util::FutureExt;
use reel_gateway::Parts as GatewayParts;
use reel_media::Ffmpeg;
use reel_process::{Spawner, affinity};
use reel_supervisor::{Device, DriverMemory, Parts, Supervisor, WorkerProgram};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

/// Threads that serve HTTP.
const GATEWAY_THREADS: usize = 2;

/// Serves until SIGTERM or SIGINT, then drains; a second signal ends at once. SIGHUP reads the configuration again.
pub(crate) fn run(config: &Config, source: Source) -> anyhow::Result<()> {
    // First of all: the spawner reserves the descriptor that workers are born with.
    let cgroups = startup::find_cgroups();
    let spawner = Spawner::start(cgroups.clone())?;
    let models = catalog::load_models(config)?;
    let catalog = Arc::new(catalog::catalog(&models)?);
    let ffmpeg = Ffmpeg::locate(config.media.ffmpeg.as_deref()).map_err(UsageError::Ffmpeg)?;
    let devices = startup::find_devices(config)?;
    let menu = catalog::menu(&models);
    let slots_per_device = config.pool.slots_per_device.count(menu.len());
    let slots = devices.len() * slots_per_device as usize;
    let mut worker = worker_program(config, slots)?;
    let supervision = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("supervisor")
        .enable_all()
        .build()?;
    let http = Builder::new_multi_thread()
        .worker_threads(GATEWAY_THREADS)
        .thread_name("gateway")
        .enable_all()
        .build()?;
    let keys = startup::open_keys(config)?;
    let listener = listen(&http, config.server.listen)?;
    let admin = config.server.admin_listen;
    let admin = admin.map(|address| listen(&http, address)).transpose()?;
    let address = listener.local_addr()?;
    let durability = config.journal.sync.into();
    let storage = startup::open_storage(&config.paths.data_dir, durability)?;
    let Storage {
        journal,
        reader,
        store,
        unfinished,
        scratch_dir,
    } = storage;
    worker.marker_prefix = startup::end_orphans(&config.paths.data_dir, cgroups.as_ref())?;
    let registry = prometheus::Registry::new();
    announce(config, &devices, slots_per_device, unfinished.len());
    let owed = Arc::new(Notify::new());
    let courier = outbound::courier(
        config,
        (journal.clone(), reader.clone()),
        Arc::clone(&keys.ring),
        Arc::clone(&owed),
        registry.clone(),
    )?;
    let parts = Parts {
        config: config.scheduler()?,
        devices,
        slots_per_device,
        menu,
        worker,
        scratch_dir,
        journal,
        reader: reader.clone(),
        store: store.clone(),
        tuning: config.tuning(),
        ffmpeg: ffmpeg.clone(),
        spawner,
        registry: registry.clone(),
        profiles: config.paths.data_dir.join("profiles.json"),
        device_memory: Arc::new(DriverMemory),
        record: startup::recording(config)?,
        owed,
    };
    let (mut supervisor, pool, handle) = Supervisor::new(parts)?;
    supervisor.restore(unfinished, Instant::now());
    let ended = supervision.spawn(supervisor.run());
    let manager = ServiceManager::start(supervision.handle(), handle.clone())?;
    let operator = Operator {
        manager: manager.clone(),
        supervisor: handle.clone(),
        runtime: supervision.handle().clone(),
        started: config.clone(),
        source,
    };
    operator.listen()?;
    baker::start(config, models, handle)?;
    let gateway = GatewayParts {
        pool,
        catalog,
        reader,
        store,
        ffmpeg,
        image_decoder: startup::image_decoder(),
        image_fetch: config.outbound.image_fetch()?,
        callback_policy: config.outbound.callback_policy(),
        keys,
        registry,
        config: config.gateway(),
    };
    tracing::info!("listening on http://{address}");
    manager.ready();
    http.spawn(courier.run());
    http.block_on(serve_http((listener, admin), gateway, ended))?;
    tracing::info!("ended");
    Ok(())
}

/// The gateway answers as long as the supervisor lives, while it drains too.
async fn serve_http(
    (listener, admin): (TcpListener, Option<TcpListener>),
    parts: GatewayParts,
    supervisor: tokio::task::JoinHandle<()>,
) -> anyhow::Result<()> {
    let limits = parts.config.serve.clone();
    let routers = reel_gateway::routers(parts);
    let (gone, supervisor_gone) = tokio::sync::oneshot::channel();
    let watched = tokio::spawn(async move {
        let result = supervisor.await;
        let _ = gone.send(());
        result
    });
    let until = supervisor_gone.shared();
    let public = reel_gateway::serve_with(
        listener,
        routers.public,
        limits.clone(),
        until.clone().map(drop),
    );
    let operators = async {
        match admin {
            Some(admin) => {
                reel_gateway::serve_with(admin, routers.admin, limits, until.map(drop)).await
            }
            None => Ok(()),
        }
    };
    tokio::try_join!(public, operators)?;
    watched
        .await?
        .context("the supervisor has crashed; unfinished jobs go on at the next start")
}

fn listen(http: &Runtime, listen: SocketAddr) -> anyhow::Result<TcpListener> {
    http.block_on(TcpListener::bind(listen)).with_context(|| {
        format!("cannot listen on {listen}: is another server running? choose a port with --listen")
    })
}

fn worker_program(config: &Config, slots: usize) -> anyhow::Result<WorkerProgram> {
    let share = affinity::threads_per_slot(slots);
    Ok(WorkerProgram {
        pinned: config.pool.pin_processors,
        sandboxed: startup::can_sandbox(config),
        ..WorkerProgram::new(
            startup::find_worker(config)?,
            std::path::absolute(config.cache_dir())?,
            NonZeroUsize::new(config.pool.threads_per_worker).unwrap_or(share),
        )
    })
}

fn announce(config: &Config, devices: &[Device], slots_per_device: u32, unfinished: usize) {
    let names: Vec<_> = devices.iter().map(|device| &*device.name).collect();
    tracing::info!(
        devices = names.join(","),
        slots_per_device,
        data_dir = %config.paths.data_dir.display(),
        cache_dir = %config.cache_dir().display(),
        unfinished,
        "starting"
    );
}
