//! What was measured.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::limits::PROBE_STREAM_COST;

/// See the module's documentation.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Alone.
    pub idle: Option<RoundTrips>,
    /// From the cluster.
    pub down: Option<Transfer>,
    /// Towards the cluster.
    pub up: Option<Transfer>,
    /// Streams opened, used for one byte, and closed at both ends.
    pub streams_per_second: Option<u64>,
    /// Streams that bytes flowed on at a time.
    pub streams: usize,
    /// How long bytes flowed each way.
    pub each: Duration,
    /// Bytes per second that the auth proxy allows.
    pub rate: u64,
}

/// Bytes one way, and the round trip beside them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Transfer {
    /// Bytes that arrived, those that do not count among them.
    pub bytes: u64,
    /// Bytes that arrived while they counted.
    pub bytes_per_second: u64,
    /// Beside them.
    pub round_trips: RoundTrips,
}

/// Times there and back, in microseconds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RoundTrips {
    /// How many were timed.
    pub count: usize,
    /// Half of them took at most this.
    pub p50: u32,
    /// 99 of 100 took at most this.
    pub p99: u32,
}

impl Transfer {
    fn json(self) -> Value {
        json!({
            "bytes": self.bytes,
            "bytesPerSecond": self.bytes_per_second,
            "roundTrip": self.round_trips.json(),
        })
    }
}

impl RoundTrips {
    /// Of these times, which are sorted by it.
    pub fn of(times: &mut [u32]) -> Self {
        times.sort_unstable();
        let at = |percent: usize| {
            let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
            times.get(index).copied().unwrap_or_default()
        };
        Self { count: times.len(), p50: at(50), p99: at(99) }
    }

    fn json(self) -> Value {
        json!({ "count": self.count, "p50Micros": self.p50, "p99Micros": self.p99 })
    }

    fn text(self) -> String {
        format!("p50 {}, p99 {} ({} messages)", time(self.p50), time(self.p99), self.count)
    }
}

impl Report {
    /// The auth proxy's limit was what held the bytes, or the streams, up.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        let near = self.rate - self.rate / 10;
        let ways = [self.down, self.up].into_iter().flatten().map(|way| way.bytes_per_second);
        let streams = self.streams_per_second.map(|it| it.saturating_mul(PROBE_STREAM_COST));
        ways.chain(streams).any(|spent| near <= spent)
    }

    /// For scripts.
    #[must_use]
    pub fn to_json(&self, cluster: &str) -> Value {
        json!({
            "cluster": cluster,
            "roundTrip": self.idle.map(RoundTrips::json),
            "down": self.down.map(Transfer::json),
            "up": self.up.map(Transfer::json),
            "streamsPerSecond": self.streams_per_second,
            "parallelStreams": self.streams,
            "secondsEachWay": self.each.as_secs_f64(),
            "allowedBytesPerSecond": self.rate,
            "limited": self.is_limited(),
        })
    }

    /// For people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let seconds = self.each.as_secs_f64();
        let mut rows = Vec::new();
        rows.extend(self.idle.map(|it| ("round trip, idle", it.text())));
        for (name, way) in [("down", self.down), ("up", self.up)] {
            let Some(way) = way else { continue };
            let speed = speed(way.bytes_per_second);
            rows.push((name, format!("{speed} ({} streams, {seconds} s)", self.streams)));
            rows.push(("round trip beside it", way.round_trips.text()));
        }
        rows.extend(self.streams_per_second.map(|it| ("new streams", format!("{it} per s"))));
        for (name, value) in rows {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<22}{value}");
        }
        if self.is_limited() {
            let _ = writeln!(
                text,
                "\nThe auth proxy allows {}: --bench-rate there allows more.",
                speed(self.rate)
            );
        }
        text
    }
}

/// `12.3 MB/s`: decimal, as line rates are.
pub(super) fn speed(bytes_per_second: u64) -> String {
    let tenths = |unit: u64| {
        let tenths = bytes_per_second.saturating_mul(10) / unit;
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    match bytes_per_second {
        0..1_000_000 => format!("{} kB/s", tenths(1_000)),
        _ => format!("{} MB/s", tenths(1_000_000)),
    }
}

fn time(micros: u32) -> String {
    match micros {
        0..10_000 => format!("{micros} us"),
        _ => format!("{} ms", micros / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_times_are_at_most_the_median() {
        assert_eq!(RoundTrips::of(&mut []), RoundTrips::default());
        let mut times: Vec<u32> = (1..=200).rev().collect();
        assert_eq!(RoundTrips::of(&mut times), RoundTrips { count: 200, p50: 100, p99: 198 });
        assert_eq!(RoundTrips::of(&mut [7]), RoundTrips { count: 1, p50: 7, p99: 7 });
    }

    #[test]
    fn a_report_says_what_held_it_up() {
        let way = |bytes_per_second| Some(Transfer { bytes_per_second, ..Transfer::default() });
        let mut report = Report { rate: 125_000_000, ..Report::default() };
        report.down = way(12_345_678);
        assert!(report.to_text().contains("12.3 MB/s") && !report.to_text().contains("bench-rate"));
        report.up = way(120_000_000);
        assert!(report.to_text().contains("allows 125.0 MB/s: --bench-rate"));
        let json = report.to_json("edge-7");
        assert_eq!(json["down"]["bytesPerSecond"], 12_345_678);
        assert_eq!((&json["limited"], &json["cluster"]), (&json!(true), &json!("edge-7")));
        report.up = None;
        report.streams_per_second = Some(20_000);
        assert!(!report.is_limited(), "20,000 streams count as 82 MB");
        report.streams_per_second = Some(30_000);
        assert!(report.is_limited());
        report.streams_per_second = None;
        // What was not measured is not said to be nothing.
        assert!(json["roundTrip"].is_null() && json["streamsPerSecond"].is_null(), "{json}");
        assert!(!report.to_text().contains("idle") && !report.to_text().contains("new streams"));
        assert_eq!((speed(999), speed(u64::MAX).len()), ("0.9 kB/s".to_owned(), 20));
    }
}
