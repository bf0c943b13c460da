//! Other tunnels beside ours, as processes that are started and driven here: those that this
//! machine has. What is not there, or does not come up, is said and left out.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::rig::chain::{Chain, Site, Way, text, write};
use crate::rig::origin;
use crate::rig::process::Process;
use crate::rig::stream::connect;

/// What is looked for, and how it is started.
const PEERS: [(&str, Start); 6] = [
    ("wstunnel", wstunnel),
    ("rathole", rathole),
    ("bore", bore),
    ("stunnel", stunnel),
    ("haproxy", haproxy),
    ("sshd", openssh),
];

type Start = fn(&Bench<'_>) -> Result<Chain, String>;

/// Where a peer finds what it needs.
struct Bench<'a> {
    program: PathBuf,
    dir: PathBuf,
    site: &'a Site,
    origin: SocketAddr,
}

/// Every peer that is there and comes up; the others with the reason.
pub(crate) fn start(site: &Site) -> (Vec<Chain>, Vec<String>) {
    let (mut there, mut notes) = (Vec::new(), Vec::new());
    for (name, start) in PEERS {
        let Some(program) = find(name) else {
            notes.push(format!("{name}: not on this machine"));
            continue;
        };
        let dir = site.dir.join(name);
        let made = std::fs::create_dir(&dir).map_err(|err| err.to_string());
        let bench = Bench { program, dir, site, origin: origin::plain() };
        match made.and_then(|()| start(&bench)) {
            Ok(chain) => {
                notes.push(format!("{name}: {}", version(&bench.program)));
                there.push(chain);
            }
            Err(why) => notes.push(format!("{name}: left out: {why}")),
        }
    }
    (there, notes)
}

/// On the PATH, where Debian keeps servers, or where the README has them installed.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin", "target/peers/bin"].map(PathBuf::from);
    let debian = format!("{name}4");
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).chain(more).collect();
    let places = [name, debian.as_str()].into_iter();
    let mut places = places.flat_map(|name| dirs.iter().map(move |dir| dir.join(name)));
    places.find(|place| place.is_file()).and_then(|place| place.canonicalize().ok())
}

fn version(program: &Path) -> String {
    for word in ["--version", "-version", "-V", "-v"] {
        let Ok(output) = Command::new(program).arg(word).output() else { continue };
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let tells = |line: &&str| {
            let line = line.to_ascii_lowercase();
            line.contains(['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
                && ["version", "openssh_", "stunnel ", "bore"].iter().any(|it| line.contains(it))
        };
        if let Some(line) = said.lines().find(tells) {
            return line.trim().to_owned();
        }
    }
    "of unknown version".to_owned()
}

impl Bench<'_> {
    fn write(&self, name: &str, content: &str) -> String {
        let path = self.dir.join(name);
        write(&path, content);
        text(&path)
    }

    fn run(&self, name: &'static str, words: &[&str]) -> Process {
        let mut command = Command::new(&self.program);
        command.args(words).current_dir(&self.dir);
        Process::silent(name, command)
    }

    /// The chain, once a byte comes back through it.
    fn up(&self, name: &'static str, processes: Vec<Process>, port: u16) -> Result<Chain, String> {
        let way = Way::Tcp(here(port));
        let end = Instant::now() + PATIENCE;
        while !answers(here(port)) {
            if let Some(ended) = processes.iter().find_map(Process::complaint) {
                return Err(ended);
            }
            if end < Instant::now() {
                return Err("nothing comes back through it".to_owned());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(Chain { name, processes, way, is_ours: false, cluster: None })
    }
}

const PATIENCE: Duration = Duration::from_secs(15);

/// The origin is at the other end.
fn answers(at: SocketAddr) -> bool {
    use std::io::{Read as _, Write as _};
    let Ok(mut stream) = connect(at) else { return false };
    let mut byte = [0];
    let asked = [b'D', 0, 0, 0, 0, 0, 0, 0, 1];
    stream.set_read_timeout(Some(Duration::from_secs(1))).is_ok()
        && stream.write_all(&asked).is_ok()
        && stream.read_exact(&mut byte).is_ok()
}

fn here(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A port that was free a moment ago: peers cannot say which one they took.
fn free_port() -> u16 {
    let listener = TcpListener::bind(here(0)).expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// Client, server, reverse client: our topology without TLS from end to end.
fn wstunnel(bench: &Bench<'_>) -> Result<Chain, String> {
    let (server, middle, port) = (free_port(), free_port(), free_port());
    let url = format!("wss://127.0.0.1:{server}");
    let back = format!("tcp://127.0.0.1:{middle}:{}", bench.origin);
    let forth = format!("tcp://127.0.0.1:{port}:127.0.0.1:{middle}");
    let processes = vec![
        bench.run("wstunnel server", &["server", &url]),
        bench.run("wstunnel agent", &["client", "-R", &back, &url]),
        bench.run("wstunnel client", &["client", "-L", &forth, &url]),
    ];
    bench.up("wstunnel, 2 legs", processes, port)
}

fn rathole(bench: &Bench<'_>) -> Result<Chain, String> {
    let (server, port) = (free_port(), free_port());
    let pki = &bench.site.pki;
    let (cert, key) =
        (bench.write("cert.pem", &pki.cert_pem), bench.write("key.pem", &pki.key_pem));
    let ca = bench.write("ca.pem", &pki.ca_pem);
    let identity = text(&bench.dir.join("identity.p12"));
    let made = Command::new("openssl")
        .args(["pkcs12", "-export", "-passout", "pass:bench", "-in", &cert, "-inkey", &key])
        .args(["-out", &identity])
        .output();
    if !made.is_ok_and(|output| output.status.success()) {
        return Err("openssl makes no PKCS #12 file for it".to_owned());
    }
    let ours = bench.write(
        "server.toml",
        &format!(
            "[server]\nbind_addr = \"127.0.0.1:{server}\"\ndefault_token = \"bench\"\n\
             [server.transport]\ntype = \"tls\"\n[server.transport.tls]\n\
             pkcs12 = \"{identity}\"\npkcs12_password = \"bench\"\n\
             [server.services.bench]\nbind_addr = \"127.0.0.1:{port}\"\n"
        ),
    );
    let theirs = bench.write(
        "client.toml",
        &format!(
            "[client]\nremote_addr = \"127.0.0.1:{server}\"\ndefault_token = \"bench\"\n\
             [client.transport]\ntype = \"tls\"\n[client.transport.tls]\n\
             trusted_root = \"{ca}\"\nhostname = \"localhost\"\n\
             [client.services.bench]\nlocal_addr = \"{}\"\n",
            bench.origin
        ),
    );
    let processes = vec![
        bench.run("rathole server", &["--server", &ours]),
        bench.run("rathole client", &["--client", &theirs]),
    ];
    bench.up("rathole, TLS, 1 leg", processes, port)
}

/// Without any encryption. Its control port cannot be chosen.
fn bore(bench: &Bench<'_>) -> Result<Chain, String> {
    let port = free_port();
    let (least, local) = (port.to_string(), bench.origin.port().to_string());
    let server = bench.run("bore server", &["server", "--min-port", "1024"]);
    thread::sleep(Duration::from_millis(300));
    let to = ["local", &local, "--to", "127.0.0.1", "--port", &least];
    let processes = vec![server, bench.run("bore client", &to)];
    bench.up("bore, plain, 1 leg", processes, port)
}

/// Three processes and TLS on both legs.
fn stunnel(bench: &Bench<'_>) -> Result<Chain, String> {
    let [first, middle, inner, last] = [(); 4].map(|()| free_port());
    let pki = &bench.site.pki;
    let pem = bench.write("both.pem", &format!("{}{}", pki.key_pem, pki.cert_pem));
    let head = "foreground = yes\npid =\nsyslog = no\ndebug = err\nsocket = l:TCP_NODELAY=1\n\
                socket = r:TCP_NODELAY=1\n";
    let client = |name: &str, from: u16, to: u16| {
        format!("[{name}]\nclient = yes\naccept = 127.0.0.1:{from}\nconnect = 127.0.0.1:{to}\n")
    };
    let server = |name: &str, from: u16, to: u16| {
        format!("[{name}]\ncert = {pem}\naccept = 127.0.0.1:{from}\nconnect = 127.0.0.1:{to}\n")
    };
    let configs = [
        ("client.conf", client("in", first, middle)),
        ("relay.conf", server("one", middle, inner) + &client("two", inner, last)),
        ("agent.conf", server("out", last, bench.origin.port())),
    ];
    let names = ["stunnel client", "stunnel relay", "stunnel agent"];
    let processes = configs.iter().zip(names).map(|((file, config), name)| {
        let path = bench.write(file, &format!("{head}{config}"));
        bench.run(name, &[&path])
    });
    let processes = processes.collect();
    bench.up("stunnel, 2 legs", processes, first)
}

/// Plain to TLS and TLS to plain.
fn haproxy(bench: &Bench<'_>) -> Result<Chain, String> {
    let (first, middle) = (free_port(), free_port());
    let pki = &bench.site.pki;
    let pem = bench.write("both.pem", &format!("{}{}", pki.cert_pem, pki.key_pem));
    let config = |bind: &str, server: &str| {
        format!(
            "global\n maxconn 8000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n \
             timeout server 1h\nlisten bench\n bind {bind}\n server s {server}\n"
        )
    };
    let near =
        config(&format!("127.0.0.1:{first}"), &format!("127.0.0.1:{middle} ssl verify none"));
    let far = config(&format!("127.0.0.1:{middle} ssl crt {pem}"), &bench.origin.to_string());
    let (near, far) = (bench.write("near.cfg", &near), bench.write("far.cfg", &far));
    let processes = vec![
        bench.run("haproxy client", &["-db", "-f", &near]),
        bench.run("haproxy server", &["-db", "-f", &far]),
    ];
    bench.up("haproxy, TLS, 1 leg", processes, first)
}

/// A server that both sides dial, and AES-GCM on both legs.
fn openssh(bench: &Bench<'_>) -> Result<Chain, String> {
    let (server, middle, port) = (free_port(), free_port(), free_port());
    let keygen = |name: &str| {
        let path = bench.dir.join(name);
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path);
        let made = command.status().is_ok_and(|status| status.success());
        made.then(|| text(&path)).ok_or_else(|| "ssh-keygen makes no key".to_owned())
    };
    let (host, user) = (keygen("host")?, keygen("user")?);
    let listed = std::fs::read_to_string(format!("{user}.pub")).map_err(|err| err.to_string())?;
    let listed = bench.write("authorized", &listed);
    // Where the system's own server has never been started.
    let _ = std::fs::create_dir_all("/run/sshd");
    let config = bench.write(
        "sshd.conf",
        &format!(
            "ListenAddress 127.0.0.1:{server}\nHostKey {host}\nAuthorizedKeysFile {listed}\n\
             StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n\
             PermitRootLogin prohibit-password\nAllowTcpForwarding yes\nMaxSessions 10000\n"
        ),
    );
    let sshd = bench.run("sshd", &["-D", "-e", "-f", &config]);
    let ssh = |name, forward: [&str; 2]| {
        let mut command = Command::new("ssh");
        command.args(["-N", "-F", "none", "-i", &user, "-c", "aes128-gcm@openssh.com"]);
        command.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        command.args(["-o", "ExitOnForwardFailure=yes", "-o", "LogLevel=ERROR"]);
        command.args(["-p", &server.to_string()]).args(forward).arg("127.0.0.1");
        Process::silent(name, command)
    };
    thread::sleep(Duration::from_millis(300));
    let back = format!("127.0.0.1:{middle}:{}", bench.origin);
    let forth = format!("127.0.0.1:{port}:127.0.0.1:{middle}");
    let processes = vec![sshd, ssh("ssh agent", ["-R", &back]), ssh("ssh client", ["-L", &forth])];
    bench.up("OpenSSH, 2 legs", processes, port)
}
