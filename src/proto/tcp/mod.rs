//! Raw TCP: what nobody takes apart.

mod layer;
#[cfg(test)]
mod playbook;

pub use layer::relay;
