//! A relay as a process, with TLS, and hybrid connections made through Azure Relay's own API.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::chain::Site;
use crate::raw::Client;

pub(crate) struct Lab {
    pub(crate) site: Site,
    ca_pem: String,
    admin_token: String,
    /// What the drivers are told.
    keys: Value,
}

const NAMESPACE: &str = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/default/\
                         providers/Microsoft.Relay/namespaces/lab";

/// Hybrid connections and their properties.
const ENTITIES: [(&str, &str); 5] = [
    ("ent", r#"{"httpRequests":false}"#),
    ("ent2", r#"{"httpRequests":false}"#),
    ("web", "{}"),
    ("open", r#"{"requiresClientAuthorization":false}"#),
    ("hasty", r#"{"acceptTimeoutSeconds":2,"responseTimeoutSeconds":2}"#),
];

impl Lab {
    pub(crate) fn start() -> Self {
        let site = Site::start();
        let read = |path: &str| std::fs::read_to_string(site.path(path)).expect("a file");
        let (ca_pem, admin_token) = (read("relay/ca.pem"), read("relay/admin-token"));
        let mut lab = Self { site, ca_pem, admin_token, keys: json!({}) };
        for (name, properties) in ENTITIES {
            let body = format!(r#"{{"properties":{properties}}}"#);
            lab.arm("PUT", &format!("/hybridConnections/{name}"), &body);
        }
        let root = "RootManageSharedAccessKey";
        for (rule, rights) in [("Listen", "Listen"), ("Send", "Send"), (root, "")] {
            if !rights.is_empty() {
                lab.rule("", rule, rights);
            }
            let key = lab.keys("", rule)["primaryKey"].clone();
            lab.keys[rule] = key;
        }
        lab
    }

    /// A call of Azure Relay's API, which must succeed.
    pub(crate) fn arm(&self, method: &str, tail: &str, body: &str) -> Value {
        let address = self.site.relay_address().parse().expect("an address");
        let mut client = Client::connect(address, &self.ca_pem);
        let path = format!("{NAMESPACE}{tail}?api-version=2021-11-01");
        let fields = format!(
            "Authorization: Bearer {}\r\nContent-Type: application/json\r\n",
            self.admin_token.trim()
        );
        let answer = client.call(method, &path, &fields, body);
        assert!((200..300).contains(&answer.code), "{method} {tail}: {}", answer.text());
        answer.json()
    }

    /// Makes a rule of the hybrid connection `entity`, or of the namespace if that is empty.
    pub(crate) fn rule(&self, entity: &str, rule: &str, right: &str) {
        let body = format!(r#"{{"properties":{{"rights":["{right}"]}}}}"#);
        self.arm("PUT", &rule_path(entity, rule), &body);
    }

    pub(crate) fn keys(&self, entity: &str, rule: &str) -> Value {
        self.arm("POST", &format!("{}/listKeys", rule_path(entity, rule)), "")
    }

    /// A connection string, as whoever asked for it by the relay's own name would have got it.
    pub(crate) fn connection_string(&self, entity: &str, rule: &str) -> String {
        let text = self.keys(entity, rule)["primaryConnectionString"].clone();
        text.as_str().expect("text").replace("sb://kubernetes/", &format!("sb://{}/", self.host()))
    }

    /// `localhost:port`
    pub(crate) fn host(&self) -> String {
        self.site.url.trim_start_matches("https://").to_owned()
    }

    /// Runs a driver, which must find everything as it should be.
    pub(crate) fn drive(&self, program: &Path, words: &[&str]) {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk");
        let (host, ca) = (self.host(), self.site.path("relay/ca.pem"));
        let port = host.rsplit(':').next().expect("a port");
        let mut driver = Command::new(program);
        driver.current_dir(here).args(words).arg(port).stdin(Stdio::null());
        driver.env("NODE_EXTRA_CA_CERTS", &ca).env("SDK_CA", &ca);
        driver.env("SDK_KEYS", self.keys.to_string());
        let out = driver.output().expect("the driver starts");
        let text = String::from_utf8_lossy(&out.stdout);
        let errors = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{text}\n{errors}");
    }

    /// The most memory that the relay has had so far, in KiB; `None` where the system does not
    /// tell.
    pub(crate) fn peak_kib(&self) -> Option<u64> {
        let path = PathBuf::from(format!("/proc/{}/status", self.site.relay_id()));
        let status = std::fs::read_to_string(path).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }
}

fn rule_path(entity: &str, rule: &str) -> String {
    match entity {
        "" => format!("/authorizationRules/{rule}"),
        entity => {
            let entity = entity.replace('/', "~");
            format!("/hybridConnections/{entity}/authorizationRules/{rule}")
        }
    }
}
