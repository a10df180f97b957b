//! Memory that the system is asked never to write to swap.
//!
//! Two blocks are locked once and for as long as the process lives, each in places of equal length: one for keys, one for secrets of other
//! lengths, as passphrases. A longer secret gets pages of its own. Together the blocks stay below the 64 KiB that systems commonly let a
//! process lock, and that of the keys is locked first.
//!
//! Where the system does not lock (its limit is used up, or there is no such thing), or where no place is left, secrets live on the heap:
//! wiped when they are dropped, but not kept from swap. Nothing depends on it.

use std::ops::Range;
use std::sync::{LazyLock, Mutex, PoisonError};

use region::LockGuard;
use zeroize::Zeroize;

/// Longest key that fits into a place, in bytes.
pub(crate) const KEY_LEN: usize = 64;
/// How many keys there is room for. A process holds some dozens at a time.
const KEY_COUNT: usize = 256;
/// Longest secret of another kind that fits into a place, in bytes.
const PLACE_LEN: usize = 1024;
/// How many of these there is room for. They live for as long as it takes to use them.
const PLACE_COUNT: usize = 24;
/// Longest secret that gets pages of its own, in bytes.
const PAGES_LEN_MAX: usize = 64 << 10;

/// What most systems let a process lock.
const COMMON_LIMIT: usize = 64 << 10;
/// Usual length of a page. A block reaches into two pages that it does not fill.
const PAGE_LEN: usize = 4 << 10;
const _: () = assert!(KEY_LEN * KEY_COUNT + PLACE_LEN * PLACE_COUNT + 4 * PAGE_LEN <= COMMON_LIMIT);

type Place = &'static mut [u8];
/// Places that nobody uses; none if memory could not be locked.
type Free = LazyLock<Mutex<Vec<Place>>>;

static KEYS: Free = LazyLock::new(|| block(KEY_LEN, KEY_COUNT));
static PLACES: Free = LazyLock::new(|| {
    LazyLock::force(&KEYS);
    block(PLACE_LEN, PLACE_COUNT)
});

fn block(len: usize, count: usize) -> Mutex<Vec<Place>> {
    let block = Vec::leak(vec![0; len * count]);
    match region::lock(block.as_ptr(), block.len()) {
        // It stays locked for as long as the process lives.
        Ok(guard) => {
            std::mem::forget(guard);
            Mutex::new(block.chunks_exact_mut(len).collect())
        }
        Err(_) => Mutex::default(),
    }
}

/// Locked memory for one secret, zeros at first; wiped and given back when it is dropped.
pub(crate) struct Locked(Memory);

enum Memory {
    Place { place: Place, free: &'static Free },
    Pages(Pages),
}

/// Whole pages in which nothing else is, so that they can be unlocked.
struct Pages {
    /// Dropped before the buffer is.
    _guard: LockGuard,
    buffer: Box<[u8]>,
    /// Where in the buffer the pages are.
    pages: Range<usize>,
}

impl Locked {
    /// [`KEY_LEN`] bytes for a key, if there is a place left.
    pub(crate) fn for_key() -> Option<Self> {
        Self::place_of(&KEYS)
    }

    /// At least `len` bytes, if they can be had.
    pub(crate) fn for_bytes(len: usize) -> Option<Self> {
        match len {
            0..=PLACE_LEN => Self::place_of(&PLACES),
            _ => Pages::new(len).map(|pages| Self(Memory::Pages(pages))),
        }
    }

    fn place_of(free: &'static Free) -> Option<Self> {
        let place = free.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(Self(Memory::Place { place, free }))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.0 {
            Memory::Place { place, .. } => place,
            Memory::Pages(own) => &own.buffer[own.pages.clone()],
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Place { place, .. } => place,
            Memory::Pages(own) => &mut own.buffer[own.pages.clone()],
        }
    }
}

impl Pages {
    fn new(len: usize) -> Option<Self> {
        if len > PAGES_LEN_MAX {
            return None;
        }
        LazyLock::force(&KEYS);
        let page = region::page::size();
        let len = len.next_multiple_of(page);
        let buffer = vec![0; len + page].into_boxed_slice();
        let start = buffer.as_ptr().align_offset(page);
        let pages = start..start.checked_add(len)?;
        let guard = region::lock(buffer.get(pages.clone())?.as_ptr(), len).ok()?;
        Some(Self { _guard: guard, buffer, pages })
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        if let Memory::Place { place, free } = &mut self.0 {
            free.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(place));
        }
    }
}

#[cfg(test)]
mod tests;
