//! Constrained impersonation (KEP-5284), as kube-apiserver 1.36 has it: who impersonates must be
//! allowed what is done, and every part of whom; and some parts are nobody's. What this does not
//! allow is left to the old verb. The modes for nodes and service accounts are not here.

use super::identity::{User, rights_needed, split_service_account};
use super::rbac::{Attributes, Authorizer};

const GROUP: &str = "authentication.k8s.io";

/// Whether `account` may do what `wanted` says as `user`.
pub(super) fn allows(
    authorizer: &Authorizer<'_>,
    account: &User,
    user: &User,
    wanted: &Attributes,
) -> bool {
    let is_of_another_mode =
        split_service_account(&user.name).is_some() || user.name.starts_with("system:node:");
    let fits = |group: &String| !group.is_empty() && group != "system:masters";
    if is_of_another_mode || !user.groups.iter().all(fits) || !user.extra.iter().all(may_be_extra) {
        return false;
    }
    let verb = format!("impersonate-on:user-info:{}", wanted.verb);
    let mut rights = rights_needed(user, "impersonate:user-info", GROUP);
    rights.push(Attributes { verb, ..wanted.clone() });
    rights.iter().all(|right| authorizer.allows(account, right))
}

/// A key with a domain before a slash, in lower case, and values that say something.
fn may_be_extra((key, values): &(String, Vec<String>)) -> bool {
    let is_prefixed = key.split_once('/').is_some_and(|(domain, path)| {
        let label = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        domain.split('.').all(label) && !path.is_empty()
    });
    is_prefixed && *key == key.to_lowercase() && !values.iter().any(String::is_empty)
}
