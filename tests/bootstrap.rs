//! An edge with an administrator's kubeconfig, against the demonstration API server: it makes an
//! account that may impersonate and nothing else, and lives on that account's token.

#[path = "../bin/quickstart/demo/mod.rs"]
mod demo;
#[allow(dead_code, reason = "shared with other test programs, each of which uses a part")]
#[path = "support/raw.rs"]
mod raw;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use cluster_connect::auth::impersonate::{self, Field, Verbs};
use cluster_connect::auth::review::Impersonation;
use cluster_connect::auth::{GroupState, Principal};
use cluster_connect::config::errors::{Code, Error};
use cluster_connect::config::kubeconfig::{self, Upstream};
use cluster_connect::config::manifest::rights::Rights;
use cluster_connect::role::auth_proxy::upstream::{AccountToken, TokenSource};
use cluster_connect::start::bootstrap::{Account, Prepared, TOKEN_FILE, check_privileges, prepare};
use cluster_connect::wire::kubeconfig::Token;
use serde_json::{Value, json};

const SELF: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const ACCOUNT: &str = "system:serviceaccount:cluster-connect:kube-aad-proxy";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
const ROLE: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-connect:kube-aad-proxy";

/// A demonstration cluster, and the state directory of an edge.
struct Site {
    server: demo::Server,
    dir: PathBuf,
}

impl Site {
    fn new() -> Self {
        Self::with(demo::Options::default())
    }

    fn with(options: demo::Options) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("cc-boot-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        Self { server: demo::Server::start(options).expect("the server starts"), dir }
    }

    /// A user with a fixed token and the cluster roles named.
    fn with_user(roles: &[&str]) -> Self {
        let tokens = vec![("users-token".into(), "user".into(), Vec::new())];
        let site = Self::with(demo::Options { tokens, ..demo::Options::default() });
        for role in roles {
            site.server.bind(&format!("user-{role}"), role, "User", &["user"]);
        }
        site
    }

    fn load(&self, kubeconfig: &str) -> Upstream {
        let path = self.dir.join("kubeconfig");
        fs::write(&path, kubeconfig).expect("a file is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode is set");
        kubeconfig::load(&path, None).expect("a kubeconfig")
    }

    fn admin(&self) -> Upstream {
        self.load(&self.server.kubeconfig_admin().expect("a certificate"))
    }

    fn user(&self) -> Upstream {
        self.load(&self.server.kubeconfig_token("users-token"))
    }

    fn prepare(&self, access: &Upstream) -> Result<Prepared, Error> {
        prepare(access, &self.dir, &Account::default())
    }

    fn file(&self) -> PathBuf {
        self.dir.join(TOKEN_FILE)
    }

    /// Runs `what` and gives the users and verbs that the API server has seen meanwhile.
    fn watched<T>(&self, what: impl FnOnce() -> T) -> (T, Vec<(String, String)>) {
        let before = self.server.audit().len();
        let result = what();
        let text = |event: &Value, at: &str| {
            event.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let events = self.server.audit().split_off(before);
        let seen = |event: &Value| (text(event, "/user/username"), text(event, "/verb"));
        (result, events.iter().map(seen).collect())
    }

    fn call(
        &self,
        token: &str,
        method: &str,
        path: &str,
        fields: &str,
        body: &str,
    ) -> raw::Response {
        let fields = format!("Authorization: Bearer {token}\r\n{fields}");
        let mut client = raw::Client::connect(self.server.addr(), self.server.ca_pem());
        match method {
            "GET" => client.get(path, &fields),
            _ => client.call(method, path, &fields, body),
        }
    }

    fn as_admin(&self, method: &str, path: &str, body: &str) -> raw::Response {
        self.call(self.server.admin_token(), method, path, "", body)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn token(prepared: &Prepared) -> AccountToken {
    match &prepared.token {
        TokenSource::Requested(requested) => requested.token.clone(),
        other => panic!("{other:?}"),
    }
}

fn refused(result: Result<Prepared, Error>) -> Error {
    match result {
        Err(error) => error,
        Ok(_) => panic!("it was prepared"),
    }
}

#[test]
fn an_administrators_kubeconfig_gives_an_account_that_may_impersonate_and_nothing_else() {
    let site = Site::new();
    let admin = site.admin();
    assert!(admin.identity.is_some(), "as in k3s.yaml");
    let prepared = site.prepare(&admin).unwrap();
    assert!(prepared.access.identity.is_none(), "a certificate would beat the token");
    let token = token(&prepared);
    assert_eq!(prepared.access.token, Some(Token::Inline(token.token.clone())));
    assert_eq!(fs::metadata(site.file()).unwrap().mode() & 0o777, 0o600);

    let bearer = token.token.expose();
    let get = |path: &str, fields: &str| site.call(bearer, "GET", path, fields, "").code;
    assert_eq!(get("/api/v1/secrets", ""), 403);
    assert_eq!(get("/api/v1/namespaces/cluster-connect/secrets", ""), 403);
    assert_eq!(get("/api/v1/pods", ""), 403);
    assert_eq!(site.call(bearer, "POST", BINDINGS, "", "{}").code, 403);
    let other = "/api/v1/namespaces/kube-system/serviceaccounts/default/token";
    assert_eq!(site.call(bearer, "POST", other, "", "{}").code, 403);

    let review = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let alice = "Impersonate-User: alice\r\nImpersonate-Group: system:authenticated\r\n\
                 Impersonate-Group: people\r\nImpersonate-Extra-Oid: 1\r\n\
                 Impersonate-Extra-Cluster-Connect.internal%2Fcredential-Id: 2\r\n\
                 Impersonate-Extra-Cluster-Connect.internal%2Fremote-Ip: 10.0.0.1\r\n";
    let me = site.call(bearer, "POST", review, alice, "{}");
    assert_eq!(me.code, 201, "{}", me.text());
    assert_eq!(me.json().pointer("/status/userInfo/username"), Some(&json!("alice")));
    for never in [
        "Impersonate-User: system:serviceaccount:kube-system:default\r\n",
        "Impersonate-User: alice\r\nImpersonate-Uid: 5\r\n",
        "Impersonate-User: alice\r\nImpersonate-Extra-Other: 5\r\n",
    ] {
        assert_eq!(site.call(bearer, "POST", review, never, "{}").code, 403, "{never}");
    }

    let found = check_privileges(&prepared.access, Rights::default(), true).unwrap();
    assert_eq!((found.is_administrator, found.excess, found.missing), (false, vec![], vec![]));
}

#[test]
fn the_second_start_uses_the_kept_token_and_never_the_administrators_credential() {
    let site = Site::new();
    let admin = site.admin();
    let first = site.prepare(&admin).unwrap();
    let (second, seen) = site.watched(|| site.prepare(&admin).unwrap());
    assert_eq!(token(&second), token(&first));
    assert!(!seen.is_empty());
    assert!(seen.iter().all(|(user, _)| user == ACCOUNT), "{seen:?}");

    // The credential of the kubeconfig may even be gone by now.
    let worthless = site.load(&site.server.kubeconfig_token("expired"));
    assert_eq!(token(&site.prepare(&worthless).unwrap()), token(&first));
}

#[test]
fn what_is_there_already_is_not_written_again() {
    let site = Site::new();
    let admin = site.admin();
    let (_, seen) = site.watched(|| site.prepare(&admin).unwrap());
    let writes = |seen: &[(String, String)]| {
        let by_admin = seen.iter().filter(|(user, _)| user == "system:admin");
        by_admin.filter(|(_, verb)| verb != "get").count()
    };
    // Six objects and a TokenRequest.
    assert_eq!(writes(&seen), 7, "{seen:?}");
    fs::remove_file(site.file()).unwrap();
    let (_, seen) = site.watched(|| site.prepare(&admin).unwrap());
    assert_eq!(writes(&seen), 1, "{seen:?}");
}

#[test]
fn a_lost_token_brings_the_edge_back_to_the_kubeconfig() {
    let site = Site::new();
    let admin = site.admin();
    let mut last = token(&site.prepare(&admin).unwrap());
    let other = json!({ "url": "https://elsewhere/token", "token": "x", "issued": 1, "life": 9 });
    let losses: [&dyn Fn(); 4] = [
        &|| fs::remove_file(site.file()).unwrap(),
        &|| fs::write(site.file(), "garbage").unwrap(),
        &|| fs::write(site.file(), other.to_string()).unwrap(),
        &|| site.server.revoke_service_account_tokens(),
    ];
    for (number, lose) in losses.into_iter().enumerate() {
        lose();
        let (prepared, seen) = site.watched(|| site.prepare(&admin).unwrap());
        assert!(seen.iter().any(|(user, _)| user == "system:admin"), "{number}");
        let new = token(&prepared);
        assert_ne!(new.token, last.token, "{number}");
        last = new;
    }
    site.server.revoke_service_account_tokens();
    let worthless = site.load(&site.server.kubeconfig_token("expired"));
    let error = refused(site.prepare(&worthless));
    assert_eq!(error.code, Code::ApiServerCredential, "{error}");
}

#[test]
fn a_token_of_another_api_server_is_not_shown_to_this_one() {
    let (here, there) = (Site::new(), Site::new());
    let foreign = token(&there.prepare(&there.admin()).unwrap());
    fs::copy(there.file(), here.file()).unwrap();
    let (prepared, seen) = here.watched(|| here.prepare(&here.admin()).unwrap());
    assert_ne!(token(&prepared).token, foreign.token);
    // A token that is not known here would have been refused, as nobody.
    assert!(seen.iter().all(|(user, _)| !user.is_empty()), "{seen:?}");
}

#[test]
fn an_old_token_is_renewed_with_itself() {
    let site = Site::new();
    let admin = site.admin();
    let first = token(&site.prepare(&admin).unwrap());
    let mut file: Value = serde_json::from_slice(&fs::read(site.file()).unwrap()).unwrap();
    // As on a machine whose clock was not set yet when the token came.
    file["issued"] = json!(5);
    fs::write(site.file(), file.to_string()).unwrap();
    let (prepared, seen) = site.watched(|| site.prepare(&admin).unwrap());
    assert!(seen.iter().all(|(user, _)| user == ACCOUNT), "{seen:?}");
    let second = token(&prepared);
    assert_ne!(second.token, first.token);
    assert!(5 < second.issued);
    assert_eq!(token(&site.prepare(&admin).unwrap()), second, "the new one is kept");
}

#[test]
fn rights_that_are_gone_or_new_are_brought_back_with_the_kubeconfig() {
    let site = Site::new();
    let admin = site.admin();
    site.prepare(&admin).unwrap();
    assert_eq!(site.as_admin("DELETE", ROLE, "").code, 200);
    let (_, seen) = site.watched(|| site.prepare(&admin).unwrap());
    assert!(seen.iter().any(|(user, verb)| user == "system:admin" && verb == "create"));

    let rights = Rights { passthrough: true, sar: true, constrained: false };
    let account = Account { rights, ..Account::default() };
    let prepared = prepare(&admin, &site.dir, &account).unwrap();
    let found = check_privileges(&prepared.access, rights, true).unwrap();
    assert!(found.missing.is_empty(), "{found:?}");

    // And taken away with the option: a role is never more than it must be after a bootstrap.
    fs::remove_file(site.file()).unwrap();
    site.prepare(&admin).unwrap();
    let role = site.as_admin("GET", ROLE, "").json();
    let role = role["rules"].to_string();
    assert!(!role.contains("reviews") && !role.contains("original-user"), "{role}");
}

#[test]
fn the_constrained_role_is_enough_for_what_is_sent_and_keeps_masters_out() {
    let site = Site::new();
    let rights = Rights { passthrough: false, sar: true, constrained: true };
    let account = Account { rights, ..Account::default() };
    let prepared = prepare(&site.admin(), &site.dir, &account).unwrap();
    let found = check_privileges(&prepared.access, rights, true).unwrap();
    assert!(found.missing.is_empty() && found.excess.is_empty(), "{found:?}");
    let own = token(&prepared).token.expose().clone();

    let principal = Principal {
        user: "alice".to_owned(),
        groups: (0..5).map(|n| format!("team-{n}")).collect(),
        group_state: GroupState::Complete,
        extra: vec![(Verbs::Constrained.key("oid").into_owned(), "o-1".to_owned())],
        issuer: "https://issuer.test".to_owned(),
        subject: "s".to_owned(),
        display: String::new(),
        credential_id: "c".to_owned(),
        expires: 0,
        is_app: false,
    };
    let text = |fields: Vec<Field<'_>>| -> String {
        fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
    };
    let plain = text(impersonate::fields(&principal, None).unwrap());
    // Discovery is no resource, and a review of oneself is one.
    assert_eq!(site.call(&own, "GET", "/apis", &plain, "").code, 200);
    let whoami = |fields: &str| site.call(&own, "POST", SELF, fields, "{}");
    let me = whoami(&plain).json();
    let me = &me["status"]["userInfo"];
    assert_eq!(me["username"], "alice");
    assert_eq!(me["extra"]["cluster-connect.internal/oid"], json!(["o-1"]));

    let bob = Impersonation::read([("Impersonate-User", "bob")]).unwrap();
    let as_bob = text(bob.fields(&principal, Verbs::Constrained, None).unwrap());
    let me = whoami(&as_bob).json();
    assert_eq!(me["status"]["userInfo"]["username"], "bob");
    let original =
        &me["status"]["userInfo"]["extra"]["cluster-connect.internal/original-user-info"];
    assert!(original[0].as_str().unwrap().contains("\"alice\""), "{me}");

    for more in [
        "Impersonate-Group: system:masters\r\n",
        "Impersonate-Extra-oid: o-1\r\n",
        "Impersonate-Extra-example.com%2Fother: x\r\n",
        "Impersonate-Uid: 1\r\n",
    ] {
        assert_eq!(whoami(&format!("{plain}{more}")).code, 403, "{more}");
    }
    for name in ["system:serviceaccount:kube-system:default", "system:node:a"] {
        let fields = format!("Impersonate-User: {name}\r\n");
        assert_eq!(whoami(&fields).code, 403, "{name}");
    }
    // The old verb beside it would make all that worthless.
    let legacy = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "legacy"},
        "rules": [{"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"]}],
    });
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    assert_eq!(site.as_admin("POST", path, &legacy.to_string()).code, 201);
    site.server.bind("legacy", "legacy", "User", &[ACCOUNT]);
    let error = check_privileges(&prepared.access, rights, true).unwrap_err();
    assert_eq!(error.code, Code::LeastPrivilege);
    assert!(error.message.contains("old verb"), "{error}");
}

#[test]
fn a_kubeconfig_without_rights_is_an_error_that_says_so_and_nothing_is_kept() {
    for roles in [&[][..], &["view"], &["edit"]] {
        let site = Site::with_user(roles);
        let error = refused(site.prepare(&site.user()));
        assert_eq!(error.code, Code::ApiServerForbidden, "{roles:?} {error}");
        assert!(error.message.contains("User \"user\" cannot"), "{error}");
        assert!(error.hint.is_some());
        assert!(!site.file().exists());
    }
}

#[test]
fn an_api_server_that_is_away_or_untrusted_has_a_code_of_its_own() {
    let (site, other) = (Site::new(), Site::new());
    let admin = site.admin();
    let stranger = Upstream { roots: other.admin().roots, ..admin.clone() };
    let (error, seen) = site.watched(|| refused(site.prepare(&stranger)));
    assert_eq!(error.code, Code::ApiServerUntrusted, "{error}");
    assert!(seen.is_empty(), "no credential is shown to a server that is not trusted");
    site.prepare(&admin).unwrap();
    site.server.stop();
    let error = refused(site.prepare(&admin));
    assert_eq!(error.code, Code::ApiServerUnreachable, "{error}");
    assert!(site.file().exists(), "the token is not lost by that");
}

#[test]
fn a_state_file_that_others_can_read_is_refused() {
    let site = Site::new();
    let admin = site.admin();
    site.prepare(&admin).unwrap();
    fs::set_permissions(site.file(), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(refused(site.prepare(&admin)).code, Code::FileExposed);
}

#[test]
fn a_binding_that_stands_in_the_way_is_a_conflict_and_stays() {
    let site = Site::new();
    site.server.bind("cluster-connect:kube-aad-proxy", "view", "User", &["somebody"]);
    let error = refused(site.prepare(&site.admin()));
    assert_eq!(error.code, Code::BootstrapConflict, "{error}");
    let path = format!("{BINDINGS}/cluster-connect:kube-aad-proxy");
    let binding = site.as_admin("GET", &path, "").json();
    assert_eq!(binding.pointer("/roleRef/name"), Some(&json!("view")));
}

#[test]
fn a_credential_that_may_more_than_it_must_is_refused_or_told_loudly() {
    let site = Site::new();
    let admin = site.admin();
    let error = check_privileges(&admin, Rights::default(), true).unwrap_err();
    assert_eq!(error.code, Code::LeastPrivilege);
    assert!(error.message.contains("administrator"), "{error}");
    assert!(check_privileges(&admin, Rights::default(), false).unwrap().is_administrator);

    let site = Site::with_user(&["edit"]);
    let found = check_privileges(&site.user(), Rights::default(), false).unwrap();
    assert!(!found.is_administrator);
    assert_eq!(found.excess, ["list every secret", "impersonate service accounts"]);
    assert!(found.missing.contains(&"impersonate users".to_owned()), "{found:?}");
    let error = check_privileges(&site.user(), Rights::default(), true).unwrap_err();
    assert_eq!(error.code, Code::LeastPrivilege);

    let site = Site::with_user(&[]);
    let found = check_privileges(&site.user(), Rights::default(), true).unwrap();
    assert!(found.excess.is_empty() && !found.missing.is_empty());
    let nobody = site.load(&site.server.kubeconfig_token("unknown"));
    let error = check_privileges(&nobody, Rights::default(), true).unwrap_err();
    assert_eq!(error.code, Code::ApiServerCredential);
}

#[test]
fn another_server_name_is_for_kubeconfigs_that_are_used_as_they_are() {
    let site = Site::with_user(&[]);
    let user = Upstream { server_name: "localhost".into(), ..site.user() };
    check_privileges(&user, Rights::default(), true).unwrap();
    assert_eq!(refused(site.prepare(&user)).code, Code::KubeconfigUnsupported);
    let wrong = Upstream { server_name: "elsewhere".into(), ..user };
    let error = check_privileges(&wrong, Rights::default(), true).unwrap_err();
    assert_eq!(error.code, Code::ApiServerUntrusted, "{error}");
}
