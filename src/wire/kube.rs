//! What the Kubernetes API looks like from outside: errors as `Status` objects, and what a request
//! is about, by the rules of kube-apiserver's `RequestInfo`.
//!
//! The classification serves time-outs and the audit log. No decision about access may rest on it:
//! the target goes on byte for byte, and kube-apiserver decides.

use serde_json::json;

/// A `Status` object, as kubectl prints it.
#[must_use]
pub fn status_body(code: u16, reason: &str, message: &str) -> Vec<u8> {
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    });
    status.to_string().into_bytes()
}

/// The reason that goes with a status code where nothing more exact is known.
#[must_use]
pub const fn status_reason(code: u16) -> &'static str {
    match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        409 => "Conflict",
        413 => "RequestEntityTooLarge",
        415 => "UnsupportedMediaType",
        429 => "TooManyRequests",
        500 => "InternalError",
        502 => "BadGateway",
        503 => "ServiceUnavailable",
        408 | 504 => "Timeout",
        _ => "BadRequest",
    }
}

/// What a request is about.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RequestInfo {
    /// The path, percent escapes decoded.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, ...; for other paths the method in lower case.
    pub verb: String,
    /// Whether the path names resources at all.
    pub is_resource: bool,
    /// The API group; empty for the core group.
    pub group: String,
    /// The API version.
    pub version: String,
    /// The namespace, or empty.
    pub namespace: String,
    /// The resource, in the plural.
    pub resource: String,
    /// The subresource, or empty.
    pub subresource: String,
    /// The object's name, or empty.
    pub name: String,
}

impl RequestInfo {
    /// Classifies a request by its method and target.
    #[must_use]
    pub fn of(method: &str, target: &str) -> Self {
        let (raw_path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = decode(raw_path, false);
        let mut info = Self { verb: method.to_ascii_lowercase(), ..Self::default() };
        let trimmed = path.trim_matches('/').to_owned();
        info.path = path;
        let parts: Vec<&str> =
            if trimmed.is_empty() { Vec::new() } else { trimmed.split('/').collect() };
        let (group, parts) = match parts.as_slice() {
            ["api", rest @ ..] if rest.len() >= 2 => ("", rest),
            ["apis", group, rest @ ..] if rest.len() >= 2 => (*group, rest),
            _ => return info,
        };
        let [version, parts @ ..] = parts else { return info };
        info.is_resource = true;
        group.clone_into(&mut info.group);
        (*version).clone_into(&mut info.version);
        info.classify(method, parts, query);
        info
    }

    /// A response that may flow for hours, so that no time-out fits it.
    #[must_use]
    pub fn is_long_running(&self) -> bool {
        const SUBRESOURCES: [&str; 5] = ["attach", "exec", "proxy", "log", "portforward"];
        matches!(self.verb.as_str(), "watch" | "proxy")
            || (self.is_resource && SUBRESOURCES.contains(&self.subresource.as_str()))
            || (!self.is_resource && self.path.starts_with("/debug/pprof/"))
    }

    fn classify(&mut self, method: &str, parts: &[&str], query: &str) {
        let parts = match parts {
            // kube-apiserver refuses such a path; so will it when it gets there.
            ["proxy" | "watch"] => return,
            [verb @ ("proxy" | "watch"), rest @ ..] => {
                (*verb).clone_into(&mut self.verb);
                rest
            }
            _ => {
                verb_of(method).clone_into(&mut self.verb);
                parts
            }
        };
        let parts = match parts {
            ["namespaces", namespace, rest @ ..] => {
                (*namespace).clone_into(&mut self.namespace);
                match rest {
                    [] | ["status" | "finalize", ..] => parts,
                    _ => rest,
                }
            }
            _ => parts,
        };
        let mut part = parts.iter().copied();
        part.next().unwrap_or_default().clone_into(&mut self.resource);
        part.next().unwrap_or_default().clone_into(&mut self.name);
        if self.verb != "proxy" {
            part.next().unwrap_or_default().clone_into(&mut self.subresource);
        }
        if self.name.is_empty() {
            self.refine(query);
        }
    }

    /// Without a name a get is a list or a watch, and a delete deletes a collection.
    fn refine(&mut self, query: &str) {
        if self.verb == "delete" {
            "deletecollection".clone_into(&mut self.verb);
        }
        if self.verb != "get" {
            return;
        }
        let watch = param(query, "watch").map(|value| value.to_ascii_lowercase());
        let verb = match watch.as_deref() {
            None | Some("false" | "0") => "list",
            Some(_) => "watch",
        };
        verb.clone_into(&mut self.verb);
        let selector = param(query, "fieldSelector").unwrap_or_default();
        let exact = selector.split(',').find_map(|term| {
            let (key, value) = term.split_once('=')?;
            (key == "metadata.name").then(|| value.strip_prefix('=').unwrap_or(value))
        });
        if let Some(name) = exact.filter(|name| is_segment(name)) {
            name.clone_into(&mut self.name);
        }
    }
}

fn verb_of(method: &str) -> &'static str {
    match method {
        "POST" => "create",
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

/// Whether a name could stand in a path.
fn is_segment(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '%'])
}

/// The first value of a query parameter.
fn param(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key, true) == name).then(|| decode(value, true))
    })
}

/// Decodes percent escapes, and in a query the plus sign. For display and comparison only: what is
/// not UTF-8 is replaced.
fn decode(text: &str, is_query: bool) -> String {
    let mut rest = text.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
    while let [first, tail @ ..] = rest {
        rest = tail;
        let byte = match (first, tail) {
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            (b'+', _) if is_query => b' ',
            (byte, _) => *byte,
        };
        bytes.push(byte);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Verb, group, version, namespace, resource, name, subresource.
    fn about(method: &str, target: &str) -> String {
        let info = RequestInfo::of(method, target);
        assert!(info.is_resource, "{target}");
        let RequestInfo { verb, group, version, namespace, resource, name, subresource, .. } = info;
        [verb, group, version, namespace, resource, name, subresource].join(" ")
    }

    #[test]
    fn a_status_is_json_whatever_the_message() {
        let body = status_body(403, "Forbidden", "no \"way\"\n\u{1b}");
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(value["message"], "no \"way\"\n\u{1b}");
        assert_eq!((&value["code"], &value["kind"]), (&json!(403), &json!("Status")));
        assert!(!body.contains(&0x1b));
    }

    #[test]
    fn resource_requests_are_classified_as_kube_apiserver_does() {
        for (method, target, expected) in [
            ("GET", "/api/v1/namespaces", "list  v1  namespaces  "),
            ("GET", "/api/v1/namespaces/other", "get  v1 other namespaces other "),
            ("GET", "/api/v1/namespaces/other/pods", "list  v1 other pods  "),
            ("HEAD", "/api/v1/namespaces/other/pods/foo", "get  v1 other pods foo "),
            ("GET", "/api/v1/pods?watch=true", "watch  v1  pods  "),
            ("GET", "/api/v1/pods?watch", "watch  v1  pods  "),
            ("GET", "/api/v1/pods?watch=False", "list  v1  pods  "),
            ("GET", "/api/v1/pods?watch=0&watch=1", "list  v1  pods  "),
            ("GET", "/api/v1/watch/pods", "watch  v1  pods  "),
            ("GET", "/api/v1/watch/namespaces/other/pods", "watch  v1 other pods  "),
            ("GET", "/api/v1/proxy/namespaces/a/pods/p/x", "proxy  v1 a pods p "),
            ("POST", "/api/v1/namespaces/a/pods/p/exec", "create  v1 a pods p exec"),
            ("GET", "/api/v1/namespaces/a/pods/p/log?follow=1", "get  v1 a pods p log"),
            ("PUT", "/api/v1/namespaces/a/status", "update  v1 a namespaces a status"),
            ("PUT", "/api/v1/namespaces/a/finalize", "update  v1 a namespaces a finalize"),
            ("DELETE", "/api/v1/namespaces/a/pods", "deletecollection  v1 a pods  "),
            ("DELETE", "/api/v1/namespaces/a/pods/p", "delete  v1 a pods p "),
            ("PATCH", "/apis/apps/v1/namespaces/a/deployments/d", "patch apps v1 a deployments d "),
            ("GET", "/api%2Fv1%2Fsecrets", "list  v1  secrets  "),
            ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dx", "list  v1  pods x "),
            ("GET", "/api/v1/pods?fieldSelector=a=b,metadata.name==x", "list  v1  pods x "),
            ("GET", "/api/v1/nodes/n/proxy/run", "get  v1  nodes n proxy"),
            ("OPTIONS", "/api/v1/pods", "  v1  pods  "),
        ] {
            assert_eq!(about(method, target), expected, "{method} {target}");
        }
    }

    #[test]
    fn other_paths_are_not_resources() {
        let plain = [
            "/",
            "/api",
            "/api/v1",
            "/apis",
            "/apis/apps",
            "/apis/apps/v1",
            "/version",
            "/healthz",
            "//api/v1",
            "/openapi/v2",
        ];
        for target in plain {
            let info = RequestInfo::of("GET", target);
            assert!(!info.is_resource, "{target}");
            assert_eq!(info.verb, "get", "{target}");
        }
        // Empty parts in the middle stay, as in kube-apiserver.
        assert_eq!(about("GET", "/api//v1/secrets"), "get    v1 secrets ");
    }

    #[test]
    fn what_may_flow_for_hours() {
        for target in [
            "/api/v1/pods?watch=1",
            "/api/v1/namespaces/a/pods/p/exec?command=id",
            "/api/v1/namespaces/a/pods/p/log",
            "/api/v1/namespaces/a/services/s/proxy/",
            "/debug/pprof/heap",
        ] {
            assert!(RequestInfo::of("GET", target).is_long_running(), "{target}");
        }
        for target in ["/api/v1/pods", "/version", "/api/v1/namespaces/a/pods/p/status"] {
            assert!(!RequestInfo::of("GET", target).is_long_running(), "{target}");
        }
    }
}
