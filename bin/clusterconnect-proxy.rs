//! The binary `clusterconnect-proxy`; see its `--help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cluster_connect::start::Alone::PROXY.main()
}
