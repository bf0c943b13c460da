//! Where records are put: the caller's memory, so that they are made where they leave from.

use std::ops::Deref;

use crate::buf::{Lease, Pool};

/// What makes records in room that it is given: says how many bytes it made, or how many it would
/// need if it knows, and then it has made none.
pub(super) type Make<'a> = dyn FnMut(&mut [u8]) -> Result<usize, Option<usize>> + 'a;

/// Records, to which others can be added.
pub trait Room: Deref<Target = [u8]> {
    /// Lets `make` fill room for `len` bytes behind what there is, or for as many as there can be.
    ///
    /// # Errors
    ///
    /// What `make` reports.
    fn append(&mut self, len: usize, make: &mut Make<'_>) -> Result<(), Option<usize>>;
}

/// For handshakes, which are rare: the room is zeroed each time.
impl Room for Vec<u8> {
    fn append(&mut self, len: usize, make: &mut Make<'_>) -> Result<(), Option<usize>> {
        let start = self.len();
        self.resize(start + len, 0);
        let made = make(self.get_mut(start..).unwrap_or_default());
        self.truncate(start + made.as_ref().copied().unwrap_or(0));
        made.map(drop)
    }
}

/// A buffer cannot grow.
impl Room for Lease {
    fn append(&mut self, len: usize, make: &mut Make<'_>) -> Result<(), Option<usize>> {
        let most = len.min(self.spare());
        let made = make(self.spare_mut().get_mut(..most).unwrap_or_default())?;
        self.commit(made);
        Ok(())
    }
}

/// Records that leave together, in memory that is zeroed once.
#[derive(Debug, Default)]
pub struct Sealed {
    bytes: Vec<u8>,
    len: usize,
}

impl Sealed {
    /// Forgets all records and keeps the room.
    pub const fn clear(&mut self) {
        self.len = 0;
    }
}

impl Deref for Sealed {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Room for Sealed {
    fn append(&mut self, len: usize, make: &mut Make<'_>) -> Result<(), Option<usize>> {
        let end = self.len + len;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.len += make(self.bytes.get_mut(self.len..end).unwrap_or_default())?;
        Ok(())
    }
}

/// Records in a buffer of `pool`, which is taken when there are any.
#[derive(Debug)]
pub struct Fresh<'a> {
    pool: &'a Pool,
    head: usize,
    lease: Option<Lease>,
}

impl<'a> Fresh<'a> {
    /// The records will have `head` bytes before them.
    #[must_use]
    pub const fn new(pool: &'a Pool, head: usize) -> Self {
        Self { pool, head, lease: None }
    }

    /// `head` bytes of any value and the records, if there are any.
    #[must_use]
    pub fn into_lease(self) -> Option<Lease> {
        let head = self.head;
        self.lease.filter(|lease| head < lease.len())
    }
}

impl Deref for Fresh<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.lease.as_ref().and_then(|lease| lease.get(self.head..)).unwrap_or_default()
    }
}

impl Room for Fresh<'_> {
    fn append(&mut self, len: usize, make: &mut Make<'_>) -> Result<(), Option<usize>> {
        let lease = self.lease.get_or_insert_with(|| {
            let mut lease = self.pool.lease_beyond();
            lease.commit(self.head);
            lease
        });
        lease.append(len, make)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(room: &mut dyn Room, bytes: &[u8]) -> Result<(), Option<usize>> {
        room.append(bytes.len(), &mut |into| match into.len() < bytes.len() {
            true => Err(Some(bytes.len())),
            false => {
                into[..bytes.len()].copy_from_slice(bytes);
                Ok(bytes.len())
            }
        })
    }

    #[test]
    fn records_follow_each_other_and_what_fails_leaves_nothing() {
        let pool = Pool::new(4, 4, 32);
        let (mut grows, mut sealed, mut fresh) =
            (Vec::new(), Sealed::default(), Fresh::new(&pool, 8));
        for room in [&mut grows as &mut dyn Room, &mut sealed, &mut fresh] {
            put(room, b"one").unwrap();
            assert_eq!(room.append(9, &mut |_| Err(None)), Err(None));
            put(room, b"two").unwrap();
            assert_eq!(**room, *b"onetwo");
        }
        assert_eq!(put(&mut fresh, &[0; 19]), Err(Some(19)), "a buffer cannot grow");
        assert_eq!(fresh.into_lease().unwrap()[8..], *b"onetwo");
        sealed.clear();
        put(&mut sealed, b"3").unwrap();
        assert_eq!(*sealed, *b"3");
    }

    #[test]
    fn who_has_nothing_to_send_has_no_buffer() {
        let pool = Pool::new(4, 4, 32);
        let mut fresh = Fresh::new(&pool, 8);
        assert_eq!((fresh.len(), pool.leased()), (0, 0));
        assert!(fresh.append(9, &mut |_| Err(None)).is_err());
        assert!(fresh.into_lease().is_none());
        assert_eq!(pool.leased(), 0);
    }
}
