//! JSON read strictly: a duplicate key is an error, at any depth, and so is nesting without end.
//!
//! Parsers that keep the last of two equal keys let a signer and a verifier read two documents in
//! one. Keys are compared after unescaping, so `"iss"` and `"\u0069ss"` are the same key. What
//! `serde_json` refuses is refused here too: NaN, a byte-order mark, bytes after the value, text
//! that is not UTF-8, surrogates without their other half.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

/// A JSON value. Integers that fit 64 bits stay exact; every other number is a [`Value::Float`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without fraction and exponent, zero or above.
    Unsigned(u64),
    /// A number without fraction and exponent, below zero.
    Negative(i64),
    /// Any other number.
    Float(f64),
    /// Text, unescaped.
    Text(String),
    /// An array.
    Array(Vec<Self>),
    /// An object.
    Object(Object),
}

/// A JSON object whose keys are known to differ.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object(BTreeMap<String, Value>);

/// Reads one value, nested at most `depth` deep: a scalar has depth 0, `[]` has depth 1.
///
/// # Errors
/// [`Malformed`] if the bytes are not one strict JSON value.
pub fn parse(bytes: &[u8], depth: usize) -> Result<Value, Malformed> {
    let fault = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth, fault: &fault }.deserialize(&mut reader);
    let value = value.and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| match fault.take() {
        Some(fault) => fault,
        None => Malformed::Syntax { line: error.line(), column: error.column() },
    })
}

/// Reads one object, nested at most `depth` deep, counting itself.
///
/// # Errors
/// [`Malformed`] if the bytes are not one strict JSON object.
pub fn parse_object(bytes: &[u8], depth: usize) -> Result<Object, Malformed> {
    match parse(bytes, depth)? {
        Value::Object(object) => Ok(object),
        other => Err(Malformed::NotAnObject(other.kind())),
    }
}

impl Value {
    /// What this is, in a word that fits an error message.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Unsigned(_) | Self::Negative(_) => "an integer",
            Self::Float(_) => "a number that is no integer",
            Self::Text(_) => "text",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// The text, if this is text.
    #[must_use]
    pub const fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// The object, if this is one.
    #[must_use]
    pub const fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }
}

impl Object {
    /// The value of `key`, whatever it is.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// Whether `key` is there, even as `null`.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// All keys and values, in order of key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Two keys that differ in ASCII case only. A reader that ignores case would take one for the
    /// other.
    #[must_use]
    pub fn case_twins(&self) -> Option<(&str, &str)> {
        let mut seen = BTreeMap::new();
        self.0.keys().find_map(|key| {
            let before = seen.insert(key.to_ascii_lowercase(), key.as_str())?;
            Some((before, key.as_str()))
        })
    }

    /// The text at `key`.
    ///
    /// # Errors
    /// [`Mismatch`] if it is absent or not text.
    pub fn text(&self, key: &str) -> Result<&str, Mismatch> {
        self.optional_text(key)?.ok_or_else(|| Mismatch::absent(key, "text"))
    }

    /// The text at `key`, or nothing if there is no such key.
    ///
    /// # Errors
    /// [`Mismatch`] if it is there and not text.
    pub fn optional_text(&self, key: &str) -> Result<Option<&str>, Mismatch> {
        self.typed(key, "text", |value| value.as_text())
    }

    /// The integer at `key`, zero or above.
    ///
    /// # Errors
    /// [`Mismatch`] if it is absent or anything else.
    pub fn unsigned(&self, key: &str) -> Result<u64, Mismatch> {
        let number = self.optional_unsigned(key)?;
        number.ok_or_else(|| Mismatch::absent(key, "an unsigned integer"))
    }

    /// The integer at `key`, zero or above, or nothing if there is no such key.
    ///
    /// # Errors
    /// [`Mismatch`] if it is there and anything else.
    pub fn optional_unsigned(&self, key: &str) -> Result<Option<u64>, Mismatch> {
        self.typed(key, "an unsigned integer", |value| match value {
            Value::Unsigned(number) => Some(*number),
            _ => None,
        })
    }

    /// The boolean at `key`, or nothing if there is no such key.
    ///
    /// # Errors
    /// [`Mismatch`] if it is there and no boolean.
    pub fn optional_bool(&self, key: &str) -> Result<Option<bool>, Mismatch> {
        self.typed(key, "a boolean", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// The array at `key`, or nothing if there is no such key.
    ///
    /// # Errors
    /// [`Mismatch`] if it is there and no array.
    pub fn optional_array(&self, key: &str) -> Result<Option<&[Value]>, Mismatch> {
        self.typed(key, "an array", |value| match value {
            Value::Array(items) => Some(items.as_slice()),
            _ => None,
        })
    }

    /// The object at `key`, or nothing if there is no such key.
    ///
    /// # Errors
    /// [`Mismatch`] if it is there and no object.
    pub fn optional_object(&self, key: &str) -> Result<Option<&Self>, Mismatch> {
        self.typed(key, "an object", |value| value.as_object())
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Mismatch> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(Mismatch { key: key.to_owned(), expected, found: value.kind() }),
        }
    }
}

/// Why bytes are not strict JSON.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// The grammar is broken, or the text is not UTF-8.
    Syntax {
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault, from 1.
        column: usize,
    },
    /// An object has this key twice.
    Duplicate(String),
    /// Arrays and objects are nested deeper than allowed.
    TooDeep,
    /// The outermost value is not an object but this.
    NotAnObject(&'static str),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { line, column } => write!(f, "not JSON at line {line} column {column}"),
            Self::Duplicate(key) => write!(f, "duplicate key {key:?}"),
            Self::TooDeep => f.write_str("nested too deep"),
            Self::NotAnObject(found) => write!(f, "expected an object, found {found}"),
        }
    }
}

impl std::error::Error for Malformed {}

/// A value is not of the type that its key asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mismatch {
    /// The key.
    pub key: String,
    /// What it must hold.
    pub expected: &'static str,
    /// What it holds, or `nothing`.
    pub found: &'static str,
}

impl Mismatch {
    fn absent(key: &str, expected: &'static str) -> Self {
        Self { key: key.to_owned(), expected, found: "nothing" }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, expected, found } = self;
        write!(f, "{key:?} must be {expected}, found {found}")
    }
}

impl std::error::Error for Mismatch {}

/// Reads one value with `depth` levels left. What is wrong beside the grammar is left in `fault`,
/// because serde's errors carry text alone.
#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: usize,
    fault: &'a RefCell<Option<Malformed>>,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth, ..self }),
            None => Err(self.fail(Malformed::TooDeep)),
        }
    }

    fn fail<E: serde::de::Error>(self, fault: Malformed) -> E {
        *self.fault.borrow_mut() = Some(fault);
        E::custom("refused")
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(u64::try_from(number).map_or(Value::Negative(number), Value::Unsigned))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = BTreeMap::new();
        while let Some(key) = access.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(self.fail(Malformed::Duplicate(key)));
            }
            let value = access.next_value_seed(inner)?;
            object.insert(key, value);
        }
        Ok(Value::Object(Object(object)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Value, Malformed> {
        parse(text.as_bytes(), 8)
    }

    #[test]
    fn every_kind_of_value_is_read_exactly() {
        let text = r#"{"a":null,"b":true,"c":18446744073709551615,"d":-1,"e":1.5,"f":"x","g":[]}"#;
        let Ok(Value::Object(object)) = read(text) else { panic!("refused") };
        assert_eq!(object.get("a"), Some(&Value::Null));
        assert_eq!(object.optional_bool("b"), Ok(Some(true)));
        assert_eq!(object.unsigned("c"), Ok(u64::MAX));
        assert_eq!(object.get("d"), Some(&Value::Negative(-1)));
        assert_eq!(object.get("e"), Some(&Value::Float(1.5)));
        assert_eq!(object.text("f"), Ok("x"));
        assert_eq!(object.optional_array("g"), Ok(Some(&[][..])));
        assert_eq!(object.optional_object("h"), Ok(None));
        assert!(object.has("a") && !object.has("A"));
    }

    #[test]
    fn a_duplicate_key_is_refused_at_any_depth_and_in_any_spelling() {
        for text in [
            r#"{"iss":1,"iss":1}"#,
            r#"{"iss":1,"\u0069ss":2}"#,
            r#"[0,{"a":{"iss":{},"iss":null}}]"#,
        ] {
            let duplicate = Err(Malformed::Duplicate("iss".to_owned()));
            assert_eq!(read(text), duplicate, "{text}");
        }
        assert!(read(r#"[{"iss":1},{"iss":1}]"#).is_ok());
    }

    #[test]
    fn keys_that_differ_in_case_only_are_found() {
        let object = parse_object(br#"{"tid":1,"Tid":2,"x":3}"#, 1).expect("strict");
        assert_eq!(object.case_twins(), Some(("Tid", "tid")));
        let object = parse_object(br#"{"tid":1,"tId2":2}"#, 1).expect("strict");
        assert_eq!(object.case_twins(), None);
    }

    #[test]
    fn nesting_is_bounded_exactly() {
        assert!(parse(b"[[]]", 2).is_ok());
        assert_eq!(parse(b"[[[]]]", 2), Err(Malformed::TooDeep));
        assert_eq!(parse(br#"{"a":{"b":{}}}"#, 2), Err(Malformed::TooDeep));
        let deep = "[".repeat(100_000);
        assert_eq!(parse(deep.as_bytes(), 16), Err(Malformed::TooDeep));
        assert!(parse(deep.as_bytes(), usize::MAX).is_err());
    }

    #[test]
    fn what_is_not_strict_json_is_refused() {
        let cases: [&[u8]; 14] = [
            b"",
            b"{\"a\":NaN}",
            b"{\"a\":1} x",
            b"{} {}",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\xff\"}",
            b"{\"\xc0\xaf\":1}",
            b"{\0\"\0a\0",
            b"{\"a\":\"\\ud800\"}",
            b"{\"a\":\"\\udc00\\ud800\"}",
            b"{\"a\":01}",
            b"{'a':1}",
            b"{\"a\":1,}",
            b"{\"a\":\"\n\"}",
        ];
        for bytes in cases {
            let refused = parse(bytes, 8);
            assert!(matches!(refused, Err(Malformed::Syntax { .. })), "{bytes:?}: {refused:?}");
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_no_integers() {
        let object = parse_object(br#"{"a":1e30,"b":18446744073709551616,"c":1.0}"#, 1);
        let object = object.expect("strict");
        for key in ["a", "b", "c"] {
            let mismatch = object.unsigned(key).expect_err(key);
            assert_eq!(mismatch.found, "a number that is no integer");
        }
    }

    #[test]
    fn a_value_of_another_type_is_named_in_the_error() {
        let object = parse_object(br#"{"exp":"7"}"#, 1).expect("strict");
        let error = object.unsigned("exp").expect_err("text");
        assert_eq!(error.to_string(), r#""exp" must be an unsigned integer, found text"#);
        let error = object.text("kid").expect_err("absent");
        assert_eq!(error.to_string(), r#""kid" must be text, found nothing"#);
        assert_eq!(
            parse_object(b"[]", 1).expect_err("array").to_string(),
            "expected an object, found an array"
        );
    }
}
