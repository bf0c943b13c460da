//! `cluster-connect bench`

use std::time::Duration;

use super::args::Args;
use super::errors::Error;
use super::manual::{self, Page};
use super::proxy::Proxy;
use super::values::{Output, duration, number, one_of};
use crate::engine::probe::{Plan, Stretch};
use crate::limits::{PROBE_LIFE, PROBE_OPENERS, PROBE_STREAMS};

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The way to the cluster, of which there is one.
    pub proxy: Proxy,
    /// How much.
    pub plan: Plan,
    /// How to say what came of it.
    pub output: Output,
}

impl Bench {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// Those of [`Proxy::parse`].
    pub fn parse(mut args: Args<'_>) -> Result<Self, Error> {
        let output = args.output()?;
        let proxy = Proxy::common(&mut args)?;
        if 1 < proxy.clusters.len() {
            return Err(args.wrong("-n names one cluster: they are measured one by one"));
        }
        let each = args.value("--time", duration)?.unwrap_or(EACH);
        // What the auth proxy allows is for both ways, what comes before and what comes after.
        if PROBE_LIFE / 4 < each {
            let most = PROBE_LIFE.as_secs() / 4;
            return Err(args.wrong(&format!("--time is at most {most}s")));
        }
        // The others are for the round trip, and for what opens streams.
        let most = PROBE_STREAMS - PROBE_OPENERS;
        let streams = args.value("--streams", |text| number(text, 1, most))?.unwrap_or(STREAMS);
        let only = args.value("--only", |text| one_of(text, &STRETCHES))?;
        args.finish()?;
        Ok(Self { proxy, plan: Plan { each, streams, only }, output })
    }
}

/// How long bytes flow each way when nothing is said.
const EACH: Duration = Duration::from_secs(5);

/// Streams when nothing is said.
const STREAMS: usize = 4;

const STRETCHES: [(&str, Stretch); 4] = [
    ("round-trip", Stretch::RoundTrip),
    ("down", Stretch::Down),
    ("up", Stretch::Up),
    ("streams", Stretch::Streams),
];

/// The manual page.
pub static PAGE: Page = Page { command: "bench", parts: HELP };

const HELP: &[&str] = &[
    "\
cluster-connect bench: how fast the tunnel to a connected cluster is

  It goes the way that kubectl goes, through the relay and the agent to the auth proxy, which knows
  you by the same token, and no further: the API server does not notice. It measures the round trip
  alone, bytes from the cluster and towards it with the round trip beside them, and how many streams
  can be opened, used and closed. The auth proxy measures with one caller at a time, for at most a
  minute, a few times in a row, and at the rate that its operator allows (--bench-rate).

USAGE
  cluster-connect bench --relay URL -n NAME --identity SOURCE [OPTIONS]

OPTIONS
",
    manual::RELAY,
    manual::CONNECTION,
    manual::CLUSTER,
    "  --time TIME                  how long bytes flow each way; the rest takes as long again;
                               at most 15s                                      [5s]
  --streams N                  streams that bytes flow on at a time             [4]
  --only WHAT                  this alone, for that long: round-trip, down, up, streams
",
    manual::IDENTITY,
    manual::TOKENS,
    manual::TRUST,
    manual::OUTPUT,
    manual::LOG_LEVEL,
    manual::THIS_PAGE,
    "
OUTPUT
  Progress goes to standard error, the result to standard output: MB/s are 1,000,000 bytes per
  second that arrived, without what the protocols add; the first quarter does not count. Half of the
  round trips took at most p50, 99 of 100 at most p99. As JSON also all bytes that arrived, and null
  for what was not measured.
",
    manual::ENVIRONMENT,
    "
EXIT CODES
  0 measured, 1 cannot run, 2 wrong command line; see cluster-connect explain

EXAMPLE
  cluster-connect bench --relay https://relay.example -n edge-7 --identity env
",
];

#[cfg(test)]
mod tests {
    use super::super::{Command, command};
    use super::*;
    use crate::config::errors::Code;

    fn parse(more: &str) -> Result<Box<Bench>, Error> {
        let line = format!("bench --relay https://r.example --identity file:/r,/c {more}");
        let words = line.split_whitespace().map(Into::into).collect();
        let environment = |name: &str| (name == "HOME").then(|| "/home/a".to_owned());
        match command(words, &environment)? {
            Command::Bench(bench) => Ok(bench),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_cluster_is_measured_within_what_an_auth_proxy_allows() {
        let bench = parse("-n edge-7").unwrap();
        assert_eq!((bench.plan.each, bench.plan.streams, bench.output), (EACH, 4, Output::Table));
        let bench = parse("-n edge-7 --time 15s --streams 48 -o json").unwrap();
        assert_eq!((bench.plan.each.as_secs(), bench.plan.streams), (15, 48));
        assert_eq!(bench.output, Output::Json);
        assert_eq!(bench.plan.only, None);
        for (text, stretch) in STRETCHES {
            let bench = parse(&format!("-n edge-7 --only {text}")).unwrap();
            assert_eq!(bench.plan.only, Some(stretch));
        }
        for wrong in [
            "",
            "-n a -n b",
            "-n a --time 16s",
            "-n a --streams 0",
            "-n a --streams 49",
            "-n a --only sideways",
            "-n a -f x",
        ] {
            assert_eq!(parse(wrong).map_err(|why| why.code).err(), Some(Code::Usage), "{wrong}");
        }
    }
}
