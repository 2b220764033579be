//! Real processes: what they inherit, what is heard of them, how they end.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use reel_process::orphans::{end_orphans, marker_prefix};
use reel_process::worker::describe;
use reel_process::{
    Cgroups, Exit, LaunchSpec, ProcessEvent, Rung, Sandbox, Share, Spawner, SpawnerError,
    WorkerProcess, sandbox,
};
use std::time::Duration;
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(10);

fn shell(script: &str) -> LaunchSpec {
    LaunchSpec {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("REEL_TEST".into(), "1".into())],
        marker: "here.1".into(),
        share: Share::default(),
        sandbox: None,
    }
}

async fn start(spec: LaunchSpec) -> (WorkerProcess, mpsc::Receiver<ProcessEvent>) {
    start_in(spec, None).await
}

async fn start_in(
    spec: LaunchSpec,
    cgroups: Option<Cgroups>,
) -> (WorkerProcess, mpsc::Receiver<ProcessEvent>) {
    let (sender, receiver) = mpsc::channel(16);
    let spawner = Spawner::start(cgroups).unwrap();
    tokio::spawn(spawner.clone().reap_strays());
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

async fn exit(events: &mut mpsc::Receiver<ProcessEvent>) -> Exit {
    match next(events).await {
        ProcessEvent::Died(status) => match next(events).await {
            ProcessEvent::Exited(exit) if exit.status == status => exit,
            other => panic!("expected the end, got {other:?}"),
        },
        other => panic!("expected a death, got {other:?}"),
    }
}

async fn end(events: &mut mpsc::Receiver<ProcessEvent>) -> (String, Vec<String>) {
    let exit = exit(events).await;
    (describe(exit.status), exit.tail)
}

/// Waits for something that the kernel does in its own time.
async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    tokio::time::timeout(PATIENCE, async {
        loop {
            match look() {
                Some(found) => break found,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    })
    .await
    .unwrap_or_else(|_| panic!("in time: {what}"))
}

fn is_gone(pid: &str) -> bool {
    !std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn a_worker_inherits_its_channel_and_nothing_else() {
    let noise = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&noise, rustix::io::FdFlags::empty()).unwrap();
    // No pipe between the two: the shell itself holds its ends for a moment.
    let (_worker, mut events) = start(shell("ls /proc/$$/fd; readlink /proc/$$/fd/3; env")).await;
    let (status, tail) = end(&mut events).await;
    assert_eq!(status, "status 0");
    assert_eq!(tail[..5], ["0", "1", "2", "3", "4"], "{tail:?}");
    assert!(tail[5].starts_with("socket:"), "{tail:?}");
    // PWD is the shell's own.
    let mut env: Vec<_> = tail[6..]
        .iter()
        .filter(|line| !line.starts_with("PWD="))
        .collect();
    env.sort();
    assert_eq!(env, ["REEL_TEST=1", "REEL_WORKER_MARK=here.1"]);
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
    let grandchild = child_of(&worker).await;
    worker.kill();
    let exit = exit(&mut events).await;
    assert_eq!(describe(exit.status), "signal 9 (SIGKILL)");
    assert_eq!(exit.rung, Rung::Killed);
    until("the grandchild ends too", || {
        is_gone(&grandchild).then_some(())
    })
    .await;
}

async fn child_of(worker: &WorkerProcess) -> String {
    let children = format!("/proc/{0}/task/{0}/children", worker.pid());
    until("a child", || {
        let children = std::fs::read_to_string(&children).unwrap();
        Some(children.trim().to_owned()).filter(|child| !child.is_empty())
    })
    .await
}

/// A grandchild in a session of its own, whose parent has ended; the shell waits for its first word.
const ESCAPE: &str = "setsid sh -c 'echo $$ > begun; exec sleep 1000' & wait $!";

/// The process id that the script writes into `begun`.
async fn has_begun(folder: &std::path::Path) -> String {
    let file = folder.join("begun");
    until("a beginning", || {
        let pid = std::fs::read_to_string(&file).unwrap_or_default();
        pid.ends_with('\n').then(|| pid.trim().to_owned())
    })
    .await
}

fn shell_in(folder: &std::path::Path, script: &str) -> LaunchSpec {
    shell(&format!("cd '{}'; {script}", folder.display()))
}

#[tokio::test]
async fn who_escapes_its_group_and_its_session_comes_home_and_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (worker, mut events) = start(shell_in(folder.path(), ESCAPE)).await;
    let stray = has_begun(folder.path()).await;
    worker.kill();
    exit(&mut events).await;
    until("the stray ends", || is_gone(&stray).then_some(())).await;
}

#[tokio::test]
async fn in_a_control_group_nobody_escapes_even_without_its_environment() {
    let Ok(cgroups) = Cgroups::find() else {
        eprintln!("no control groups can be made here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let escape = ESCAPE.replace("setsid", "env -i setsid");
    let mut spec = shell_in(folder.path(), &escape);
    spec.marker = format!("test.{}", std::process::id());
    let group = cgroups.path().join(&spec.marker);
    let (worker, mut events) = start_in(spec, Some(cgroups)).await;
    let stray = has_begun(folder.path()).await;
    assert!(group.exists());
    worker.kill();
    exit(&mut events).await;
    until("the stray ends", || is_gone(&stray).then_some(())).await;
    assert!(!group.exists(), "the group is removed");
}

#[tokio::test]
async fn a_stray_that_ends_by_itself_is_reaped_while_its_worker_lives() {
    let folder = tempfile::tempdir().unwrap();
    let orphan = "(setsid sh -c 'echo $$ > begun; sleep 0.05' &) ; sleep 1000";
    let (_worker, _events) = start(shell_in(folder.path(), orphan)).await;
    let stray = has_begun(folder.path()).await;
    until("the stray is reaped", || is_gone(&stray).then_some(())).await;
}

#[tokio::test]
async fn who_ignores_a_request_and_sigterm_is_killed_and_what_it_says_meanwhile_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    let script = "trap 'echo no' TERM; echo $$ > begun; while :; do sleep 0.01; done";
    let (worker, mut events) = start(shell_in(folder.path(), script)).await;
    // The trap is set.
    has_begun(folder.path()).await;
    worker.ask_to_exit().unwrap();
    worker.terminate();
    let exit = exit(&mut events).await;
    assert_eq!(describe(exit.status), "signal 9 (SIGKILL)");
    assert_eq!(exit.rung, Rung::Killed);
    assert!(exit.tail.contains(&"no".to_owned()), "{:?}", exit.tail);
}

#[tokio::test]
async fn sigterm_is_enough_for_whoever_obeys() {
    let (worker, mut events) = start(shell("sleep 1000")).await;
    worker.terminate();
    let exit = exit(&mut events).await;
    assert_eq!(describe(exit.status), "signal 15 (SIGTERM)");
    assert_eq!(exit.rung, Rung::Terminated);
}

#[tokio::test]
async fn a_worker_that_closes_its_channel_and_lives_on_is_reported() {
    let (worker, mut events) = start(shell("exec 3>&-; sleep 1000")).await;
    assert!(matches!(next(&mut events).await, ProcessEvent::Broken(_)));
    worker.kill();
    exit(&mut events).await;
}

#[tokio::test]
async fn a_flood_is_drained_and_only_its_end_is_kept() {
    let flood = "yes some words of a library that never stops | head -c 100000000; echo; echo end";
    let (_worker, mut events) = start(shell(flood)).await;
    let (status, tail) = end(&mut events).await;
    assert_eq!((status.as_str(), tail.len()), ("status 0", 50));
    assert_eq!(tail[49], "end");
}

#[tokio::test]
async fn a_sandboxed_worker_writes_only_where_it_may_and_connects_to_nobody() {
    if sandbox::kernel_version().is_none() {
        eprintln!("no Landlock here");
        return;
    }
    let [allowed, denied] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let script = format!(
        "echo x > '{}/file' && echo may; echo x > '{}/file' || echo not; echo x > /dev/null && echo null; \
         kill -0 {} || echo deaf; exec 5<>/dev/tcp/127.0.0.1/{} || echo alone",
        allowed.path().display(),
        denied.path().display(),
        std::process::id(),
        listener.local_addr().unwrap().port(),
    );
    let mut spec = shell(&script);
    spec.program = "/bin/bash".into();
    spec.sandbox = Some(Sandbox {
        writable: vec![allowed.path().into()],
        network: false,
    });
    let (_worker, mut events) = start(spec).await;
    let (_, tail) = end(&mut events).await;
    let words: Vec<_> = tail.iter().filter(|line| !line.contains(' ')).collect();
    assert_eq!(words, ["may", "not", "null", "deaf", "alone"], "{tail:?}");
}

#[tokio::test]
async fn a_worker_gets_its_share() {
    let mut spec = shell("ulimit -n; ulimit -d; nice; grep Cpus_allowed_list /proc/self/status");
    spec.share = Share {
        open_files: 100,
        memory_bytes: Some(1 << 30),
        nice: 7,
        processors: vec![0],
    };
    let (_worker, mut events) = start(spec).await;
    let (_, tail) = end(&mut events).await;
    assert_eq!(tail, ["100", "1048576", "7", "Cpus_allowed_list:\t0"]);
}

#[tokio::test]
async fn orphans_of_this_data_directory_are_ended_and_nobody_else() {
    let [mine, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let sleeper = |data: &std::path::Path| {
        let marker = marker_prefix(data).unwrap() + "7";
        let mut command = std::process::Command::new("sleep");
        command
            .arg("1000")
            .env("REEL_WORKER_MARK", marker)
            .spawn()
            .unwrap()
    };
    let (mut orphan, mut stranger) = (sleeper(mine.path()), sleeper(other.path()));
    // Only who began before this process counts, and the kernel counts in ticks.
    let prefix = marker_prefix(mine.path()).unwrap();
    assert!(
        end_orphans(&prefix).ended.is_empty(),
        "younger than this process"
    );
    let is_later = || {
        let mut probe = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let later = start_ticks(probe.id()) > start_ticks(orphan.id());
        probe.kill().unwrap();
        probe.wait().unwrap();
        later.then_some(())
    };
    until("the next tick", is_later).await;
    let ended = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "end_what_is_older", "--ignored", "--nocapture"])
        .env("REEL_TEST_PREFIX", &prefix)
        .output()
        .unwrap();
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stdout)
    );
    assert!(!orphan.wait().unwrap().success());
    assert!(
        stranger.try_wait().unwrap().is_none(),
        "nobody else is touched"
    );
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

/// When a process began, in ticks since boot (proc_pid_stat(5)).
fn start_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().nth(19).unwrap().parse().unwrap()
}

/// Run by the test above, as a process that is younger than the orphan.
#[test]
#[ignore = "a part of another test"]
fn end_what_is_older() {
    if let Ok(prefix) = std::env::var("REEL_TEST_PREFIX") {
        assert_eq!(end_orphans(&prefix).ended.len(), 1);
    }
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
    let spawner = Spawner::start(None).unwrap();
    let mut spec = shell("");
    spec.program = "/nonexistent/reel-worker".into();
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

#[tokio::test]
async fn groups_that_a_killed_supervisor_has_left_are_emptied_and_removed() {
    let Ok(cgroups) = Cgroups::find() else {
        eprintln!("no control groups can be made here");
        return;
    };
    let data = tempfile::tempdir().unwrap();
    let prefix = marker_prefix(data.path()).unwrap();
    let [left, young] = [
        format!("{prefix}1.w0"),
        format!("test-{}.w0", std::process::id()),
    ]
    .map(|name| cgroups.path().join(name));
    for group in [&left, &young] {
        std::fs::create_dir(group).unwrap();
    }
    let mut survivor = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    std::fs::write(left.join("cgroup.procs"), survivor.id().to_string()).unwrap();
    cgroups.sweep(&prefix);
    assert!(!survivor.wait().unwrap().success());
    assert!(!left.exists());
    assert!(
        young.exists(),
        "it may be another one's that is just being filled"
    );
    std::fs::remove_dir(young).unwrap();
}
