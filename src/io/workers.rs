//! Threads for what blocks: names, files, HTTP requests, commands, and one thread of its own for
//! the journal, so that records are written in the order they were submitted. The loop hands them
//! work through bounded queues and is woken when a result is there; it never waits for one.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use mio::Waker;

use super::jobs;
use crate::role::{Busy, ConnId, Job, JobId, Note, Outcome};

/// Makes notes durable, or says why not; see [`Outcome::Noted`].
pub type Journal = Box<dyn FnMut(Note) -> Result<bool, String> + Send>;

/// Something for a worker.
#[derive(Debug)]
pub(super) enum Work {
    Job(JobId, Job),
    Resolve(ConnId, String, u16),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Finished {
    Job(JobId, Outcome),
    Resolved(ConnId, Result<Vec<SocketAddr>, String>),
}

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Workers {
    work: SyncSender<Work>,
    notes: Option<SyncSender<(JobId, Note)>>,
    results: Receiver<Finished>,
}

/// Work that waits for a thread.
const QUEUE: usize = 256;

impl Workers {
    /// Starts `threads` threads, and the journal's if there is a journal.
    pub(super) fn start(
        threads: usize,
        journal: Option<Journal>,
        waker: &Arc<Waker>,
    ) -> io::Result<Self> {
        let (work, inbox) = sync_channel(QUEUE);
        let (outbox, results) = channel();
        let inbox = Arc::new(Mutex::new(inbox));
        for number in 0..threads {
            let (inbox, outbox, waker) = (Arc::clone(&inbox), outbox.clone(), Arc::clone(waker));
            let name = format!("worker-{number}");
            thread::Builder::new().name(name).spawn(move || run(&inbox, &outbox, &waker))?;
        }
        let notes = match journal {
            Some(journal) => {
                let (notes, inbox) = sync_channel(QUEUE);
                let waker = Arc::clone(waker);
                thread::Builder::new()
                    .name("journal".into())
                    .spawn(move || keep(journal, &inbox, &outbox, &waker))?;
                Some(notes)
            }
            None => None,
        };
        Ok(Self { work, notes, results })
    }

    pub(super) fn submit(&self, work: Work) -> Result<(), Busy> {
        if let Work::Job(id, Job::Journal(note)) = work {
            let notes = self.notes.as_ref().expect("only roles with a journal take notes");
            return accepted(notes.try_send((id, note)));
        }
        accepted(self.work.try_send(work))
    }

    /// The next result, if there is one.
    pub(super) fn poll(&self) -> Option<Finished> {
        self.results.try_recv().ok()
    }
}

fn accepted<T>(result: Result<(), TrySendError<T>>) -> Result<(), Busy> {
    match result {
        Ok(()) => Ok(()),
        Err(TrySendError::Full(_)) => Err(Busy),
        Err(TrySendError::Disconnected(_)) => panic!("a worker thread has panicked"),
    }
}

fn run(inbox: &Mutex<Receiver<Work>>, outbox: &Sender<Finished>, waker: &Waker) {
    loop {
        let work = inbox.lock().expect("no worker panics while it waits").recv();
        // Either end hung up: the loop is gone.
        let Ok(work) = work else { return };
        let finished = match work {
            Work::Job(id, job) => Finished::Job(id, jobs::perform(job)),
            Work::Resolve(id, host, port) => Finished::Resolved(id, jobs::resolve(&host, port)),
        };
        if outbox.send(finished).is_err() || waker.wake().is_err() {
            return;
        }
    }
}

fn keep(
    mut journal: Journal,
    inbox: &Receiver<(JobId, Note)>,
    outbox: &Sender<Finished>,
    waker: &Waker,
) {
    while let Ok((id, note)) = inbox.recv() {
        let outcome = Outcome::Noted(journal(note));
        if outbox.send(Finished::Job(id, outcome)).is_err() || waker.wake().is_err() {
            return;
        }
    }
}
