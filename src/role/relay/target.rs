//! Request targets of Hybrid Connections: `/$hc/{entity}{/suffix}?...` and `/{entity}{/suffix}?...`.
//!
//! What belongs to the relay is taken out; everything else stays byte for byte as the sender wrote
//! it, because it is the listener's to interpret.

/// A request target, taken apart.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Target {
    /// It begins with `/$hc/`: for WebSockets.
    pub is_hc: bool,
    /// What follows `/$hc/` or the first `/`, up to the query, as sent.
    pub raw_path: String,
    /// The same for look-ups: each segment decoded, in lower case, without empty ends.
    pub path: String,
    /// The query without the relay's parameters; empty when nothing is left.
    pub query: String,
    /// The relay's parameters.
    pub parameters: Parameters,
}

/// The parameters whose names begin with `sb-hc-`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Parameters {
    /// `sb-hc-action`.
    pub action: Option<String>,
    /// `sb-hc-id`.
    pub id: Option<String>,
    /// `sb-hc-token`, decoded.
    pub token: Option<String>,
    /// `sb-hc-statusCode`.
    pub status: Option<String>,
    /// `sb-hc-statusDescription`, decoded.
    pub description: Option<String>,
}

/// First path segments that belong to the relay itself.
pub const RESERVED: [&str; 6] =
    ["subscriptions", "providers", "download", "healthz", "metrics", "status"];

impl Target {
    /// Takes `target` apart. `None` when it does not begin with `/`, or has a segment `.` or `..`:
    /// whoever handles the URL after us would take that for another path.
    #[must_use]
    pub fn parse(target: &str) -> Option<Self> {
        let rest = target.strip_prefix('/')?;
        let (path, query) = split_query(rest);
        let (first, below) = path.split_once('/').unwrap_or((path, ""));
        let is_hc = first.eq_ignore_ascii_case("$hc") || first.eq_ignore_ascii_case("%24hc");
        let raw_path = if is_hc { below } else { path };
        let (query, parameters) = split_parameters(query);
        let lookup: Vec<String> = raw_path.split('/').map(lookup_segment).collect();
        if lookup.iter().any(|segment| matches!(segment.as_str(), "." | "..")) {
            return None;
        }
        Some(Self {
            is_hc,
            raw_path: raw_path.to_owned(),
            path: lookup.join("/").trim_matches('/').to_owned(),
            query,
            parameters,
        })
    }

    /// It names the relay's own API.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        let first = self.path.split('/').next().unwrap_or_default();
        !self.is_hc && (first.is_empty() || RESERVED.contains(&first))
    }

    /// The address at which a listener meets the sender of this target.
    #[must_use]
    pub fn rendezvous(&self, origin: &str, action: &str, id: &str) -> String {
        let mut address = format!("{origin}/$hc/{}?", self.raw_path);
        if !self.query.is_empty() {
            address.push_str(&self.query);
            address.push('&');
        }
        address.push_str("sb-hc-action=");
        address.push_str(action);
        address.push_str("&sb-hc-id=");
        address.push_str(id);
        address
    }

    /// What a listener sees as the target of an HTTP request.
    #[must_use]
    pub fn relayed(&self) -> String {
        if self.query.is_empty() {
            format!("/{}", self.raw_path)
        } else {
            format!("/{}?{}", self.raw_path, self.query)
        }
    }
}

impl Parameters {
    /// The first of a name wins.
    fn set(&mut self, name: &str, value: &str) {
        let (slot, value) = match name.to_ascii_lowercase().as_str() {
            "sb-hc-action" => (&mut self.action, value.to_owned()),
            "sb-hc-id" => (&mut self.id, value.to_owned()),
            "sb-hc-token" => (&mut self.token, form_decode(value)),
            "sb-hc-statuscode" => (&mut self.status, value.to_owned()),
            "sb-hc-statusdescription" => (&mut self.description, form_decode(value)),
            _ => return,
        };
        slot.get_or_insert(value);
    }
}

/// A client that has escaped the question mark before the relay's own parameters is understood.
fn split_query(target: &str) -> (&str, &str) {
    if let Some(split) = target.split_once('?') {
        return split;
    }
    let lower = target.to_ascii_lowercase();
    match lower.find("%3fsb-hc-") {
        Some(at) => (&target[..at], &target[at + 3..]),
        None => (target, ""),
    }
}

fn split_parameters(query: &str) -> (String, Parameters) {
    let mut parameters = Parameters::default();
    let mut kept = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some((name, value)) if is_relay_name(name) => parameters.set(name, value),
            Some(_) | None => kept.push(pair),
        }
    }
    (kept.join("&"), parameters)
}

fn is_relay_name(name: &str) -> bool {
    let prefix = name.as_bytes().first_chunk::<6>();
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"sb-hc-"))
}

/// A slash that was escaped stays so: it is part of a segment, not the end of one.
fn lookup_segment(segment: &str) -> String {
    percent_decode(segment).to_ascii_lowercase().replace('/', "%2f")
}

fn form_decode(text: &str) -> String {
    percent_decode(&text.replace('+', " "))
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let escaped = match after {
            [high, low, after @ ..] if byte == b'%' => {
                hex(*high).zip(hex(*low)).map(|(high, low)| (high << 4 | low, after))
            }
            _ => None,
        };
        if let Some((decoded, after)) = escaped {
            bytes.push(decoded);
            rest = after;
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(target: &str) -> Target {
        Target::parse(target).unwrap()
    }

    #[test]
    fn the_first_segment_tells_the_two_endpoints_apart() {
        for target in ["/$hc/Ent/sub", "/%24hc/Ent/sub", "/$HC/Ent/sub", "/%24HC/ent/SUB"] {
            let target = parse(target);
            assert!(target.is_hc);
            assert_eq!(target.path, "ent/sub");
        }
        assert!(!parse("/ent/$hc").is_hc);
        assert_eq!(Target::parse("http://relay.example/ent"), None);
        assert_eq!(Target::parse("*"), None);
    }

    #[test]
    fn segments_are_decoded_one_by_one() {
        assert_eq!(parse("/$hc/a%62c/%C3%A9/").path, "abc/é");
        assert_eq!(parse("/$hc/ent%2Fother").path, "ent%2fother");
        assert_eq!(parse("/$hc/100%/%zz").path, "100%/%zz");
    }

    #[test]
    fn only_parameters_of_the_relay_are_taken_out() {
        for (query, kept) in [
            ("sb-hc-action=connect", ""),
            ("a=1&sb-hc-action=connect&b=%c3&a=1", "a=1&b=%c3&a=1"),
            ("a&&b&SB-HC-Action=connect", "a&&b"),
            ("sb-hc-foo=1&x", "x"),
            ("sb-hc-foo&x", "sb-hc-foo&x"),
            ("null&sb-hc-token=t", "null"),
            ("sb-hc-sas-key=k", ""),
            ("xsb-hc-action=1", "xsb-hc-action=1"),
            ("", ""),
        ] {
            let target = parse(&format!("/$hc/ent?{query}"));
            assert_eq!(target.query, kept, "{query}");
        }
    }

    #[test]
    fn parameters_are_decoded_and_the_first_wins() {
        let target = parse(
            "/$hc/e?sb-hc-action=accept&sb-hc-id=A&sb-hc-id=B&sb-hc-statusCode=404&\
             sb-hc-statusDescription=not+here%20now&sb-hc-token=SharedAccessSignature%20sr%3Da%252B",
        );
        let Parameters { action, id, token, status, description } = target.parameters;
        assert_eq!(action.as_deref(), Some("accept"));
        assert_eq!(id.as_deref(), Some("A"));
        assert_eq!(token.as_deref(), Some("SharedAccessSignature sr=a%2B"));
        assert_eq!(status.as_deref(), Some("404"));
        assert_eq!(description.as_deref(), Some("not here now"));
    }

    #[test]
    fn an_escaped_question_mark_before_the_parameters_is_understood() {
        let target = parse("/$hc/ent/v2%3Fsb-hc-action=connect&sb-hc-id=7");
        assert_eq!((target.path.as_str(), target.query.as_str()), ("ent/v2", ""));
        assert_eq!(target.parameters.id.as_deref(), Some("7"));
        assert_eq!(parse("/$hc/ent%3Fx?sb-hc-action=connect").path, "ent?x");
    }

    #[test]
    fn the_rendezvous_address_has_the_senders_own_part_first() {
        let target = parse("/$hc/Ent/sub?x=1&sb-hc-action=connect&y&sb-hc-id=7");
        assert_eq!(
            target.rendezvous("wss://relay.example", "accept", "7_G0_aa"),
            "wss://relay.example/$hc/Ent/sub?x=1&y&sb-hc-action=accept&sb-hc-id=7_G0_aa"
        );
        let bare = parse("/$hc/ent");
        assert_eq!(
            bare.rendezvous("ws://n:8080", "accept", "i"),
            "ws://n:8080/$hc/ent?sb-hc-action=accept&sb-hc-id=i"
        );
        assert_eq!(parse("/Ent/a?b&sb-hc-token=t").relayed(), "/Ent/a?b");
    }

    #[test]
    fn the_relays_own_paths_are_reserved() {
        for path in [
            "/",
            "/subscriptions/x",
            "/Providers/x",
            "/Healthz",
            "/download/linux/amd64/x",
            "/status?a",
        ] {
            assert!(parse(path).is_reserved(), "{path}");
        }
        for path in ["/$hc/subscriptions", "/ent/status", "/subscription"] {
            assert!(!parse(path).is_reserved(), "{path}");
        }
    }
}
