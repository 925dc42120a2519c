//! Bytes and who may touch them: [`Buffer`] is exclusive, [`Chunk`] a shared slice, [`Chunks`] a list to
//! write at once. Blocks of memory return to the [`BlockPool`] they came from when the last holder lets go.
//!
//! Everything here lives on one worker: nothing is `Send`, nothing is locked.

mod chunk;
mod pool;

pub use chunk::{Chunk, Chunks};
pub use pool::{Block, BlockPool, Recycle};

use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// One TLS record (16 KB, RFC 8446 §5.2) with its header, expansion and slack.
pub const BLOCK_SIZE: usize = 18 * 1024;

/// Exclusive bytes: a block of which `start..end` is filled.
#[derive(Debug)]
pub struct Buffer {
    block: Option<Rc<Block>>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// A buffer of the heap, for what does not fit a block.
    pub fn heap(capacity: usize) -> Self {
        Self::of(Rc::new(Block::heap(capacity)), 0)
    }

    /// A heap buffer with these bytes.
    pub fn copied(bytes: &[u8]) -> Self {
        let mut buffer = Self::heap(bytes.len());
        buffer.push(bytes);
        buffer
    }

    /// Wraps a block that nobody else holds, of which the first `filled` bytes are data.
    pub(crate) fn of(block: Rc<Block>, filled: usize) -> Self {
        debug_assert_eq!(Rc::strong_count(&block), 1, "a buffer is exclusive");
        debug_assert!(filled <= block.len());
        Self { block: Some(block), start: 0, end: filled }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.block.as_mut().and_then(Rc::get_mut).map_or(&mut [], Block::bytes_mut)
    }

    fn capacity(&self) -> usize {
        self.block.as_ref().map_or(0, |block| block.len())
    }

    /// Room behind the filled part.
    pub fn spare_mut(&mut self) -> &mut [u8] {
        let end = self.end;
        &mut self.bytes_mut()[end..]
    }

    /// Bytes of room behind the filled part.
    pub fn spare(&self) -> usize {
        self.capacity() - self.end
    }

    /// Declares `n` bytes of the spare room filled.
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.spare(), "no more than the spare room can be filled");
        self.end += n;
    }

    /// Forgets the first `n` filled bytes.
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.len(), "no more than the filled part can be consumed");
        self.start += n;
    }

    /// Appends as much of `bytes` as fits; says how much that was.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.spare());
        self.spare_mut()[..n].copy_from_slice(&bytes[..n]);
        self.end += n;
        n
    }

    /// Gives up exclusivity.
    pub fn freeze(mut self) -> Chunk {
        match self.block.take() {
            Some(block) if self.start < self.end => Chunk::of_block(block, self.start, self.end),
            Some(block) => {
                pool::send_home(block);
                Chunk::default()
            }
            None => Chunk::default(),
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], |block| &block[self.start..self.end])
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.start, self.end);
        &mut self.bytes_mut()[start..end]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            pool::send_home(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_returns_home_when_its_last_holder_lets_go() {
        let pool = BlockPool::new(4, 4);
        let mut buffer = pool.take().expect("room");
        buffer.push(b"hello world");
        assert_eq!(pool.in_use(), 1);
        let mut chunk = buffer.freeze();
        let head = chunk.split_to(5);
        assert_eq!((&head[..], &chunk[..]), (&b"hello"[..], &b" world"[..]));
        drop(chunk);
        assert_eq!(pool.in_use(), 1);
        drop(head);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn an_emptied_chunk_keeps_no_block_from_its_home() {
        let pool = BlockPool::new(4, 4);
        let mut buffer = pool.take().expect("room");
        buffer.push(b"hello");
        let mut chunk = buffer.freeze();
        drop(chunk.split_to(5));
        assert!(chunk.is_empty());
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn the_pool_refuses_more_blocks_than_its_limit() {
        let pool = BlockPool::new(2, 2);
        let held: Vec<_> = (0..2).map(|_| pool.take().expect("room")).collect();
        assert!(pool.take().is_none());
        drop(held);
        assert!(pool.take().is_some());
    }

    #[test]
    fn idle_blocks_above_the_keep_limit_are_freed() {
        let pool = BlockPool::new(8, 2);
        let held: Vec<_> = (0..8).map(|_| pool.take().expect("room")).collect();
        drop(held);
        assert_eq!(pool.idle(), 2);
    }

    #[test]
    fn a_pool_frees_what_nobody_uses_when_it_is_told_to() {
        let pool = BlockPool::new(8, 8);
        let held: Vec<_> = (0..8).map(|_| pool.take().expect("room")).collect();
        drop(held);
        pool.shed(3);
        assert_eq!(pool.idle(), 3);
        pool.shed(5);
        assert_eq!(pool.idle(), 3);
        assert!(pool.take().is_some());
    }

    #[test]
    fn consuming_moves_the_front() {
        let mut buffer = Buffer::copied(b"abcdef");
        buffer.consume(2);
        assert_eq!(&buffer[..], b"cdef");
        buffer[0] = b'C';
        assert_eq!(&buffer.freeze()[..], b"Cdef");
    }
}
