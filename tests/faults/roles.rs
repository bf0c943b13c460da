//! A token of the caller's own issuer in place of a shared key: what a role opens, what it does not,
//! and that it ends with the role.

use std::io::Read as _;

use serde_json::{Value, json};

use super::eventually;
use super::joining::{connect, upgrade};
use crate::chain::{RELAY_AUDIENCE, Site};
use crate::raw::{Client, Response};
use crate::trial::{Trial, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial(a_role_stands_in_for_a_shared_key_until_it_is_taken_away)]
}

const NAMESPACE: &str = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/default/\
                         providers/Microsoft.Relay/namespaces/contoso";
const LISTENER: &str = "26e0b698-aa6d-4085-9386-aadae190014d";
const SENDER: &str = "26baccc8-eea7-41f1-98f4-1762cc7f685d";

fn manage(site: &Site, method: &str, tail: &str, version: &str, body: &Value) -> Response {
    let token = std::fs::read_to_string(site.path("relay/admin-token")).expect("a token");
    let path = format!("{NAMESPACE}{tail}?api-version={version}");
    let bearer = format!("Authorization: Bearer {}\r\n", token.trim());
    connect(site).call(method, &path, &bearer, &body.to_string())
}

fn role(site: &Site, method: &str, entity: &str, n: u8, role: &str, who: &str) -> u16 {
    let tail = format!(
        "/hybridConnections/{entity}/providers/Microsoft.Authorization/roleAssignments/\
         00000000-0000-0000-0000-0000000000{n:02x}"
    );
    let body = json!({"properties": {
        "principalId": who,
        "roleDefinitionId":
            format!("{NAMESPACE}/providers/Microsoft.Authorization/roleDefinitions/{role}"),
    }});
    manage(site, method, &tail, "2022-04-01", &body).code
}

/// A control channel that stays open, opened with `fields`.
fn listen(site: &Site, entity: &str, fields: &str) -> Client {
    let mut client = connect(site);
    client.send(format!(
        "GET /$hc/{entity}?sb-hc-action=listen HTTP/1.1\r\nHost: localhost\r\n{fields}\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ));
    let (code, head) = client.head();
    assert_eq!(code, 101, "{head}");
    client
}

/// What the Close says that comes next.
fn close_code(control: Client) -> u16 {
    let (mut stream, unread) = control.into_parts();
    let mut start = unread;
    while start.len() < 4 {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a Close");
        start.extend(byte);
    }
    assert_eq!(start[0], 0x88, "a Close frame");
    u16::from_be_bytes([start[2], start[3]])
}

fn a_role_stands_in_for_a_shared_key_until_it_is_taken_away() {
    let site = Site::start();
    for entity in ["lab", "lab2"] {
        let tail = format!("/hybridConnections/{entity}");
        assert_eq!(manage(&site, "PUT", &tail, "2021-11-01", &json!({})).code, 200);
    }
    let subject = "robot@contoso.com";
    let token = site.token(RELAY_AUDIENCE, subject);
    let says = |entity: &str, action: &str, token: &str, text: &str| {
        let answer = upgrade(&site, entity, action, token);
        assert!(answer.head.contains(text), "{action} {entity}: {}", answer.head);
        answer.code
    };
    let no_right = "'Send' claim(s) are required";
    eventually("the relay has the issuer's keys", || {
        upgrade(&site, "lab", "connect", &token).code != 503
    });
    assert_eq!(says("lab", "connect", &token, no_right), 401, "no role yet");
    assert_eq!(says("nowhere", "connect", &token, no_right), 401, "and nothing to learn");
    let foreign = site.token("another-audience", subject);
    assert_eq!(says("lab", "connect", &foreign, "InvalidAudience: "), 401);
    let (signed, signature) = token.rsplit_once('.').expect("a JWT");
    let first = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{signed}.{first}{}", &signature[1..]);
    assert_eq!(says("lab", "connect", &forged, "InvalidSignature: "), 401);
    assert_eq!(says("lab", "connect", "a.b.c", "MalformedToken: "), 401);

    assert_eq!(role(&site, "PUT", "lab", 1, LISTENER, subject), 201);
    let control = listen(&site, "lab", &format!("ServiceBusAuthorization: {token}\r\n"));
    let bearer = format!("ServiceBusAuthorization: Bearer {token}\r\n");
    let other = listen(&site, "lab/suffix", &bearer);
    assert_eq!(says("lab", "connect", &token, no_right), 401, "to listen is not to send");
    assert_eq!(says("lab2", "listen", &token, "'Listen' claim(s) are required"), 401);
    assert_eq!(role(&site, "PUT", "lab", 2, SENDER, subject), 201);
    assert_eq!(says("lab2", "connect", &token, no_right), 401);

    let described = connect(&site).get(
        "/lab?api-version=2016-07",
        &format!("X-PROCESS-AT: ServiceBus\r\nAuthorization: Bearer {token}\r\n"),
    );
    assert_eq!(described.code, 200);
    assert!(described.text().contains("<ListenerCount>2</ListenerCount>"), "{}", described.text());

    assert_eq!(role(&site, "DELETE", "lab", 1, LISTENER, subject), 200);
    for control in [control, other] {
        assert_eq!(close_code(control), 1001, "what the role had opened is closed");
    }
    assert_eq!(says("lab", "listen", &token, "'Listen' claim(s) are required"), 401);
    let nobody = "There are no listeners connected";
    assert_eq!(says("lab", "connect", &token, nobody), 404, "the other role still stands");
    let audit = std::fs::read_to_string(site.path("relay.audit")).unwrap_or_default();
    for event in ["role-put", "role-delete"] {
        assert!(audit.contains(&format!("\"event\":\"{event}\"")), "{event}: {audit}");
    }
}
