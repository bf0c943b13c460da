//! Content negotiation: which of the forms it can give the caller wants most.

use super::http::Headers;
use super::status::Status;

/// A form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    /// Rows and columns for people; the version is `v1` or `v1beta1`.
    Table(&'static str),
    /// Metadata alone.
    Partial(&'static str),
    /// Aggregated discovery; the version is `v2` or `v2beta1`.
    Discovery(&'static str),
}

/// The first form in the caller's list that this server has. Quality values are not weighed:
/// no Kubernetes client sends them.
pub(crate) fn negotiate(headers: &Headers) -> Result<Form, Status> {
    if headers.first("accept").is_none() {
        return Ok(Form::Json);
    }
    headers.list("accept").find_map(form).ok_or_else(Status::not_acceptable)
}

fn form(entry: &str) -> Option<Form> {
    let mut parts = entry.split(';').map(str::trim);
    let media_type = parts.next()?.to_ascii_lowercase();
    if !matches!(media_type.as_str(), "application/json" | "application/*" | "*/*") {
        return None;
    }
    let mut as_kind = "";
    let mut version = "";
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        match key {
            "as" => as_kind = value,
            "v" => version = value,
            _ => {}
        }
    }
    let meta = || match version {
        "v1" => Some("v1"),
        "v1beta1" => Some("v1beta1"),
        _ => None,
    };
    match as_kind {
        "" => Some(Form::Json),
        "Table" => meta().map(Form::Table),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => meta().map(Form::Partial),
        "APIGroupDiscoveryList" => match version {
            "v2" => Some(Form::Discovery("v2")),
            "v2beta1" => Some(Form::Discovery("v2beta1")),
            _ => None,
        },
        _ => None,
    }
}
