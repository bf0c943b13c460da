//! What comes back when things break: a whole answer, or one that everybody can see is not whole.

use std::io::Write as _;

use super::raw::Door;

#[derive(Debug)]
pub(crate) enum Answer {
    Whole(u16, Vec<u8>),
    Broken,
}

/// Sends these bytes on a connection of their own and reads until the answer is whole, or the
/// connection ends.
pub(crate) fn attempt(door: &Door, request: &[u8]) -> Answer {
    let (mut stream, _) = door.connect().into_parts();
    // One that is refused early is not read to its end.
    let _ = stream.write_all(request).and_then(|()| stream.flush());
    rest(&mut stream, Vec::new())
}

/// Reads on until the answer is whole, or the connection ends.
pub(crate) fn rest(stream: &mut impl std::io::Read, mut seen: Vec<u8>) -> Answer {
    let mut buffer = [0; 16 * 1024];
    loop {
        if let Some((code, body)) = whole(&seen) {
            return Answer::Whole(code, body);
        }
        match stream.read(&mut buffer) {
            Ok(len @ 1..) => seen.extend(&buffer[..len]),
            Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("the caller was left to wait: {}", String::from_utf8_lossy(&seen));
            }
            Ok(0) | Err(_) => return Answer::Broken,
        }
    }
}

/// Code and body, once all of it is there.
fn whole(bytes: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let code = head.split(' ').nth(1)?.parse().expect("a status");
    let mut rest = &bytes[end..];
    if !head.contains("transfer-encoding: chunked") {
        let length = head.split("content-length: ").nth(1)?;
        let length: usize = length.lines().next()?.trim().parse().expect("a length");
        return (rest.len() >= length).then(|| (code, rest[..length].to_vec()));
    }
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = String::from_utf8_lossy(&rest[..line]).into_owned();
        let size = usize::from_str_radix(&size, 16).expect("a chunk size");
        let chunk = rest.get(line + 2..line + 2 + size)?;
        body.extend(chunk);
        rest = rest.get(line + 4 + size..)?;
        if size == 0 {
            return Some((code, body));
        }
    }
}
