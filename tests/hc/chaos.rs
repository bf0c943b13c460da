//! Chaos: two entities side by side, whose parties send what they should, what they should not, and
//! what nobody can read, in any order. Nothing of one reaches the other, and nothing is left.

use std::collections::BTreeMap;

use cluster_connect::role::relay::Relay;
use cluster_connect::role::{Close, ConnId};
use cluster_connect::wire::ws::Opcode;

use crate::http::{chunked, head, response, serving};
use crate::net::Stage;
use crate::{auth, fragment, masked, upgrade};

/// Names of entities, and a word that only its own parties say.
const SIDES: [(&str, &str); 2] = [("ent", "alpha-alpha"), ("ent2", "beta-beta")];

const STEPS: usize = 300;

struct Chaos {
    stage: Stage<Relay>,
    rng: u64,
    /// Open connections and their side.
    conns: BTreeMap<ConnId, usize>,
    /// Addresses and ids that each side's listeners were told.
    addresses: [Vec<String>; 2],
    ids: [Vec<String>; 2],
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let (stage, _, first) = serving();
        let mut chaos = Self {
            stage,
            rng: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            conns: BTreeMap::from([(first, 0)]),
            addresses: Default::default(),
            ids: Default::default(),
        };
        let second = chaos.stage.listener("ent2", "");
        chaos.conns.insert(second, 1);
        chaos
    }

    fn below(&mut self, limit: usize) -> usize {
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        usize::try_from(self.rng % limit as u64).unwrap()
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() {
            return None;
        }
        let at = self.below(from.len());
        Some(from[at].clone())
    }

    /// One time in four, not what it was.
    fn spoil(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        match self.below(16) {
            0 if !bytes.is_empty() => {
                let at = self.below(bytes.len());
                bytes[at] ^= 1 << self.below(8);
            }
            1 => bytes.truncate(self.below(bytes.len() + 1)),
            2 => bytes = bytes.repeat(2),
            3 => {
                bytes =
                    (0..self.below(300)).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
            }
            _ => (),
        }
        bytes
    }

    fn any_head(&mut self, side: usize) -> Vec<u8> {
        let (name, word) = SIDES[side];
        let fields = |rule: &str| format!("X-Word: {word}\r\n{}", auth(name, rule));
        let target = |action: &str| format!("/$hc/{name}/{word}?w={word}&sb-hc-action={action}");
        let address = self.pick(&self.addresses[side].clone());
        match (self.below(8), address) {
            (0 | 1, Some(address)) => {
                let target = address.strip_prefix("wss://relay.example").unwrap();
                let more = ["", "&sb-hc-statusCode=403", "&sb-hc-statusCode=9"][self.below(3)];
                upgrade(&format!("{target}{more}"), "")
            }
            (2, _) => upgrade(&target("listen"), &auth(name, "Listen")),
            (3, _) => head("GET", &format!("/{name}/{word}"), &fields("Send")).into_bytes(),
            (4, _) => {
                let more = format!("Transfer-Encoding: chunked\r\n{}", fields("Send"));
                let body = chunked(&[word.as_bytes(), word.as_bytes()]);
                [head("POST", &format!("/{name}"), &more).into_bytes(), body].concat()
            }
            (5, _) => {
                let more = format!("Content-Length: 70000\r\n{}", fields("Send"));
                [head("PUT", &format!("/{name}"), &more).into_bytes(), word.repeat(99).into()]
                    .concat()
            }
            // With a token for the other one.
            (6, _) => upgrade(&target("connect"), &auth(SIDES[1 - side].0, "Send")),
            _ => upgrade(&target("connect"), &fields("Send")),
        }
    }

    fn any_frames(&mut self, side: usize) -> Vec<u8> {
        let word = SIDES[side].1;
        // Ids of either side: what one has overheard of the other is no key.
        let whose = self.below(2);
        let id = self.pick(&self.ids[whose].clone()).unwrap_or_default();
        let body = masked(Opcode::Binary, word.as_bytes());
        match self.below(12) {
            0 => [response(&id, 200, &[("x-word", word)], true), body].concat(),
            1 => response(&id, 200, &[("x-word", word)], false),
            2 => response(&id, 204, &[], true),
            3 => body,
            4 => fragment(Opcode::Binary, false, word.as_bytes()),
            5 => masked(Opcode::Continuation, word.as_bytes()),
            6 => masked(Opcode::Ping, word.as_bytes()),
            7 => masked(Opcode::Close, &[3, 232]),
            8 => masked(Opcode::Text, br#"{"renewToken":{"token":"no"}}"#),
            9 => masked(Opcode::Text, br#"{"unknown":{}}"#),
            10 => masked(Opcode::Pong, b""),
            _ => masked(Opcode::Binary, &[b'.'; 40_000]),
        }
    }

    /// Reads what everybody was sent: it is for them, or it is a mistake.
    fn harvest(&mut self, seed: u64) {
        let conns: Vec<(ConnId, usize)> = self.conns.iter().map(|(c, s)| (*c, *s)).collect();
        for (conn, side) in conns {
            let text = self.stage.take_text(conn);
            let (name, word) = SIDES[1 - side];
            assert!(!text.contains(word), "seed {seed}: {name}'s word reached the other side");
            for part in text.split("wss://relay.example").skip(1) {
                let end = part.find('"').unwrap_or(part.len());
                let address = format!("wss://relay.example{}", &part[..end]);
                if let Some((_, id)) = address.split_once("sb-hc-id=") {
                    self.ids[side].push(id.to_owned());
                    self.addresses[side].push(address);
                }
            }
            if self.stage.fate(conn).is_some() {
                self.conns.remove(&conn);
            }
        }
    }

    fn step(&mut self, seed: u64) {
        let open: Vec<(ConnId, usize)> = self.conns.iter().map(|(c, s)| (*c, *s)).collect();
        let Some((conn, side)) = self.pick(&open) else { return self.come() };
        match self.below(20) {
            0..=7 => self.come(),
            8..=14 => {
                let bytes = self.any_frames(side);
                let bytes = self.spoil(bytes);
                self.stage.data(conn, &bytes);
            }
            15 => self.stage.drained(conn, 100),
            16 => {
                self.stage.net.full.insert(conn);
            }
            17 => self.stage.net.full.clear(),
            18 if self.below(2) == 0 => self.stage.finished(conn),
            18 => {
                self.stage.closed(conn, Close::Reset);
                self.conns.remove(&conn);
            }
            _ => {
                let seconds = self.below(12) as u64;
                self.stage.pass(seconds);
            }
        }
        self.harvest(seed);
    }

    fn come(&mut self) {
        let side = self.below(2);
        let conn = self.stage.accept();
        self.conns.insert(conn, side);
        let head = self.any_head(side);
        let head = self.spoil(head);
        self.stage.data(conn, &head);
    }
}

#[test]
fn nothing_of_one_entity_reaches_another_whatever_is_sent_and_nothing_is_left() {
    let mut met = 0;
    for seed in 0..400 {
        let mut chaos = Chaos::new(seed);
        for _ in 0..STEPS {
            chaos.step(seed);
        }
        met += chaos.ids.iter().map(Vec::len).sum::<usize>();
        chaos.stage.net.full.clear();
        for conn in std::mem::take(&mut chaos.conns).into_keys() {
            chaos.stage.closed(conn, Close::Reset);
        }
        for _ in 0..5 {
            chaos.stage.pass(60);
        }
        assert_eq!(chaos.stage.role.leftovers(), (0, 0), "seed {seed}");
        assert_eq!(chaos.stage.net.leased(), 0, "seed {seed}");
    }
    assert!(met > 4000, "only {met} invitations: chaos has kept everybody out");
}
