//! Processes of several loops: each is a node, and what they hand over travels between them.

use std::time::Duration;

use cluster_connect::role::{Event, LoopId, Role};

use super::node::Posted;
use super::{World, no_jobs};

impl World {
    /// Adds another loop to the process on `node`. Returns its number.
    pub fn add_loop(&mut self, node: usize, role: impl Role + 'static) -> usize {
        let number = self.add("", role, no_jobs());
        if self.nodes[node].loops.is_empty() {
            self.nodes[node].loops.push(node);
        }
        self.nodes[node].loops.push(number);
        self.nodes[number].loops.push(node);
        number
    }

    /// Letters between two loops keep their order.
    pub(super) fn send_letter(&mut self, from: usize, posted: Posted) {
        let Posted { to: LoopId(to), letter, conns } = posted;
        let to = self.nodes[from].loops[to];
        let at = self.now + Duration::from_millis(self.rng.below(5));
        let before = self.mail.iter().filter(|(_, f, t, _)| (*f, *t) == (from, to));
        let at = before.map(|(at, ..)| *at).max().map_or(at, |last| last.max(at));
        for (id, conn) in conns {
            if let Some((node, peer)) = conn.peer
                && let Some(peer) = self.nodes[node].net.conns.get_mut(&peer)
            {
                peer.peer = Some((to, id));
            }
            self.nodes[to].net.adopt(id, conn);
        }
        self.mail.push((at, from, to, letter));
    }

    pub(super) fn deliver_letters(&mut self) -> bool {
        let now = self.now;
        let due: Vec<_> = self.mail.extract_if(.., |(at, ..)| *at <= now).collect();
        let progress = !due.is_empty();
        for (_, from, to, letter) in due {
            let loops = &self.nodes[to].loops;
            let number =
                loops.iter().position(|node| *node == from).expect("loops know each other");
            for id in letter.conns() {
                self.nodes[to].net.arrive(*id);
            }
            self.emit(to, Event::Letter(LoopId(number), letter));
        }
        progress
    }
}
