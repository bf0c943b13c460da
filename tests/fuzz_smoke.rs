//! Every fuzz target on its seeds and on a fixed number of mutations of them, always the same
//! ones, with the stable toolchain. `tests/fuzz` has the same functions for `cargo fuzz`.

#[path = "corpora/h1.rs"]
#[allow(dead_code, reason = "only the bytes are wanted")]
mod corpus;
#[path = "fuzz/targets.rs"]
mod targets;

use std::fs;
use std::panic::catch_unwind;

use cluster_connect::wire::jws::decode_base64url;
use serde_json::Value;
use targets::TARGETS;

/// Of each target, over all its seeds.
const MUTATIONS: usize = 100_000;

/// A small generator with a seed, so that a failure can be had again.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).expect("small")
    }
}

/// A few changes: bytes replaced, put in, taken out, doubled; a cut; a piece of another seed.
fn mutate(seed: &[u8], other: &[u8], rng: &mut Rng) -> Vec<u8> {
    const TELLING: &[u8] = b"\0\r\n\t :;,.\"\\{}[]-=+/%\x7f\x80\xff0a";
    let mut bytes = seed.to_vec();
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len());
        let byte = match rng.below(2) {
            0 => TELLING[rng.below(TELLING.len())],
            _ => rng.next().to_le_bytes()[2],
        };
        match rng.below(7) {
            0 if !bytes.is_empty() => bytes[at] = byte,
            1 if !bytes.is_empty() => drop(bytes.remove(at)),
            2 if !bytes.is_empty() => bytes[at] ^= 1 << rng.below(8),
            3 => {
                let end = (at + rng.below(40)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            4 => bytes.truncate(at),
            5 => {
                let from = rng.below(other.len());
                let to = (from + rng.below(64)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => bytes.insert(at, byte),
        }
    }
    bytes
}

/// What a target starts from.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let file = |name: &str| {
        let path = format!("{}/tests/corpora/{name}", env!("CARGO_MANIFEST_DIR"));
        fs::read(path).expect(name)
    };
    let lines = |name: &str| -> Vec<Value> {
        let text = String::from_utf8(file(name)).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let requests = || corpus::cases("e30.e30.AAAA").into_iter().map(|case| case.raw);
    let small = |all: Vec<Vec<u8>>| all.into_iter().filter(|it| it.len() < 4096).collect();
    let tokens = || lines("jwt_cases.jsonl").into_iter().map(|case| case["token"].clone());
    match target {
        "request_head" => small(requests().collect()),
        "chunked" => {
            let body = |raw: Vec<u8>| {
                let at = raw.windows(4).position(|four| four == b"\r\n\r\n")?;
                raw.get(at + 4..).map(<[u8]>::to_vec).filter(|body| !body.is_empty())
            };
            small(requests().filter_map(body).collect())
        }
        "exchange" => {
            let answer = b"\0HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            small(requests().map(|raw| [&b"\x20"[..], &raw, answer].concat()).collect())
        }
        "jws_parse" => small(tokens().map(|it| it.to_string().into_bytes()).collect()),
        "json_parse" => {
            let payload = |token: Value| decode_base64url(token.as_str()?.split('.').nth(1)?);
            small(tokens().filter_map(payload).collect())
        }
        "jwks_parse" => vec![file("jwt_jwks.json")],
        _ => literal(target).into_iter().map(<[u8]>::to_vec).collect(),
    }
}

fn literal(target: &str) -> Vec<&'static [u8]> {
    match target {
        "response_head" => vec![
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n",
            b"HTTP/1.0 404 \r\nX: y\r\n\r\n",
        ],
        "sas_parse" => vec![
            b"SharedAccessSignature sr=http%3a%2f%2fr.servicebus.windows.net%2fe&sig=AAAA&se=1800000000&skn=k",
            b"SharedAccessSignature se=1&sig=%2b%2f%3d&sr=a&skn=RootManageSharedAccessKey",
        ],
        "control_json" => vec![
            br#"{"accept":{"address":"wss://h/$hc/e?sb-hc-id=1","id":"1","connectHeaders":{"Host":"h"},"remoteEndpoint":{"address":"::1","port":1}}}"#,
            br#"{"request":{"address":"wss://h","id":"1","requestTarget":"/e","method":"GET","requestHeaders":{"A":"b"},"body":false}}"#,
            br#"{"response":{"requestId":"1","statusCode":"200","statusDescription":"OK","responseHeaders":{"A":"b"},"body":true}}"#,
            br#"{"renewToken":{"token":"SharedAccessSignature sr=a&sig=b&se=1&skn=k"}}"#,
        ],
        "websocket" => vec![
            b"\x81\x05hello\x89\0\x88\x02\x03\xe8",
            b"\x82\x85\x01\x02\x03\x04abcde\x88\x82\0\0\0\0\x03\xe8",
            b"\x02\x7e\x01\0aaaa\x80\0\x82\x7f\0\0\0\0\0\x01\0\0",
        ],
        "mux_session" => vec![
            b"\x40\0\x01\0\x01\0\0\0\x01\0\x04\0\0\0\0\0\0\0\0\0\x01\0\0\0\x05hello",
            b"\x03\0\x02\0\x01\0\0\0\0\0\0\0\x07\0\x03\0\0\0\0\0\0\0\0\0\0",
            b"\xff\0\0\0\x01\0\0\0\x03\0\0\0\x02ab\0\x01\0\x08\0\0\0\x03\0\0\0\0",
        ],
        "kubeconfig" => vec![
            b"apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- name: c\n  cluster:\n    server: https://h:6443\n    certificate-authority-data: QUJD\nusers:\n- name: u\n  user:\n    token: \"t\"\ncontexts:\n- name: c\n  context: {cluster: c, user: u}\n",
            b"{\"a\": [1, 'two', ~], b: |\n  text\n}\n",
            b"\xef\xbb\xbfa: &x [1]\nb: *x\n",
        ],
        other => panic!("no seeds for {other}"),
    }
}

#[test]
fn no_target_fails_on_its_seeds_and_their_mutations() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name}");
        let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
        let run = |bytes: Vec<u8>| {
            let text = bytes.escape_ascii().to_string();
            let ended = catch_unwind(move || target(&bytes));
            assert!(ended.is_ok(), "{name} fails on b\"{text}\"");
        };
        seeds.iter().cloned().for_each(run);
        for _ in 0..MUTATIONS {
            let (seed, other) = (&seeds[rng.below(seeds.len())], &seeds[rng.below(seeds.len())]);
            run(mutate(seed, other, &mut rng));
        }
    }
}
