//! The first memory of a process that lives for one connection: a fixed piece, handed out from the front and hardly taken back.
//!
//! Start-up makes some hundred small allocations. musl's allocator answers them with a dozen mmap() calls and a sixth of all
//! instructions of a short session; here they cost an addition each, and the kernel gives the piece's pages as they are
//! touched. When it is used up, and for anything large, std's allocator serves, so a long session is as bounded as before.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const OCTETS: usize = 64 * 1024;
/// What is larger goes to std's allocator, which can give it back.
const PIECE_OCTETS_MAX: usize = 8 * 1024;

#[repr(align(16))]
struct Memory(UnsafeCell<[u8; OCTETS]>);
// SAFETY: pieces of it are handed out once each, by an atomic cursor.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([0; OCTETS]));
static CURSOR: AtomicUsize = AtomicUsize::new(0);

/// The allocator, for `#[global_allocator]` in the program.
pub struct Arena;

impl Arena {
    fn base() -> *mut u8 {
        MEMORY.0.get().cast()
    }

    /// Where a piece of the arena begins in it; None for any other memory.
    fn offset(piece: *mut u8) -> Option<usize> {
        let offset = (piece as usize).wrapping_sub(Self::base() as usize);
        (offset < OCTETS).then_some(offset)
    }
}

// SAFETY: a piece is aligned, as long as asked, and disjoint from all others: the cursor only moves over it in one step, and
// back only if it still stands at the piece's end, which nobody else can have passed.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() <= PIECE_OCTETS_MAX {
            let mut cursor = CURSOR.load(Relaxed);
            loop {
                let start = (cursor + layout.align() - 1) & !(layout.align() - 1);
                let end = start + layout.size();
                if end > OCTETS || layout.align() > 16 {
                    break;
                }
                match CURSOR.compare_exchange_weak(cursor, end, Relaxed, Relaxed) {
                    // SAFETY: start is inside the arena.
                    Ok(_) => return unsafe { Self::base().add(start) },
                    Err(now) => cursor = now,
                }
            }
        }
        // SAFETY: the caller's own promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match Self::offset(piece) {
            // The last piece can be taken back.
            Some(start) => {
                let _ = CURSOR.compare_exchange(start + layout.size(), start, Relaxed, Relaxed);
            }
            // SAFETY: it came from there.
            None => unsafe { System.dealloc(piece, layout) },
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(start) = Self::offset(piece) else {
            // SAFETY: it came from there.
            return unsafe { System.realloc(piece, layout, size) };
        };
        let (end, wanted) = (start + layout.size(), start + size);
        let grows_in_place = size <= PIECE_OCTETS_MAX && wanted <= OCTETS;
        if grows_in_place && CURSOR.compare_exchange(end, wanted, Relaxed, Relaxed).is_ok() {
            return piece;
        }
        // SAFETY: as the trait's default does; both pieces are disjoint.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                ptr::copy_nonoverlapping(piece, moved, layout.size().min(size));
                self.dealloc(piece, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_aligned_disjoint_and_keep_their_octets() {
        let arena = Arena;
        let mut pieces = Vec::new();
        for round in 0..2000usize {
            let (size, align) = (1 + round * 37 % 9000, 1 << (round % 5));
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: non-zero sizes; each is freed once with its layout.
            let piece = unsafe { arena.alloc(layout) };
            assert!(!piece.is_null() && (piece as usize).is_multiple_of(align));
            unsafe { ptr::write_bytes(piece, round as u8, size) };
            pieces.push((piece, layout, round as u8));
        }
        for (piece, layout, mark) in &mut pieces {
            let larger = layout.size() + 100;
            // SAFETY: as above.
            *piece = unsafe { arena.realloc(*piece, *layout, larger) };
            let old = layout.size();
            *layout = Layout::from_size_align(larger, layout.align()).unwrap();
            let octets = unsafe { std::slice::from_raw_parts(*piece, old) };
            assert!(octets.iter().all(|octet| octet == mark));
        }
        for (piece, layout, _) in pieces {
            // SAFETY: as above.
            unsafe { arena.dealloc(piece, layout) };
        }
    }
}
