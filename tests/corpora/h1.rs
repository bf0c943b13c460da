//! The corpus of hostile and honest requests: how it is read, and what must be true afterwards.
//! Used against the machine alone and against whole processes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// One raw request, and what must come of it.
#[derive(Debug)]
pub(crate) struct Case {
    /// Short name.
    pub(crate) id: String,
    /// The bytes that a caller sends on one connection, a valid token in place.
    pub(crate) raw: Vec<u8>,
    /// What the case is about.
    pub(crate) why: String,
    verdict: Verdict,
    /// Requests that may reach the upstream.
    requests: usize,
    check: Option<String>,
}

#[derive(Debug, Eq, PartialEq)]
enum Verdict {
    Pass,
    /// Refused, with this status if one is prescribed.
    Reject(Option<u16>),
}

/// What was seen when a case was run.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Everything that was sent back to the caller.
    pub(crate) down: Vec<u8>,
    /// Everything that reached the upstream, over all connections.
    pub(crate) up: Vec<u8>,
}

/// All cases, with `token` as the valid one.
pub(crate) fn cases(token: &str) -> Vec<Case> {
    include_str!("h1_cases.jsonl").lines().map(|line| parse(line, token)).collect()
}

fn parse(line: &str, token: &str) -> Case {
    let value: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    let raw = STANDARD.decode(text("raw").expect("raw")).expect("base64");
    let status = value["status"].as_u64().map(|it| u16::try_from(it).expect("a status"));
    Case {
        id: text("id").expect("id"),
        raw: replace(&raw, b"@T@", token.as_bytes()),
        why: text("why").expect("why"),
        verdict: match text("verdict").as_deref() {
            Some("pass") => Verdict::Pass,
            Some("reject") => Verdict::Reject(status),
            other => panic!("unknown verdict {other:?}"),
        },
        requests: value["upstream"].as_u64().and_then(|it| it.try_into().ok()).expect("upstream"),
        check: text("check"),
    }
}

impl Case {
    /// What is wrong with what was seen, if anything.
    pub(crate) fn judge(&self, seen: &Seen) -> Result<(), String> {
        let requests = count(&seen.up, b" HTTP/1.1\r\n");
        if requests != self.requests {
            return Err(format!("{requests} requests upstream, not {}", self.requests));
        }
        let status = first_status(&seen.down);
        match (&self.verdict, status) {
            (Verdict::Pass, Some(status)) if status < 400 => (),
            // What the upstream says of an upgrade passes through, whatever it is.
            (Verdict::Pass, Some(403)) if self.id == "up-early" => (),
            (Verdict::Reject(Some(wanted)), Some(status)) if *wanted == status => (),
            (Verdict::Reject(None), Some(400..)) => (),
            _ => return Err(format!("answered with {status:?} instead of {:?}", self.verdict)),
        }
        self.check.as_deref().map_or(Ok(()), |check| self.check(check, &seen.up))
    }

    /// How many answers a caller gets.
    #[allow(dead_code, reason = "a machine without a socket needs no such end")]
    pub(crate) fn answers(&self) -> usize {
        self.requests.max(1)
    }

    /// Whether the request is refused because of its body, which a process may see only after it
    /// has passed the head on.
    #[allow(dead_code, reason = "a socket is not asked for small pieces")]
    pub(crate) fn is_about_body(&self) -> bool {
        self.id.starts_with("ch-")
    }

    fn check(&self, check: &str, up: &[u8]) -> Result<(), String> {
        let lines = |bytes: &[u8]| -> Vec<String> {
            let text = bytes.escape_ascii().to_string();
            text.split("\\r\\n").map(str::to_ascii_lowercase).collect()
        };
        let named = |name: &str| lines(up).iter().any(|line| line.starts_with(&format!("{name}:")));
        let holds = match check {
            "target bytes unchanged" => {
                let target = |bytes| lines(bytes).first()?.split(' ').nth(1).map(str::to_owned);
                target(up) == target(&self.raw)
            }
            "no trailer upstream" => up.ends_with(b"\r\n0\r\n\r\n"),
            "inbound value not upstream" => {
                let ours = ["host:", "authorization:"];
                let is_field = |line: &&String| {
                    line.contains(": ") && !ours.iter().any(|it| line.starts_with(it))
                };
                lines(&self.raw).iter().filter(is_field).all(|line| !lines(up).contains(line))
            }
            "X-Foo not upstream, Impersonate-User upstream" => {
                !named("x-foo") && named("impersonate-user")
            }
            "no second request upstream when the backend says 403" => count(up, b"smuggled") == 0,
            "no Upgrade upstream" => !named("upgrade"),
            "no Expect upstream" => !named("expect"),
            other => return Err(format!("unknown check {other:?}")),
        };
        if holds { Ok(()) } else { Err(format!("not so: {check}")) }
    }
}

/// The status of the first response that is not interim.
fn first_status(down: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(down);
    let statuses = text.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)?.parse().ok());
    statuses.into_iter().find(|status| *status >= 200 || *status == 101)
}

fn count(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).filter(|window| window == &needle).count()
}

fn replace(haystack: &[u8], needle: &[u8], with: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(haystack.len());
    let mut rest = haystack;
    while let Some(at) = rest.windows(needle.len()).position(|window| window == needle) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(with);
        rest = &rest[at + needle.len()..];
    }
    out.extend_from_slice(rest);
    out
}
