//! The binary `kube-aad-proxy`; see its `--help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cluster_connect::start::Alone::AUTH_PROXY.main()
}
