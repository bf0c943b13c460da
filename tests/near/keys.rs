//! A key that the relay does not know may have been replaced in its file: it is read once more.

use cluster_connect::auth::sas;
use cluster_connect::role::shared_key::SharedKey;
use cluster_connect::role::{ConnId, Job, Notice, Outcome};
use cluster_connect::secret::Secret;

use crate::near::{NOW, Near, connection_string};

/// The connection string is read, and is made of `key`.
fn read(near: &mut Near, key: &str) {
    let (id, job) = near.job();
    let Job::Read { path, .. } = job else { panic!("{job:?}") };
    assert_eq!(path.to_str(), Some("/string"));
    let text = Secret::new(connection_string(key).into_bytes());
    near.stage.done(id, Outcome::Read(Ok(text)));
    // A CA that is seen for the first time is written down.
    let written = |(_, job): &(_, Job)| matches!(job, Job::Write(_));
    if let Some(at) = near.stage.net.jobs.iter().position(written) {
        let (id, _) = near.stage.net.jobs.remove(at);
        near.stage.done(id, Outcome::Written(Ok(())));
    }
}

fn starting() -> Near {
    let file = Some("/string".into());
    let mut near =
        Near::new(SharedKey { file, ..SharedKey::parse(&connection_string("x")).unwrap() });
    read(&mut near, "old");
    near
}

/// The relay does not know the key; it was shown a token by `key`.
fn refused(near: &mut Near, conn: ConnId, key: &str) {
    let asked = near.refuse(conn, "401 InvalidSignature");
    let shown = asked.fields.get("ServiceBusAuthorization").unwrap();
    let expires = shown.split('&').find_map(|part| part.strip_prefix("se=")).unwrap();
    let expires: u64 = expires.parse().unwrap();
    assert!(NOW < expires);
    let key = Secret::new(key.to_owned());
    assert_eq!(shown, sas::mint("http://relay.test/ent", "r", &key, expires));
}

fn exits(near: &Near) -> Vec<&'static str> {
    let code = |notice: &Notice| match notice {
        Notice::Exit(1, Some(fault)) => Some(fault.code),
        _ => None,
    };
    near.stage.net.notices.iter().filter_map(code).collect()
}

#[test]
fn a_key_that_was_made_anew_is_read_and_used() {
    let mut near = starting();
    let conn = near.dialled(1);
    refused(&mut near, conn, "old");
    assert_eq!(exits(&near), [""; 0], "the file may know better");
    read(&mut near, "new");
    let conn = near.dialled(2);
    near.meet(conn);
    assert!(matches!(near.stage.net.notices[..], [Notice::Ready]), "{:?}", near.stage.net.notices);
    // And again, when it has been replaced once more.
    near.stage.closed(conn, cluster_connect::role::Close::Reset);
    near.ask(&crate::near::request("GET", "", b""));
    let conn = near.dialled(3);
    refused(&mut near, conn, "new");
    read(&mut near, "newer");
    let conn = near.dialled(4);
    near.meet(conn);
}

#[test]
fn a_key_that_is_no_better_the_second_time_is_the_end() {
    let mut near = starting();
    let conn = near.dialled(1);
    refused(&mut near, conn, "old");
    read(&mut near, "old");
    let conn = near.dialled(2);
    refused(&mut near, conn, "old");
    assert_eq!(exits(&near), ["TOKEN_REFUSED"]);
    assert!(near.stage.net.jobs.is_empty(), "it is read once, not for ever");
    assert_eq!(near.stage.net.connects.len(), 2);
}
