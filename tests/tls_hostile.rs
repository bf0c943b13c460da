//! TLS from peers that cut handshake messages where nobody else does. rustls keeps places in the
//! buffer that it was given; whoever calls it without that buffer ends the process.

#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

mod sim;
mod support;

use std::sync::Arc;

use cluster_connect::engine::tls::{Session, State};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::{ClientConnection, ConnectionTrafficSecrets};
use sim::Rng;
use support::tls::Pki;

/// Gives `bytes` to `session` in pieces of `size`, and returns what it wants to say.
fn feed(session: &mut Session, bytes: &[u8], size: usize) -> Result<(Vec<u8>, Vec<u8>), Vec<u8>> {
    let (mut out, mut plain) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(size) {
        let mut piece = piece.to_vec();
        if session.receive(&mut piece, |data| plain.extend_from_slice(data), &mut out).is_err() {
            return Err(out);
        }
    }
    Ok((out, plain))
}

/// The records in `bytes`, their payload cut into records of at most `size` bytes.
fn fragmented(mut bytes: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while let [kind, major, minor, high, low, rest @ ..] = bytes {
        let (payload, after) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        for part in payload.chunks(if *kind == 22 { size } else { payload.len() }) {
            out.extend_from_slice(&[*kind, *major, *minor]);
            out.extend_from_slice(&u16::try_from(part.len()).unwrap().to_be_bytes());
            out.extend_from_slice(part);
        }
        bytes = after;
    }
    out
}

fn hello(pki: &Pki) -> (Session, Vec<u8>) {
    let mut client = Session::client(pki.client(&[]), pki.name()).unwrap();
    let mut hello = Vec::new();
    client.receive(&mut [], |_| (), &mut hello).unwrap();
    (client, hello)
}

#[test]
fn a_hello_in_crumbs_is_a_hello() {
    let pki = Pki::new();
    for size in [1, 2, 7, 100, 5_000] {
        for cut in [1, 3, 64, 1_000_000] {
            let (mut client, hello) = hello(&pki);
            let mut server = Session::server(pki.server(&[])).unwrap();
            let (mut down, _) = feed(&mut server, &fragmented(&hello, size), cut).unwrap();
            let mut up = Vec::new();
            client.receive(&mut down, |_| (), &mut up).unwrap();
            let (mut down, _) = feed(&mut server, &up, cut).unwrap();
            assert!(server.is_established(), "{size} {cut}");
            server.seal(b"welcome", &mut down).unwrap();
            let mut plain = Vec::new();
            let state = client.receive(&mut down, |data| plain.extend_from_slice(data), &mut up);
            assert_eq!((state.unwrap(), &plain[..]), (State::Established, &b"welcome"[..]));
        }
    }
}

#[test]
fn a_stranger_who_breaks_off_in_a_message_is_told_and_forgotten() {
    let pki = Pki::new();
    let (_, hello) = hello(&pki);
    let begun = [22, 3, 1, 0, 5, 1, 0, 0, 200, 3];
    let alert = [21, 3, 3, 0, 2, 2, 80];
    let data = [23, 3, 3, 0, 2, 1, 1];
    let mut half = hello.clone();
    half.truncate(hello.len() / 2);
    let length = u16::try_from(half.len() - 5).unwrap().to_be_bytes();
    half[3..5].copy_from_slice(&length);
    for start in [&begun[..], &half] {
        for rest in
            [&alert[..], &data, b"GET / HTTP/1.1\r\n\r\n", &[22, 3, 3, 0, 0], &[22, 3, 3, 255, 255]]
        {
            for cut in [1, 8, 1_000_000] {
                let mut server = Session::server(pki.server(&[])).unwrap();
                let _ = feed(&mut server, &[start, rest].concat(), cut);
                let mut out = Vec::new();
                server.close(&mut out);
                let _ = server.seal(b"late", &mut out);
                let _ = feed(&mut server, rest, cut);
            }
        }
    }
}

#[test]
fn a_client_that_refuses_a_certificate_says_so_and_lives() {
    let (pki, other) = (Pki::new(), Pki::new());
    for cut in [1, 100, 1_000_000] {
        let (mut client, hello) = hello(&pki);
        let mut server = Session::server(other.server(&[])).unwrap();
        let (down, _) = feed(&mut server, &hello, cut).unwrap();
        let alert = feed(&mut client, &down, cut).expect_err("another authority");
        assert!(!alert.is_empty(), "{cut}");
        assert!(feed(&mut server, &alert, cut).is_err(), "{cut}");
        let mut out = Vec::new();
        client.close(&mut out);
        assert!(client.seal(b"late", &mut out).is_err());
    }
}

/// One record of `kind` under the client's own keys.
fn sealed(secrets: &ConnectionTrafficSecrets, number: u64, kind: u8, plain: &[u8]) -> Vec<u8> {
    let (algorithm, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
        _ => panic!("ring prefers AES"),
    };
    let mut nonce: [u8; 12] = iv.as_ref().try_into().unwrap();
    for (byte, number) in nonce[4..].iter_mut().zip(number.to_be_bytes()) {
        *byte ^= number;
    }
    let mut body = [plain, &[kind]].concat();
    let length = u16::try_from(body.len() + 16).unwrap().to_be_bytes();
    let header = [23, 3, 3, length[0], length[1]];
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).unwrap());
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::from(header), &mut body).unwrap();
    [&header, &body[..]].concat()
}

/// A server that is established, and the keys of its client with the number of the next record.
fn established(pki: &Pki) -> (Session, u64, ConnectionTrafficSecrets) {
    let mut config = (*pki.client(&[])).clone();
    config.enable_secret_extraction = true;
    let mut client = ClientConnection::new(Arc::new(config), pki.name()).unwrap();
    let mut server = Session::server(pki.server(&[])).unwrap();
    while client.is_handshaking() || !server.is_established() {
        let mut up = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut up).unwrap();
        }
        let (down, _) = feed(&mut server, &up, 1_000_000).unwrap();
        let mut down = &down[..];
        while !down.is_empty() {
            client.read_tls(&mut down).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    let (number, secrets) = client.dangerous_extract_secrets().unwrap().tx;
    (server, number, secrets)
}

#[test]
fn a_key_update_in_crumbs_stops_nobody_from_answering() {
    let (mut server, mut number, secrets) = established(&Pki::new());
    // A handshake message of type 24, one byte long: no update is asked for in return.
    for byte in [24, 0, 0, 1, 0] {
        let mut record = sealed(&secrets, number, 22, &[byte]);
        number += 1;
        let mut out = Vec::new();
        let (first, second) = record.split_at_mut(9);
        for part in [first, second] {
            server.receive(part, |_| panic!("no data"), &mut out).unwrap();
            server.seal(b"in between", &mut out).unwrap();
        }
        assert!(!out.is_empty());
    }
    let mut out = Vec::new();
    server.close(&mut out);
    assert!(!out.is_empty());
}

#[test]
fn no_bytes_end_the_process() {
    let pki = Pki::new();
    let mut rng = Rng(1);
    let (_, hello) = hello(&pki);
    for round in 0..3_000 {
        let mut bytes = fragmented(&hello, rng.size(600));
        for _ in 0..rng.below(4) {
            let (place, bit) = (rng.index(bytes.len()), rng.below(8));
            bytes[place] ^= 1 << bit;
        }
        let mut server = Session::server(pki.server(&[])).unwrap();
        let result = feed(&mut server, &bytes, rng.size(1_000));
        // Whatever a server makes of it, a client has to live with.
        let mut client = Session::client(pki.client(&[]), pki.name()).unwrap();
        let mut out = Vec::new();
        client.receive(&mut [], |_| (), &mut out).unwrap();
        let (Ok((mut answer, _)) | Err(mut answer)) = result;
        if !answer.is_empty() && round % 2 == 0 {
            let place = rng.index(answer.len());
            answer[place] ^= 1 << rng.below(8);
        }
        let _ = feed(&mut client, &answer, rng.size(2_000));
        for session in [&mut server, &mut client] {
            session.close(&mut out);
            let _ = session.seal(b"late", &mut out);
            let _ = feed(session, &bytes, 100);
        }
    }
    for _ in 0..600 {
        let (mut server, mut number, secrets) = established(&pki);
        let mut bytes = Vec::new();
        for _ in 0..=rng.below(8) {
            let kind = [20, 21, 22, 22, 22, 23, 24][rng.index(7)];
            let len = rng.size(40);
            let mut plain = rng.bytes(len);
            if kind == 22 {
                // What follows a handshake: tickets, updates of keys, and the beginnings of them.
                plain[0] = [4, 24, 24, 1, 20][rng.index(5)];
                plain.iter_mut().skip(1).take(2).for_each(|byte| *byte = 0);
            }
            bytes.extend_from_slice(&sealed(&secrets, number, kind, &plain));
            number += 1;
        }
        let mut out = Vec::new();
        for piece in bytes.chunks(rng.size(100)) {
            let _ = server.receive(&mut piece.to_vec(), |_| (), &mut out);
            let _ = server.seal(b"in between", &mut out);
        }
        server.close(&mut out);
    }
}
