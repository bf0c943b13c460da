//! A stand-in for kube-apiserver, for development, tests and the quickstart: enough of the API
//! for every kubectl verb that streams, with kube-apiserver's identity rules, its fail-open
//! faults included. Blocking, a thread per connection; never shipped.
//!
//! Reading order: `connection` (what happens to a request), `identity` and `rbac` (who may),
//! `api` and `rest` (objects), `watch`, `exec` and `forward` (streams), `spdy` and `websocket`
//! (what carries them).

mod accept;
mod api;
mod attach;
mod audit;
mod connection;
mod constrained;
mod discovery;
mod exec;
mod forward;
mod http;
mod identity;
mod logs;
mod openapi;
mod openapi_v2;
mod patch;
mod pods;
mod protobuf;
mod rbac;
mod resources;
mod rest;
mod reviews;
mod route;
mod seed;
mod select;
mod server;
mod spdy;
mod status;
mod store;
mod streams;
mod table;
mod tls;
mod token;
mod watch;
mod websocket;
mod world;
mod yaml;

pub(crate) use server::{Options, Server};
