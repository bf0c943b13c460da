//! The JSON commands of a Hybrid Connections control channel (protocol guide, "Listener
//! interaction"). Each is one text message with one member that names the command.

use std::fmt;

use serde_json::{Map, Value};

/// From the service to a listener.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// A sender wants a WebSocket.
    Accept(Accept),
    /// A sender's HTTP request, whole; a body follows as one binary message if it says so.
    Request(Request),
    /// An HTTP request that has to be fetched from this address.
    Pointer(String),
    /// None of these; to be ignored.
    Unknown,
}

/// From a listener to the service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// The answer to a request; a body follows as one binary message if it says so.
    Response(Response),
    /// A new token for the channel. `None` when it is not even text.
    RenewToken(Option<String>),
    /// None of these; to be ignored.
    Unknown,
}

/// A sender wants a WebSocket: open `address`, or stay silent.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Accept {
    /// Where to go, to be used as it is.
    pub address: String,
    /// The rendezvous id, also part of the address.
    pub id: String,
    /// The fields of the sender's request, repeated ones joined.
    pub connect_headers: Vec<(String, String)>,
    /// Where the sender's connection came from.
    pub remote: Remote,
}

/// An HTTP request of a sender.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Request {
    /// Where the answer may go instead of the control channel.
    pub address: String,
    /// Names the request.
    pub id: String,
    /// Path and query.
    pub target: String,
    /// As sent.
    pub method: String,
    /// Where the sender's connection came from.
    pub remote: Remote,
    /// The fields, repeated ones joined.
    pub headers: Vec<(String, String)>,
    /// One binary message follows.
    pub body: bool,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Response {
    /// Which request.
    pub request_id: String,
    /// 100 to 999; 0 when it was none of these.
    pub status: u16,
    /// The reason phrase, without control characters.
    pub description: String,
    /// The fields; one name may occur more than once.
    pub headers: Vec<(String, String)>,
    /// One binary message follows.
    pub body: bool,
}

/// The far end of a sender's connection. Some listeners fail without it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Remote {
    /// Address as text, without brackets.
    pub address: String,
    /// Port.
    pub port: u16,
}

/// Why a message is not a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// It is not one JSON object.
    NotAnObject,
    /// This member is missing or has the wrong type.
    Member(&'static str),
}

impl Command {
    /// Reads a message from the service.
    ///
    /// # Errors
    ///
    /// [`Malformed`].
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let message = object(text)?;
        if let Some(Value::Object(accept)) = message.get("accept") {
            return Ok(Self::Accept(Accept {
                address: string(accept, "address")?,
                id: string(accept, "id")?,
                connect_headers: headers(accept.get("connectHeaders")),
                remote: remote(accept),
            }));
        }
        let Some(Value::Object(request)) = message.get("request") else {
            return Ok(Self::Unknown);
        };
        let address = string(request, "address")?;
        // Listeners tell the two forms apart by these members, and so do services.
        if !request.contains_key("method") || !request.contains_key("body") {
            return Ok(Self::Pointer(address));
        }
        Ok(Self::Request(Request {
            address,
            id: string(request, "id")?,
            target: string(request, "requestTarget")?,
            method: string(request, "method")?,
            remote: remote(request),
            headers: headers(request.get("requestHeaders")),
            body: request.get("body").and_then(Value::as_bool).ok_or(Malformed::Member("body"))?,
        }))
    }

    /// The message to send; empty for [`Self::Unknown`].
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Accept(accept) => Members::command("accept", |members| {
                members.string("address", &accept.address);
                members.string("id", &accept.id);
                members.strings("connectHeaders", &accept.connect_headers);
                members.remote(&accept.remote);
            }),
            Self::Request(request) => Members::command("request", |members| {
                members.string("address", &request.address);
                members.string("id", &request.id);
                members.string("requestTarget", &request.target);
                members.string("method", &request.method);
                members.remote(&request.remote);
                members.strings("requestHeaders", &request.headers);
                members.raw("body", if request.body { "true" } else { "false" });
            }),
            Self::Pointer(address) => {
                Members::command("request", |members| members.string("address", address))
            }
            Self::Unknown => String::new(),
        }
    }
}

impl Reply {
    /// Reads a message from a listener.
    ///
    /// # Errors
    ///
    /// [`Malformed`].
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let message = object(text)?;
        if let Some(Value::Object(renew)) = message.get("renewToken") {
            return Ok(Self::RenewToken(string(renew, "token").ok()));
        }
        let Some(Value::Object(response)) = message.get("response") else {
            return Ok(Self::Unknown);
        };
        let description = scalar(response.get("statusDescription")).unwrap_or_default();
        Ok(Self::Response(Response {
            request_id: string(response, "requestId")?,
            status: scalar(response.get("statusCode"))
                .and_then(|code| code.parse().ok())
                .filter(|code| (100..=999).contains(code))
                .unwrap_or(0),
            description: description.chars().filter(|c| !c.is_control()).collect(),
            headers: headers(response.get("responseHeaders")),
            body: response.get("body").and_then(Value::as_bool).unwrap_or(false),
        }))
    }

    /// The message to send; empty for [`Self::Unknown`].
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Response(response) => Members::command("response", |members| {
                members.string("requestId", &response.request_id);
                members.raw("statusCode", &response.status.to_string());
                members.string("statusDescription", &response.description);
                members.strings("responseHeaders", &response.headers);
                members.raw("body", if response.body { "true" } else { "false" });
            }),
            Self::RenewToken(token) => Members::command("renewToken", |members| {
                members.string("token", token.as_deref().unwrap_or_default());
            }),
            Self::Unknown => String::new(),
        }
    }
}

/// `fields` with one entry for each name: the values of repeated ones are joined with `, `, those
/// of `Cookie` with `; ` (RFC 9110, 5.3; RFC 6265, 5.4).
pub fn joined<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(String, String)> {
    let mut joined: Vec<(String, String)> = Vec::new();
    for (name, value) in fields {
        match joined.iter_mut().find(|(seen, _)| seen.eq_ignore_ascii_case(name)) {
            Some((seen, values)) => {
                values.push_str(if seen.eq_ignore_ascii_case("cookie") { "; " } else { ", " });
                values.push_str(value);
            }
            None => joined.push((name.to_owned(), value.to_owned())),
        }
    }
    joined
}

/// Writes the members of an object in a fixed order, as the service does.
struct Members {
    text: String,
}

impl Members {
    fn command(name: &str, write: impl FnOnce(&mut Self)) -> String {
        let mut members = Self { text: format!("{{\"{name}\":{{") };
        write(&mut members);
        members.text.push_str("}}");
        members.text
    }

    fn raw(&mut self, name: &str, value: &str) {
        if !self.text.ends_with('{') {
            self.text.push(',');
        }
        self.text.push_str(&quoted(name));
        self.text.push(':');
        self.text.push_str(value);
    }

    fn string(&mut self, name: &str, value: &str) {
        self.raw(name, &quoted(value));
    }

    fn strings(&mut self, name: &str, values: &[(String, String)]) {
        let mut inner = Self { text: "{".to_owned() };
        for (name, value) in values {
            inner.string(name, value);
        }
        inner.text.push('}');
        self.raw(name, &inner.text);
    }

    fn remote(&mut self, remote: &Remote) {
        let mut inner = Self { text: "{".to_owned() };
        inner.string("address", &remote.address);
        inner.raw("port", &remote.port.to_string());
        inner.text.push('}');
        self.raw("remoteEndpoint", &inner.text);
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn object(text: &str) -> Result<Map<String, Value>, Malformed> {
    match serde_json::from_str(text) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) | Err(_) => Err(Malformed::NotAnObject),
    }
}

fn string(members: &Map<String, Value>, name: &'static str) -> Result<String, Malformed> {
    let value = members.get(name).and_then(Value::as_str);
    value.map(str::to_owned).ok_or(Malformed::Member(name))
}

/// A string, number or boolean as text: listeners are careless with types.
fn scalar(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn headers(value: Option<&Value>) -> Vec<(String, String)> {
    let Some(Value::Object(members)) = value else { return Vec::new() };
    let mut found = Vec::new();
    for (name, value) in members {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            other => std::slice::from_ref(other),
        };
        found.extend(values.iter().filter_map(|v| Some((name.clone(), scalar(Some(v))?))));
    }
    found
}

fn remote(members: &Map<String, Value>) -> Remote {
    let Some(Value::Object(remote)) = members.get("remoteEndpoint") else {
        return Remote::default();
    };
    let port = scalar(remote.get("port")).and_then(|port| port.parse().ok());
    let address = scalar(remote.get("address")).unwrap_or_default();
    Remote { address, port: port.unwrap_or_default() }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("not a json object"),
            Self::Member(name) => write!(f, "member {name} is missing or has the wrong type"),
        }
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn an_accept_has_the_members_and_the_order_of_the_service() {
        let accept = Command::Accept(Accept {
            address: "wss://n/$hc/e?sb-hc-action=accept&sb-hc-id=I".to_owned(),
            id: "I".to_owned(),
            connect_headers: pairs(&[("Host", "n"), ("X", "a\"b")]),
            remote: Remote { address: "203.0.113.7".to_owned(), port: 50123 },
        });
        assert_eq!(
            accept.encode(),
            r#"{"accept":{"address":"wss://n/$hc/e?sb-hc-action=accept&sb-hc-id=I","id":"I","connectHeaders":{"Host":"n","X":"a\"b"},"remoteEndpoint":{"address":"203.0.113.7","port":50123}}}"#
        );
        assert_eq!(Command::parse(&accept.encode()), Ok(accept));
    }

    #[test]
    fn the_two_forms_of_a_request_are_told_apart() {
        let full = Command::Request(Request {
            address: "wss://n".to_owned(),
            id: "I".to_owned(),
            target: "/e/sub?x=1".to_owned(),
            method: "POST".to_owned(),
            remote: Remote { address: "::1".to_owned(), port: 1 },
            headers: pairs(&[("Via", "1.1 n")]),
            body: true,
        });
        assert_eq!(
            full.encode(),
            r#"{"request":{"address":"wss://n","id":"I","requestTarget":"/e/sub?x=1","method":"POST","remoteEndpoint":{"address":"::1","port":1},"requestHeaders":{"Via":"1.1 n"},"body":true}}"#
        );
        assert_eq!(Command::parse(&full.encode()), Ok(full));

        let pointer = Command::Pointer("wss://n".to_owned());
        assert_eq!(pointer.encode(), r#"{"request":{"address":"wss://n"}}"#);
        assert_eq!(Command::parse(&pointer.encode()), Ok(pointer));
    }

    #[test]
    fn what_other_implementations_write_is_understood() {
        let escaped = r#"{"accept":{"address":"wss:\/\/n\/$hc\/e","id":"I","new":[1]},"more":{}}"#;
        let Ok(Command::Accept(accept)) = Command::parse(escaped) else { panic!("an accept") };
        assert_eq!(accept.address, "wss://n/$hc/e");

        let loose = r#"{"response":{"requestId":"I","statusCode":"204","statusDescription":"a\r\nb",
            "responseHeaders":{"n":7,"l":["x",true,null]}}}"#;
        let Ok(Reply::Response(response)) = Reply::parse(loose) else { panic!("a response") };
        assert_eq!((response.status, response.description.as_str()), (204, "ab"));
        assert_eq!(response.headers, pairs(&[("l", "x"), ("l", "true"), ("n", "7")]));
        assert!(!response.body);
    }

    #[test]
    fn a_response_and_a_token_come_back_as_written() {
        let response = Reply::Response(Response {
            request_id: "I".to_owned(),
            status: 200,
            description: "OK".to_owned(),
            headers: pairs(&[("content-type", "text/plain")]),
            body: true,
        });
        assert_eq!(Reply::parse(&response.encode()), Ok(response));
        let renew = Reply::RenewToken(Some("SharedAccessSignature sr=x".to_owned()));
        assert_eq!(renew.encode(), r#"{"renewToken":{"token":"SharedAccessSignature sr=x"}}"#);
        assert_eq!(Reply::parse(&renew.encode()), Ok(renew));
    }

    #[test]
    fn malformed_messages_are_refused_and_unknown_ones_are_not() {
        for text in ["", "accept", "[]", "{\"accept\":{}", "\u{7b}\u{0}\u{7d}"] {
            assert_eq!(Command::parse(text), Err(Malformed::NotAnObject), "{text}");
            assert_eq!(Reply::parse(text), Err(Malformed::NotAnObject), "{text}");
        }
        assert_eq!(Command::parse(r#"{"injectFault":{"delay":"1"}}"#), Ok(Command::Unknown));
        assert_eq!(Reply::parse(r#"{"ping":{}}"#), Ok(Reply::Unknown));
        let no_id = r#"{"accept":{"address":"wss://n"}}"#;
        assert_eq!(Command::parse(no_id), Err(Malformed::Member("id")));
        let no_id = r#"{"response":{"statusCode":200}}"#;
        assert_eq!(Reply::parse(no_id), Err(Malformed::Member("requestId")));
        let number = r#"{"renewToken":{"token":5}}"#;
        assert_eq!(Reply::parse(number), Ok(Reply::RenewToken(None)));
        let wild = r#"{"response":{"requestId":"I","statusCode":70000}}"#;
        let Ok(Reply::Response(response)) = Reply::parse(wild) else { panic!("a response") };
        assert_eq!(response.status, 0);
    }

    #[test]
    fn repeated_fields_are_joined() {
        let fields = [("A", "1"), ("Cookie", "x"), ("a", "2"), ("cookie", "y")];
        assert_eq!(joined(fields.into_iter()), pairs(&[("A", "1, 2"), ("Cookie", "x; y")]));
    }
}
