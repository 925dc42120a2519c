//! Shared slices, and lists of them.

use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use bytes::Bytes;

use super::pool::{self, Block};

/// A shared slice of bytes, cheap to clone and split.
#[derive(Clone, Default)]
pub struct Chunk {
    owner: Owner,
    start: usize,
    end: usize,
}

#[derive(Clone, Default)]
enum Owner {
    #[default]
    Empty,
    Static(&'static [u8]),
    Bytes(Bytes),
    Block(Rc<Block>),
}

impl Chunk {
    pub(super) fn of_block(block: Rc<Block>, start: usize, end: usize) -> Self {
        Self { owner: Owner::Block(block), start, end }
    }

    /// Takes the first `n` bytes off. What is left holds on to no memory once it is empty.
    pub fn split_to(&mut self, n: usize) -> Chunk {
        assert!(n <= self.len(), "no more than the chunk's bytes can be split off");
        if n == self.len() {
            return std::mem::take(self);
        }
        let head = Chunk { owner: self.owner.clone(), start: self.start, end: self.start + n };
        self.start += n;
        head
    }

    /// A part of the chunk.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Chunk {
        assert!(range.start <= range.end && range.end <= self.len(), "a slice lies within its chunk");
        Chunk { owner: self.owner.clone(), start: self.start + range.start, end: self.start + range.end }
    }

    /// Forgets the first `n` bytes.
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.len(), "no more than the chunk's bytes can be skipped");
        self.start += n;
    }

    /// The bytes as `Bytes`: shared where they are already, copied out of a block otherwise.
    pub fn to_bytes(&self) -> Bytes {
        match &self.owner {
            Owner::Bytes(bytes) => bytes.slice(self.start..self.end),
            Owner::Static(bytes) => Bytes::from_static(&bytes[self.start..self.end]),
            Owner::Empty | Owner::Block(_) => Bytes::copy_from_slice(self),
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        let whole: &[u8] = match &self.owner {
            Owner::Empty => &[],
            Owner::Static(bytes) => bytes,
            Owner::Bytes(bytes) => bytes,
            Owner::Block(block) => block,
        };
        &whole[self.start..self.end]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Owner::Block(block) = std::mem::take(&mut self.owner) {
            pool::send_home(block);
        }
    }
}

impl From<&'static [u8]> for Chunk {
    fn from(bytes: &'static [u8]) -> Self {
        Self { owner: Owner::Static(bytes), start: 0, end: bytes.len() }
    }
}

impl From<&'static str> for Chunk {
    fn from(text: &'static str) -> Self {
        text.as_bytes().into()
    }
}

impl From<Bytes> for Chunk {
    fn from(bytes: Bytes) -> Self {
        let end = bytes.len();
        Self { owner: Owner::Bytes(bytes), start: 0, end }
    }
}

impl From<Vec<u8>> for Chunk {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({:?})", String::from_utf8_lossy(self))
    }
}

/// Chunks to be written one after another. The usual single chunk costs no allocation.
#[derive(Clone, Debug, Default)]
pub struct Chunks {
    first: Option<Chunk>,
    rest: Vec<Chunk>,
}

impl Chunks {
    /// Appends a chunk; an empty one is left out.
    pub fn push(&mut self, chunk: Chunk) {
        if chunk.is_empty() {
            return;
        }
        match self.first {
            None => self.first = Some(chunk),
            Some(_) => self.rest.push(chunk),
        }
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.iter().map(|chunk| chunk.len()).sum()
    }

    /// No bytes at all.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The chunks in order.
    pub fn iter(&self) -> impl Iterator<Item = &Chunk> {
        self.first.iter().chain(&self.rest)
    }
}

impl IntoIterator for Chunks {
    type Item = Chunk;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Chunk>, std::vec::IntoIter<Chunk>>;
    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.rest)
    }
}

impl<C: Into<Chunk>> From<C> for Chunks {
    fn from(chunk: C) -> Self {
        let mut chunks = Chunks::default();
        chunks.push(chunk.into());
        chunks
    }
}
