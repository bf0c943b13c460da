//! Connections that broke come back by a short handshake: each leg goes on from what an earlier
//! connection of it has left.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::chain::{Options, Site};
use super::trial::{Trial, trial};
use super::{PODS, door, eventually, get, recovers};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial(every_leg_of_the_chain_is_resumed)]
}

/// A wire to the relay that carries bytes as they are, and can be torn.
struct Wire {
    addr: SocketAddr,
    live: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    fn to(relay: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let addr = listener.local_addr().expect("an address");
        let live: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let all = Arc::clone(&live);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(relay) else { continue };
                let pair = (near.try_clone(), far.try_clone());
                let (Ok(near_too), Ok(far_too)) = pair else { continue };
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                all.extend(near.try_clone().into_iter().chain(far.try_clone()));
                thread::spawn(move || pass(near, far));
                thread::spawn(move || pass(far_too, near_too));
            }
        });
        Self { addr, live }
    }

    fn tear(&self) {
        for end in self.live.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // It may be gone already.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) -> Option<()> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let len = match from.read(&mut bytes) {
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            read => read.ok()?,
        };
        if len == 0 {
            return to.shutdown(Shutdown::Write).ok();
        }
        to.write_all(bytes.get(..len)?).ok()?;
    }
}

/// Lines of a process's log that have all of `words`.
fn lines(site: &Site, process: &str, words: &[&str]) -> Vec<String> {
    let log = fs::read_to_string(site.logs().join(format!("{process}.log"))).unwrap_or_default();
    let has = |line: &&str| words.iter().all(|word| line.contains(word));
    log.lines().filter(has).map(str::to_owned).collect()
}

fn every_leg_of_the_chain_is_resumed() {
    let mut site = Site::start();
    let wire = Wire::to(site.relay_address().parse().expect("an address"));
    site.url = format!("https://localhost:{}", wire.addr.port());
    let options = Options { talkative: true, ..Options::default() };
    let cluster = site.cluster("edge-7", options);
    let client = site.client_with(&["edge-7"], &["--log-level", "debug"]);
    let (agent, gate, proxy) = ("edge-7.agent", "edge-7.auth-proxy", "proxy-edge-7");
    let door = door(&client, "edge-7");
    recovers(&door);

    // The first of each leg cannot go on from anything.
    assert_eq!(lines(&site, agent, &["dialled tls=full"]).len(), 1, "the control channel");
    assert_eq!(lines(&site, proxy, &["dialled tls=full"]).len(), 1, "the rendezvous");
    assert_eq!(lines(&site, proxy, &["session established", "resumed=false"]).len(), 1);
    // The agent's rendezvous goes on from its control channel.
    assert_eq!(lines(&site, agent, &["dialled tls=resumed"]).len(), 1, "agent, rendezvous");

    // A new kubectl: the API server's leg goes on from the first, whether it was ready or not.
    for _ in 0..5 {
        assert_eq!(get(&door, PODS).code, 200);
    }
    eventually("auth proxy to API server", || {
        !lines(&site, gate, &["dialled tls=resumed"]).is_empty()
    });
    let accepted = lines(&site, proxy, &["accepted tls="]).len();
    assert!(6 <= accepted, "each kubectl has its own connection to the local port: {accepted}");
    assert_eq!(lines(&site, proxy, &["dialled"]).len(), 1, "and none of them another rendezvous");

    let listening = lines(&site, agent, &["listening at"]).len();
    wire.tear();
    eventually("the agent is back", || listening < lines(&site, agent, &["listening at"]).len());
    recovers(&door);
    let resumed = |process: &str| lines(&site, process, &["dialled tls=resumed"]).len();
    assert!(3 <= resumed(agent), "control channel and rendezvous");
    assert!(1 <= resumed(proxy), "client proxy to relay");
    assert_eq!(lines(&site, agent, &["dialled tls=full"]).len(), 1);
    assert_eq!(lines(&site, proxy, &["dialled tls=full"]).len(), 1);
    let ends = ["session established", "resumed=true"];
    assert_eq!(lines(&site, proxy, &ends).len(), 1, "end to end, the client's word");
    assert_eq!(lines(&site, gate, &ends).len(), 1, "and the auth proxy's");
    drop(cluster);
}
