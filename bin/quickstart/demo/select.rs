//! Label and field selectors.

use serde_json::Value;

use super::http::Query;
use super::status::Status;

/// Which objects of a list are wanted.
#[derive(Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<Label>,
    /// Path, value, and whether it must be equal.
    fields: Vec<(String, String, bool)>,
}

#[derive(Debug)]
enum Label {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Selector {
    pub(crate) fn parse(query: &Query) -> Result<Self, Status> {
        let mut selector = Self::default();
        for term in terms(query.get("labelSelector").unwrap_or_default()) {
            selector.labels.push(label(&term)?);
        }
        for term in terms(query.get("fieldSelector").unwrap_or_default()) {
            let (path, value) = term
                .split_once('=')
                .ok_or_else(|| Status::bad_request(format!("invalid selector: {term:?}")))?;
            let equal = !path.ends_with('!');
            let path = path.trim_end_matches('!').replace('.', "/");
            selector.fields.push((format!("/{path}"), value.trim_start_matches('=').into(), equal));
        }
        Ok(selector)
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        let label = |key: &str| labels.and_then(|all| all.get(key)).and_then(Value::as_str);
        let by_label = self.labels.iter().all(|wanted| match wanted {
            Label::In(key, values) => label(key).is_some_and(|v| values.iter().any(|w| w == v)),
            Label::NotIn(key, values) => label(key).is_none_or(|v| values.iter().all(|w| w != v)),
            Label::Exists(key) => label(key).is_some(),
            Label::Absent(key) => label(key).is_none(),
        });
        by_label
            && self.fields.iter().all(|(path, wanted, equal)| {
                let found = match object.pointer(path) {
                    Some(Value::String(text)) => text.clone(),
                    Some(Value::Null) | None => String::new(),
                    Some(other) => other.to_string(),
                };
                (found == *wanted) == *equal
            })
    }
}

/// Splits at commas that stand outside parentheses.
fn terms(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut depth = 0_i32;
    for c in text.chars() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        match (c, depth, terms.last_mut()) {
            (',', 0, _) => terms.push(String::new()),
            (c, _, Some(term)) => term.push(c),
            (_, _, None) => {}
        }
    }
    terms.into_iter().map(|term| term.trim().to_owned()).filter(|term| !term.is_empty()).collect()
}

fn label(term: &str) -> Result<Label, Status> {
    let bad = || Status::bad_request(format!("unable to parse requirement: {term:?}"));
    let set = |text: &str| -> Option<Vec<String>> {
        let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(inner.split(',').map(|value| value.trim().to_owned()).collect())
    };
    if let Some((key, values)) = term.split_once(" notin ") {
        return Ok(Label::NotIn(key.trim().into(), set(values).ok_or_else(bad)?));
    }
    if let Some((key, values)) = term.split_once(" in ") {
        return Ok(Label::In(key.trim().into(), set(values).ok_or_else(bad)?));
    }
    if let Some((key, value)) = term.split_once("!=") {
        return Ok(Label::NotIn(key.trim().into(), vec![value.trim().into()]));
    }
    if let Some((key, value)) = term.split_once('=') {
        let value = value.trim_start_matches('=').trim();
        return Ok(Label::In(key.trim().into(), vec![value.into()]));
    }
    Ok(match term.strip_prefix('!') {
        Some(key) => Label::Absent(key.trim().into()),
        None => Label::Exists(term.into()),
    })
}
