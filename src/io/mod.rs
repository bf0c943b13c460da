//! The only layer with effects: sockets, threads, files, time.
