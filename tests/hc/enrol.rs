//! How an agent gets its tokens: by enrolment, and by proving its key.

use std::path::PathBuf;

use cluster_connect::auth::sas;
use cluster_connect::engine::ws::Side;
use cluster_connect::role::agent::{Agent, AgentKey, Enrolment, Source};
use cluster_connect::role::shared_key::SharedKey;
use cluster_connect::role::{Close, Endpoint, Event, HttpAnswer, Job, JobId, Notice, Outcome};
use cluster_connect::secret::Secret;
use cluster_connect::wire::ws::Opcode;

use crate::net::Stage;
use crate::{agent, open, request, says};

fn enrolment(join_token: Option<&str>) -> Source {
    let sign = |text: &[u8]| Some(text.to_vec());
    Source::Enrolment(Box::new(Enrolment {
        api: "https://relay.example:8443".to_owned(),
        roots: None,
        resource: "/subscriptions/s/resourceGroups/g/providers/P/connectedClusters/edge-7"
            .to_owned(),
        cluster: "c0ffee".to_owned(),
        key: AgentKey { public: vec![4; 65], sign: Box::new(sign) },
        join_token: join_token.map(|token| Secret::new(token.to_owned())),
        certificate: b"der".to_vec(),
        audiences: vec!["kube".to_owned()],
        state: PathBuf::from("/state/enrolled.json"),
    }))
}

/// The action and the body of the last call.
fn call(stage: &Stage<Agent>) -> (JobId, String, serde_json::Value) {
    let (id, Job::Http(call)) = stage.net.jobs.last().unwrap() else { panic!("a call") };
    let action = call.url.rsplit('/').next().unwrap().split('?').next().unwrap();
    (*id, action.to_owned(), serde_json::from_slice(&call.body).unwrap())
}

fn answer(stage: &mut Stage<Agent>, job: JobId, status: u16, body: &str) {
    let answer = HttpAnswer { status, headers: Vec::new(), body: body.as_bytes().to_vec() };
    stage.done(job, Outcome::Http(Ok(answer)));
}

const TOKEN: &str = r#"{"hybridConnectionConfig":{"relay":"relay.example:8443",
    "hybridConnectionName":"microsoft.kubernetes/connectedclusters/c0ffee",
    "token":"SharedAccessSignature sr=x","expirationTime":1795467240}}"#;

#[test]
fn the_first_start_enrols_and_the_next_ones_prove_the_key() {
    let mut stage = agent(enrolment(Some("ccj_once")));
    let (read, Job::Read { .. }) = stage.net.jobs[0] else { panic!("reads its note") };
    stage.done(read, Outcome::Read(Err("no such file".to_owned())));
    let (job, action, body) = call(&stage);
    assert_eq!((action.as_str(), body["joinToken"].as_str()), ("enroll", Some("ccj_once")));
    assert_eq!(body["agentPublicKeyCertificate"], "ZGVy");
    assert_eq!(body["audiences"][0], "kube");
    answer(&mut stage, job, 200, "{}");
    let written = stage.net.jobs.iter().find_map(|(id, job)| match job {
        Job::Write(file) => Some((*id, file.bytes.expose().clone(), file.mode)),
        _ => None,
    });
    let (write, note, mode) = written.unwrap();
    assert_eq!(mode, 0o600);
    stage.done(write, Outcome::Written(Ok(())));

    for round in 0..2 {
        let (job, action, _) = call(&stage);
        assert_eq!(action, "listenChallenge");
        answer(&mut stage, job, 200, r#"{"challenge":"abc"}"#);
        let (job, action, body) = call(&stage);
        assert_eq!(action, "listenToken");
        // base64 of what was signed, for the key of this test returns its input.
        let signed = "Y2x1c3Rlci1jb25uZWN0IGxpc3RlbiB2MQpjMGZmZWUKYWJj";
        assert_eq!(
            (body["challenge"].as_str(), body["signature"].as_str()),
            (Some("abc"), Some(signed))
        );
        answer(&mut stage, job, 200, TOKEN);
        let (conn, Endpoint::Tcp { host, port, .. }) = stage.net.connects[round].clone() else {
            panic!("tcp")
        };
        assert_eq!((host.as_str(), port), ("relay.example", 8443));
        let request = open(&mut stage, conn);
        assert!(request.target.starts_with("/$hc/microsoft.kubernetes/connectedclusters/c0ffee?"));
        stage.closed(conn, Close::Reset);
        stage.pass(2);
    }

    let mut stage = agent(enrolment(None));
    let read = stage.net.jobs[0].0;
    stage.done(read, Outcome::Read(Ok(Secret::new(note))));
    assert_eq!(call(&stage).1, "listenChallenge");
}

#[test]
fn a_token_for_another_place_is_used_there_before_the_old_channel_is_given_up() {
    let mut stage = agent(enrolment(Some("ccj")));
    let read = stage.net.jobs[0].0;
    stage.done(read, Outcome::Read(Err("none".to_owned())));
    let (job, ..) = call(&stage);
    answer(&mut stage, job, 200, "{}");
    let fetch = |stage: &mut Stage<Agent>, token: &str| {
        let (job, action, _) = call(stage);
        assert_eq!(action, "listenChallenge");
        answer(stage, job, 200, r#"{"challenge":"abc"}"#);
        let (job, ..) = call(stage);
        answer(stage, job, 200, token);
    };
    fetch(&mut stage, TOKEN);
    let old = stage.net.connects[0].0;
    open(&mut stage, old);
    let asked = stage.net.jobs.len();
    for _ in 0..60 {
        stage.data(old, &crate::plain(Opcode::Pong, b""));
        if asked == stage.net.jobs.len() {
            stage.pass(60);
        }
    }
    fetch(&mut stage, &TOKEN.replace("relay.example", "relay2.example"));
    let (new, Endpoint::Tcp { host, .. }) = stage.net.connects[1].clone() else { panic!("tcp") };
    assert_eq!((host.as_str(), stage.fate(old)), ("relay2.example", None));
    open(&mut stage, new);
    let told = crate::frames(Side::Server, &stage.take(old));
    assert!(!told.iter().any(|frame| frame.0 == Opcode::Text), "the token is not for the old one");
    assert_eq!(told.last().unwrap().0, Opcode::Close);
}

#[test]
fn an_agent_that_can_never_enrol_says_so_and_exits() {
    let mut stage = agent(enrolment(None));
    let read = stage.net.jobs[0].0;
    let foreign = br#"{"resourceId":"/other","relay":"https://relay.example:8443"}"#.to_vec();
    stage.done(read, Outcome::Read(Ok(Secret::new(foreign))));
    let [Notice::Exit(1, Some(why))] = &stage.net.notices[..] else { panic!("exits") };
    assert_eq!(why.code, "NOT_ENROLLED");
    assert!(why.message.starts_with("not enrolled: "), "{why:?}");

    let mut stage = agent(enrolment(Some("ccj_used")));
    let read = stage.net.jobs[0].0;
    stage.done(read, Outcome::Read(Err("none".to_owned())));
    let (job, ..) = call(&stage);
    answer(&mut stage, job, 403, r#"{"error":{"code":"x","message":"used by another key"}}"#);
    let [Notice::Exit(1, Some(why))] = &stage.net.notices[..] else { panic!("exits") };
    assert_eq!(why.code, "JOIN_TOKEN_REFUSED");
    assert_eq!(why.message, "the relay refuses to enrol this agent: 403 used by another key");
}

#[test]
fn calls_that_fail_are_tried_again() {
    let mut stage = agent(enrolment(Some("ccj")));
    let read = stage.net.jobs[0].0;
    stage.done(read, Outcome::Read(Err("none".to_owned())));
    for (status, body) in [(503, ""), (429, "{}"), (200, "{}")] {
        let (job, action, _) = call(&stage);
        assert_eq!(action, "enroll");
        answer(&mut stage, job, status, body);
        if status != 200 {
            stage.pass(10);
            let (read, Job::Read { .. }) = stage.net.jobs.last().unwrap() else { panic!("again") };
            let read = *read;
            stage.done(read, Outcome::Read(Err("none".to_owned())));
        }
    }
    for (status, body) in [(500, ""), (200, "not json"), (200, r#"{"challenge":7}"#)] {
        let (job, action, _) = call(&stage);
        assert_eq!(action, "listenChallenge");
        answer(&mut stage, job, status, body);
        stage.pass(60);
    }
    let (job, ..) = call(&stage);
    stage.done(job, Outcome::Http(Err("no route".to_owned())));
    assert!(says(&stage).contains(&"cannot get a token to listen: no route".to_owned()));
    assert!(stage.net.connects.is_empty());
}

#[test]
fn a_connection_string_in_a_file_is_read_again_for_each_attempt() {
    let key = SharedKey { file: Some(PathBuf::from("/c")), ..shared("old") };
    let mut stage = agent(Source::Key(key));
    let mut attempt = |found: Result<&str, &str>, expected: &str| {
        let (job, Job::Read { path, .. }) = stage.net.jobs.last().unwrap() else { panic!("reads") };
        assert_eq!(path, &PathBuf::from("/c"));
        let job = *job;
        let found = found.map(|text| Secret::new(text.as_bytes().to_vec()));
        stage.done(job, Outcome::Read(found.map_err(str::to_owned)));
        let conn = stage.net.connects.last().unwrap().0;
        stage.event(Event::Connected(conn));
        let token = request(&mut stage, conn);
        let token = token.fields.get("ServiceBusAuthorization").unwrap().to_owned();
        let resource = "http://relay.example/ent";
        let expires = stage.net.unix + 3600;
        let by = sas::mint(resource, "r", &Secret::new(expected.to_owned()), expires);
        assert_eq!(token, by, "{expected}");
        stage.data(conn, b"HTTP/1.1 401 InvalidSignature: no\r\n\r\n");
        stage.pass(31);
    };
    attempt(Ok(&text("old")), "old");
    attempt(Ok(&text("new")), "new");
    // What cannot be read leaves the key that there was.
    attempt(Err("no such file"), "new");
    attempt(Ok("half a stri"), "new");
    attempt(Ok(&text("newest")), "newest");
}

fn text(key: &str) -> String {
    let host = "Endpoint=sb://relay.example:8080/;SharedAccessKeyName=r";
    format!("{host};SharedAccessKey={key};EntityPath=ent\n")
}

fn shared(key: &str) -> SharedKey {
    SharedKey::parse(&text(key)).unwrap()
}
