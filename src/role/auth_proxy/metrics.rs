//! Counters, and their text for Prometheus. Labels are closed sets or come from the configuration:
//! never a user's name, never anything of a request.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::AuthProxy;
use crate::auth::jwks::KeySet;
use crate::wire::kube::RequestInfo;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    requests: BTreeMap<(&'static str, &'static str), u64>,
    auth: BTreeMap<(String, &'static str), u64>,
    rejected: BTreeMap<&'static str, u64>,
    upstream: [u64; BOUNDS.len()],
    upstream_count: u64,
    upstream_sum: Duration,
}

/// Upper bounds of the histogram, in milliseconds, with their labels.
const BOUNDS: [(u128, &str); 9] = [
    (5, "0.005"),
    (25, "0.025"),
    (100, "0.1"),
    (250, "0.25"),
    (1_000, "1"),
    (2_500, "2.5"),
    (10_000, "10"),
    (30_000, "30"),
    (60_000, "60"),
];

impl Metrics {
    /// A request was let through and has ended with this status.
    pub(super) fn on_served(&mut self, info: &RequestInfo, status: u16) {
        let verb = match info.verb.as_str() {
            "get" | "list" | "head" => "read",
            "watch" => "watch",
            "create" | "update" | "patch" | "delete" | "deletecollection" => "write",
            _ => "other",
        };
        *self.requests.entry((class(status), verb)).or_default() += 1;
    }

    /// A credential of a configured issuer was judged; `result` is of a closed set.
    pub(super) fn on_judged(&mut self, issuer: &str, result: &'static str) {
        *self.auth.entry((issuer.to_owned(), result)).or_default() += 1;
    }

    /// A request was answered here.
    pub(super) fn on_rejected(&mut self, reason: &'static str) {
        *self.rejected.entry(reason).or_default() += 1;
    }

    /// The API server has begun to answer.
    pub(super) fn on_answered(&mut self, after: Duration) {
        for (count, (bound, _)) in self.upstream.iter_mut().zip(BOUNDS) {
            *count += u64::from(after.as_millis() <= bound);
        }
        self.upstream_count += 1;
        self.upstream_sum = self.upstream_sum.saturating_add(after);
    }

    fn write(&self, text: &mut String) {
        let out = &mut Page(text);
        out.kind("requests_total", "counter");
        for ((code, verb), count) in &self.requests {
            let labels = format!("code_class=\"{code}\",verb_class=\"{verb}\"");
            out.value("requests_total", &labels, count);
        }
        out.kind("auth_total", "counter");
        for ((issuer, result), count) in &self.auth {
            let labels = format!("issuer=\"{}\",result=\"{result}\"", escape(issuer));
            out.value("auth_total", &labels, count);
        }
        out.kind("rejected_total", "counter");
        for (reason, count) in &self.rejected {
            out.value("rejected_total", &format!("reason=\"{reason}\""), count);
        }
        out.kind("upstream_seconds", "histogram");
        for (count, (_, bound)) in self.upstream.iter().zip(BOUNDS) {
            out.value("upstream_seconds_bucket", &format!("le=\"{bound}\""), count);
        }
        out.value("upstream_seconds_bucket", "le=\"+Inf\"", self.upstream_count);
        out.value("upstream_seconds_sum", "", self.upstream_sum.as_secs_f64());
        out.value("upstream_seconds_count", "", self.upstream_count);
    }
}

impl AuthProxy {
    /// The page that Prometheus reads.
    pub(super) fn metrics_page(&self, unix_now: u64) -> String {
        let mut text = String::new();
        self.metrics.write(&mut text);
        let out = &mut Page(&mut text);
        let streams = || self.sessions.values().flat_map(|session| session.streams.values());
        out.gauge("sessions", self.sessions.len());
        out.gauge("inflight", self.sessions.values().map(|it| it.in_flight).sum::<usize>());
        out.gauge("waiting", streams().filter(|stream| stream.parked.is_some()).count());
        out.gauge("upgraded", streams().filter(|stream| stream.exchange.is_raw()).count());
        out.kind("jwks_age_seconds", "gauge");
        for issuer in self.keys.verifier().issuers() {
            let Some(seen) = issuer.keys_seen() else { continue };
            let labels = format!("issuer=\"{}\"", escape(issuer.name()));
            out.value("jwks_age_seconds", &labels, unix_now.saturating_sub(seen));
        }
        out.kind("jwks_keys", "gauge");
        for issuer in self.keys.verifier().issuers() {
            let labels = format!("issuer=\"{}\"", escape(issuer.name()));
            out.value("jwks_keys", &labels, issuer.keys().map_or(0, KeySet::len));
        }
        out.kind("jwks_fetch_total", "counter");
        let (good, bad) = self.keys.fetches();
        out.value("jwks_fetch_total", "result=\"ok\"", good);
        out.value("jwks_fetch_total", "result=\"failed\"", bad);
        out.kind("tokenreview_total", "counter");
        for (result, count) in ["yes", "no", "unanswered"].iter().zip(self.questions.token_reviews)
        {
            out.value("tokenreview_total", &format!("result=\"{result}\""), count);
        }
        out.kind("groups_total", "counter");
        for (result, count) in ["found", "refused", "unanswered"].iter().zip(self.groups.results) {
            out.value("groups_total", &format!("result=\"{result}\""), count);
        }
        if let Some(since) = self.token_since {
            out.gauge("sa_token_age_seconds", unix_now.saturating_sub(since));
        }
        out.kind("build_info", "gauge");
        out.value("build_info", concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1);
        text
    }
}

struct Page<'a>(&'a mut String);

impl Page<'_> {
    fn kind(&mut self, name: &str, kind: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "# TYPE authproxy_{name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(self.0, "authproxy_{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, value: impl std::fmt::Display) {
        self.kind(name, "gauge");
        self.value(name, "", value);
    }
}

const fn class(status: u16) -> &'static str {
    match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "none",
    }
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
