//! `cluster-connect bench` against the real programs: what comes of it, and who is turned away.

use std::fs;
use std::process::Output;

use serde_json::Value;

use super::chain::{ALICE, Options, Site, replaced};
use super::trial::{Trial, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(the_tunnel_is_measured_and_the_api_server_is_left_alone),
        trial(whoever_may_not_measure_reads_why),
    ]
}

fn bench(site: &Site, more: &[&str]) -> (Output, String) {
    let words = replaced(site.client_words(&["edge-7"]), more);
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.splice(0..0, ["bench", "--time", "1s"]);
    let output = site.command(&words).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

fn the_tunnel_is_measured_and_the_api_server_is_left_alone() {
    for edge in [true, false] {
        let mut site = Site::start();
        let cluster = site.cluster("edge-7", Options { edge, ..Options::default() });
        let before = cluster.api.audit().len();
        let (output, said) = bench(&site, &["-o", "json", "--streams", "8"]);
        assert!(output.status.success(), "{said}");
        let result: Value = serde_json::from_slice(&output.stdout).expect("JSON and nothing else");
        let number = |path: &str| result.pointer(path).and_then(Value::as_f64).unwrap_or_default();
        for path in [
            "/roundTrip/p50Micros",
            "/down/bytesPerSecond",
            "/down/roundTrip/p50Micros",
            "/up/bytesPerSecond",
            "/up/roundTrip/p50Micros",
            "/streamsPerSecond",
        ] {
            assert!(1.0 <= number(path), "{path} in {result}");
        }
        assert!(number("/roundTrip/p50Micros") <= number("/roundTrip/p99Micros"), "{result}");
        assert_eq!((number("/parallelStreams"), number("/secondsEachWay")), (8.0, 1.0));
        for stretch in ["round trip: ", "down: ", "up: "] {
            assert!(said.contains(stretch), "{said}");
        }
        assert_eq!(cluster.api.audit().len(), before, "the API server was asked something");
        let audit = fs::read_to_string(site.path("edge-7.audit")).expect("the auth proxy's log");
        let lines = audit.lines().filter(|line| line.contains("/cluster-connect/bench"));
        // The third comes when the auth proxy hears that the session is over.
        assert!((2..=3).contains(&lines.clone().count()), "{audit}");
        assert!(lines.clone().all(|it| it.contains(ALICE)), "{audit}");

        let (output, _) = bench(&site, &[]);
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(table.contains("round trip, idle") && table.contains("MB/s"), "{table}");
    }
}

fn whoever_may_not_measure_reads_why() {
    let mut site = Site::start();
    let _cluster = site.cluster("edge-7", Options { edge: true, ..Options::default() });
    // The token for the relay is good, the one for the cluster is for somebody else.
    let relay = site.identity(ALICE);
    let relay = relay.trim_start_matches("file:").split(',').next().expect("a path").to_owned();
    let wrong = format!("file:{relay},{relay}");
    let (output, said) = bench(&site, &["--identity", &wrong]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
    assert!(said.contains("error[BENCH_REFUSED]") && said.contains("401"), "{said}");

    let mut site = Site::start();
    let options = Options { edge: true, unmeasured: true, ..Options::default() };
    let _cluster = site.cluster("edge-7", options);
    let (output, said) = bench(&site, &[]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
    assert!(said.contains("--bench-rate 0"), "{said}");
}
