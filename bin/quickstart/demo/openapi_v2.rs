//! OpenAPI v2 in protobuf (gnostic's `openapi.v2.Document`), made from the v3 schemas: kubectl up
//! to 1.28 knows nothing else, and every kubectl asks for it to apply a `List`.

use serde_json::{Map, Value};

use super::http::Response;

/// Field numbers of the messages that are written here.
mod field {
    pub(super) mod document {
        pub(crate) const SWAGGER: u64 = 1;
        pub(crate) const INFO: u64 = 2;
        pub(crate) const PATHS: u64 = 8;
        pub(crate) const DEFINITIONS: u64 = 9;
    }
    pub(super) mod schema {
        pub(crate) const REF: u64 = 1;
        pub(crate) const DESCRIPTION: u64 = 4;
        pub(crate) const ADDITIONAL: u64 = 21;
        pub(crate) const TYPE: u64 = 22;
        pub(crate) const ITEMS: u64 = 23;
        pub(crate) const PROPERTIES: u64 = 25;
        pub(crate) const EXTENSION: u64 = 31;
    }
    pub(super) const PATH: u64 = 2;
    pub(super) const PATCH: u64 = 8;
    pub(super) const PARAMETERS: u64 = 8;
    pub(super) const OPERATION_EXTENSION: u64 = 13;
}

const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The document of all groups, from their v3 documents.
pub(crate) fn answer(documents: &[Value]) -> Response {
    let mut paths = Vec::new();
    let mut definitions = Vec::new();
    for document in documents {
        for (path, item) in map(document.get("paths")) {
            let patch = item.get("patch").map(operation);
            let item = message(field::PATCH, &patch.unwrap_or_default());
            paths.extend(message(field::PATH, &named(path, &item)));
        }
        for (name, definition) in map(document.pointer("/components/schemas")) {
            definitions.extend(message(1, &named(name, &schema(definition))));
        }
    }
    let info = [text(1, "Kubernetes"), text(2, super::discovery::GIT_VERSION)].concat();
    let body = [
        text(field::document::SWAGGER, "2.0"),
        message(field::document::INFO, &info),
        message(field::document::PATHS, &paths),
        message(field::document::DEFINITIONS, &definitions),
    ]
    .concat();
    Response { code: 200, content_type: MEDIA_TYPE.into(), headers: Vec::new(), body }
}

/// Only what tells kubectl which query parameters a PATCH of this kind takes.
fn operation(operation: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let parameters = operation.get("parameters").and_then(Value::as_array);
    for parameter in parameters.into_iter().flatten() {
        let name = parameter.get("name").and_then(Value::as_str).unwrap_or_default();
        let query = [text(2, "query"), text(4, name)].concat();
        // ParametersItem.parameter, Parameter.non_body_parameter, its query form.
        out.extend(message(field::PARAMETERS, &message(1, &message(2, &message(3, &query)))));
    }
    out.extend(extensions(field::OPERATION_EXTENSION, operation));
    out
}

fn schema(schema: &Value) -> Vec<u8> {
    let referred = schema.pointer("/allOf/0/$ref").or_else(|| schema.get("$ref"));
    if let Some(name) = referred.and_then(Value::as_str).and_then(|to| to.rsplit('/').next()) {
        return text(field::schema::REF, &format!("#/definitions/{name}"));
    }
    let mut out = Vec::new();
    if let Some(description) = schema.get("description").and_then(Value::as_str) {
        out.extend(text(field::schema::DESCRIPTION, description));
    }
    if let Some(inner) = schema.get("additionalProperties") {
        out.extend(message(field::schema::ADDITIONAL, &message(1, &self::schema(inner))));
    }
    if let Some(kind) = schema.get("type").and_then(Value::as_str) {
        out.extend(message(field::schema::TYPE, &text(1, kind)));
    }
    if let Some(items) = schema.get("items") {
        out.extend(message(field::schema::ITEMS, &message(1, &self::schema(items))));
    }
    let properties: Vec<u8> = map(schema.get("properties"))
        .flat_map(|(name, property)| message(1, &named(name, &self::schema(property))))
        .collect();
    if !properties.is_empty() {
        out.extend(message(field::schema::PROPERTIES, &properties));
    }
    out.extend(extensions(field::schema::EXTENSION, schema));
    out
}

/// Vendor extensions, whose values travel as YAML; JSON is YAML.
fn extensions(number: u64, of: &Value) -> Vec<u8> {
    map(Some(of))
        .filter(|(name, _)| name.starts_with("x-kubernetes-"))
        .flat_map(|(name, value)| message(number, &named(name, &text(2, &value.to_string()))))
        .collect()
}

/// The `Named…` messages: a name, and what is called that.
fn named(name: &str, value: &[u8]) -> Vec<u8> {
    [text(1, name), message(2, value)].concat()
}

fn text(number: u64, text: &str) -> Vec<u8> {
    message(number, text.as_bytes())
}

fn message(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = varint(number << 3 | 2);
    out.extend(varint(bytes.len() as u64));
    out.extend_from_slice(bytes);
    out
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
    out
}

fn map(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flat_map(Map::iter)
}
