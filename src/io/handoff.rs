//! Several loops in one process. Each has a thread, a poll, sockets and buffers of its own; what
//! they tell each other, and the connections that they hand over, go through a queue with a waker.
//! Loop 0 may write to every other, and each of those to loop 0.
//!
//! The queues need no bound of their own: connections in them count against the limit of the
//! process, and everything else is one count per pair or per second, or an operator's doing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel, sync_channel};
use std::thread;

use mio::{Poll, Waker};

use super::audit::AuditSink;
use super::conn::Parted;
use super::reactor::{Reactor, WAKER};
use super::setup::{Limits, Setup};
use crate::role::{ConnId, Letter, LoopId, Role};

/// Where a loop is going to run.
#[derive(Debug)]
pub struct Place {
    pub(super) poll: Poll,
    pub(super) waker: Arc<Waker>,
    pub(super) mail: Mail,
}

/// The letter box of one loop, and those it may write to.
#[derive(Debug)]
pub(super) struct Mail {
    pub(super) number: usize,
    /// Loops of the process.
    pub(super) loops: usize,
    inbox: Receiver<Parcel>,
    posts: Vec<Post>,
    lent: Arc<AtomicUsize>,
    /// Loop 0 is gone.
    pub(super) is_orphaned: bool,
}

/// A letter and what goes with it.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) from: LoopId,
    pub(super) letter: Letter,
    pub(super) conns: Vec<(ConnId, Parted)>,
}

/// A connection that loop 0 has given away, for as long as it lives.
#[derive(Debug)]
pub(super) struct Guest(Arc<AtomicUsize>);

#[derive(Debug)]
struct Post {
    to: LoopId,
    /// Taken in the drop, so that who is woken finds the queue closed.
    queue: Option<Sender<Parcel>>,
    waker: Arc<Waker>,
}

impl Place {
    /// For a process with one loop.
    ///
    /// # Errors
    ///
    /// The system has no more descriptors.
    pub(super) fn alone() -> io::Result<Self> {
        Self::first(1).map(|(place, _)| place)
    }

    /// For a process with `loops` loops: the place of loop 0, and those of the others.
    ///
    /// # Errors
    ///
    /// The system has no more descriptors.
    pub fn first(loops: usize) -> io::Result<(Self, Vec<Self>)> {
        let lent = Arc::<AtomicUsize>::default();
        let (to_first, inbox) = channel();
        let mut first = Self::new(0, loops, inbox, &lent)?;
        let mut others = Vec::new();
        for number in 1..loops {
            let (queue, inbox) = channel();
            let mut other = Self::new(number, loops, inbox, &lent)?;
            first.mail.posts.push(Post::new(number, queue, &other.waker));
            other.mail.posts.push(Post::new(0, to_first.clone(), &first.waker));
            others.push(other);
        }
        Ok((first, others))
    }

    fn new(
        number: usize,
        loops: usize,
        inbox: Receiver<Parcel>,
        lent: &Arc<AtomicUsize>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (posts, lent) = (Vec::new(), Arc::clone(lent));
        let mail = Mail { number, loops, inbox, posts, lent, is_orphaned: false };
        Ok(Self { poll, waker, mail })
    }

    /// Starts a thread in which `role` makes a role and runs it here, until loop 0 is gone.
    ///
    /// # Errors
    ///
    /// The system has no more descriptors or threads.
    pub fn spawn<R: Role>(
        self,
        role: impl FnOnce() -> R + Send + 'static,
        limits: Limits,
    ) -> io::Result<()> {
        let (told, started) = sync_channel(1);
        let name = format!("loop-{}", self.mail.number);
        thread::Builder::new().name(name).spawn(move || {
            let setup = Setup { limits, audit: AuditSink::nowhere(), journal: None, chore: None };
            let reactor = match Reactor::at(self, role(), setup) {
                Ok(reactor) => reactor,
                Err(err) => return told.send(Err(err)).unwrap_or_default(),
            };
            // Whoever started this waits for the word.
            told.send(Ok(())).unwrap_or_default();
            reactor.run(|_| ()).expect("the system polls");
        })?;
        started.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
    }
}

impl Mail {
    /// Connections that other loops have of this one.
    pub(super) fn lent(&self) -> usize {
        if self.number == 0 { self.lent.load(Ordering::Relaxed) } else { 0 }
    }

    /// Counts a connection as given away.
    pub(super) fn guest(&self) -> Guest {
        self.lent.fetch_add(1, Ordering::Relaxed);
        Guest(Arc::clone(&self.lent))
    }

    /// Sends `parcel` to `to`, or drops it where there is no such loop any more.
    pub(super) fn send(&self, to: LoopId, parcel: Parcel) {
        if let Some(post) = self.posts.iter().find(|post| post.to == to)
            && let Some(queue) = &post.queue
            && queue.send(parcel).is_ok()
        {
            post.waker.wake().expect("a loop can be woken");
        }
    }

    /// The next parcel, if there is one.
    pub(super) fn take(&mut self) -> Option<Parcel> {
        match self.inbox.try_recv() {
            Ok(parcel) => Some(parcel),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                self.is_orphaned = self.number != 0;
                None
            }
        }
    }
}

impl Post {
    fn new(to: usize, queue: Sender<Parcel>, waker: &Arc<Waker>) -> Self {
        Self { to: LoopId(to), queue: Some(queue), waker: Arc::clone(waker) }
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.queue = None;
        // A loop that cannot be woken is gone.
        let _ = self.waker.wake();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
