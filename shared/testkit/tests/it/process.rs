//! Processes of the test kit: signals, logs, and that nothing outlives the test process.

use std::fs;
use std::path::Path;
use std::time::Duration;

use testkit::{Launch, Process, eventually, shared_mongodb, shared_rabbitmq, shared_redis};

const SOON: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Launch {
    Process::named("shell")
        .program("/bin/sh")
        .args(["-c", script])
}

/// The ids of all processes whose working directory is in this folder, even if it was removed.
fn living_in(folder: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|process| {
            // A process that has ended, or ends meanwhile, has no working directory.
            fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
        })
        .map(|process| process.file_name().to_string_lossy().into_owned())
        .collect()
}

#[tokio::test]
async fn a_process_gets_its_arguments_its_environment_and_a_log() {
    let mut process = shell(r#"echo "$1 $WORD"; echo complaint >&2; pwd; env"#)
        .args(["shell", "hello"])
        .env("WORD", "world")
        .start();
    assert!(process.wait(SOON).await.success());
    let log = process.log();
    assert!(log.starts_with("hello world\ncomplaint\n"), "{log}");
    assert!(
        log.contains(&process.folder().display().to_string()),
        "{log}"
    );
    assert!(
        !log.contains("CARGO"),
        "the environment of the tests leaks:\n{log}"
    );
}

#[tokio::test]
async fn sigterm_ends_a_process_and_its_status_is_seen() {
    let mut process = shell("trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done").start();
    eventually(SOON, async || process.log().contains("up")).await;
    assert_eq!(process.terminate(SOON).await.code(), Some(7));
    assert!(!process.is_running());
}

#[tokio::test]
async fn sigstop_freezes_the_children_too_and_sigcont_resumes_them() {
    let mut process = shell("(while :; do echo tick; done) & wait").start();
    eventually(SOON, async || process.log().contains("tick")).await;
    process.sigstop();
    let frozen = process.log().len();
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
        assert_eq!(process.log().len(), frozen);
    }
    process.sigcont();
    eventually(SOON, async || process.log().len() > frozen).await;
}

#[tokio::test]
async fn kill9_takes_the_children_too_and_the_process_starts_again_in_its_folder() {
    let mut process = shell("sleep 1000 & echo started; wait").start();
    eventually(SOON, async || process.log().contains("started")).await;
    process.kill9();
    assert_eq!(living_in(process.folder()), [""; 0]);
    process.start_again();
    eventually(SOON, async || process.log().matches("started").count() == 2).await;
}

#[tokio::test]
async fn dropping_a_process_ends_it_and_removes_its_folder() {
    let process = shell("trap '' TERM HUP INT; sleep 1000 & echo started; wait").start();
    eventually(SOON, async || process.log().contains("started")).await;
    let folder = process.folder().to_owned();
    drop(process);
    assert_eq!(living_in(&folder), [""; 0]);
    assert!(!folder.exists());
}

#[tokio::test]
#[should_panic(expected = "its log ends with:\nstubborn")]
async fn a_process_that_does_not_end_fails_the_test_with_its_log() {
    let mut process = shell("trap '' TERM; echo stubborn; while :; do sleep 0.01; done").start();
    eventually(SOON, async || process.log().contains("stubborn")).await;
    process.terminate(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn nothing_is_left_when_the_test_process_is_killed() {
    const ROLE: &str = "SLUICE_TESTKIT_VICTIM";
    if std::env::var_os(ROLE).is_some() {
        // This is the victim: it has every server and a paused shell, and waits to be killed.
        let mut paused = shell("echo up; while :; do sleep 1; done").start();
        paused.sigstop();
        tokio::join!(shared_redis(), shared_rabbitmq(), shared_mongodb());
        fs::write("victim-is-ready", "").unwrap();
        return std::future::pending().await;
    }
    let world = tempfile::tempdir().unwrap();
    let mongod = std::env::var_os("SLUICE_MONGOD").unwrap_or_default();
    let mut victim = Process::named("victim")
        .program(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "process::nothing_is_left_when_the_test_process_is_killed",
        ])
        .arg("--nocapture")
        .env(ROLE, "yes")
        .env("SLUICE_MONGOD", mongod)
        .env("TMPDIR", world.path())
        .start();
    eventually(Duration::from_secs(120), async || {
        assert!(victim.is_running(), "{}", victim.log());
        victim.folder().join("victim-is-ready").exists()
    })
    .await;
    // Redis, mongod, the broker with its epmd and its helpers, the shell.
    assert!(
        living_in(world.path()).len() >= 5,
        "{:?}",
        living_in(world.path())
    );

    victim.kill9();

    eventually(SOON, async || match living_in(world.path()) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("still alive: {left:?}")),
    })
    .await;
    eventually(SOON, async || {
        fs::read_dir(world.path()).unwrap().next().is_none()
    })
    .await;
}
