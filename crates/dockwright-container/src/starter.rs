//! The one thread that starts children which must not outlive this process.
//!
//! The kernel sends a parent-death signal when the *thread* that made the child ends, not the process; a child made by a thread of a pool
//! would die at a random moment. This thread lives as long as the process.

use std::{
    io,
    sync::{
        Mutex, OnceLock, PoisonError,
        mpsc::{Sender, channel},
    },
    thread,
};

type Job = Box<dyn FnOnce() + Send>;

/// Runs something on the thread and returns its result.
pub(crate) fn run<T: Send + 'static>(job: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    static STARTER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, receiver) = channel::<Job>();
        let run = move || receiver.into_iter().for_each(|job| job());
        thread::Builder::new().name("starter".to_owned()).spawn(run).expect("a thread can be started");
        Mutex::new(sender)
    });
    let (answer, answered) = channel();
    let job: Job = Box::new(move || {
        // Who asked waits below, so there is always somebody to answer.
        let _ = answer.send(job());
    });
    starter.lock().unwrap_or_else(PoisonError::into_inner).send(job).map_err(|_| io::ErrorKind::BrokenPipe)?;
    answered.recv().map_err(|_| io::ErrorKind::BrokenPipe)?
}
