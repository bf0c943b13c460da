//! The account's own token: renewed in time, kept to its end, lost for good reasons only.

use super::*;
use crate::buf::{Pool, Pressure, Slice};
use crate::limits::{ACCOUNT_TOKEN_GAP, ACCOUNT_TOKEN_LIFE};
use crate::role::{Busy, ConnId, HttpAnswer, HttpCall, Notice, Unrecorded};
use rustls::pki_types::CertificateDer;
use serde_json::json;
use std::sync::Arc;

const URL: &str = "https://k:6443/api/v1/namespaces/cluster-connect/serviceaccounts/a/token";
const HOUR: u64 = 3600;

/// A network of which a credential uses the clock and the worker threads.
struct Script {
    now: Instant,
    unix: u64,
    jobs: Vec<(JobId, Job)>,
    notices: Vec<Notice>,
    busy: bool,
    next: u64,
}

impl Script {
    fn new() -> Self {
        let (jobs, notices) = (Vec::new(), Vec::new());
        Self { now: Instant::now(), unix: 1_795_463_640, jobs, notices, busy: false, next: 0 }
    }

    fn call(&mut self) -> (JobId, HttpCall) {
        match self.jobs.remove(0) {
            (id, Job::Http(call)) => (id, call),
            other => panic!("{other:?}"),
        }
    }

    /// Moves to the credential's deadline and tells it.
    fn pass(&mut self, credential: &mut Credential) {
        let due = credential.deadline().unwrap().max(self.now);
        self.unix += (due - self.now).as_secs();
        self.now = due;
        credential.handle_deadline(self);
    }

    fn answer(&mut self, credential: &mut Credential, status: u16, body: &serde_json::Value) {
        let (job, _) = self.call();
        let body = body.to_string().into_bytes();
        let answer = HttpAnswer { status, headers: Vec::new(), body };
        credential.handle_done(job, Outcome::Http(Ok(answer)), self);
    }
}

impl Net for Script {
    fn now(&self) -> Instant {
        self.now
    }
    fn unix_time(&self) -> u64 {
        self.unix
    }
    fn random(&mut self, into: &mut [u8]) {
        into.fill(0x5a);
    }
    fn connect(&mut self, _: &Endpoint) -> Option<ConnId> {
        None
    }
    fn send(&mut self, _: ConnId, _: Slice) -> Pressure {
        Pressure::Full
    }
    fn pressure(&self, _: ConnId) -> Pressure {
        Pressure::Full
    }
    fn pause(&mut self, _: ConnId) {}
    fn resume(&mut self, _: ConnId) {}
    fn finish(&mut self, _: ConnId) {}
    fn close(&mut self, _: ConnId) {}
    fn abort(&mut self, _: ConnId) {}
    fn pool(&self) -> &Pool {
        unreachable!("a credential sends nothing itself")
    }
    fn submit(&mut self, job: Job) -> Result<JobId, Busy> {
        if self.busy {
            return Err(Busy);
        }
        self.next += 1;
        self.jobs.push((JobId(self.next), job));
        Ok(JobId(self.next))
    }
    fn record(&mut self, _: &str) -> Result<(), Unrecorded> {
        Ok(())
    }
    fn tell(&mut self, notice: Notice) {
        self.notices.push(notice);
    }
}

fn upstream(token: TokenSource) -> Upstream {
    let nowhere = || Endpoint::Unix("/nowhere".into());
    Upstream { endpoint: nowhere(), anonymous: nowhere(), host: "k".into(), token }
}

/// A credential whose token came `age` seconds ago and lives for `life`.
fn started(age: u64, life: u64) -> (Credential, Script) {
    let mut net = Script::new();
    let token = AccountToken { token: secret("old"), issued: net.unix - age, life };
    let requested = Requested {
        url: URL.into(),
        roots: Arc::new(vec![CertificateDer::from(vec![1])]),
        path: "/state/api-server-token".into(),
        token,
    };
    let mut credential = Credential::new(&upstream(TokenSource::Requested(Box::new(requested))));
    credential.start(&mut net);
    (credential, net)
}

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

fn granted(token: &str, life: u64) -> serde_json::Value {
    json!({
        "kind": "TokenRequest",
        "spec": { "expirationSeconds": life },
        "status": { "token": token, "expirationTimestamp": "2031-01-01T00:00:00Z" },
    })
}

fn exits(net: &Script) -> Vec<&'static str> {
    let code = |notice: &Notice| match notice {
        Notice::Exit(1, Some(fault)) => Some(fault.code),
        _ => None,
    };
    net.notices.iter().filter_map(code).collect()
}

#[test]
fn a_token_is_renewed_with_itself_at_about_four_fifths_of_its_life() {
    let (mut credential, mut net) = started(0, HOUR);
    assert!(credential.is_usable() && net.jobs.is_empty());
    let wait = credential.deadline().unwrap() - net.now;
    assert!((2700..=3060).contains(&wait.as_secs()), "{wait:?}");
    net.pass(&mut credential);
    let (job, call) = net.call();
    assert_eq!((call.method, call.url.as_str()), ("POST", URL));
    let bearer = ("Authorization".to_owned(), secret("Bearer old"));
    assert!(call.headers.contains(&bearer));
    assert_eq!(call.roots.unwrap().len(), 1);
    let asked: serde_json::Value = serde_json::from_slice(&call.body).unwrap();
    assert_eq!(asked["kind"], "TokenRequest");
    assert_eq!(asked["spec"]["expirationSeconds"], ACCOUNT_TOKEN_LIFE);

    let body = granted("new", HOUR).to_string().into_bytes();
    let answer = HttpAnswer { status: 201, headers: Vec::new(), body };
    credential.handle_done(job, Outcome::Http(Ok(answer)), &mut net);
    assert_eq!(credential.token(), Some(&secret("new")));
    let Some((_, Job::Write(file))) = net.jobs.pop() else { panic!("it is kept") };
    assert_eq!((file.path.as_path(), file.mode), ("/state/api-server-token".as_ref(), 0o600));
    let kept = AccountToken::from_file(file.bytes.expose(), URL).unwrap();
    assert_eq!(kept, AccountToken { token: secret("new"), issued: net.unix, life: HOUR });
    assert!(net.now + Duration::from_secs(2700) <= credential.deadline().unwrap());
}

#[test]
fn a_token_out_of_a_file_keeps_its_schedule() {
    let (credential, net) = started(HOUR / 2, HOUR);
    let wait = credential.deadline().unwrap() - net.now;
    assert!((900..=1260).contains(&wait.as_secs()), "{wait:?}");
    let (_, net) = started(HOUR - 60, HOUR);
    assert_eq!(net.jobs.len(), 1, "it is asked for at once");
}

#[test]
fn a_failing_renewal_cuts_nothing_before_the_end() {
    let (mut credential, mut net) = started(0, HOUR);
    let (start, mut round) = (net.now, 0);
    while exits(&net).is_empty() {
        assert!(credential.is_usable());
        net.pass(&mut credential);
        round += 1;
        match (net.jobs.is_empty(), round % 4) {
            (true, _) => (),
            (_, 0) => net.answer(&mut credential, 500, &json!({ "message": "etcd is away" })),
            (_, 1) => net.answer(&mut credential, 403, &json!({ "message": "forbidden" })),
            (_, 2) => net.answer(&mut credential, 201, &json!({ "status": { "token": "a b" } })),
            _ => {
                let (job, _) = net.call();
                let failed = Outcome::Http(Err("no connection".into()));
                credential.handle_done(job, failed, &mut net);
            }
        }
    }
    assert_eq!(net.now - start, Duration::from_secs(HOUR));
    assert!(round > 10);
    assert_eq!(exits(&net), ["API_SERVER_CREDENTIAL"]);
    assert!(!credential.is_usable());
    assert_eq!(credential.deadline(), None);
}

#[test]
fn a_refusal_by_the_api_server_asks_for_a_new_token_but_not_for_each_request() {
    let (mut credential, mut net) = started(0, HOUR);
    for _ in 0..100 {
        credential.read_again(&mut net);
    }
    assert_eq!(net.jobs.len(), 1);
    net.answer(&mut credential, 201, &granted("new", HOUR));
    assert_eq!(credential.token(), Some(&secret("new")));
    net.jobs.clear();
    credential.read_again(&mut net);
    assert!(net.jobs.is_empty(), "a moment ago");
    net.now += ACCOUNT_TOKEN_GAP;
    credential.read_again(&mut net);
    assert_eq!(net.jobs.len(), 1);
}

#[test]
fn a_token_that_is_refused_again_and_again_is_lost() {
    let (mut credential, mut net) = started(0, HOUR);
    credential.read_again(&mut net);
    net.answer(&mut credential, 401, &json!({ "message": "Unauthorized" }));
    assert!(credential.is_usable(), "once may be a fault of the server's start");
    net.pass(&mut credential);
    net.answer(&mut credential, 201, &granted("new", HOUR));
    net.jobs.clear();
    net.now += ACCOUNT_TOKEN_GAP;
    credential.read_again(&mut net);
    for _ in 0..3 {
        assert!(credential.is_usable() && exits(&net).is_empty());
        net.answer(&mut credential, 401, &json!({}));
        if credential.deadline().is_some() {
            net.pass(&mut credential);
        }
    }
    assert!(!credential.is_usable());
    assert_eq!(exits(&net), ["API_SERVER_CREDENTIAL"]);
    credential.read_again(&mut net);
    assert!(net.jobs.is_empty(), "nothing is asked with a lost token");
}

#[test]
fn without_a_free_worker_the_renewal_comes_later() {
    let (mut credential, mut net) = started(0, HOUR);
    net.busy = true;
    net.pass(&mut credential);
    assert!(net.now < credential.deadline().unwrap());
    net.busy = false;
    net.pass(&mut credential);
    assert_eq!(net.jobs.len(), 1);
}

#[test]
fn an_answer_that_is_no_token_is_none() {
    let good = granted("abc", HOUR);
    assert_eq!(AccountToken::granted(&good, 5).unwrap().life, HOUR);
    let long = granted("abc", 1 << 40);
    assert_eq!(AccountToken::granted(&long, 5).unwrap().life, ACCOUNT_TOKEN_LIFE);
    for (pointer, value, why) in [
        ("/status/token", json!(""), Unusable::Token),
        ("/status/token", json!("a\r\nb: c"), Unusable::Token),
        ("/status/token", json!("a b"), Unusable::Token),
        ("/status/token", json!(5), Unusable::Shape),
        ("/spec/expirationSeconds", json!(0), Unusable::Life),
        ("/spec/expirationSeconds", json!(-600), Unusable::Life),
        ("/spec/expirationSeconds", json!("600"), Unusable::Life),
    ] {
        let mut answer = good.clone();
        *answer.pointer_mut(pointer).unwrap() = value;
        assert_eq!(AccountToken::granted(&answer, 5), Err(why), "{answer}");
    }
    assert_eq!(AccountToken::granted(&json!([]), 5), Err(Unusable::Shape));
}

#[test]
fn a_kept_token_is_for_one_account_of_one_api_server() {
    let token = AccountToken { token: secret("abc"), issued: 7, life: HOUR };
    let file = token.to_file(URL);
    assert_eq!(AccountToken::from_file(file.expose(), URL), Ok(token));
    let other = URL.replace("6443", "6444");
    assert_eq!(AccountToken::from_file(file.expose(), &other), Err(Unusable::Place));
    for (bytes, why) in [
        (&b""[..], Unusable::Shape),
        (b"abc", Unusable::Shape),
        (b"{}", Unusable::Place),
        (br#"{"url":"u","token":"t","life":5}"#, Unusable::Life),
        (br#"{"url":"u","token":"t","issued":5}"#, Unusable::Life),
        (br#"{"url":"u","issued":5,"life":5}"#, Unusable::Shape),
    ] {
        assert_eq!(AccountToken::from_file(bytes, "u"), Err(why));
    }
}

#[test]
fn a_token_is_old_after_three_quarters_of_its_life_or_when_the_clock_was_set() {
    let token = AccountToken { token: secret("abc"), issued: 1000, life: 400 };
    for (now, old) in [(999, true), (1000, false), (1299, false), (1300, true), (9_999, true)] {
        assert_eq!(token.is_old(now), old, "{now}");
    }
}

#[test]
fn a_token_file_is_read_again_and_an_unreadable_one_changes_nothing() {
    let mut net = Script::new();
    let mut credential = Credential::new(&upstream(TokenSource::File("/token".into())));
    credential.start(&mut net);
    assert!(!credential.is_usable());
    let read = |net: &mut Script, credential: &mut Credential, outcome| {
        let (job, asked) = net.jobs.remove(0);
        assert!(matches!(asked, Job::Read { .. }));
        credential.handle_done(job, Outcome::Read(outcome), net);
    };
    read(&mut net, &mut credential, Err("cannot read".into()));
    assert_eq!(credential.deadline(), Some(net.now + Duration::from_secs(1)));
    net.pass(&mut credential);
    read(&mut net, &mut credential, Ok(Secret::new(b" abc\n".to_vec())));
    assert_eq!(credential.token(), Some(&secret("abc")));
    net.pass(&mut credential);
    read(&mut net, &mut credential, Ok(Secret::new(b"a b".to_vec())));
    assert_eq!(credential.token(), Some(&secret("abc")));
}
