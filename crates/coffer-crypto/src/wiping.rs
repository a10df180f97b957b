//! An allocator that wipes what is freed.
//!
//! Secrets of our own are wiped where they are dropped ([`crate::secret`]). Libraries leave copies of what passes through them: of a key that a token
//! unwrapped, of tokens of services in requests and in what came back. A program that makes [`Wiping`] its global allocator wipes these too: every block of
//! the heap of at most [`WIPED_LEN_MAX`] bytes is overwritten when it is freed, and when it grows to another place.
//!
//! Longer blocks hold content, packs and tables. They are left as they are: wiping them took a tenth of the time of a backup, and made memory real that
//! was reserved and never used. It does not see the stack, memory that libraries in C take for themselves, or what is never freed.

#![expect(unsafe_code, reason = "an allocator is an unsafe trait, and wipes through raw pointers")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;

/// Longer blocks are not wiped.
pub const WIPED_LEN_MAX: usize = 1 << 18;

/// The allocator of the system, wiping what is freed.
///
/// ```
/// use coffer_crypto::wiping::Wiping;
///
/// #[global_allocator]
/// static WIPING: Wiping = Wiping;
/// ```
#[derive(Debug)]
pub struct Wiping;

/// Called through this, and not by its name, wiping is no store that the compiler may take for dead.
static WIPE: unsafe fn(*mut u8, usize) = wipe;

/// Overwrites `len` bytes.
///
/// # Safety
/// They are allocated, and nobody else uses them.
unsafe fn wipe(start: *mut u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { ptr::write_bytes(start, 0, len) }
}

// SAFETY: every block comes from the system's allocator and goes back to it with its own layout. A block is written to only before it is freed, within
// its length.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.size() <= WIPED_LEN_MAX {
            // SAFETY: the pointer is to a function, always; the block is allocated with this length, and the caller is done with it.
            unsafe { ptr::read_volatile(&raw const WIPE)(block, layout.size()) };
        }
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_len: usize) -> *mut u8 {
        if layout.size() > WIPED_LEN_MAX {
            // SAFETY: the caller's promise.
            return unsafe { System.realloc(block, layout, new_len) };
        }
        // SAFETY: the caller promises that the new length, rounded up to the alignment, fits.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_len, layout.align()) };
        // SAFETY: the new length is not 0, by the caller's promise.
        let new = unsafe { self.alloc(new_layout) };
        if !new.is_null() {
            // SAFETY: both blocks have that many bytes, and the new one is nobody else's; the old one is freed once, and not used any more.
            unsafe {
                ptr::copy_nonoverlapping(block, new, layout.size().min(new_len));
                self.dealloc(block, layout);
            }
        }
        new
    }
}
