//! What the operator says with signals.
//!
//! SIGTERM and SIGINT end the server, the second one at once. At SIGHUP the configuration is read again: a bad one is
//! refused and changes nothing; of a good one, what can change while the server runs does, and what cannot is named.

use crate::config::Config;
use crate::service::ServiceManager;
use crate::{LogHandle, ServeArgs, explain, log_filter};
use reel_supervisor::SupervisorHandle;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::runtime::Handle;

/// From where the configuration comes, as at the start: flags, variables, file.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) args: ServeArgs,
    pub(crate) log: LogHandle,
}

/// Who carries out what signals mean.
#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) manager: ServiceManager,
    pub(crate) supervisor: SupervisorHandle,
    pub(crate) runtime: Handle,
    /// What the server was started with.
    pub(crate) started: Config,
    pub(crate) source: Source,
}

impl Operator {
    /// Listens on a thread of its own, which needs no end: it dies with the process.
    pub(crate) fn listen(self) -> std::io::Result<()> {
        let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || signals.forever().for_each(|signal| self.obey(signal)))?;
        Ok(())
    }

    fn obey(&self, signal: i32) {
        if signal == SIGHUP {
            return self.reload();
        }
        tracing::info!(signal, "asked to end");
        self.manager.stopping();
        self.runtime.block_on(self.supervisor.shut_down());
    }

    fn reload(&self) {
        self.manager.reloading();
        match self.apply() {
            Ok(waiting) if waiting.is_empty() => tracing::info!("the configuration was read again"),
            Ok(waiting) => tracing::warn!(
                waiting = waiting.join("; "),
                "the configuration was read again; some of it holds from the next start on"
            ),
            Err(error) => tracing::error!(
                error = explain(&error),
                "the configuration is refused, and the one before holds"
            ),
        }
        self.manager.ready();
    }

    /// Reads it again, and applies what can be applied. The rest is returned, by name.
    fn apply(&self) -> anyhow::Result<Vec<&'static str>> {
        let config = self.source.args.clone().load()?;
        // Whatever can fail comes before whatever changes something.
        let (scheduler, filter) = (config.scheduler()?, log_filter(&config)?);
        self.source.log.reload(filter)?;
        let tuning = config.tuning();
        self.runtime
            .block_on(self.supervisor.tune(scheduler, tuning));
        Ok(self.started.needs_a_start(&config))
    }
}
