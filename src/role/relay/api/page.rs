//! Lists in pages: a page says where it ended, and the link to the next one says so again. What
//! comes and goes meanwhile shifts nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Api, Call, Fault};

/// The key behind which the page begins that `query` asks for; `None`: with the first.
pub(super) fn after(query: &str) -> Result<Option<String>, Fault> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let named = |name: &str| {
        let name = name.strip_prefix("%24").or_else(|| name.strip_prefix('$'));
        name.is_some_and(|name| name.eq_ignore_ascii_case("skipToken"))
    };
    let Some((_, token)) = pairs.into_iter().find(|(name, _)| named(name)) else {
        return Ok(None);
    };
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    let key = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let bad = || Fault::bad_request("InvalidSkipToken", "$skipToken is not one of a nextLink");
    key.map(Some).ok_or_else(bad)
}

/// Where what comes behind `last` is found.
pub(super) fn next_link(api: &Api, call: &Call<'_>, last: &str) -> Result<String, Fault> {
    let host = api.relay_name(call.host)?;
    let scheme = if api.settings.secure { "https" } else { "http" };
    let pairs = call.query.split('&').filter_map(|pair| pair.split_once('='));
    let version = pairs.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("api-version"));
    let (path, version) = (call.path, version.map_or("", |(_, version)| version));
    let token = URL_SAFE_NO_PAD.encode(last);
    Ok(format!("{scheme}://{host}{path}?api-version={version}&%24skipToken={token}"))
}
