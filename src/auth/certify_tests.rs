//! Certificates that clients take for their own names and for no other, and keys that prove
//! themselves.

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::time_provider::TimeProvider;
use rustls::unbuffered::ConnectionState;
use rustls::{ClientConfig, ServerConfig};

use super::*;
use crate::engine::tlsconf::{ALPN_HTTP, ALPN_TUNNEL, Versions};

const NOW: u64 = 1_800_000_000;
const NAME: &str = "0123456789abcdef0123456789abcdef.cluster-connect.internal";

#[derive(Debug)]
struct At(u64);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

fn verify(authority: &Authority, leaf: &Identity, name: &str, now: u64) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).unwrap();
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), tlsconf::provider())
            .build()
            .unwrap();
    let name = ServerName::try_from(name).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
    let verdict = verifier.verify_server_cert(&leaf.chain[0], &[], &name, &[], now);
    verdict.map(|_| ()).map_err(|why| why.to_string())
}

/// Runs a handshake in memory; `Ok` is the protocol that both agreed on.
fn handshake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<Option<Vec<u8>>, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = UnbufferedClientConnection::new(client, name)?;
    let mut server = UnbufferedServerConnection::new(server)?;
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        macro_rules! turn {
            ($conn:expr, $input:expr, $output:expr) => {
                loop {
                    let status = $conn.process_tls_records(&mut $input);
                    let mut discard = status.discard;
                    let mut done = false;
                    match status.state? {
                        ConnectionState::EncodeTlsData(mut data) => {
                            let at = $output.len();
                            $output.resize(at + 20_000, 0);
                            let len = data.encode(&mut $output[at..]).unwrap();
                            $output.truncate(at + len);
                        }
                        ConnectionState::TransmitTlsData(data) => data.done(),
                        ConnectionState::ReadTraffic(_) => discard += 0,
                        _ => done = true,
                    }
                    $input.drain(..discard);
                    if done {
                        break;
                    }
                }
            };
        }
        turn!(client, to_client, to_server);
        turn!(server, to_server, to_client);
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(client.alpn_protocol().map(<[u8]>::to_vec))
}

#[test]
fn a_client_that_pins_the_ca_reaches_the_name_and_agrees_on_the_protocol() {
    let authority = Authority::create(&[NAME]).unwrap();
    let leaf = authority.leaf(NOW, [7; 16]).unwrap();
    let server =
        tlsconf::server(leaf, &[ALPN_TUNNEL, ALPN_HTTP], Versions::Newest, Arc::new(At(NOW)))
            .map(|server| server.config);
    let server = server.unwrap();
    let roots = [authority.certificate().clone()];
    let client = |alpn: &[&[u8]], versions| {
        tlsconf::client(&roots, None, alpn, versions, Arc::new(At(NOW))).unwrap()
    };
    let agreed = handshake(client(&[ALPN_TUNNEL], Versions::Newest), server.clone(), NAME);
    assert_eq!(agreed.unwrap().as_deref(), Some(ALPN_TUNNEL));
    let agreed = handshake(client(&[ALPN_HTTP], Versions::Both), server.clone(), NAME);
    assert_eq!(agreed.unwrap().as_deref(), Some(ALPN_HTTP));
    assert!(handshake(client(&[b"h2"], Versions::Newest), server.clone(), NAME).is_err());
    assert!(handshake(client(&[ALPN_TUNNEL], Versions::Newest), server, "other.internal").is_err());
}

#[test]
fn another_ca_of_the_same_name_is_not_trusted() {
    let (one, other) = (Authority::create(&[NAME]).unwrap(), Authority::create(&[NAME]).unwrap());
    let leaf = other.leaf(NOW, [1; 16]).unwrap();
    let server = tlsconf::server(leaf, &[], Versions::Newest, Arc::new(At(NOW))).unwrap().config;
    let roots = [one.certificate().clone()];
    let client = tlsconf::client(&roots, None, &[], Versions::Newest, Arc::new(At(NOW))).unwrap();
    assert!(handshake(client, server, NAME).is_err());
}

#[test]
fn a_leaf_is_good_from_a_week_before_to_a_month_after() {
    let authority = Authority::create(&[NAME]).unwrap();
    let leaf = authority.leaf(NOW, [0xff; 16]).unwrap();
    let day = 24 * 3600;
    for (now, good) in [(NOW - 6 * day, true), (NOW - 8 * day, false), (NOW + 29 * day, true)] {
        assert_eq!(verify(&authority, &leaf, NAME, now).is_ok(), good, "{now}");
    }
    assert!(verify(&authority, &leaf, NAME, NOW + 31 * day).is_err());
    assert!(Authority::renew_after() < Duration::from_secs(15 * day));
}

#[test]
fn a_loopback_listener_is_good_for_loopback_alone() {
    let authority = Authority::create(&LOOPBACK_NAMES).unwrap();
    let leaf = authority.leaf(NOW, [2; 16]).unwrap();
    for name in LOOPBACK_NAMES {
        assert_eq!(verify(&authority, &leaf, name, NOW), Ok(()), "{name}");
    }
    assert!(verify(&authority, &leaf, "10.0.0.1", NOW).is_err());
    assert!(verify(&authority, &leaf, "bank.example", NOW).is_err());
}

#[test]
fn a_ca_cannot_sign_for_other_names() {
    for (mine, theirs) in
        [(NAME, "bank.example"), (NAME, "10.0.0.1"), ("127.0.0.1", "127.0.0.2"), (NAME, "internal")]
    {
        let authority = Authority::create(&[mine]).unwrap();
        let thief = Authority { names: vec![theirs.to_owned()], ..authority };
        let leaf = thief.leaf(NOW, [3; 16]).unwrap();
        assert!(verify(&thief, &leaf, theirs, NOW).is_err(), "{mine} signed {theirs}");
    }
}

#[test]
fn a_ca_survives_its_file() {
    let authority = Authority::create(&[NAME]).unwrap();
    let pem = authority.to_pem();
    let again = Authority::from_pem(&[NAME], pem.expose().as_bytes(), NOW).unwrap();
    assert_eq!(again.certificate(), authority.certificate());
    let leaf = again.leaf(NOW, [4; 16]).unwrap();
    assert_eq!(verify(&authority, &leaf, NAME, NOW), Ok(()));
    let shown = format!("{authority:?}");
    assert!(!shown.contains("PRIVATE") && shown.contains(NAME));
}

#[test]
fn a_damaged_or_foreign_file_is_refused() {
    let authority = Authority::create(&[NAME]).unwrap();
    let other = Authority::create(&[NAME]).unwrap();
    let pem = authority.to_pem().expose().clone();
    let read = |names: &[&str], pem: &str, now| Authority::from_pem(names, pem.as_bytes(), now);
    assert_eq!(read(&[NAME], "", NOW).unwrap_err(), Unfit::Key);
    assert_eq!(read(&[NAME], &authority.certificate_pem(), NOW).unwrap_err(), Unfit::Key);
    let key_alone = super::pem("PRIVATE KEY", &authority.key.serialize_der());
    assert_eq!(read(&[NAME], &key_alone, NOW).unwrap_err(), Unfit::Certificate);
    let crossed = format!("{key_alone}{}", other.certificate_pem());
    assert!(matches!(read(&[NAME], &crossed, NOW), Err(Unfit::Mismatch(_))));
    assert!(matches!(read(&["other.internal"], &pem, NOW), Err(Unfit::Mismatch(_))));
    assert!(read(&[NAME], &pem.replace("MII", "AAA"), NOW).is_err());
    assert!(Authority::from_pem(&[NAME], b"\xff\xfe", NOW).is_err());
    assert!(matches!(Authority::create(&["a b"]), Err(Unfit::Name(_))));
    assert!(matches!(Authority::create(&[]), Err(Unfit::Name(_))));
}

#[test]
fn the_agents_signature_holds_for_one_cluster_and_one_challenge() {
    let random = ring::rand::SystemRandom::new();
    let key = AgentKey::create(&random).unwrap();
    let again = AgentKey::from_pem(key.to_pem().expose().as_bytes(), &random).unwrap();
    assert_eq!(key.public_point(), again.public_point());
    assert_eq!((key.public_point().len(), key.public_point()[0]), (65, 4));
    let signature = again.sign("cluster", "challenge", &random).unwrap();
    let verify = |message: &str| {
        let point = key.public_point();
        ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_ASN1, point)
            .verify(message.as_bytes(), &signature)
            .is_ok()
    };
    assert!(verify("cluster-connect listen v1\ncluster\nchallenge"));
    assert!(!verify(&listen_message("cluster", "other")));
    assert!(!verify(&listen_message("other", "challenge")));
    assert_eq!(AgentKey::from_pem(b"nonsense", &random).unwrap_err(), Unfit::Key);
    assert_eq!(format!("{key:?}"), "AgentKey(***)");
}

#[test]
fn a_fingerprint_is_read_as_it_is_printed_here_and_by_openssl() {
    let print = Fingerprint::of(b"certificate");
    let text = print.to_string();
    assert_eq!(Fingerprint::parse(&text), Some(print));
    assert_eq!(Fingerprint::parse(&text.to_uppercase()), Some(print));
    let digits = text["sha256:".len()..].to_owned();
    let pairs: Vec<&str> = (0..32).map(|at| &digits[at * 2..at * 2 + 2]).collect();
    assert_eq!(Fingerprint::parse(&format!("SHA256:{}", pairs.join(":"))), Some(print));
    for wrong in ["", "sha256:", &digits, &format!("sha1:{digits}"), &text[..70], "sha256:é"] {
        assert_eq!(Fingerprint::parse(wrong), None, "{wrong}");
    }
    assert_eq!(Fingerprint::parse(&format!("sha256:{}", "g".repeat(64))), None);
    assert_eq!(Fingerprint::parse(&format!("sha256:+{}", "0".repeat(63))), None);
}

#[test]
fn a_certificate_survives_pem() {
    let authority = Authority::create(&[NAME]).unwrap();
    let read = tlsconf::certificates(authority.certificate_pem().as_bytes()).unwrap();
    assert_eq!(read, [authority.certificate().clone()]);
}

#[test]
fn a_key_of_another_certificate_is_refused_by_the_configuration() {
    let authority = Authority::create(&[NAME]).unwrap();
    let (mut one, other) =
        (authority.leaf(NOW, [5; 16]).unwrap(), authority.leaf(NOW, [6; 16]).unwrap());
    one.key = other.key;
    let config = tlsconf::server(one, &[], Versions::Newest, Arc::new(At(NOW)));
    assert!(matches!(config, Err(tlsconf::Unusable::Refused(_))));
    let none = tlsconf::client(&[], None, &[], Versions::Both, Arc::new(At(NOW)));
    assert!(matches!(none, Err(tlsconf::Unusable::NoCertificate)));
    assert!(matches!(tlsconf::certificates(b""), Err(tlsconf::Unusable::NoCertificate)));
    let broken = b"-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----\n";
    assert!(matches!(tlsconf::certificates(broken), Err(tlsconf::Unusable::Pem)));
    assert!(matches!(Identity::from_pem(broken, b""), Err(tlsconf::Unusable::Pem)));
    let pem = authority.certificate_pem();
    let keyless = Identity::from_pem(pem.as_bytes(), pem.as_bytes());
    assert!(matches!(keyless, Err(tlsconf::Unusable::NoKey)));
}
