//! Real processes: what they inherit, what is heard of them, how they end.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use reel_process::worker::describe;
use reel_process::{LaunchSpec, ProcessEvent, Spawner, SpawnerError, WorkerProcess};
use std::time::Duration;
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(10);

fn shell(script: &str) -> LaunchSpec {
    LaunchSpec {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("REEL_TEST".into(), "1".into())],
    }
}

async fn start(spec: LaunchSpec) -> (WorkerProcess, mpsc::Receiver<ProcessEvent>) {
    let (sender, receiver) = mpsc::channel(16);
    let spawner = Spawner::start().unwrap();
    (
        spawner
            .spawn(spec, "test".into(), sender, |event| event)
            .await
            .unwrap(),
        receiver,
    )
}

async fn next(events: &mut mpsc::Receiver<ProcessEvent>) -> ProcessEvent {
    tokio::time::timeout(PATIENCE, events.recv())
        .await
        .unwrap()
        .unwrap()
}

async fn end(events: &mut mpsc::Receiver<ProcessEvent>) -> (String, Vec<String>) {
    match next(events).await {
        ProcessEvent::Exited { status, tail } => (describe(status), tail),
        other => panic!("expected the end, got {other:?}"),
    }
}

#[tokio::test]
async fn a_worker_inherits_its_channel_and_nothing_else() {
    let noise = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&noise, rustix::io::FdFlags::empty()).unwrap();
    // No pipe between the two: the shell itself holds its ends for a moment.
    let (_worker, mut events) = start(shell("ls /proc/$$/fd; readlink /proc/$$/fd/3; env")).await;
    let (status, tail) = end(&mut events).await;
    assert_eq!(status, "status 0");
    assert_eq!(tail[..4], ["0", "1", "2", "3"], "{tail:?}");
    assert!(tail[4].starts_with("socket:"), "{tail:?}");
    // PWD is the shell's own.
    let env: Vec<_> = tail[5..]
        .iter()
        .filter(|line| !line.starts_with("PWD="))
        .collect();
    assert_eq!(env, ["REEL_TEST=1"]);
}

#[tokio::test]
async fn the_end_is_named_and_carries_the_last_words() {
    let (_worker, mut events) = start(shell("echo out; echo err >&2; exit 3")).await;
    let (status, mut tail) = end(&mut events).await;
    tail.sort();
    assert_eq!(
        (status.as_str(), tail),
        ("status 3", vec!["err".into(), "out".into()])
    );
}

#[tokio::test]
async fn a_kill_reaches_the_whole_process_group() {
    let (worker, mut events) = start(shell("sleep 1000 & wait")).await;
    let children = format!("/proc/{0}/task/{0}/children", worker.pid());
    let grandchild = tokio::time::timeout(PATIENCE, async {
        loop {
            match std::fs::read_to_string(&children).unwrap().trim() {
                "" => tokio::task::yield_now().await,
                child => break child.to_owned(),
            }
        }
    })
    .await
    .unwrap();
    worker.kill();
    assert_eq!(end(&mut events).await.0, "signal 9 (SIGKILL)");
    let gone = || {
        let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    tokio::time::timeout(PATIENCE, async {
        while !gone() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the grandchild ends too");
}

#[tokio::test]
async fn garbage_on_the_channel_is_reported_and_the_end_still_comes() {
    let (_worker, mut events) = start(shell("printf '\\377\\377' >&3")).await;
    assert!(matches!(next(&mut events).await, ProcessEvent::Broken(_)));
    assert_eq!(end(&mut events).await.0, "status 0");
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let (sender, _receiver) = mpsc::channel(1);
    let spawner = Spawner::start().unwrap();
    let spec = LaunchSpec {
        program: "/nonexistent/reel-worker".into(),
        args: vec![],
        env: vec![],
    };
    let error = spawner
        .spawn(spec, "test".into(), sender, |event| event)
        .await
        .unwrap_err();
    assert!(matches!(error, SpawnerError::Launch(_)));
    assert!(
        error.to_string().contains("/nonexistent/reel-worker"),
        "{error}"
    );
}

#[tokio::test]
async fn a_worker_may_not_gain_privileges_or_dump_core() {
    let (_worker, mut events) = start(shell("grep NoNewPrivs /proc/self/status; ulimit -c")).await;
    let (_, tail) = end(&mut events).await;
    assert_eq!(tail, ["NoNewPrivs:\t1", "0"]);
}
