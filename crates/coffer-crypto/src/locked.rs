//! A small block of memory that the system is asked never to write to swap, in places of equal length for short secrets.
//!
//! Where the system does not lock it (its limit is used up, or there is no such thing), secrets live on the heap as before: wiped when they
//! are dropped, but not kept from swap. Nothing depends on it.

use std::sync::{LazyLock, Mutex, PoisonError};

use zeroize::Zeroize;

/// Longest secret that fits into a place, in bytes.
pub(crate) const PLACE_LEN: usize = 64;
/// How many secrets there is room for. A process holds some dozens at a time.
const PLACE_COUNT: usize = 256;

type Place = &'static mut [u8; PLACE_LEN];

/// Places that nobody uses; none if memory could not be locked.
static FREE: LazyLock<Mutex<Vec<Place>>> = LazyLock::new(|| {
    let block: &'static mut [[u8; PLACE_LEN]] =
        Box::leak(vec![[0; PLACE_LEN]; PLACE_COUNT].into_boxed_slice());
    match region::lock(block.as_ptr(), size_of_val(block)) {
        // It stays locked for as long as the process lives.
        Ok(guard) => {
            std::mem::forget(guard);
            Mutex::new(block.iter_mut().collect())
        }
        Err(_) => Mutex::default(),
    }
});

/// A place of its own, zeros at first; wiped and given back when it is dropped.
pub(crate) struct Locked(Option<Place>);

impl Locked {
    /// A place, if there is one left.
    pub(crate) fn take() -> Option<Self> {
        let place = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        place.map(|place| Self(Some(place)))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |place| place.as_slice())
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_mut().map_or(&mut [], |place| place.as_mut_slice())
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        if let Some(place) = self.0.take() {
            place.zeroize();
            FREE.lock().unwrap_or_else(PoisonError::into_inner).push(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_wiped_and_used_again() {
        for _ in 0..PLACE_COUNT * 3 {
            let Some(mut place) = Locked::take() else { return };
            assert_eq!(place.bytes(), [0; PLACE_LEN]);
            place.bytes_mut().fill(7);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_block_is_locked() {
        if Locked::take().is_none() {
            println!("SKIPPED: this system locks no memory for us");
            return;
        }
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        let kib: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kib * 1024 >= PLACE_LEN * PLACE_COUNT, "{kib} KiB");
    }
}
