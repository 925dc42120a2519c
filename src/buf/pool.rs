//! Where blocks come from and go home to.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Deref;
use std::rc::{Rc, Weak};

use super::{BLOCK_SIZE, Buffer};

/// Blocks out from which holders should keep less, however high the limit: 18 MB.
const PRESSED_FROM: usize = 1024;

/// A home for blocks.
pub trait Recycle {
    /// Takes back a block that nobody else holds.
    fn recycle(&self, block: Rc<Block>);
}

/// A fixed piece of memory with a home.
pub struct Block {
    bytes: Box<[u8]>,
    home: Option<Weak<dyn Recycle>>,
}

impl Block {
    /// A block that is freed when the last holder lets go.
    pub fn heap(size: usize) -> Self {
        Self { bytes: vec![0; size].into_boxed_slice(), home: None }
    }

    /// A block that goes home when the last holder lets go.
    pub fn with_home(size: usize, home: Weak<dyn Recycle>) -> Self {
        Self { bytes: vec![0; size].into_boxed_slice(), home: Some(home) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Deref for Block {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({})", self.bytes.len())
    }
}

/// Hands a block home if this was its last holder, and its home still stands.
pub(super) fn send_home(block: Rc<Block>) {
    if Rc::strong_count(&block) != 1 {
        return;
    }
    if let Some(home) = block.home.as_ref().and_then(Weak::upgrade) {
        home.recycle(block);
    }
}

/// A worker's blocks of [`BLOCK_SIZE`] bytes: last in, first out, so that a warm block is used next.
pub struct BlockPool {
    this: Weak<BlockPool>,
    size: usize,
    idle: RefCell<Vec<Rc<Block>>>,
    in_use: Cell<usize>,
    starved: Cell<u64>,
    blocks_max: usize,
    idle_max: usize,
}

impl BlockPool {
    /// At most `blocks_max` blocks are out at once; at most `idle_max` unused ones are kept.
    pub fn new(blocks_max: usize, idle_max: usize) -> Rc<Self> {
        Self::sized(BLOCK_SIZE, blocks_max, idle_max)
    }

    /// A pool of blocks of another size, in bytes.
    pub fn sized(size: usize, blocks_max: usize, idle_max: usize) -> Rc<Self> {
        Rc::new_cyclic(|this| Self {
            this: this.clone(),
            size,
            idle: RefCell::new(Vec::new()),
            in_use: Cell::new(0),
            starved: Cell::new(0),
            blocks_max,
            idle_max,
        })
    }

    /// An empty buffer, or `None` at the limit.
    pub fn take(&self) -> Option<Buffer> {
        self.take_block().map(|block| Buffer::of(block, 0))
    }

    /// An empty buffer of this pool, or of the heap where the limit is reached: for answers that must go out.
    pub fn take_or_heap(&self) -> Buffer {
        self.take().unwrap_or_else(|| Buffer::heap(self.size))
    }

    /// A block nobody else holds, or `None` at the limit.
    pub(crate) fn take_block(&self) -> Option<Rc<Block>> {
        if self.in_use.get() >= self.blocks_max {
            self.starved.set(self.starved.get() + 1);
            return None;
        }
        self.in_use.set(self.in_use.get() + 1);
        if let Some(block) = self.idle.borrow_mut().pop() {
            return Some(block);
        }
        let home: Weak<dyn Recycle> = self.this.clone();
        Some(Rc::new(Block::with_home(self.size, home)))
    }

    /// Blocks that are out.
    pub fn in_use(&self) -> usize {
        self.in_use.get()
    }

    /// Blocks kept for the next taker.
    pub fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    /// Blocks that may be out at once.
    pub fn limit(&self) -> usize {
        self.blocks_max
    }

    /// How often somebody wanted a block at the limit and got none.
    pub fn starved(&self) -> u64 {
        self.starved.get()
    }

    /// Frees unused blocks but for `keep` of them.
    pub fn shed(&self, keep: usize) {
        let mut idle = self.idle.borrow_mut();
        idle.truncate(keep);
        idle.shrink_to(keep);
    }

    /// Much is out: holders should keep less.
    pub fn under_pressure(&self) -> bool {
        self.in_use.get() > (self.blocks_max / 4).min(PRESSED_FROM)
    }
}

impl Recycle for BlockPool {
    fn recycle(&self, block: Rc<Block>) {
        self.in_use.set(self.in_use.get() - 1);
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.idle_max {
            idle.push(block);
        }
    }
}
