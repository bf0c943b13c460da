//! Which cluster a request is for: `/proxies/<id>` at the beginning of its target.
//!
//! The rest of the target goes on byte for byte. Nothing is decoded: an id has one spelling, and
//! whatever else might stand for one is not found.

/// A request target, split behind the cluster's id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Route<'a> {
    /// 64 hexadecimal digits in lower case.
    pub cluster: &'a str,
    /// What the API server is asked for, but for [`Route::slash`].
    pub rest: &'a str,
    /// The rest is empty or begins with its query, so a `/` belongs before it.
    pub slash: bool,
}

impl<'a> Route<'a> {
    /// Splits an origin-form target. `None` if it names no cluster.
    #[must_use]
    pub fn of(target: &'a str) -> Option<Self> {
        let tail = target.strip_prefix(PREFIX)?;
        let (cluster, rest) = tail.split_at_checked(ID_LEN)?;
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if !cluster.bytes().all(digit) {
            return None;
        }
        let slash = match rest.bytes().next() {
            Some(b'/') => false,
            None | Some(b'?') => true,
            Some(_) => return None,
        };
        Some(Self { cluster, rest, slash })
    }

    /// The target to send on.
    #[must_use]
    pub fn target(&self) -> String {
        let slash = if self.slash { "/" } else { "" };
        format!("{slash}{}", self.rest)
    }
}

/// The path under which a cluster is reached.
#[must_use]
pub fn path_of(cluster: &str) -> String {
    format!("{PREFIX}{cluster}")
}

/// The one cluster that a connection is for, once its first request has named it. A connection
/// that turned to another cluster would carry the answers of two on one wire.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pinned(Option<String>);

/// A request for another cluster than the connection's: 421, then close.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Misdirected;

impl Pinned {
    /// Takes note of a request's cluster.
    ///
    /// # Errors
    ///
    /// [`Misdirected`] if the connection is for another one.
    pub fn admit(&mut self, cluster: &str) -> Result<(), Misdirected> {
        match &self.0 {
            None => {
                self.0 = Some(cluster.to_owned());
                Ok(())
            }
            Some(pinned) if pinned == cluster => Ok(()),
            Some(_) => Err(Misdirected),
        }
    }
}

/// What stands before an id.
pub(super) const PREFIX: &str = "/proxies/";

/// Hexadecimal digits of a cluster id.
const ID_LEN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_rest_of_the_target_goes_on_byte_for_byte() {
        for (rest, target) in [
            ("", "/"),
            ("/", "/"),
            ("?watch=1", "/?watch=1"),
            ("/api/v1/pods?limit=5", "/api/v1/pods?limit=5"),
            ("//api/../x/%2f;a=b/./", "//api/../x/%2f;a=b/./"),
            ("/proxies/x", "/proxies/x"),
        ] {
            let whole = format!("/proxies/{ID}{rest}");
            let route = Route::of(&whole).unwrap();
            assert_eq!((route.cluster, route.target().as_str()), (ID, target), "{rest}");
        }
        assert_eq!(Route::of(&path_of(ID)).unwrap().cluster, ID);
    }

    #[test]
    fn what_is_not_exactly_an_id_names_no_cluster() {
        let upper = ID.to_uppercase();
        for target in [
            String::new(),
            "/".to_owned(),
            "/proxies".to_owned(),
            "/proxies/".to_owned(),
            format!("/proxies/{}", &ID[1..]),
            format!("/proxies/{ID}0"),
            format!("/proxies/{ID}0/api"),
            format!("/proxies/{ID}#x"),
            format!("/proxies/{ID}%2fapi"),
            format!("/proxies/{ID};x"),
            format!("/proxies/{upper}"),
            format!("/proxies//{ID}"),
            format!("//proxies/{ID}"),
            format!("/Proxies/{ID}"),
            format!("/%70roxies/{ID}"),
            format!("/x/../proxies/{ID}"),
            format!("https://127.0.0.1/proxies/{ID}"),
            format!("/proxies/{}é{}", &ID[..31], &ID[..31]),
            format!("/proxies/{}é", &ID[..63]),
        ] {
            assert_eq!(Route::of(&target), None, "{target}");
        }
    }

    #[test]
    fn a_connection_stays_with_its_first_cluster() {
        let mut pinned = Pinned::default();
        assert_eq!(pinned.admit("one"), Ok(()));
        assert_eq!(pinned.admit("one"), Ok(()));
        assert_eq!(pinned.admit("other"), Err(Misdirected));
        assert_eq!(pinned.admit("one"), Ok(()));
    }
}
