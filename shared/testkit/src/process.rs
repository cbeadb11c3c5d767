//! A process in a folder of its own, with its log in a file, that cannot outlive the test process.
//!
//! A shell starts the program in a process group of its own, after it has read a line from its standard input.
//! Before that line is written, the group is reported to the *watchdog*: another shell, in another group, that
//! reads a pipe from the test process. When the pipe closes, because the test process dropped it or died, the
//! watchdog kills the group and removes the folder. So every running program is watched from its start.
//!
//! (A parent-death signal would not work: it is sent when the *thread* that spawned the child ends, and each test
//! has its own thread.)

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};

/// Finds a binary of this workspace next to the running test binary.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    // target/<profile>/deps/it-<hash>
    let path = test
        .ancestors()
        .nth(2)
        .expect("a test lies in target/<profile>/deps")
        .join(name);
    assert!(
        path.is_file(),
        "{} is not built: run `cargo build --bin {name}` first",
        path.display()
    );
    path
}

/// Finds a program on the PATH.
pub(super) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// What to start: a program, its arguments and its whole environment.
pub struct Launch {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<String, OsString>,
    watchdog: Watchdog,
}

impl Launch {
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub fn env(mut self, key: impl Into<String>, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(key.into(), value.as_ref().to_owned());
        self
    }

    /// The process's own folder, also its working directory; it is removed with the process.
    pub fn folder(&self) -> &Path {
        &self.watchdog.folder
    }

    /// Writes a file into the folder and returns its path.
    pub fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder().join(name);
        fs::write(&path, contents)
            .unwrap_or_else(|error| panic!("failed to write {}: {error}", path.display()));
        path
    }

    pub fn start(self) -> Process {
        let mut process = Process {
            launch: self,
            child: None,
        };
        process.start_again();
        process
    }
}

/// A process that this test process started, and that ends with it.
pub struct Process {
    launch: Launch,
    child: Option<Child>,
}

impl Process {
    /// Describes a process to start. The name is for messages.
    pub fn named(name: &str) -> Launch {
        Launch {
            name: name.to_owned(),
            program: PathBuf::from(name),
            args: Vec::new(),
            env: BTreeMap::new(),
            watchdog: Watchdog::start(name),
        }
    }

    /// Starts the same command in the same folder. Kills the process first if it still runs.
    pub fn start_again(&mut self) {
        self.kill9();
        let Launch {
            name,
            program,
            args,
            env,
            watchdog,
        } = &mut self.launch;
        let log = File::options()
            .create(true)
            .append(true)
            .open(watchdog.folder.join("log"))
            .unwrap_or_else(|error| panic!("failed to open the log of {name}: {error}"));
        let errors = log.try_clone().expect("a file can be cloned");
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", r#"read -r _ && exec "$@" </dev/null"#, name])
            .arg(&*program)
            .args(&*args)
            .env_clear()
            .envs(
                ["PATH", "RUST_BACKTRACE", "LLVM_PROFILE_FILE"]
                    .iter()
                    .filter_map(|key| std::env::var_os(key).map(|value| (*key, value))),
            )
            .env("HOME", &watchdog.folder)
            .envs(&*env)
            .current_dir(&watchdog.folder)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .process_group(0);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("failed to start {name}: {error}"));
        watchdog.watch(Some(child.id()));
        let go = child.stdin.take().map(|mut stdin| stdin.write_all(b"go\n"));
        assert!(matches!(go, Some(Ok(()))), "failed to start {name}: {go:?}");
        self.child = Some(child);
    }

    pub fn name(&self) -> &str {
        &self.launch.name
    }

    pub fn folder(&self) -> &Path {
        self.launch.folder()
    }

    /// Everything the process wrote to its standard output and error, over all its starts.
    pub fn log(&self) -> String {
        fs::read(self.folder().join("log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The process id. Panics if the process was killed.
    pub fn pid(&self) -> u32 {
        self.child
            .as_ref()
            .map(Child::id)
            .unwrap_or_else(|| panic!("{} was killed", self.name()))
    }

    pub fn is_running(&mut self) -> bool {
        self.exit_status().is_none() && self.child.is_some()
    }

    /// The exit status, if the process ended by itself.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        child.try_wait().expect("a child can be waited for")
    }

    /// Kills the process and its children with SIGKILL, and returns when they are gone.
    pub fn kill9(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let group = Pid::from_child(&child);
        // Fails only when nothing is left to kill.
        kill_process_group(group, Signal::KILL).ok();
        child.wait().expect("a child can be waited for");
        // The rest of the group has another parent, and its ports are free when it is reaped. The bound is for
        // a machine whose first process does not reap.
        let end = Instant::now() + Duration::from_secs(2);
        while test_kill_process_group(group).is_ok() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.launch.watchdog.watch(None);
    }

    /// Stops the process and its children, as if the machine hung, and returns when none of their threads runs.
    /// On a busy machine that may be long after the signal.
    pub fn sigstop(&mut self) {
        self.signal_group(Signal::STOP);
        let group = self.pid();
        let end = Instant::now() + Duration::from_secs(10);
        while !is_stopped(group) {
            assert!(Instant::now() < end, "{} does not stop", self.name());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn sigcont(&mut self) {
        self.signal_group(Signal::CONT);
    }

    pub fn sighup(&mut self) {
        self.signal(Signal::HUP);
    }

    pub fn sigterm(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGTERM and waits for the process to end. Panics at the deadline.
    pub async fn terminate(&mut self, deadline: Duration) -> ExitStatus {
        self.sigterm();
        self.wait(deadline).await
    }

    /// Waits for the process to end by itself. Panics at the deadline.
    pub async fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let end = Instant::now() + deadline;
        loop {
            if let Some(status) = self.exit_status() {
                return status;
            }
            assert!(
                self.child.is_some() && Instant::now() < end,
                "{} did not end within {deadline:?}; its log ends with:\n{}",
                self.name(),
                self.log_tail(20)
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn signal(&mut self, signal: Signal) {
        assert!(
            self.is_running(),
            "{} does not run:\n{}",
            self.name(),
            self.log_tail(20)
        );
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).expect("a child can be signalled");
    }

    fn signal_group(&mut self, signal: Signal) {
        assert!(
            self.is_running(),
            "{} does not run:\n{}",
            self.name(),
            self.log_tail(20)
        );
        let child = self.child.as_ref().expect("it runs");
        kill_process_group(Pid::from_child(child), signal).expect("a group can be signalled");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Whether every thread of a process group has stopped or ended.
fn is_stopped(group: u32) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|process| stat(&process.path()).is_some_and(|(_, of)| of == group.to_string()))
        .flat_map(|process| {
            fs::read_dir(process.path().join("task"))
                .into_iter()
                .flatten()
        })
        .flatten()
        .filter_map(|thread| stat(&thread.path()))
        .all(|(state, _)| matches!(state.as_str(), "T" | "Z" | "X"))
}

/// The state and the process group from `stat` of a process or thread; `None` if it has ended.
fn stat(folder: &Path) -> Option<(String, String)> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    // The name before the last parenthesis may hold any character.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.nth(1)?.to_owned()))
}

/// A shell that outlives the test process for a moment, and cleans up.
struct Watchdog {
    folder: PathBuf,
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Watchdog {
    /// Each line names the group to kill at the end; an empty line means that there is none. Removing the folder
    /// is tried again, because killed processes may still be writing.
    const SCRIPT: &str = r#"
        group=
        while read -r line; do group=$line; done
        [ -z "$group" ] || kill -s KILL -- "-$group" 2>/dev/null
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            rm -rf -- "$1" 2>/dev/null && break
            sleep 0.1
        done
    "#;

    fn start(name: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix(&format!("sluice-test-{name}-"))
            .tempdir()
            .unwrap_or_else(|error| panic!("failed to make a temporary folder: {error}"))
            // From here on the shell removes it.
            .keep();
        let mut shell = Command::new("/bin/sh")
            .args(["-c", Self::SCRIPT, "watchdog"])
            .arg(&folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own group: Ctrl-C, or a kill of the test process's group, must not reach it.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("failed to start /bin/sh: {error}"));
        let pipe = shell.stdin.take();
        Self {
            folder,
            shell,
            pipe,
        }
    }

    fn watch(&mut self, group: Option<u32>) {
        let line = group.map(|group| group.to_string()).unwrap_or_default();
        let written = self.pipe.as_mut().map(|pipe| writeln!(pipe, "{line}"));
        // A dead watchdog must fail the test, unless the test is failing already.
        assert!(
            matches!(written, Some(Ok(()))) || std::thread::panicking(),
            "the watchdog of {} is gone",
            self.folder.display()
        );
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.pipe = None;
        self.shell.wait().ok();
    }
}
