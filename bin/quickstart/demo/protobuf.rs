//! Request bodies in protobuf: typed clients of newer kubectls post reviews (and now and then a
//! small object) that way. Read by field tables into the JSON the rest of the server works on;
//! answers are always JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

const ENVELOPE: &[u8] = b"k8s\0";

/// Per message, its fields: number, JSON name, type. `s` text, `b` bool, `i` integer, `y` bytes,
/// `m` map of text, `my` map of bytes; another word is a message; `*` is repeated.
const MESSAGES: &[(&str, &str)] = &[
    (
        "ObjectMeta",
        "1 name s,2 generateName s,3 namespace s,5 uid s,6 resourceVersion s,11 labels m,\
         12 annotations m,14 finalizers *s",
    ),
    ("ConfigMap", "1 metadata ObjectMeta,2 data m,3 binaryData my,4 immutable b"),
    ("Secret", "1 metadata ObjectMeta,2 data my,3 type s,4 stringData m,5 immutable b"),
    ("Namespace", "1 metadata ObjectMeta"),
    ("ServiceAccount", "1 metadata ObjectMeta,4 automountServiceAccountToken b"),
    ("Role", "1 metadata ObjectMeta,2 rules *PolicyRule"),
    ("ClusterRole", "1 metadata ObjectMeta,2 rules *PolicyRule"),
    (
        "PolicyRule",
        "1 verbs *s,2 apiGroups *s,3 resources *s,4 resourceNames *s,5 nonResourceURLs *s",
    ),
    ("RoleBinding", "1 metadata ObjectMeta,2 subjects *Subject,3 roleRef RoleRef"),
    ("ClusterRoleBinding", "1 metadata ObjectMeta,2 subjects *Subject,3 roleRef RoleRef"),
    ("Subject", "1 kind s,2 apiGroup s,3 name s,4 namespace s"),
    ("RoleRef", "1 apiGroup s,2 kind s,3 name s"),
    ("TokenRequest", "1 metadata ObjectMeta,2 spec TokenRequestSpec"),
    ("TokenRequestSpec", "1 audiences *s,3 boundObjectRef BoundObject,4 expirationSeconds i"),
    ("BoundObject", "1 kind s,2 apiVersion s,3 name s,4 uid s"),
    ("TokenReview", "1 metadata ObjectMeta,2 spec TokenReviewSpec"),
    ("TokenReviewSpec", "1 token s,2 audiences *s"),
    ("SelfSubjectReview", "1 metadata ObjectMeta"),
    ("SelfSubjectAccessReview", "1 metadata ObjectMeta,2 spec AccessSpec"),
    ("SubjectAccessReview", "1 metadata ObjectMeta,2 spec AccessSpec"),
    ("LocalSubjectAccessReview", "1 metadata ObjectMeta,2 spec AccessSpec"),
    (
        "AccessSpec",
        "1 resourceAttributes ResourceAttributes,2 nonResourceAttributes PathAttributes,3 user s,\
         4 groups *s",
    ),
    (
        "ResourceAttributes",
        "1 namespace s,2 verb s,3 group s,4 version s,5 resource s,6 subresource s,7 name s",
    ),
    ("PathAttributes", "1 path s,2 verb s"),
    ("SelfSubjectRulesReview", "1 metadata ObjectMeta,2 spec RulesSpec"),
    ("RulesSpec", "1 namespace s"),
    ("Eviction", "1 metadata ObjectMeta,2 deleteOptions DeleteOptions"),
    (
        "DeleteOptions",
        "1 gracePeriodSeconds i,2 preconditions Preconditions,4 propagationPolicy s,5 dryRun *s",
    ),
    ("Preconditions", "1 uid s,2 resourceVersion s"),
];

/// The object in an envelope; `None` when it is malformed or of a kind without a table.
pub(crate) fn decode(body: &[u8]) -> Option<Value> {
    let unknown = body.strip_prefix(ENVELOPE)?;
    let mut api_version = String::new();
    let mut kind = String::new();
    let mut raw: &[u8] = &[];
    for field in fields(unknown)? {
        match field {
            (1, Wire::Bytes(type_meta)) => {
                for field in fields(type_meta)? {
                    match field {
                        (1, Wire::Bytes(text)) => api_version = utf8(text)?,
                        (2, Wire::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let mut object = message(&kind, raw)?;
    object.insert("apiVersion".into(), json!(api_version));
    object.insert("kind".into(), json!(kind));
    Some(object.into())
}

enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn message(kind: &str, bytes: &[u8]) -> Option<Map<String, Value>> {
    let (_, table) = MESSAGES.iter().find(|(name, _)| *name == kind)?;
    let mut object = Map::new();
    for (number, wire) in fields(bytes)? {
        let entry = table.split(',').find_map(|entry| {
            let mut words = entry.split_whitespace();
            let known = words.next()?.parse::<u64>().ok()?;
            (known == number).then_some((words.next()?, words.next()?))
        });
        let Some((name, kind)) = entry else { continue };
        match (kind.strip_prefix('*'), kind) {
            (Some(kind), _) => {
                let list = object.entry(name).or_insert_with(|| json!([]));
                list.as_array_mut()?.push(scalar(kind, &wire)?);
            }
            (None, "m" | "my") => {
                let (key, value) = map_entry(kind, &wire)?;
                let map = object.entry(name).or_insert_with(|| json!({}));
                map.as_object_mut()?.insert(key, value);
            }
            (None, kind) => drop(object.insert(name.into(), scalar(kind, &wire)?)),
        }
    }
    // Go writes empty text too; the API leaves it out.
    object.retain(|_, value| value.as_str() != Some(""));
    Some(object)
}

fn scalar(kind: &str, wire: &Wire<'_>) -> Option<Value> {
    match (kind, wire) {
        ("s", Wire::Bytes(bytes)) => Some(json!(utf8(bytes)?)),
        ("y", Wire::Bytes(bytes)) => Some(json!(STANDARD.encode(bytes))),
        ("b", Wire::Number(number)) => Some(json!(*number != 0)),
        ("i", Wire::Number(number)) => Some(json!(number.cast_signed())),
        (kind, Wire::Bytes(bytes)) => message(kind, bytes).map(Value::Object),
        _ => None,
    }
}

fn map_entry(kind: &str, wire: &Wire<'_>) -> Option<(String, Value)> {
    let Wire::Bytes(bytes) = wire else { return None };
    let of = if kind == "my" { "y" } else { "s" };
    let mut entry = (String::new(), json!(""));
    for (number, wire) in fields(bytes)? {
        match (number, &wire) {
            (1, Wire::Bytes(key)) => entry.0 = utf8(key)?,
            (2, value) => entry.1 = scalar(of, value)?,
            _ => {}
        }
    }
    Some(entry)
}

fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Wire<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let wire = match tag & 7 {
            0 => Wire::Number(varint(&mut bytes)?),
            1 => Wire::Bytes(take(&mut bytes, 8)?),
            2 => {
                let len = usize::try_from(varint(&mut bytes)?).ok()?;
                Wire::Bytes(take(&mut bytes, len)?)
            }
            5 => Wire::Bytes(take(&mut bytes, 4)?),
            _ => return None,
        };
        fields.push((tag >> 3, wire));
    }
    Some(fields)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(head)
}

fn utf8(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}
