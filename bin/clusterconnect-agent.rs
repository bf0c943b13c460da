//! The binary `clusterconnect-agent`; see its `--help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cluster_connect::start::Alone::AGENT.main()
}
