//! Keys that the replicas of a pod share, in one named Secret of their own namespace. The first
//! writer wins by `resourceVersion`, and the others take what it wrote.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::bootstrap::{api, refused};
use super::state::Made;
use crate::config::errors::{Code, Error};
use crate::config::kubeconfig;
use crate::io::apiserver::Failure;
use crate::io::{environment, files};
use crate::limits::SECRET_FILE_MAX;
use crate::wire::resource::ResourceId;

/// Where Kubernetes says which namespace a pod is in.
const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Where the keys are kept for as long as the pod lives; the manifest mounts memory there.
const DIRECTORY: &str = "/run/cluster-connect";

/// Replicas that start together may be in each other's way so often.
const ATTEMPTS: u32 = 10;

/// Fetches `keys` of `cluster` from the Secret `name`, those made first that are not in it, into
/// the directory that is returned.
pub(super) fn fetch(name: &str, cluster: &ResourceId, keys: &[Made]) -> Result<PathBuf, Error> {
    let dir = environment::variable("STATE_DIRECTORY").unwrap_or_else(|| DIRECTORY.into());
    let dir = PathBuf::from(dir);
    files::private_directory(&dir)?;
    let api = api(&kubeconfig::in_cluster(&environment::variable)?)?;
    let namespace = files::read_limited(Path::new(NAMESPACE), 253)?;
    let namespace = String::from_utf8_lossy(&namespace).trim().to_owned();
    let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
    let cannot = |why| refused(&format!("cannot use the Secret {namespace}/{name}"), why);
    for _ in 0..ATTEMPTS {
        let mut secret = api.call("GET", &path, None).map_err(cannot)?;
        if take(&secret, &dir, keys)? {
            return Ok(dir);
        }
        fill(&mut secret, cluster, keys)?;
        match api.call("PUT", &path, Some(&secret)) {
            // Somebody else was first, or we were: what is there now is what everybody uses.
            Ok(_) | Err(Failure::Refused(409, _)) => (),
            Err(why) => return Err(cannot(why)),
        }
    }
    let what = format!("the Secret {namespace}/{name} was changed by others again and again");
    Err(Error::new(Code::FileBusy, what))
}

/// Writes the keys to their files. `false` if the Secret has not all of them.
fn take(secret: &Value, dir: &Path, keys: &[Made]) -> Result<bool, Error> {
    for &(key, _) in keys {
        let Some(text) = secret["data"][key].as_str() else { return Ok(false) };
        let bytes = STANDARD.decode(text).ok().filter(|bytes| bytes.len() <= SECRET_FILE_MAX);
        let Some(bytes) = bytes else {
            let what = format!("{key} in the Secret is not what this program writes");
            return Err(Error::new(Code::StateUnusable, what));
        };
        files::write_atomic(&dir.join(key), &bytes, 0o600)?;
    }
    Ok(true)
}

fn fill(secret: &mut Value, cluster: &ResourceId, keys: &[Made]) -> Result<(), Error> {
    if !secret["data"].is_object() {
        secret["data"] = json!({});
    }
    for &(key, make) in keys {
        if secret["data"][key].as_str().is_none() {
            let made = make(cluster).map_err(|why| Error::new(Code::Internal, why.to_string()))?;
            secret["data"][key] = json!(STANDARD.encode(made.expose()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start::state::{self, AGENT_KEY, AUTHORITY};

    #[test]
    fn an_empty_secret_is_filled_once_and_then_taken_as_it_is() {
        let cluster = ResourceId::parse("edge-7").unwrap();
        let dir = std::env::temp_dir().join(format!("cc-shared-{}", std::process::id()));
        files::private_directory(&dir).unwrap();
        let both = [AUTHORITY, AGENT_KEY];
        let mut secret = json!({ "metadata": { "name": "state", "resourceVersion": "7" } });
        assert!(!take(&secret, &dir, &both).unwrap());
        fill(&mut secret, &cluster, &[AGENT_KEY]).unwrap();
        assert!(take(&secret, &dir, &[AGENT_KEY]).unwrap());
        assert!(!take(&secret, &dir, &both).unwrap(), "each process makes what it uses");
        fill(&mut secret, &cluster, &both).unwrap();
        let first = secret.clone();
        fill(&mut secret, &cluster, &both).unwrap();
        assert_eq!(secret, first, "what is there is never replaced");
        assert!(take(&secret, &dir, &both).unwrap());
        let names = [cluster.server_name()];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        state::authority(&dir, &names).unwrap();
        state::agent_key(&dir).unwrap();
        secret["data"][AGENT_KEY.0] = json!("not base64");
        assert!(take(&secret, &dir, &both).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
