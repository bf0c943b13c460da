//! The fields of a head, in order, duplicates kept.

use std::error::Error;
use std::fmt;
use std::ops::Range;

use super::grammar::{is_token, is_value, trim_ows};

/// The fields of one head: ranges over one buffer.
///
/// Every name in it is a token and every value free of controls, whether it was read or pushed.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Fields {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Span {
    name: Range<usize>,
    value: Range<usize>,
}

/// One field, as it came: the name in the peer's case, the value without blanks around it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Field<'a> {
    /// A token.
    pub name: &'a str,
    /// Bytes without controls; not always UTF-8.
    pub value: &'a [u8],
}

/// Something that must not be written into a head. Always our own fault or a refused claim.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unwritable {
    /// A name that is not a token.
    Name,
    /// A value with a control character, or with blanks around it. Names the field.
    Value(String),
    /// A method that is not a token, or a target that is not an absolute path.
    Line,
    /// A request without exactly one `Host`.
    Host,
    /// A field that is made anew for each hop was left in. Names it.
    Remade(String),
}

impl Fields {
    /// Room for `fields` fields of `bytes` bytes together.
    pub(super) fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), spans: Vec::with_capacity(fields) }
    }

    /// A copy with room for so many fields more, of so many bytes together.
    pub(super) fn with_room(&self, fields: usize, bytes: usize) -> Self {
        let mut copy = Self::with_capacity(self.spans.len() + fields, self.bytes.len() + bytes);
        copy.bytes.extend_from_slice(&self.bytes);
        copy.spans.extend_from_slice(&self.spans);
        copy
    }

    /// Bytes that [`Self::write`] writes, or somewhat more.
    pub(super) fn written_len(&self) -> usize {
        self.bytes.len() + self.spans.len() * ": \r\n".len()
    }

    /// Appends a field.
    ///
    /// # Errors
    ///
    /// [`Unwritable`] when the name is no token or the value could change the head's shape: it is
    /// refused, never escaped or trimmed.
    pub fn push(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), Unwritable> {
        let value = value.as_ref();
        if !is_token(name.as_bytes()) {
            return Err(Unwritable::Name);
        }
        if !is_value(value) {
            return Err(Unwritable::Value(name.to_owned()));
        }
        let mut put = |part: &[u8]| {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(part);
            start..self.bytes.len()
        };
        let span = Span { name: put(name.as_bytes()), value: put(value) };
        self.spans.push(span);
        Ok(())
    }

    /// Removes every field called `name`.
    pub fn remove(&mut self, name: &str) {
        self.retain(|field| !field.name.eq_ignore_ascii_case(name));
    }

    /// Keeps the fields that `keep` says yes to.
    pub fn retain(&mut self, mut keep: impl FnMut(Field<'_>) -> bool) {
        let bytes = &self.bytes;
        self.spans.retain(|span| keep(field(bytes, span)));
    }

    /// All fields, in order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.spans.iter().map(|span| field(&self.bytes, span))
    }

    /// The values of every field called `name`, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |it| it.name.eq_ignore_ascii_case(name)).map(|it| it.value)
    }

    /// How many fields are called `name`.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.all(name).count()
    }

    /// The value of the first field called `name`.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|it| it.name.eq_ignore_ascii_case(name)).map(|it| it.value)
    }

    /// The first field called `name`, if its value is UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.first(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The members of the comma-separated lists in all fields called `name`, blanks trimmed and
    /// empty members left out (RFC 9110, 5.6.1).
    pub fn members<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.all(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .map(trim_ows)
            .filter(|member| !member.is_empty())
    }

    /// Whether a list called `name` has `member`, in any case.
    #[must_use]
    pub fn has_member(&self, name: &str, member: &str) -> bool {
        self.members(name).any(|it| it.eq_ignore_ascii_case(member.as_bytes()))
    }

    /// How many fields there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.spans.len()
    }

    /// There are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Appends `name: value CRLF` for each field.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for Field { name, value } in self.iter() {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Spans point into the buffer they were made with, and names are ASCII: neither fallback is met.
fn field<'a>(bytes: &'a [u8], span: &Span) -> Field<'a> {
    let name = bytes.get(span.name.clone()).unwrap_or_default();
    Field {
        name: std::str::from_utf8(name).unwrap_or_default(),
        value: bytes.get(span.value.clone()).unwrap_or_default(),
    }
}

/// Names only: values hold tokens, and a head is printed by accident sooner or later.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|field| field.name)).finish()
    }
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("field name is not a token"),
            Self::Value(name) => {
                write!(f, "value of {name} has a control character or outer blank")
            }
            Self::Line => f.write_str("method or target cannot stand in a request line"),
            Self::Host => f.write_str("request has not exactly one Host"),
            Self::Remade(name) => write!(f, "field {name} belongs to one hop"),
        }
    }
}

impl Error for Unwritable {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_duplicates_are_kept_and_names_ignore_case() {
        let mut fields = Fields::default();
        for (name, value) in [("A", "1"), ("b", "x"), ("a", "2, ,3 ,"), ("C", "")] {
            fields.push(name, value).unwrap();
        }
        assert_eq!(fields.all("a").collect::<Vec<_>>(), [b"1".as_slice(), b"2, ,3 ,"]);
        assert_eq!(fields.members("A").collect::<Vec<_>>(), [b"1", b"2", b"3"]);
        assert_eq!(fields.first("B"), Some(b"x".as_slice()));
        assert_eq!((fields.len(), fields.count("a"), fields.text("c")), (4, 2, Some("")));
        fields.remove("A");
        let mut out = Vec::new();
        fields.write(&mut out);
        assert_eq!(out, b"b: x\r\nC: \r\n");
    }

    #[test]
    fn nothing_that_could_end_a_line_is_pushed() {
        let mut fields = Fields::default();
        for name in ["", "a b", "a:", "a\r", "é", "a\0"] {
            assert_eq!(fields.push(name, "v"), Err(Unwritable::Name), "{name:?}");
        }
        for value in ["a\r\nb: c", "a\nb", "a\rb", "a\0", "a\u{7f}", "a\u{1b}", " a", "a\t"] {
            let refused = Err(Unwritable::Value("n".to_owned()));
            assert_eq!(fields.push("n", value), refused, "{value:?}");
        }
        assert!(fields.is_empty());
        fields.push("n", [0xe9, b' ', 0xff]).unwrap();
    }

    #[test]
    fn values_do_not_reach_debug_output() {
        let mut fields = Fields::default();
        fields.push("Authorization", "Bearer secret").unwrap();
        assert_eq!(format!("{fields:?}"), "[\"Authorization\"]");
    }
}
