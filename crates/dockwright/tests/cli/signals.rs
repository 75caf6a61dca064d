//! Ctrl-C and its relatives.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::PathBuf,
    process::{Child, ChildStderr, ChildStdout, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::Project;

/// A run whose job has started and waits.
struct Waiting {
    project: Project,
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
}

impl Waiting {
    fn start() -> Self {
        let project = Project::new("job:\n  script:\n    - 'echo $$ > \"$PID_FILE\"; echo ready; sleep 1000'\n");
        let pid_file = format!("PID_FILE={}", project.path("pid").display());
        let mut command = project.dockwright(&["run", "--variable", &pid_file]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("dockwright runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout"));
        let stderr = child.stderr.take().expect("stderr");
        let mut line = String::new();
        while line != "job | ready\n" {
            line.clear();
            assert_ne!(stdout.read_line(&mut line).expect("text"), 0, "the job did not start");
        }
        Self { project, child, stdout, stderr }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the run is there");
    }

    /// Waits for the end; returns the exit code and what was said.
    fn end(mut self) -> (Option<i32>, String, PathBuf) {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).expect("text");
        self.stdout.read_to_string(&mut said).expect("text");
        let code = self.child.wait().expect("wait").code();
        let pid = fs::read_to_string(self.project.path("pid")).expect("the script wrote its number");
        (code, said, PathBuf::from("/proc").join(pid.trim()))
    }
}

#[test]
fn interrupt_cancels_the_jobs_and_says_so() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let waiting = Waiting::start();
        waiting.signal(signal);
        let (ended_with, said, process) = waiting.end();
        assert_eq!(ended_with, Some(code), "{said}");
        assert!(said.contains("canceled"), "{said}");
        assert!(!process.exists(), "the script still runs");
    }
}
