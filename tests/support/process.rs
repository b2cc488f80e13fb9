//! A child process that does not outlive the test.

use super::wait_for;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A running child; killed and reaped when dropped. Its output is collected by threads, so that it never blocks on a pipe.
pub struct Process {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// A signal to send.
pub enum Signal {
    Interrupt,
    Terminate,
    Hangup,
    Kill,
}

impl Process {
    /// Starts a command with nothing on its standard input.
    pub fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|why| panic!("{command:?}: {why}"));
        let stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// Waits for a line that contains `text` on either output.
    pub fn wait_for_line(&mut self, text: &str, within: Duration) -> String {
        wait_for(&format!("a line with '{text}'"), within, || {
            let found = [&self.stdout, &self.stderr].into_iter().find_map(|lines| lines.find(text));
            found.ok_or_else(|| self.describe())
        })
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let status = wait_for("the end of a process", within, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("still running".to_owned()),
            Err(why) => Err(why.to_string()),
        });
        self.stdout.join();
        self.stderr.join();
        status
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its number. A command inside a namespace is executed in the place of the one that led there.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let name = match signal {
            Signal::Interrupt => "INT",
            Signal::Terminate => "TERM",
            Signal::Hangup => "HUP",
            Signal::Kill => "KILL",
        };
        // The shell's own: minimal systems have no program of that name.
        super::run(Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]));
    }

    /// What it has written to its standard output.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to its standard error.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// What it has written, for a failure's message.
    pub fn describe(&mut self) -> String {
        let state = match self.child.try_wait() {
            Ok(Some(status)) => format!("ended with {status}"),
            Ok(None) => "running".to_owned(),
            Err(why) => why.to_string(),
        };
        format!("{state}\nstdout: {}\nstderr: {}", self.stdout.text(), self.stderr.text())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    fn of(from: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                shared.lock().unwrap().push(line);
            }
        });
        Self { lines, reader: Some(reader) }
    }

    fn find(&self, text: &str) -> Option<String> {
        self.lines.lock().unwrap().iter().find(|line| line.contains(text)).cloned()
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    fn join(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
