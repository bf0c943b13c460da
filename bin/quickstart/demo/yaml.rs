//! One YAML document into JSON: bodies of server-side apply.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value, json};

use super::status::Status;

enum Open {
    List(Vec<Value>),
    /// The key that waits for its value, if one does.
    Map(Map<String, Value>, Option<String>),
}

/// JSON is YAML too, so this reads both. Anchors and tags are refused.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Status> {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let bad = |why: String| Status::bad_request(format!("error decoding YAML: {why}"));
    let text = std::str::from_utf8(bytes).map_err(|error| bad(error.to_string()))?;
    let mut open: Vec<Open> = Vec::new();
    let mut done = Value::Null;
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| bad(error.to_string()))?;
        let value = match event {
            Event::SequenceStart(0, None) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(0, None) => {
                open.push(Open::Map(Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(list)) => json!(list),
                Some(Open::Map(map, _)) => map.into(),
                None => return Err(bad("unbalanced".into())),
            },
            Event::Scalar(text, style, 0, None) => scalar(&text, style),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => continue,
            other => return Err(bad(format!("{other:?} is not supported"))),
        };
        match open.last_mut() {
            None => done = value,
            Some(Open::List(list)) => list.push(value),
            Some(Open::Map(map, key)) => match key.take() {
                Some(key) => drop(map.insert(key, value)),
                None => *key = Some(key_text(value)),
            },
        }
    }
    Ok(done)
}

fn key_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return json!(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => json!(true),
        "false" | "False" | "FALSE" => json!(false),
        text => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => json!(number),
            (_, Ok(number)) if number.is_finite() => json!(number),
            _ => json!(text),
        },
    }
}
