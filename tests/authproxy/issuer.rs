//! Stands in for Entra ID, an OpenID Connect issuer and Microsoft Graph at once, and remembers what
//! it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cluster_connect::wire::h1::RequestHead;
use serde_json::{Value, json};

use crate::door::TENANT;
use crate::support::recorder::{Conn, Recorder};
use crate::support::tls::Pki;

/// See the module's documentation.
pub(crate) struct Issuer {
    recorder: Recorder,
    pki: Pki,
    state: Arc<Mutex<State>>,
}

/// What it answers, by path without the query, and what it was asked.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Status, more fields, body. What is not here is a 404.
    pub(crate) answers: BTreeMap<String, (u16, String, String)>,
    pub(crate) asked: Vec<Asked>,
}

#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) authorization: String,
    pub(crate) if_none_match: String,
}

impl Issuer {
    pub(crate) fn start() -> Self {
        let (pki, state) = (Pki::new(), Arc::new(Mutex::new(State::default())));
        let own = Arc::clone(&state);
        let recorder = Recorder::start(pki.server(&[b"http/1.1"]), move |head| {
            own.lock().unwrap_or_else(PoisonError::into_inner).answer(head)
        });
        Self { recorder, pki, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.recorder.address())
    }

    pub(crate) fn ca_pem(&self) -> String {
        self.pki.ca_pem.clone()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers `path` with this JSON from now on.
    pub(crate) fn serve(&self, path: &str, body: &Value) {
        self.serve_raw(path, 200, "", &body.to_string());
    }

    pub(crate) fn serve_raw(&self, path: &str, status: u16, fields: &str, body: &str) {
        let answer = (status, fields.to_owned(), body.to_owned());
        self.state().answers.insert(path.to_owned(), answer);
    }

    /// Publishes the documents of both forms of the tenant, and `keys` for both.
    pub(crate) fn publish_tenant(&self, keys: &Value) {
        let keys_url = format!("{}/{TENANT}/keys", self.url());
        for (version, name) in [
            ("", format!("https://sts.windows.net/{TENANT}/")),
            ("/v2.0", format!("https://login.microsoftonline.com/{TENANT}/v2.0")),
        ] {
            let path = format!("/{TENANT}{version}/.well-known/openid-configuration");
            self.serve(&path, &json!({"issuer": name, "jwks_uri": keys_url, "other": [1]}));
        }
        self.serve(&format!("/{TENANT}/keys"), keys);
    }

    /// The requests whose path begins so, oldest first.
    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        let asked = self.state().asked.clone().into_iter();
        asked
            .filter(|it| it.line.split(' ').nth(1).is_some_and(|at| at.starts_with(path)))
            .collect()
    }

    /// Every byte that came, by connection.
    pub(crate) fn conns(&self) -> Vec<Conn> {
        self.recorder.settle()
    }
}

impl State {
    fn answer(&mut self, head: &RequestHead) -> Vec<u8> {
        let of = |name: &str| head.fields.text(name).unwrap_or_default().to_owned();
        self.asked.push(Asked {
            line: format!("{} {}", head.method(), head.target()),
            authorization: of("authorization"),
            if_none_match: of("if-none-match"),
        });
        let (status, fields, body) = match self.answers.get(head.path()) {
            // A tag is the fields of an answer that has one.
            Some((200, fields, _))
                if !fields.is_empty()
                    && fields.trim_end() == format!("ETag: {}", of("if-none-match")) =>
            {
                (304, fields.as_str(), "")
            }
            Some((status, fields, body)) => (*status, fields.as_str(), body.as_str()),
            None => (404, "", "{}"),
        };
        let length = body.len();
        format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
            .into_bytes()
    }
}
