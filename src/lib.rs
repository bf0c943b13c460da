//! cluster-connect: kubectl access to Kubernetes clusters that open no inbound port.
//!
//! A process is one [`role::Role`] (what it decides) on one [`io::Reactor`] (what it can do).
//! Between them stand two traits, [`role::Role`] and [`role::Net`]. The reactor owns every socket,
//! the clock and the buffers; the role owns every decision and touches none of them. The simulator
//! in `tests/sim` is the second implementation of what the reactor does, so each role, and all of
//! them together, run under hundreds of seeded schedules before they meet a kernel.
//!
//! ```text
//! kubectl ── client_proxy ══════════ relay ══════════ agent ── auth_proxy ── kube-apiserver
//!            Exchange                pump             Splice    Tunnel
//!            └ Tunnel ─ WebSocket ─────┴── WebSocket ───┘       └ Exchange
//! ```
//!
//! kubectl's bytes are HTTP/1.1 ([`engine::exchange`]) on one stream of a multiplexer
//! ([`engine::mux`]) inside one TLS 1.3 session from end to end ([`engine::tunnel`]), carried in
//! binary WebSocket messages ([`engine::ws`]) over TLS to the relay, each side ([`io`]).
//!
//! # Invariants
//!
//! 1. Only [`io`] (and [`start`], which calls it) names a socket, a thread, a file or the clock.
//! 2. Nothing of ours allocates per packet in the data path; buffers are lent by [`buf::Pool`].
//! 3. A role is never re-entered: [`role::Net`] queues, the loop flushes.
//! 4. No id is ever reused.
//! 5. Every queue is bounded ([`limits`]) and says so when it is full.
//! 6. Nothing below [`role`] knows which binary it is in.
//!
//! Tables are B-trees whose values are boxes: ids ascend, which leaves the nodes half empty, and tables
//! of one pointer each share their code.
//!
//! # Layers, and the order to read them in
//!
//! Each uses only what stands before it; a test reads the source and sees to it.
//!
//! | layer | what it is | begin with |
//! |---|---|---|
//! | [`buf`] | memory: pool, lease, slice, outbox | [`buf::Pool`] |
//! | [`wire`] | byte layouts without state | [`wire::mux`], [`wire::h1`] |
//! | [`engine`] | state machines: bytes and facts in, bytes and facts out | [`engine::exchange`], [`engine::mux`] |
//! | [`auth`] | pure decisions: tokens, keys, impersonation, signatures | [`auth::Verifier`] |
//! | [`role`] | what a process decides | [`role::Role`], [`role::auth_proxy`] |
//! | [`io`] | sockets, TLS, threads, files, time | [`io::Reactor`] |
//! | [`config`] | command lines and files, once, into structs | [`config::command`] |
//! | [`start`] | from a configuration to a running process | [`start::main`] |
//!
//! [`limits`] and [`secret`] are leaves that all may use.

pub mod auth;
pub mod buf;
pub mod config;
pub mod engine;
pub mod io;
pub mod limits;
pub mod role;
pub mod secret;
pub mod start;
pub mod wire;

/// musl's own maps and unmaps pages again and again while TLS records come and go.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;
