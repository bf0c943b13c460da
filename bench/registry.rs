//! A state directory with many connected clusters, each with what a real one has.

use std::path::Path;

use cluster_connect::auth::assignments::Holder;
use cluster_connect::io::store::Store;
use cluster_connect::role::relay::registry::{Registry, Request, encode};
use cluster_connect::wire::resource::ResourceId;

/// Makes the store in `dir`, and as many clusters in it.
pub(crate) fn make(dir: &Path, clusters: usize) {
    let (mut store, _) = Store::open(dir).expect("a directory for the state");
    let mut registry = Registry::default();
    let mut records = Vec::new();
    let mut number = 0u64;
    let mut random = |into: &mut [u8]| {
        for byte in into {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = number.to_be_bytes()[0];
        }
    };
    for n in 0..clusters {
        for request in life(n) {
            let changes = registry.plan(request, 1_795_435_380, &mut random).expect("a good plan");
            records.push(encode(&changes));
            changes.into_iter().for_each(|change| registry.apply(change));
        }
    }
    store.compact(records).expect("room on the disk");
}

/// A cluster is made, its agent enrols and connects, and somebody may reach it.
fn life(n: usize) -> [Request; 5] {
    let resource = ResourceId::parse(&format!("plants/edge-{n}")).expect("a good name");
    let (cluster, hash) = (resource.cluster_id(), format!("{n:064x}"));
    let holder = Holder::user("https://login.example/tenant/v2.0", &format!("tenant/object-{n}"));
    [
        Request::PutCluster {
            resource,
            location: None,
            tags: Some([("site".to_owned(), format!("plant {n}"))].into()),
            distribution: Some("k3s".to_owned()),
            infrastructure: None,
            certificate: None,
            by: "operator".to_owned(),
        },
        Request::IssueJoinToken {
            cluster: cluster.clone(),
            hash: hash.clone(),
            expires: 1_795_438_980,
        },
        Request::Enrol {
            cluster: cluster.clone(),
            hash,
            key: vec![4; 65],
            certificate: vec![0x30; 500],
            audiences: vec!["api://contoso-clusters".to_owned()],
        },
        Request::Grant {
            cluster: cluster.clone(),
            holder,
            display: "alice@contoso.com".to_owned(),
            by: "operator".to_owned(),
        },
        Request::Saw(cluster),
    ]
}
