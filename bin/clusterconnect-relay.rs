//! The binary `clusterconnect-relay`; see its `--help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cluster_connect::start::Alone::RELAY.main()
}
