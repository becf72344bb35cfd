//! Starts and stops a service: a soft stop, a deadline, a hard stop, and an exit code that tells how it ended.
//!
//! What must hold: a task that fails or panics stops its process; nothing waits for ever.

use std::{future::Future, process::ExitCode, time::Duration};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// Tells the tasks of a process to stop.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Cancelled first: finish what is under way, and begin nothing new.
    pub soft: CancellationToken,
    /// Cancelled last: stop now.
    pub hard: CancellationToken,
}

/// The tasks of a service. When one fails, all are stopped.
#[derive(Debug)]
pub struct Tasks {
    set: JoinSet<TaskResult>,
    /// Tasks that serve the others, and are dropped when the last of those has ended.
    background: JoinSet<TaskResult>,
    shutdown: Shutdown,
}

type TaskResult = (&'static str, anyhow::Result<()>);

impl Tasks {
    /// Creates an empty set of tasks.
    #[must_use]
    pub fn new(shutdown: &Shutdown) -> Self {
        Self { set: JoinSet::new(), background: JoinSet::new(), shutdown: shutdown.clone() }
    }

    /// Starts a task. It must end at the soft stop, or at the hard stop at the latest.
    pub fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.set.spawn(async move { (name, task.await) });
    }

    /// Starts a task that the others need until they have ended. Then it is dropped, whatever it is doing.
    pub fn spawn_background(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.background.spawn(async move { (name, task.await) });
    }

    /// Waits until all tasks have ended. The first failure begins a soft stop for the others.
    ///
    /// # Errors
    /// The error of the first task that failed or panicked.
    pub async fn wait(mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let mut result = Ok(());
        loop {
            let ended = tokio::select! {
                () = shutdown.hard.cancelled() => return result,
                ended = self.set.join_next() => ended,
                Some(ended) = self.background.join_next() => Some(ended),
            };
            let error = match ended {
                None => return result,
                Some(Ok((_, Ok(())))) => continue,
                Some(Ok((name, Err(error)))) => error.context(format!("task {name}")),
                Some(Err(error)) => anyhow::Error::new(error).context("a task panicked"),
            };
            tracing::error!(error = format!("{error:#}"), "a task failed: stopping");
            self.shutdown.soft.cancel();
            if result.is_ok() {
                result = Err(error);
            }
        }
    }
}

/// Runs a service until it ends or is stopped. The first SIGTERM or SIGINT is the soft stop; the second one, or the end
/// of `drain`, is the hard stop. The exit code is 0 after a clean end, 1 after a failure, and 3 if the hard stop cut
/// the service off.
pub fn run_main<F: Future<Output = anyhow::Result<()>>>(
    name: &str,
    drain: Duration,
    service: impl FnOnce(Shutdown) -> F,
) -> ExitCode {
    // One provider of cryptography for all TLS connections. It can be set once per process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Each socket takes a file descriptor, and the soft limit of most systems is meant for programs that use select().
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the limit of open files was not raised");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return print_failure(name, &error.into()),
    };
    let shutdown = Shutdown::default();
    let result = runtime.block_on(async {
        let stopper = tokio::spawn(stop_on_signals(shutdown.clone(), drain));
        let result = tokio::select! {
            result = service(shutdown.clone()) => result,
            () = shortly_after_hard_stop(&shutdown) => Ok(()),
        };
        stopper.abort();
        result
    });
    runtime.shutdown_timeout(Duration::from_millis(500));
    match result {
        Err(error) => print_failure(name, &error),
        Ok(()) if shutdown.hard.is_cancelled() => {
            tracing::warn!("{name} was cut off at the deadline");
            ExitCode::from(3)
        }
        Ok(()) => {
            tracing::info!("{name} has stopped");
            ExitCode::SUCCESS
        }
    }
}

/// Waits for the hard stop, and then a moment for the tasks that end at it.
async fn shortly_after_hard_stop(shutdown: &Shutdown) {
    shutdown.hard.cancelled().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
}

#[expect(clippy::print_stderr, reason = "a start error is for the person at the terminal")]
fn print_failure(name: &str, error: &anyhow::Error) -> ExitCode {
    eprintln!("{name}: {error:#}");
    ExitCode::FAILURE
}

async fn stop_on_signals(shutdown: Shutdown, drain: Duration) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    shutdown.soft.cancel();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = tokio::time::sleep(drain) => {}
    }
    shutdown.hard.cancel();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failed_task_stops_the_others() {
        let shutdown = Shutdown::default();
        let mut tasks = Tasks::new(&shutdown);
        let soft = shutdown.soft.clone();
        tasks.spawn("waits", async move {
            soft.cancelled().await;
            Ok(())
        });
        tasks.spawn("fails", async { anyhow::bail!("on purpose") });
        let error = tasks.wait(&shutdown).await.expect_err("one failed");
        assert_eq!(format!("{error:#}"), "task fails: on purpose");
    }

    #[tokio::test]
    async fn background_task_ends_with_the_others() {
        let shutdown = Shutdown::default();
        let mut tasks = Tasks::new(&shutdown);
        tasks.spawn_background("serves", std::future::pending());
        tasks.spawn("ends", async { Ok(()) });
        tasks.wait(&shutdown).await.expect("no task failed");
        let mut tasks = Tasks::new(&shutdown);
        tasks.spawn_background("fails", async { anyhow::bail!("on purpose") });
        let soft = shutdown.soft.clone();
        tasks.spawn("waits", async move {
            soft.cancelled().await;
            Ok(())
        });
        assert!(tasks.wait(&shutdown).await.is_err());
    }

    #[tokio::test]
    async fn panic_of_a_task_is_a_failure() {
        let shutdown = Shutdown::default();
        let mut tasks = Tasks::new(&shutdown);
        tasks.spawn("panics", async { panic!("on purpose") });
        assert!(tasks.wait(&shutdown).await.is_err());
    }
}
