//! HTTP/1.1 as the ends of a simulated world speak it: written apart from `wire::h1`, so that the
//! two check each other. What it cannot read is a failed test.

/// The start line and the fields of a message.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub start: String,
    /// Names in lower case.
    pub fields: Vec<(String, String)>,
}

impl Head {
    fn parse(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let start = lines.next().expect("a start line").to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("field {line:?}"));
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Self { start, fields: lines.map(field).collect() }
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.fields.iter().filter(|(n, _)| n == name);
        fields.map(|(_, value)| value.as_str()).collect()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} comes twice: {:?}", self.fields);
        all.first().copied()
    }

    /// Of a response.
    pub fn status(&self) -> u16 {
        assert!(self.start.starts_with("HTTP/1.1 "), "{}", self.start);
        self.start[9..12].parse().expect("a status")
    }

    /// Of a request.
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// Of a request.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    pub fn closes(&self) -> bool {
        self.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// What comes out of a [`Reader`].
#[derive(Debug)]
pub enum Item {
    Head(Head),
    Body(Vec<u8>),
    /// The message is complete.
    End,
}

/// Reads messages of one direction.
#[derive(Debug)]
pub struct Reader {
    bytes: Vec<u8>,
    stage: Stage,
    is_server: bool,
    /// The next response is to a HEAD.
    pub is_head: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Head,
    Length(usize),
    /// Before the size of a chunk.
    Size,
    Chunk(usize),
    /// Behind the data of a chunk.
    Break,
    Trailer,
    UntilEnd,
    Raw,
    Ended,
}

impl Reader {
    /// Of requests.
    pub fn server() -> Self {
        Self { bytes: Vec::new(), stage: Stage::Head, is_server: true, is_head: false }
    }

    /// Of responses.
    pub fn client() -> Self {
        Self { is_server: false, ..Self::server() }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Nothing of a next message has come.
    pub fn is_between(&self) -> bool {
        self.stage == Stage::Head && self.bytes.is_empty()
    }

    /// What comes from here on is not HTTP.
    pub fn go_raw(&mut self) {
        self.stage = Stage::Raw;
    }

    /// The peer has ended: whether that ends a message that has no other end.
    pub fn ends_here(&self) -> bool {
        self.stage == Stage::UntilEnd
    }

    pub fn poll(&mut self) -> Option<Item> {
        match self.stage {
            Stage::Head => {
                let end = find(&self.bytes, b"\r\n\r\n")?;
                let text = String::from_utf8(self.bytes[..end].to_vec()).expect("text");
                self.bytes.drain(..end + 4);
                let head = Head::parse(&text);
                self.stage = self.body_of(&head);
                Some(Item::Head(head))
            }
            Stage::Length(0) => self.end(),
            Stage::Length(left) => self.take(left, Stage::Length),
            Stage::Chunk(left) => {
                let next = |left| if left == 0 { Stage::Break } else { Stage::Chunk(left) };
                self.take(left, next)
            }
            Stage::Break => {
                let (end, _) = self.bytes.split_first_chunk::<2>()?;
                assert_eq!(end, b"\r\n", "a chunk ends with its size");
                self.bytes.drain(..2);
                self.stage = Stage::Size;
                self.poll()
            }
            Stage::Size => {
                let end = find(&self.bytes, b"\r\n")?;
                let text = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
                self.bytes.drain(..end + 2);
                let size = usize::from_str_radix(&text, 16).expect("a chunk size");
                self.stage = if size == 0 { Stage::Trailer } else { Stage::Chunk(size) };
                self.poll()
            }
            Stage::Trailer => {
                let (end, _) = self.bytes.split_first_chunk::<2>()?;
                assert_eq!(end, b"\r\n", "no trailers");
                self.bytes.drain(..2);
                self.end()
            }
            Stage::UntilEnd | Stage::Raw => {
                let stage = self.stage;
                self.take(usize::MAX, |_| stage)
            }
            Stage::Ended => {
                self.stage = Stage::Head;
                Some(Item::End)
            }
        }
    }

    fn end(&mut self) -> Option<Item> {
        self.stage = Stage::Head;
        Some(Item::End)
    }

    fn take(&mut self, most: usize, next: impl Fn(usize) -> Stage) -> Option<Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let rest = self.bytes.split_off(most.min(self.bytes.len()));
        let data = std::mem::replace(&mut self.bytes, rest);
        self.stage = next(most - data.len());
        Some(Item::Body(data))
    }

    fn body_of(&mut self, head: &Head) -> Stage {
        let without = if self.is_server {
            false
        } else {
            let status = head.status();
            if status < 200 && status != 101 {
                return Stage::Head;
            }
            std::mem::take(&mut self.is_head) || matches!(status, 101 | 204 | 304)
        };
        if without {
            return Stage::Ended;
        }
        let length = head.get("content-length");
        let coding = head.get("transfer-encoding");
        assert!(length.is_none() || coding.is_none(), "two framings: {:?}", head.fields);
        match (coding, length) {
            (Some(coding), _) => {
                assert_eq!(coding, "chunked");
                Stage::Size
            }
            (None, Some(length)) => Stage::Length(length.parse().expect("a length")),
            (None, None) if self.is_server => Stage::Ended,
            (None, None) => Stage::UntilEnd,
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Appends one chunk.
pub fn chunk(into: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        into.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        into.extend_from_slice(data);
        into.extend_from_slice(b"\r\n");
    }
}

/// The end of a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
