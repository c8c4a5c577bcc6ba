//! The memory of a process that lives for one connection: a fixed piece of its own, std's allocator when that is used up.
//!
//! A short session makes some hundred small allocations. musl's allocator answers them with a dozen mmap() calls and a sixth
//! of all instructions; here each costs a few, and the kernel gives the piece's pages as they are touched. What is freed is
//! handed out again, by size, so a long session stays in the same few pages. Large blocks are std's, which gives them back.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

const OCTETS: usize = 64 * 1024;
/// What is larger goes to std's allocator.
const BLOCK_OCTETS_MAX: usize = 8 * 1024;
/// Every block begins at a multiple of this.
const ALIGN: usize = 16;
/// Sizes by steps of 16 octets up to here.
const FINE_OCTETS_MAX: usize = 128;
/// The sizes that blocks have: 16, 32, ... 128, 192, 256, 384, 512, ... 6144, 8192.
const SIZES: usize = 20;

#[repr(align(64))]
struct Memory(UnsafeCell<[u8; OCTETS]>);
// SAFETY: blocks of it are handed out to one owner each, under the lock.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([0; OCTETS]));

/// Who may touch the books below. Nobody waits for it: there is one thread, and should there be more, std's allocator serves.
static LOCKED: AtomicBool = AtomicBool::new(false);

struct Books {
    /// From here on nothing has been handed out yet. 0 is never handed out, so it means "none" below.
    untouched: UnsafeCell<usize>,
    /// For each size the last block that came back. Its first octets say which came back before it.
    free: UnsafeCell<[usize; SIZES]>,
}
// SAFETY: both are only used by the holder of LOCKED.
unsafe impl Sync for Books {}

static BOOKS: Books = Books { untouched: UnsafeCell::new(ALIGN), free: UnsafeCell::new([0; SIZES]) };

/// The allocator, for `#[global_allocator]` in the program.
pub struct Arena;

/// Which size serves a layout, and how many octets it has; `None`: std's allocator does.
fn size_of(layout: Layout) -> Option<(usize, usize)> {
    let octets = layout.size();
    if octets > BLOCK_OCTETS_MAX || layout.align() > ALIGN {
        return None;
    }
    if octets <= FINE_OCTETS_MAX {
        let step = octets.saturating_sub(1) / ALIGN;
        return Some((step, (step + 1) * ALIGN));
    }
    // Between two powers of two there is one more size.
    let power = (octets - 1).ilog2() as usize;
    let (middle, top) = (3 << (power - 1), 2 << power);
    let index = FINE_OCTETS_MAX / ALIGN + 2 * (power - FINE_OCTETS_MAX.ilog2() as usize);
    Some(if octets <= middle { (index, middle) } else { (index + 1, top) })
}

impl Arena {
    fn base() -> *mut u8 {
        MEMORY.0.get().cast()
    }

    /// Where a block begins in the arena; None for any other memory.
    fn offset(block: *mut u8) -> Option<usize> {
        let offset = (block as usize).wrapping_sub(Self::base() as usize);
        (offset < OCTETS).then_some(offset)
    }

    /// Runs `with` on the books, unless somebody else is at them.
    fn books<T>(with: impl FnOnce(&mut usize, &mut [usize; SIZES]) -> T) -> Option<T> {
        if LOCKED.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: we hold the lock, and `with`, which cannot panic, is over before it is given back.
        let result = unsafe { with(&mut *BOOKS.untouched.get(), &mut *BOOKS.free.get()) };
        LOCKED.store(false, Ordering::Release);
        Some(result)
    }

    fn take(size: usize, octets: usize) -> Option<*mut u8> {
        let offset = Self::books(|untouched, free| {
            let offset = free[size];
            if offset != 0 {
                // SAFETY: a free block of ours, aligned, which begins with the number of the next.
                free[size] = unsafe { Self::base().add(offset).cast::<usize>().read() };
                return Some(offset);
            }
            let offset = *untouched;
            (offset + octets <= OCTETS).then(|| {
                *untouched = offset + octets;
                offset
            })
        })??;
        // SAFETY: inside the arena.
        Some(unsafe { Self::base().add(offset) })
    }

    /// Takes a block back. If somebody else is at the books it is lost, which only costs memory.
    fn give_back(offset: usize, size: usize, octets: usize) {
        Self::books(|untouched, free| {
            if offset + octets == *untouched {
                *untouched = offset;
                return;
            }
            // SAFETY: the block is nobody's any more, and aligned; each has room for a number.
            unsafe { Self::base().add(offset).cast::<usize>().write(free[size]) };
            free[size] = offset;
        });
    }
}

// SAFETY: a block is aligned to 16, at least as long as asked, and nobody else's until it is given back: it comes either from
// the untouched part, which shrinks by it, or from the list of free ones, which loses it, in one step under the lock.
// Never inlined: there are thousands of callers, and a short session pays for each page of text that it comes by.
unsafe impl GlobalAlloc for Arena {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = size_of(layout).and_then(|(size, octets)| Self::take(size, octets));
        // SAFETY: the caller's own promises.
        block.unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match size_of(layout).and_then(|(size, octets)| Self::take(size, octets)) {
            // SAFETY: the block is at least as long.
            Some(block) => unsafe {
                ptr::write_bytes(block, 0, layout.size());
                block
            },
            // A large one is fresh from the kernel and all zero; writing that again would touch every page of it.
            // SAFETY: the caller's own promises.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match (Self::offset(block), size_of(layout)) {
            (Some(offset), Some((size, octets))) => Self::give_back(offset, size, octets),
            // SAFETY: it came from there.
            _ => unsafe { System.dealloc(block, layout) },
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (Some(offset), Some((_, has))) = (Self::offset(block), size_of(layout)) else {
            // SAFETY: it came from there.
            return unsafe { System.realloc(block, layout, size) };
        };
        // SAFETY: the caller's promise: `size` fits a layout of this alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if let Some((_, needs)) = size_of(wanted) {
            // The last block handed out grows and shrinks where it is.
            let last = || {
                Self::books(|untouched, _| {
                    let fits = offset + has == *untouched && offset + needs <= OCTETS;
                    if fits {
                        *untouched = offset + needs;
                    }
                    fits
                })
            };
            if needs == has || last() == Some(true) {
                return block;
            }
        }
        // SAFETY: as the trait's default does; both blocks are disjoint.
        unsafe {
            let moved = self.alloc(wanted);
            if !moved.is_null() {
                ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(octets: usize, align: usize) -> Layout {
        Layout::from_size_align(octets, align).unwrap()
    }

    #[test]
    fn sizes_hold_what_is_asked_and_are_all_different() {
        let mut seen = std::collections::BTreeMap::new();
        for octets in 1..=BLOCK_OCTETS_MAX {
            let (size, has) = size_of(layout(octets, 1)).unwrap();
            assert!(size < SIZES && has >= octets && has.is_multiple_of(ALIGN), "{octets}");
            assert!(has - octets < octets.max(ALIGN), "{octets}: {has} is twice as much");
            assert_eq!(*seen.entry(size).or_insert(has), has, "{octets}");
        }
        assert_eq!(seen.len(), SIZES);
        for (octets, align) in [(BLOCK_OCTETS_MAX + 1, 1), (1, 32), (usize::MAX / 4, 1)] {
            assert_eq!(size_of(layout(octets, align)), None);
        }
    }

    /// In one test, because there is one arena.
    #[test]
    fn blocks_are_aligned_disjoint_kept_and_used_again() {
        let arena = Arena;
        // The same few blocks for ever.
        for round in 0..1_000_000usize {
            let layout = layout(1 + round % 500, 8);
            // SAFETY: as above.
            unsafe {
                let block = arena.alloc(layout);
                assert!(Arena::offset(block).is_some(), "round {round}");
                arena.dealloc(block, layout);
            }
        }
        // More than there is room for.
        let mut blocks = Vec::new();
        for round in 0..2000usize {
            let layout = layout(1 + round * 37 % 9000, 1 << (round % 6));
            // SAFETY: non-zero sizes; each is freed once with its layout.
            let block = unsafe { if round % 3 == 0 { arena.alloc_zeroed(layout) } else { arena.alloc(layout) } };
            assert!(!block.is_null() && (block as usize).is_multiple_of(layout.align()));
            let octets = unsafe { std::slice::from_raw_parts_mut(block, layout.size()) };
            assert!(round % 3 != 0 || octets.iter().all(|octet| *octet == 0), "zeroed");
            octets.fill(round as u8);
            blocks.push((block, layout, round as u8));
            if round % 4 == 3 {
                // In another order than they came.
                let (block, layout, _) = blocks.swap_remove(round * 7 % blocks.len());
                unsafe { arena.dealloc(block, layout) };
            }
        }
        for (number, (block, old, mark)) in blocks.iter_mut().enumerate() {
            let new = if number % 2 == 0 { old.size() + 100 } else { old.size() / 2 + 1 };
            // SAFETY: as above.
            *block = unsafe { arena.realloc(*block, *old, new) };
            let kept = unsafe { std::slice::from_raw_parts(*block, old.size().min(new)) };
            assert!(kept.iter().all(|octet| octet == mark));
            *old = layout(new, old.align());
            unsafe { ptr::write_bytes(*block, *mark, new) };
        }
        for (block, layout, mark) in &blocks {
            let octets = unsafe { std::slice::from_raw_parts(*block, layout.size()) };
            assert!(octets.iter().all(|octet| octet == mark), "disjoint");
        }
        for (block, layout, _) in blocks.drain(..) {
            // SAFETY: as above.
            unsafe { arena.dealloc(block, layout) };
        }
    }
}
