//! Work that blocks, described as values. The reactor's worker threads do it; the simulator
//! answers it from a script.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use crate::secret::Secret;

/// Names one job. Ids are never reused.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct JobId(pub u64);

/// What a role may ask of the worker threads.
#[derive(Debug)]
pub enum Job {
    /// One HTTP exchange, without redirects.
    Http(HttpCall),
    /// Read a whole file of at most `limit` bytes.
    Read {
        /// Which file.
        path: PathBuf,
        /// More bytes than this are an error.
        limit: usize,
    },
    /// Replace a file: write beside it, sync, rename, sync the directory.
    Write(WriteFile),
    /// Run a command and take its standard output.
    Exec(Exec),
    /// For the role's journal. These are done one after another, in the order they were submitted;
    /// the outcome comes when the bytes are durable.
    Journal(Note),
}

/// Something for a journal.
#[derive(Clone, Debug)]
pub enum Note {
    /// Append this record.
    Append(Vec<u8>),
    /// Replace all records by those that make this state. It is let go before the outcome comes, so
    /// whoever changes nothing until then needs no copy of it.
    Rewrite(Arc<dyn State>),
}

/// A state that records make.
pub trait State: fmt::Debug + Send + Sync {
    /// Records that make it from nothing.
    fn records(&self) -> Box<dyn Iterator<Item = Vec<u8>> + '_>;
}

/// One HTTP exchange.
#[derive(Clone)]
pub struct HttpCall {
    /// `GET`, `POST`, `PUT`, `DELETE`, `PATCH`.
    pub method: &'static str,
    /// Absolute, `https` or `http`.
    pub url: String,
    /// Names and values; a value may be a token, hence the wrapping.
    pub headers: Vec<(String, Secret<String>)>,
    /// Sent with a `Content-Length` when not empty or when the method wants one.
    pub body: Vec<u8>,
    /// The roots to trust instead of the system's.
    pub roots: Option<Arc<Vec<CertificateDer<'static>>>>,
    /// Largest answer body in bytes; more is an error.
    pub limit: usize,
    /// For the whole exchange.
    pub timeout: Duration,
}

/// A body may hold a token or a secret, so only its length is shown.
impl fmt::Debug for HttpCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpCall({} {}, {} bytes)", self.method, self.url, self.body.len())
    }
}

/// What came back, whatever its status.
#[derive(Clone, Debug, Default)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body, whole.
    pub body: Vec<u8>,
}

/// A file to be replaced atomically.
#[derive(Debug)]
pub struct WriteFile {
    /// Which file.
    pub path: PathBuf,
    /// All of it.
    pub bytes: Secret<Vec<u8>>,
    /// Permission bits, `0o600` for what holds secrets.
    pub mode: u32,
}

/// A command to run through `/bin/sh -c`.
#[derive(Clone, Debug)]
pub struct Exec {
    /// The command line.
    pub command: String,
    /// Added to its environment.
    pub env: Vec<(String, String)>,
    /// It is killed after this.
    pub timeout: Duration,
}

/// How a job ended. An error is a sentence without secrets.
#[derive(Debug)]
pub enum Outcome {
    /// Of [`Job::Http`]: the answer, or why there is none.
    Http(Result<HttpAnswer, String>),
    /// Of [`Job::Read`].
    Read(Result<Secret<Vec<u8>>, String>),
    /// Of [`Job::Write`].
    Written(Result<(), String>),
    /// Of [`Job::Exec`]: what it printed.
    Exec(Result<Secret<String>, String>),
    /// Of [`Job::Journal`]: whether most of the journal is of the past, and it is time to have it
    /// written anew.
    Noted(Result<bool, String>),
}
