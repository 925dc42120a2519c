//! Chains of certificates whose path to a trusted root was found good: its signatures need not be computed again.
//!
//! What is remembered is the path alone. The server's name is compared on every handshake, and so is the time with the
//! dates of every certificate; the handshake's own signature is the TLS library's business. A chain is the digest of
//! all its bytes together with whom was trusted and how strictly, so that another root, another intermediate or another
//! policy is another chain.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use crate::ca::validity;

/// Chains remembered, by all workers together; the oldest goes first. An entry has 80 bytes and its key 32, twice: less
/// than one megabyte in all, however long the chains are.
pub(super) const CHAINS_MAX: usize = 4096;
/// How long a chain is believed without looking at its signatures again, in seconds.
pub(super) const BELIEVED_S: u64 = 3600;

/// SHA-256.
type Digest = [u8; 32];

/// Whom is trusted, and how: what a chain was verified against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trust(Digest);

impl Trust {
    /// These roots under a policy that has that name. A store that was loaded again with the same roots is the same
    /// trust; with any other root it is another.
    pub(super) fn of(roots: &RootCertStore, policy: &str) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        part(&mut context, policy.as_bytes());
        for root in &roots.roots {
            part(&mut context, &root.subject);
            part(&mut context, &root.subject_public_key_info);
            part(&mut context, root.name_constraints.as_deref().unwrap_or_default());
        }
        Self(finish(context))
    }
}

/// A chain as the server sent it, and the trust it is to be verified against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ChainId(Digest);

impl ChainId {
    pub(super) fn of(
        trust: Trust,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&trust.0);
        part(&mut context, end_entity);
        for certificate in intermediates {
            part(&mut context, certificate);
        }
        Self(finish(context))
    }
}

/// Preceded by its length: parts cannot be cut elsewhere to the same digest.
fn part(context: &mut digest::Context, bytes: &[u8]) {
    context.update(&(bytes.len() as u64).to_be_bytes());
    context.update(bytes);
}

fn finish(context: digest::Context) -> Digest {
    let mut digest = Digest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// The chains that were found good.
#[derive(Default)]
pub(super) struct VerifiedChains {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    chains: HashMap<ChainId, Believed>,
    /// In the order in which they came.
    order: VecDeque<ChainId>,
}

/// When a chain's path is good, in unix seconds; both ends belong to it.
#[derive(Clone, Copy, Debug)]
struct Believed {
    from: u64,
    until: u64,
}

impl VerifiedChains {
    /// Whether the chain's path was found good lately and all of its certificates are in their dates.
    pub(super) fn believes(&self, chain: &ChainId, now: u64) -> bool {
        self.lock().chains.get(chain).is_some_and(|times| (times.from..=times.until).contains(&now))
    }

    /// Remembers a chain whose path has just been verified.
    pub(super) fn remember<'a>(
        &self,
        chain: ChainId,
        certificates: impl Iterator<Item = &'a CertificateDer<'a>>,
        now: u64,
    ) {
        let Some(times) = times(certificates, now) else { return };
        let mut held = self.lock();
        if held.chains.insert(chain, times).is_none() {
            held.order.push_back(chain);
        }
        while held.order.len() > CHAINS_MAX {
            if let Some(oldest) = held.order.pop_front() {
                held.chains.remove(&oldest);
            }
        }
    }

    /// Chains that are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let held = self.lock();
        assert_eq!(held.chains.len(), held.order.len());
        held.order.len()
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // what panics in between leaves a chain that is looked up in vain, or one that stays a little longer
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for VerifiedChains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedChains").finish_non_exhaustive()
    }
}

/// When the path of these certificates is good. Which of them are on the path is not known, but none that is out of its
/// dates now can be; a clock that goes back before now asks again. `None`: something cannot be read.
fn times<'a>(certificates: impl Iterator<Item = &'a CertificateDer<'a>>, now: u64) -> Option<Believed> {
    let mut until = now.saturating_add(BELIEVED_S);
    for certificate in certificates {
        let (not_before, not_after) = validity(certificate)?;
        let not_after = u64::try_from(not_after).unwrap_or_default();
        let is_in_its_dates = u64::try_from(not_before).unwrap_or_default() <= now && now <= not_after;
        if is_in_its_dates {
            until = until.min(not_after);
        }
    }
    Some(Believed { from: now, until })
}
