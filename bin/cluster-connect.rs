//! The binary `cluster-connect`; see its `--help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cluster_connect::start::main()
}
