//! Groups that a token leaves out: refused by itself, and asked for at Microsoft Graph where that
//! is configured, at the configured address and with the proxy's own credential.

use std::thread;

use serde_json::{Value, json};

use crate::door::{Door, Site, TENANT, is_whole, request};
use crate::issuer::Issuer;
use crate::keys::{answer, status, until};
use crate::support::mint::{Keys, Signer, now, with};

const CLIENT: &str = "11111111-aaaa-bbbb-cccc-000000000001";
const SECRET: &str = "s3cr3t+&=of the proxy";

fn oid(at: usize) -> String {
    format!("aaaaaaaa-bbbb-cccc-dddd-{at:012}")
}

fn group(at: usize) -> String {
    format!("99999999-0000-0000-0000-{at:012}")
}

fn token_path() -> String {
    format!("/{TENANT}/oauth2/v2.0/token")
}

fn graph_path(kind: &str, at: usize) -> String {
    format!("/v1.0/{kind}/{}/getMemberObjects", oid(at))
}

/// Entra ID and Microsoft Graph, an auth proxy that asks them, and a place that tokens point to.
struct Around {
    issuer: Issuer,
    trap: Issuer,
    door: Door,
}

impl Around {
    /// `more` says what is done about groups.
    fn new(more: impl FnOnce(&Issuer) -> Value) -> Self {
        let (issuer, trap, keys) = (Issuer::start(), Issuer::start(), Keys::new());
        let set = json!({"keys": [with(keys.rsa_jwk(false), json!({"kid": "rsa"}))]});
        issuer.publish_tenant(&set);
        issuer.serve(
            &token_path(),
            &json!({"token_type": "Bearer", "expires_in": 3599, "access_token": "graph.own.token"}),
        );
        let entra = json!({
            "tenant": TENANT, "audiences": ["api://edge"], "authority": issuer.url(),
            "certificateAuthorityFile": "ca.pem",
        });
        let auth = json!({"issuers": [{"type": "entra", "entra": with(entra, more(&issuer))}]});
        let files = vec![
            ("ca.pem", issuer.ca_pem()),
            ("secret", format!("{SECRET}\n")),
            ("assertion", "an.other.token\n".to_owned()),
        ];
        let door = Door::of(Site { auth, files, clock: None }, keys, answer, &[]);
        let around = Self { issuer, trap, door };
        let plain = around.token(0, json!({"groups": []}));
        until("keys", || status(&around.door, &plain) == "200");
        around
    }

    fn asking() -> Self {
        Self::new(|issuer| asked(issuer, json!({"secretFile": "secret"})))
    }

    fn token(&self, at: usize, more: Value) -> String {
        let now = now();
        let claims = json!({
            "aud": "api://edge", "iss": format!("https://sts.windows.net/{TENANT}/"),
            "ver": "1.0", "iat": now, "nbf": now, "exp": now + 3600, "tid": TENANT, "oid": oid(at),
            "upn": format!("user{at}@contoso.example"), "appid": CLIENT,
        });
        let header = json!({"alg": "RS256", "kid": "rsa"}).to_string();
        let claims = with(claims, more).to_string();
        self.door.keys.token(Signer::Rs256, header.as_bytes(), claims.as_bytes())
    }

    /// A token that says where its groups are: at a place that wants to be asked.
    fn overage(&self, at: usize) -> String {
        let endpoint = format!("{}/users/{}/getMemberObjects", self.trap.url(), oid(at));
        self.token(
            at,
            json!({
                "_claim_names": {"groups": "src1"},
                "_claim_sources": {"src1": {"endpoint": endpoint}},
            }),
        )
    }

    fn grants(&self, at: usize, groups: impl IntoIterator<Item = usize>) {
        let groups: Vec<_> = groups.into_iter().map(group).collect();
        let body = json!({"@odata.context": "x", "value": groups});
        self.issuer.serve(&graph_path("users", at), &body);
    }

    fn down(&self, token: &str) -> String {
        let request = request(&format!("Authorization: Bearer {token}\r\n"));
        String::from_utf8_lossy(&self.door.exchange(&request, is_whole)).into_owned()
    }

    /// The groups with which the last request of `at` went upstream.
    fn went_up(&self, at: usize) -> Option<Vec<String>> {
        let user = format!("\r\nImpersonate-User: user{at}@contoso.example\r\n");
        let conns = self.door.went_up();
        let mut texts = conns.iter().map(|conn| String::from_utf8_lossy(&conn.bytes).into_owned());
        let last = texts.rfind(|text| text.contains(&user))?;
        let groups = last.lines().filter_map(|line| line.strip_prefix("Impersonate-Group: "));
        Some(groups.map(|line| line.trim().to_owned()).collect())
    }
}

impl Drop for Around {
    fn drop(&mut self) {
        if !thread::panicking() {
            assert!(self.trap.asked("/").is_empty(), "a place that a token names was asked");
            let told = [self.door.log(), self.door.audit()].concat();
            for secret in [SECRET, "s3cr3t", "graph.own.token", "an.other.token"] {
                assert!(!told.contains(secret), "{secret} was written down");
            }
        }
    }
}

fn asked(issuer: &Issuer, proof: Value) -> Value {
    let graph = with(json!({"client": CLIENT, "url": issuer.url()}), proof);
    json!({"overage": "graph", "graph": graph})
}

#[test]
fn by_itself_a_caller_without_its_groups_is_refused_and_told_why() {
    let around = Around::new(|_| json!({}));
    for token in [around.overage(1), around.token(1, json!({"hasgroups": true}))] {
        let down = around.down(&token);
        assert!(down.starts_with("HTTP/1.1 403 "), "{down}");
        assert!(down.contains("group overage: the token holds no groups (over 200)"), "{down}");
    }
    assert_eq!(around.went_up(1), None);
    assert!(around.issuer.asked(&token_path()).is_empty());
    assert!(around.door.audit().contains("overage"));
}

#[test]
fn groups_are_asked_for_once_with_the_proxys_own_credential() {
    let around = Around::asking();
    around.grants(1, [1, 2, 2]);
    let down = around.down(&around.overage(1));
    assert!(down.starts_with("HTTP/1.1 200 "), "{down}");
    let groups = ["system:authenticated".to_owned(), group(1), group(2)];
    assert_eq!(around.went_up(1).as_deref(), Some(&groups[..]));
    let form =
        around.issuer.conns().into_iter().map(|conn| conn.bytes).find(|bytes| {
            bytes.starts_with(format!("POST {} HTTP/1.1\r\n", token_path()).as_bytes())
        });
    let form = String::from_utf8(form.expect("a request for a token")).expect("ASCII");
    assert!(form.contains("client_secret=s3cr3t%2B%26%3Dof%20the%20proxy"), "{form}");
    assert!(form.contains(&format!("client_id={CLIENT}&")), "{form}");
    let questions = around.issuer.asked("/v1.0/");
    assert_eq!(questions.len(), 1);
    assert_eq!(questions[0].authorization, "Bearer graph.own.token");
    // A second request, and a second caller: one is remembered, the other asked for with the
    // token that is still good.
    assert_eq!(status(&around.door, &around.overage(1)), "200");
    around.grants(2, []);
    assert_eq!(status(&around.door, &around.overage(2)), "200");
    assert_eq!(around.went_up(2).as_deref(), Some(&["system:authenticated".to_owned()][..]));
    assert_eq!(around.issuer.asked("/v1.0/").len(), 2);
    assert_eq!(around.issuer.asked(&token_path()).len(), 1);
}

#[test]
fn an_assertion_spares_the_secret_and_an_application_is_asked_for_as_one() {
    let around = Around::new(|issuer| asked(issuer, json!({"assertionFile": "assertion"})));
    let body = json!({"value": [group(7)]});
    around.issuer.serve(&graph_path("servicePrincipals", 3), &body);
    let app = around.token(3, json!({"idtyp": "app", "hasgroups": true}));
    assert_eq!(status(&around.door, &app), "200");
    let bytes: Vec<u8> = around.issuer.conns().into_iter().flat_map(|conn| conn.bytes).collect();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("client_assertion=an.other.token"), "{text}");
    assert!(!text.contains("client_secret"), "{text}");
}

#[test]
fn many_requests_of_one_caller_are_one_question() {
    let around = Around::asking();
    around.grants(1, [1]);
    let token = around.overage(1);
    thread::scope(|scope| {
        let all: Vec<_> = (0..16).map(|_| scope.spawn(|| status(&around.door, &token))).collect();
        for one in all {
            assert_eq!(one.join().expect("no panic"), "200");
        }
    });
    assert_eq!(around.issuer.asked("/v1.0/").len(), 1);
    assert_eq!(around.issuer.asked(&token_path()).len(), 1);
}

#[test]
fn what_is_no_answer_lets_nobody_in() {
    let around = Around::asking();
    let denied = json!({"error": {"code": "Authorization_RequestDenied", "message": "m"}});
    let next = json!({"value": [group(1)], "@odata.nextLink": around.trap.url()});
    let many: Vec<_> = (0..257).map(group).collect();
    for (at, (wanted, status_of, body)) in [
        ("503", 500, json!({})),
        ("503", 403, denied),
        ("503", 200, next),
        ("503", 200, json!({"value": ["system:masters"]})),
        ("503", 200, json!({"value": ["Administrators"]})),
        ("503", 200, json!({"value": [7]})),
        ("503", 200, json!({"value": "all"})),
        ("503", 200, json!([group(1)])),
        ("503", 302, json!({})),
        ("503", 401, json!({})),
        ("403", 404, json!({})),
        ("403", 200, json!({ "value": many })),
    ]
    .into_iter()
    .enumerate()
    {
        let at = at + 10;
        let location = format!("Location: {}/x\r\n", around.trap.url());
        let fields = if status_of == 302 { location.as_str() } else { "" };
        around.issuer.serve_raw(&graph_path("users", at), status_of, fields, &body.to_string());
        assert_eq!(status(&around.door, &around.overage(at)), wanted, "{status_of} {body}");
        assert_eq!(around.went_up(at), None, "{status_of} {body}");
    }
    until("the reason", || around.door.log().contains("Authorization_RequestDenied"));
    // The 401 made the proxy ask for a new token of its own, and others are let in again.
    around.grants(1, [1]);
    assert_eq!(status(&around.door, &around.overage(1)), "200");
    assert_eq!(around.issuer.asked(&token_path()).len(), 2);
}

#[test]
fn without_a_credential_of_its_own_the_proxy_asks_nothing() {
    let around = Around::asking();
    around.grants(1, [1]);
    let refusal = json!({"error": "invalid_client", "error_description": SECRET});
    around.issuer.serve_raw(&token_path(), 401, "", &refusal.to_string());
    let down = around.down(&around.overage(1));
    assert!(down.starts_with("HTTP/1.1 503 ") && down.contains("\r\nRetry-After: "), "{down}");
    until("the reason", || around.door.log().contains("invalid_client"));
    assert!(around.issuer.asked("/v1.0/").is_empty());
    assert_eq!(around.went_up(1), None);
    // Others are not kept waiting, nor is the place asked again at once.
    assert_eq!(status(&around.door, &around.overage(2)), "503");
    assert_eq!(around.issuer.asked(&token_path()).len(), 1);
    // A caller whose token has its groups needs nobody to be asked.
    assert_eq!(status(&around.door, &around.token(3, json!({"groups": [group(1)]}))), "200");
}

#[test]
fn a_graph_that_cannot_be_trusted_is_not_asked() {
    let stranger = Issuer::start();
    let around = Around::new(|_| asked(&stranger, json!({"secretFile": "secret"})));
    assert_eq!(status(&around.door, &around.overage(1)), "503");
    assert!(stranger.asked("/").is_empty(), "its certificate is of another authority");
    // It is left alone for some seconds, so that its silence keeps no thread busy.
    for at in 2..6 {
        assert_eq!(status(&around.door, &around.overage(at)), "503");
    }
    let tried = || around.door.log().matches("Microsoft Graph does not give groups").count();
    until("the first", || 0 < tried());
    assert!(tried() < 5, "{}", tried());
}
