//! The ring-mapped buffer group that the kernel receives into.
//!
//! Only a few blocks are lent to the kernel at once: it takes them in order, so every one lent is a block
//! whose pages get touched. What is taken is replaced from the pool's last-in-first-out list.
#![expect(unsafe_code, reason = "the kernel writes into memory that is shared with it")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use crate::buf::{BLOCK_SIZE, Block, BlockPool, Buffer};

/// The one buffer group of a ring.
pub(super) const GROUP: u16 = 0;
/// Blocks lent to the kernel at most; a power of two.
const PUBLISHED_MAX: u16 = 64;

pub(super) struct Provided {
    entries: *mut BufRingEntry,
    layout: Layout,
    tail: u16,
    lent: Vec<Option<Rc<Block>>>,
    free: Vec<u16>,
}

impl Provided {
    pub(super) fn register(uring: &IoUring, pool: &Rc<BlockPool>) -> io::Result<Self> {
        let size = usize::from(PUBLISHED_MAX) * size_of::<BufRingEntry>();
        let layout = Layout::from_size_align(size, 4096).map_err(io::Error::other)?;
        // SAFETY: the layout has a size.
        let entries = unsafe { alloc_zeroed(layout) }.cast::<BufRingEntry>();
        if entries.is_null() {
            handle_alloc_error(layout);
        }
        // SAFETY: the memory is page-aligned, big enough for its entries, and freed after the ring is gone.
        unsafe { uring.submitter().register_buf_ring_with_flags(entries as u64, PUBLISHED_MAX, GROUP, 0) }?;
        let lent = (0..PUBLISHED_MAX).map(|_| None).collect();
        let mut provided = Self { entries, layout, tail: 0, lent, free: (0..PUBLISHED_MAX).collect() };
        provided.refill(pool);
        Ok(provided)
    }

    /// The buffer the kernel has filled with `filled` bytes.
    pub(super) fn take(&mut self, bid: u16, filled: usize) -> Buffer {
        match self.lent.get_mut(usize::from(bid)).and_then(Option::take) {
            Some(block) => {
                self.free.push(bid);
                let filled = filled.min(block.len());
                Buffer::of(block, filled)
            }
            None => {
                debug_assert!(false, "the kernel gives back what it was lent");
                Buffer::heap(0)
            }
        }
    }

    /// Lends blocks until the group is full or the pool is at its limit.
    pub(super) fn refill(&mut self, pool: &BlockPool) {
        let before = self.tail;
        while let Some(bid) = self.free.pop() {
            let Some(block) = pool.take_block() else {
                self.free.push(bid);
                break;
            };
            let index = usize::from(self.tail & (PUBLISHED_MAX - 1));
            // SAFETY: the index is below the number of entries; the kernel reads an entry only after the tail
            // has passed it. The block stays in `lent`, untouched by us, until the kernel gives it back.
            unsafe {
                let entry = &mut *self.entries.add(index);
                entry.set_addr(block.as_ptr() as u64);
                entry.set_len(BLOCK_SIZE as u32);
                entry.set_bid(bid);
            }
            self.lent[usize::from(bid)] = Some(block);
            self.tail = self.tail.wrapping_add(1);
        }
        if self.tail != before {
            // SAFETY: the tail lies in the first entry of the registered ring; the kernel only reads it.
            unsafe {
                let tail = BufRingEntry::tail(self.entries).cast_mut().cast::<AtomicU16>();
                (*tail).store(self.tail, Ordering::Release);
            }
        }
    }

    /// Blocks lent to the kernel.
    pub(super) fn published(&self) -> usize {
        usize::from(PUBLISHED_MAX) - self.free.len()
    }
}

impl Drop for Provided {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; `Inner` drops its ring before its buffers, and every receive
        // holds the ring alive.
        unsafe { dealloc(self.entries.cast(), self.layout) };
    }
}
