//! A token may be signed with a key that is newer than those that are known, or come before the
//! first keys do: its request waits a moment for the fetch that is under way, and no longer.

use std::time::Duration;

use cluster_connect::auth::KeySource;
use cluster_connect::auth::profile::OidcIssuer;
use cluster_connect::engine::tunnel::ALPN_MUX;
use cluster_connect::limits::{
    KEYS_RETRY_FIRST, PARKED_FOR_KEYS_MAX, PARKED_KEYS, PARKED_MAX, PARKED_SESSION,
};
use cluster_connect::role::Peer;
use cluster_connect::role::auth_proxy::Config;

use crate::gate::Gate;
use crate::sim::EPOCH;
use crate::tokens::{key_set, keys_in_file, token_by};
use crate::{account, alice, known, request, status};

fn fetched(issuer: &mut OidcIssuer) {
    issuer.keys = KeySource::Url("https://issuer.test/keys".to_owned());
}

/// An auth proxy that has just fetched the key `k`.
fn gate() -> Gate {
    let mut gate = Gate::of(|_| (), fetched);
    gate.answer(Ok((200, key_set("k"))));
    assert!(gate.net.jobs.is_empty());
    gate
}

fn by(kid: &str) -> String {
    request(&token_by(kid, "alice", "cluster", EPOCH, 3600), "")
}

#[test]
fn a_request_waits_for_the_key_that_its_token_names() {
    let mut gate = gate();
    let all: Vec<_> = (0..3).map(|_| gate.ask(&by("new"))).collect();
    assert_eq!(gate.net.jobs.len(), 1, "one fetch for all of them");
    // Others do not wait.
    let other = gate.ask(&request(&alice(), ""));
    assert_eq!(gate.net.dialled.len(), 1);
    assert_eq!((gate.heard(other), gate.heard(all[0])), (String::new(), String::new()));
    gate.answer(Ok((200, key_set("new"))));
    for _ in 0..4 {
        assert!(gate.upstream().2.contains("Impersonate-User: alice\r\n"));
    }
    gate.pass(Duration::from_secs(30));
    assert!(all.iter().all(|id| gate.heard(*id).is_empty()), "answered once, by the API server");
    assert_eq!(judged(&mut gate), ["ok\"} 4"], "each credential counts once");
}

#[test]
fn whoever_comes_before_the_first_keys_waits_for_them() {
    let discovered = |issuer: &mut OidcIssuer| {
        issuer.keys = KeySource::discover("https://issuer.test");
    };
    let mut gate = Gate::of(|_| (), discovered);
    let stream = gate.ask(&by("k"));
    let document = r#"{"issuer":"https://issuer.test","jwks_uri":"https://issuer.test/keys"}"#;
    gate.answer(Ok((200, document.to_owned())));
    assert_eq!((gate.heard(stream), gate.net.dialled.len()), (String::new(), 0));
    gate.answer(Ok((200, key_set("k"))));
    assert!(gate.upstream().2.contains("Impersonate-User: alice\r\n"));
    gate.pass(Duration::from_secs(30));
    assert_eq!(gate.heard(stream), "", "answered once, by the API server");
}

#[test]
fn without_first_keys_nobody_is_let_through_and_nobody_waits_in_vain() {
    for answer in [Ok((404, String::new())), Ok((200, "{}".to_owned())), Err("no route".to_owned())]
    {
        let mut gate = Gate::of(|_| (), fetched);
        let stream = gate.ask(&by("k"));
        assert_eq!(gate.heard(stream), "");
        gate.answer(answer);
        assert_eq!(status(&gate.heard(stream)), "503");
        // Nothing is fetched now, so nobody waits.
        let stream = gate.ask(&by("k"));
        assert_eq!(status(&gate.heard(stream)), "503");
        assert_eq!((gate.net.jobs.len(), gate.net.dialled.len()), (0, 0));
    }
    let mut gate = Gate::of(|_| (), fetched);
    let stream = gate.ask(&by("k"));
    gate.pass(PARKED_KEYS - Duration::from_millis(1));
    assert_eq!(gate.heard(stream), "");
    gate.pass(Duration::from_millis(1));
    assert_eq!(status(&gate.heard(stream)), "503");
}

#[test]
fn nobody_who_comes_has_the_first_keys_fetched_sooner() {
    let mut gate = Gate::of(|_| (), fetched);
    gate.answer(Err("no route".to_owned()));
    let stream = gate.ask(&by("k"));
    assert_eq!((status(&gate.heard(stream)), gate.net.jobs.len()), ("503", 0));
    // They are asked for again by themselves; and a key that is unknown then is worth a fetch.
    gate.pass(KEYS_RETRY_FIRST * 2);
    gate.answer(Ok((200, key_set("k"))));
    let stream = gate.ask(&by("new"));
    assert_eq!((gate.heard(stream), gate.net.jobs.len()), (String::new(), 1));
}

#[test]
fn whoever_comes_while_the_keys_are_read_from_their_file_waits_for_that() {
    let mut gate = Gate::with(ALPN_MUX, |_| (), keys_in_file("cluster"));
    let stream = gate.ask(&by("k"));
    assert_eq!((gate.heard(stream), gate.net.dialled.len()), (String::new(), 0));
    gate.read(&key_set("k"));
    assert!(gate.upstream().2.contains("Impersonate-User: alice\r\n"));
    let mut gate = Gate::with(ALPN_MUX, |_| (), keys_in_file("cluster"));
    let stream = gate.ask(&by("k"));
    gate.read("{}");
    assert_eq!(status(&gate.heard(stream)), "503");
}

/// What the metrics say of the credentials of the one issuer.
fn judged(gate: &mut Gate) -> Vec<String> {
    let page = gate.visit(Peer::Local, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let name = "authproxy_auth_total{issuer=\"https://issuer.test\",result=\"";
    page.lines().filter_map(|line| line.strip_prefix(name)).map(str::to_owned).collect()
}

#[test]
fn it_is_refused_when_the_key_is_not_there_either() {
    for answer in [Ok((200, key_set("k"))), Ok((500, String::new())), Err("no route".to_owned())] {
        let mut gate = gate();
        let stream = gate.ask(&by("made-up"));
        assert_eq!(gate.heard(stream), "");
        gate.answer(answer);
        assert_eq!(status(&gate.heard(stream)), "401");
        // The same again waits for nothing: nothing is fetched.
        let stream = gate.ask(&by("made-up"));
        assert_eq!(status(&gate.heard(stream)), "401");
        let stream = gate.ask(&by("another"));
        assert_eq!(status(&gate.heard(stream)), "401", "not within five minutes");
        assert_eq!((gate.net.jobs.len(), gate.net.dialled.len()), (0, 0));
        assert_eq!(judged(&mut gate), ["key_unknown\"} 3"]);
    }
}

#[test]
fn it_waits_for_two_seconds_and_a_late_answer_harms_nobody() {
    let mut gate = gate();
    let stream = gate.ask(&by("new"));
    gate.pass(PARKED_KEYS - Duration::from_millis(1));
    assert_eq!(gate.heard(stream), "");
    gate.pass(Duration::from_millis(1));
    assert_eq!(status(&gate.heard(stream)), "401");
    gate.answer(Ok((200, key_set("new"))));
    assert_eq!((gate.heard(stream), gate.net.dialled.len()), (String::new(), 0));
    gate.say(stream, &by("new"));
    assert_eq!(gate.net.dialled.len(), 1);
}

#[test]
fn a_storm_of_made_up_keys_holds_so_many_requests_and_makes_one_fetch() {
    let mut gate = gate();
    let mut refused = 0;
    for number in 0..PARKED_SESSION + 5 {
        let stream = gate.ask(&by(&format!("storm-{number}")));
        refused += usize::from(status(&gate.heard(stream)) == "401");
    }
    assert_eq!((refused, gate.net.jobs.len()), (5, 1));
    // Further sessions have places of their own, until all are taken.
    for _ in 1..PARKED_FOR_KEYS_MAX / PARKED_SESSION {
        gate.join();
        for number in 0..PARKED_SESSION {
            let stream = gate.ask(&by(&format!("storm-{number}")));
            assert_eq!(gate.heard(stream), "");
        }
    }
    gate.join();
    let stream = gate.ask(&by("storm"));
    assert_eq!(status(&gate.heard(stream)), "401");
    // Whoever leaves gives his places back, and whoever is known is served meanwhile.
    gate.ask(&request(&alice(), ""));
    assert_eq!(gate.net.dialled.len(), 1);
    gate.pass(PARKED_KEYS);
    assert_eq!(gate.net.jobs.len(), 1);
    let stream = gate.ask(&by("storm"));
    assert_eq!(gate.heard(stream), "", "the fetch is still under way, and there are places");
}

#[test]
fn strangers_that_wait_for_keys_take_no_place_of_who_waits_for_an_answer() {
    let passing = |config: &mut Config| {
        config.sa_passthrough = true;
        config.in_flight.caller = PARKED_MAX;
    };
    let mut gate = Gate::of(passing, fetched);
    gate.answer(Ok((200, key_set("k"))));
    let mut number = 0;
    for _ in 0..PARKED_FOR_KEYS_MAX / PARKED_SESSION {
        gate.join();
        for _ in 0..PARKED_SESSION {
            number += 1;
            let stream = gate.ask(&by(&format!("storm-{number}")));
            assert_eq!(gate.heard(stream), "");
        }
    }
    let fetch = gate.net.jobs.pop_front().unwrap();
    let by_account = request(&account(1), "");
    for _ in 0..PARKED_MAX / PARKED_SESSION {
        gate.join();
        for _ in 0..PARKED_SESSION {
            let stream = gate.ask(&by_account);
            assert_eq!(gate.heard(stream), "", "it waits for the API server's answer");
        }
    }
    gate.join();
    let stream = gate.ask(&by_account);
    assert_eq!(status(&gate.heard(stream)), "503", "all of those places are taken");
    gate.answer(known());
    assert_eq!(gate.net.dialled.len(), PARKED_MAX);
    // And the other way round: the strangers' places are theirs.
    let stream = gate.ask(&by("one more"));
    assert_eq!(status(&gate.heard(stream)), "401");
    gate.net.jobs.push_front(fetch);
    gate.answer(Ok((200, key_set("storm-7"))));
    assert_eq!(gate.net.dialled.len(), PARKED_MAX + 1);
}

#[test]
fn a_caller_that_leaves_while_it_waits_leaves_nothing_behind() {
    let mut gate = gate();
    gate.ask(&by("new"));
    gate.leave();
    gate.answer(Ok((200, key_set("new"))));
    gate.pass(Duration::from_secs(100));
    assert_eq!((gate.proxy.leftovers(), gate.net.dialled.len()), ((0, 0, 0), 0));
}
