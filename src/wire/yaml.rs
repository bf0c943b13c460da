//! YAML as kubeconfig files use it: text to a tree and back, without a change of meaning.
//!
//! A scalar keeps whether it was written plain, and a plain one is written back as it was: what
//! `0x10` or `yes` means stays the business of whoever reads the file next. Refused is what readers
//! disagree about or what grows when it is read: aliases, tags, merge keys, duplicate keys, keys
//! that are not scalars, several documents.

use std::collections::BTreeSet;
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::limits::{YAML_DEPTH_MAX, YAML_KEY_MAX, YAML_NODES_MAX};

/// A node of the tree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Node {
    /// Text, a number, true, null: anything that is not a collection.
    Scalar(Scalar),
    /// A sequence.
    List(Vec<Self>),
    /// A mapping, in the order of the file.
    Map(Vec<(Scalar, Self)>),
}

/// A scalar as it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scalar {
    /// Without quotes, escapes resolved.
    pub text: String,
    /// It had no quotes, so it may mean a number, a boolean or null.
    pub plain: bool,
}

/// What a scalar means to a reader of YAML 1.1 or 1.2.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Meaning<'a> {
    /// Nothing, `~`, `null`.
    Null,
    /// `true`, `no` and the like.
    Bool(bool),
    /// Digits, or what begins like a number.
    Number,
    /// Everything else.
    Text(&'a str),
}

/// Why a text is not taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// It begins with the byte order mark of UTF-16.
    Utf16,
    /// It is not UTF-8.
    NotUtf8,
    /// A control character, at this line.
    Control(usize),
    /// The parser's own words, and the line.
    Syntax(String, usize),
    /// An alias (`*name`), at this line.
    Alias(usize),
    /// A tag (`!name`), at this line.
    Tag(usize),
    /// A merge key (`<<`), at this line.
    Merge(usize),
    /// A key that comes twice in one mapping, and the line.
    Duplicate(String, usize),
    /// A key that is empty, too long, or a collection, at this line.
    Key(usize),
    /// More than one document, at this line.
    Documents(usize),
    /// Nested too deeply, at this line.
    Deep(usize),
    /// Too many nodes.
    Large,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utf16 => f.write_str("the text is UTF-16, not UTF-8"),
            Self::NotUtf8 => f.write_str("the text is not UTF-8"),
            Self::Control(line) => write!(f, "line {line}: a control character"),
            Self::Syntax(what, line) => write!(f, "line {line}: {what}"),
            Self::Alias(line) => write!(f, "line {line}: aliases are not taken"),
            Self::Tag(line) => write!(f, "line {line}: tags are not taken"),
            Self::Merge(line) => write!(f, "line {line}: merge keys are not taken"),
            Self::Duplicate(key, line) => write!(f, "line {line}: the key {key:?} comes twice"),
            Self::Key(line) => write!(f, "line {line}: a key that is empty, too long or no text"),
            Self::Documents(line) => write!(f, "line {line}: a second document"),
            Self::Deep(line) => write!(f, "line {line}: nested deeper than {YAML_DEPTH_MAX}"),
            Self::Large => write!(f, "more than {YAML_NODES_MAX} values"),
        }
    }
}

impl std::error::Error for Malformed {}

impl Scalar {
    /// Text, to be written in quotes.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), plain: false }
    }

    /// A plain scalar. `text` must be one: a word, a number.
    #[must_use]
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), plain: true }
    }

    /// What it means. Both versions of YAML are heard, for kubectl still reads 1.1.
    #[must_use]
    pub fn meaning(&self) -> Meaning<'_> {
        if !self.plain {
            return Meaning::Text(&self.text);
        }
        match self.text.to_ascii_lowercase().as_str() {
            "" | "~" | "null" => return Meaning::Null,
            "true" | "yes" | "on" | "y" => return Meaning::Bool(true),
            "false" | "no" | "off" | "n" => return Meaning::Bool(false),
            _ => {}
        }
        let number = self.text.strip_prefix(['-', '+']).unwrap_or(&self.text);
        let number = number.strip_prefix('.').unwrap_or(number);
        let special = number.eq_ignore_ascii_case("inf") || number.eq_ignore_ascii_case("nan");
        let numeric = number.starts_with(|c: char| c.is_ascii_digit())
            && number.chars().all(|c| c.is_ascii_hexdigit() || "xob._+-:".contains(c));
        if (special && self.text.contains('.')) || numeric {
            return Meaning::Number;
        }
        Meaning::Text(&self.text)
    }
}

impl Node {
    /// Text, to be written in quotes.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Scalar(Scalar::text(text))
    }

    /// A mapping with plain keys.
    #[must_use]
    pub fn map<const N: usize>(fields: [(&str, Self); N]) -> Self {
        Self::Map(fields.into_iter().map(|(key, node)| (Scalar::plain(key), node)).collect())
    }

    /// The value of `key`, if this is a mapping that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(fields) => fields.iter().find(|(k, _)| k.text == key).map(|(_, node)| node),
            Self::Scalar(_) | Self::List(_) => None,
        }
    }

    /// It stands for nothing: null in one of its spellings.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Scalar(scalar) if scalar.meaning() == Meaning::Null)
    }

    /// Sets `key` of a mapping, in its place or at the end. Anything else becomes a mapping.
    pub fn set(&mut self, key: &str, node: Self) {
        if !matches!(self, Self::Map(_)) {
            *self = Self::Map(Vec::new());
        }
        let Self::Map(fields) = self else { return };
        match fields.iter_mut().find(|(k, _)| k.text == key) {
            Some((_, place)) => *place = node,
            None => fields.push((Scalar::plain(key), node)),
        }
    }

    /// Parses one document. An empty text is null.
    ///
    /// # Errors
    ///
    /// [`Malformed`]
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            return Err(Malformed::Utf16);
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed::NotUtf8)?;
        if let Some(at) = text.find(|c: char| c.is_control() && !"\t\r\n\u{85}".contains(c)) {
            let line = text.get(..at).map_or(0, |before| before.matches('\n').count());
            return Err(Malformed::Control(line.saturating_add(1)));
        }
        let mut tree = Builder::default();
        for event in Parser::new_from_str(text) {
            let (event, span) =
                event.map_err(|e| Malformed::Syntax(e.info().to_owned(), e.marker().line()))?;
            tree.take(event, span.start.line())?;
        }
        Ok(tree.root.unwrap_or_else(|| Self::Scalar(Scalar::plain(""))))
    }

    /// The tree as YAML in block style; [`Self::parse`] gives the same tree again.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        match self {
            Self::Scalar(scalar) => {
                scalar.write(&mut out);
                out.push('\n');
            }
            Self::List(_) | Self::Map(_) => self.write(0, false, &mut out),
        }
        out
    }

    /// Writes a collection; its first line goes on where `out` ends when it is `inline`.
    fn write(&self, indent: usize, inline: bool, out: &mut String) {
        let mut first = inline;
        let mut margin = |out: &mut String| {
            if !std::mem::take(&mut first) {
                out.extend(std::iter::repeat_n(' ', indent));
            }
        };
        match self {
            Self::Scalar(scalar) => scalar.write(out),
            Self::List(items) if items.is_empty() => out.push_str("[]\n"),
            Self::Map(fields) if fields.is_empty() => out.push_str("{}\n"),
            Self::List(items) => {
                for item in items {
                    margin(out);
                    out.push('-');
                    item.write_value(indent, true, out);
                }
            }
            Self::Map(fields) => {
                for (key, node) in fields {
                    margin(out);
                    key.write(out);
                    out.push(':');
                    node.write_value(indent, false, out);
                }
            }
        }
    }

    /// Writes what follows a dash or a colon, to the end of its last line.
    fn write_value(&self, indent: usize, after_dash: bool, out: &mut String) {
        match self {
            Self::Scalar(scalar) if scalar.plain && scalar.text.is_empty() => out.push('\n'),
            Self::Scalar(scalar) => {
                out.push(' ');
                scalar.write(out);
                out.push('\n');
            }
            Self::List(items) if items.is_empty() => out.push_str(" []\n"),
            Self::Map(fields) if fields.is_empty() => out.push_str(" {}\n"),
            Self::List(_) | Self::Map(_) if after_dash => {
                out.push(' ');
                self.write(indent.saturating_add(2), true, out);
            }
            Self::List(_) | Self::Map(_) => {
                out.push('\n');
                self.write(indent.saturating_add(2), false, out);
            }
        }
    }
}

impl Scalar {
    fn write(&self, out: &mut String) {
        if self.plain {
            out.push_str(&self.text);
            return;
        }
        out.push('"');
        for c in self.text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                // Line breaks of YAML 1.1, the byte order mark, and what does not print.
                '\u{2028}' | '\u{2029}' | '\u{feff}' => push_escape(c, out),
                c if c.is_control() => push_escape(c, out),
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// Whether a text means the same without quotes anywhere in block style. Parsers are lenient about
/// what may stand plain; what is not certain is text in any case and gets its quotes.
fn stays_plain(text: &str) -> bool {
    let mut chars = text.chars();
    let begins_well = match (chars.next(), chars.next()) {
        (None, _) => true,
        (Some('-'), second) => second.is_some_and(|c| c.is_ascii_alphanumeric() || c == '.'),
        (Some(first), _) => !"?:,[]{}#&*!|>'\"%@`=\\".contains(first),
    };
    begins_well
        && text.trim() == text
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with(':')
        && !text.contains(['\n', '\r', '\t', '\u{85}', '\u{2028}', '\u{2029}', '\u{feff}'])
}

fn push_escape(c: char, out: &mut String) {
    out.push_str(&format!("\\u{:04x}", u32::from(c)));
}

/// The tree so far. Depth is on a stack of our own, never on the thread's.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    nodes: usize,
}

enum Open {
    List(Vec<Node>),
    Map { fields: Vec<(Scalar, Node)>, seen: BTreeSet<String>, key: Option<Scalar> },
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), Malformed> {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => Err(Malformed::Documents(line)),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
            Event::Alias(_) => Err(Malformed::Alias(line)),
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => Err(Malformed::Tag(line)),
            Event::Scalar(text, style, _, None) => {
                let plain = style == ScalarStyle::Plain && stays_plain(&text);
                self.scalar(Scalar { text: text.into_owned(), plain }, line)
            }
            Event::SequenceStart(_, None) => self.begin(Open::List(Vec::new()), line),
            Event::MappingStart(_, None) => {
                let (fields, seen) = (Vec::new(), BTreeSet::new());
                self.begin(Open::Map { fields, seen, key: None }, line)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(items)) => self.value(Node::List(items), line),
                Some(Open::Map { fields, .. }) => self.value(Node::Map(fields), line),
                None => Ok(()),
            },
        }
    }

    fn begin(&mut self, open: Open, line: usize) -> Result<(), Malformed> {
        if let Some(Open::Map { key: None, .. }) = self.open.last() {
            return Err(Malformed::Key(line));
        }
        if YAML_DEPTH_MAX <= self.open.len() {
            return Err(Malformed::Deep(line));
        }
        self.open.push(open);
        self.count()
    }

    fn scalar(&mut self, scalar: Scalar, line: usize) -> Result<(), Malformed> {
        let Some(Open::Map { seen, key: key @ None, .. }) = self.open.last_mut() else {
            return self.value(Node::Scalar(scalar), line);
        };
        if scalar.plain && scalar.text == "<<" {
            return Err(Malformed::Merge(line));
        }
        if scalar.meaning() == Meaning::Null || YAML_KEY_MAX < scalar.text.len() {
            return Err(Malformed::Key(line));
        }
        if !seen.insert(scalar.text.clone()) {
            return Err(Malformed::Duplicate(scalar.text, line));
        }
        *key = Some(scalar);
        Ok(())
    }

    fn value(&mut self, node: Node, line: usize) -> Result<(), Malformed> {
        self.count()?;
        match self.open.last_mut() {
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map { fields, key, .. }) => match key.take() {
                Some(key) => fields.push((key, node)),
                None => return Err(Malformed::Key(line)),
            },
            None => self.root = Some(node),
        }
        Ok(())
    }

    const fn count(&mut self) -> Result<(), Malformed> {
        self.nodes = self.nodes.saturating_add(1);
        if YAML_NODES_MAX < self.nodes { Err(Malformed::Large) } else { Ok(()) }
    }
}

#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;
