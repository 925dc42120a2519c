//! Leaves that were minted before. One cache serves all workers; its lock is held to look up and to insert, never
//! while a leaf is signed.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::mem::size_of;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SigningKey};

use super::authority::whole_seconds;
use super::leaf::{LeafTemplate, Minted};
use super::{Authority, CaError, LeafIdentity};

/// How many bytes of leaves are kept if nothing else is said (`leaf_cache_max`): about 19,000 sites.
pub const LEAF_CACHE_MAX: usize = 16 << 20;

const DAY: i64 = 86_400;

/// A leaf with its key, ready for a handshake.
#[derive(Debug)]
pub struct Leaf {
    /// The certificate, the CA's chain, and the key of all leaves of this process.
    pub certified_key: Arc<CertifiedKey>,
    /// Last second of its validity, in unix seconds.
    pub expires: i64,
    valid_from: i64,
    renew_at: i64,
}

/// What a cache has done so far, and what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LeafCounters {
    /// Leaves that were there.
    pub hits: u64,
    /// Leaves that had to be minted.
    pub misses: u64,
    /// Leaves that were dropped to make room.
    pub evictions: u64,
    /// Leaves held now.
    pub entries: usize,
    /// Bytes held now.
    pub bytes: usize,
}

/// Mints leaves and keeps them, up to a number of bytes, least recently used out first.
pub struct LeafCache {
    template: LeafTemplate,
    /// One key for all leaves of a process (never the CA's): a key per leaf would only cost time.
    key: Arc<dyn SigningKey>,
    max: usize,
    entries: Mutex<Entries>,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
}

impl LeafCache {
    /// An empty cache with a fresh leaf key, for leaves of this CA.
    pub fn new(authority: Arc<Authority>, leaf_cache_max: usize) -> Result<Self, CaError> {
        let failed = |reason: String| CaError::Crypto { doing: "make the leaf key", reason };
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .and_then(|key| key.to_pkcs8v1())
            .map_err(|error| failed(error.to_string()))?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.as_ref()));
        let key = any_ecdsa_type(&key).map_err(|error| failed(error.to_string()))?;
        let public_key = key.public_key().ok_or_else(|| failed("it has no public half".into()))?;
        Ok(Self {
            template: LeafTemplate::new(authority, &public_key),
            key,
            max: leaf_cache_max,
            entries: Mutex::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        })
    }

    /// The leaf for this identity: the one handed out before if it is still good, else a new one.
    pub fn leaf(&self, identity: &LeafIdentity, now_unix: f64) -> Result<Arc<Leaf>, CaError> {
        let now = whole_seconds(now_unix);
        let key = identity.fingerprint();
        if let Some(leaf) = self.lock().touch(&key, now) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(leaf);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let leaf = Arc::new(self.mint(identity, now_unix)?);
        let mut entries = self.lock();
        // Another worker may have minted it at the same time; clients shall see one certificate, so the first stays.
        if let Some(first) = entries.touch(&key, now) {
            return Ok(first);
        }
        let dropped = entries.insert(key, &leaf, self.max);
        drop(entries);
        // Freed here, outside the lock.
        self.evictions.fetch_add(dropped.evicted, Ordering::Relaxed);
        drop(dropped.entries);
        Ok(leaf)
    }

    /// The CA that signs.
    pub fn authority(&self) -> &Authority {
        self.template.authority()
    }

    /// Counters, read at this moment.
    pub fn counters(&self) -> LeafCounters {
        let (entries, bytes) = {
            let entries = self.lock();
            (entries.leaves.len(), entries.bytes)
        };
        LeafCounters {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
            entries,
            bytes,
        }
    }

    fn mint(&self, identity: &LeafIdentity, now_unix: f64) -> Result<Leaf, CaError> {
        let Minted { mut der, not_before, not_after } = self.template.mint(identity, now_unix)?;
        der.shrink_to_fit();
        let mut certificates = Vec::with_capacity(1 + self.authority().chain().len());
        certificates.push(CertificateDer::from(der));
        certificates.extend_from_slice(self.authority().chain());
        // A day before the end, or a tenth of what is left if that is less: nobody is given a leaf about to expire.
        let left = not_after - whole_seconds(now_unix);
        Ok(Leaf {
            certified_key: Arc::new(CertifiedKey::new(certificates, Arc::clone(&self.key))),
            expires: not_after,
            valid_from: not_before,
            renew_at: not_after - DAY.min(left / 10),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // No code that can panic runs under this lock halfway through a change.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for LeafCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeafCache").field("counters", &self.counters()).finish_non_exhaustive()
    }
}

impl Leaf {
    /// The leaf's certificate.
    pub fn cert_der(&self) -> &CertificateDer<'static> {
        &self.certified_key.cert[0]
    }

    /// Neither about to expire nor (after the clock was set back) not valid yet.
    fn is_good(&self, now: i64) -> bool {
        (self.valid_from..=self.renew_at).contains(&now)
    }

    /// What it takes in memory, with its place in the cache.
    fn cost(&self) -> usize {
        // A hash table is between 44 and 88 % full, a B-tree's nodes half to wholly: both are counted twice.
        const PLACE: usize = 2 * (size_of::<(Fingerprint, Entry)>() + size_of::<(u64, Fingerprint)>());
        const ALLOCATION: usize = 16; // the allocator's own, or its rounding
        const REFERENCE_COUNTS: usize = 2 * size_of::<usize>();
        let certificates = &self.certified_key.cert;
        let bytes: usize = certificates.iter().map(|c| c.len() + size_of_val(c) + ALLOCATION).sum();
        let boxes = size_of::<Self>() + size_of::<CertifiedKey>() + 2 * (REFERENCE_COUNTS + ALLOCATION);
        PLACE + boxes + ALLOCATION + bytes
    }
}

type Fingerprint = [u8; 32];

struct Entry {
    leaf: Arc<Leaf>,
    cost: usize,
    used: u64,
}

/// The leaves, and the order in which they were last used.
#[derive(Default)]
struct Entries {
    leaves: HashMap<Fingerprint, Entry>,
    /// By the number of the use, so the first is the least recent.
    order: BTreeMap<u64, Fingerprint>,
    uses: u64,
    bytes: usize,
}

/// What an insertion threw out, to be freed when the lock is not held.
#[derive(Default)]
struct Dropped {
    entries: Vec<Entry>,
    /// How many of them had to go though they were still of use.
    evicted: u64,
}

impl Entries {
    /// A leaf that is still good, now the most recently used.
    fn touch(&mut self, key: &Fingerprint, now: i64) -> Option<Arc<Leaf>> {
        let entry = self.leaves.get_mut(key).filter(|entry| entry.leaf.is_good(now))?;
        self.order.remove(&entry.used);
        self.uses += 1;
        entry.used = self.uses;
        self.order.insert(self.uses, *key);
        Some(Arc::clone(&entry.leaf))
    }

    /// Puts a leaf in, in place of an outdated one, and makes room until all fit into `max` bytes.
    fn insert(&mut self, key: Fingerprint, leaf: &Arc<Leaf>, max: usize) -> Dropped {
        let mut dropped = Dropped::default();
        dropped.entries.extend(self.remove(&key)); // outdated, or we would not be here
        let cost = leaf.cost();
        if cost > max {
            return dropped;
        }
        while self.bytes + cost > max {
            let Some(oldest) = self.order.first_key_value().map(|(_, key)| *key) else { break };
            dropped.entries.extend(self.remove(&oldest));
            dropped.evicted += 1;
        }
        self.uses += 1;
        self.bytes += cost;
        self.order.insert(self.uses, key);
        self.leaves.insert(key, Entry { leaf: Arc::clone(leaf), cost, used: self.uses });
        dropped
    }

    fn remove(&mut self, key: &Fingerprint) -> Option<Entry> {
        let entry = self.leaves.remove(key)?;
        self.order.remove(&entry.used);
        self.bytes -= entry.cost;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const NOW: f64 = 1_800_000_000.0;

    fn cache(max: usize) -> LeafCache {
        LeafCache::new(Arc::new(Authority::generate(NOW).unwrap()), max).unwrap()
    }

    fn host(number: usize) -> LeafIdentity {
        LeafIdentity::from_names(Some(&format!("host-{number}.example.com")), None)
    }

    #[test]
    fn a_cache_can_be_shared_between_workers() {
        fn shareable<T: Send + Sync>() {}
        shareable::<(LeafCache, Authority, Leaf, LeafIdentity, CaError)>();
    }

    #[test]
    fn the_same_identity_gets_the_same_certificate() {
        let cache = cache(LEAF_CACHE_MAX);
        let first = cache.leaf(&host(1), NOW).unwrap();
        let other = cache.leaf(&host(2), NOW).unwrap();
        let again = cache.leaf(&host(1), NOW + 3_600.0).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert_ne!(first.cert_der(), other.cert_der());
        let counters = cache.counters();
        assert_eq!((counters.hits, counters.misses, counters.evictions, counters.entries), (1, 2, 0, 2));
    }

    #[test]
    fn leaves_share_a_key_that_is_not_the_cas() {
        let cache = cache(LEAF_CACHE_MAX);
        let key = |der: &[u8]| {
            let (_, parsed) = x509_parser::parse_x509_certificate(der).unwrap();
            parsed.public_key().raw.to_vec()
        };
        let leaf = key(cache.leaf(&host(1), NOW).unwrap().cert_der());
        assert_eq!(leaf, key(cache.leaf(&host(2), NOW).unwrap().cert_der()));
        assert_ne!(leaf, key(cache.authority().certificate()));
        assert_ne!(leaf, key(super::tests::cache(0).leaf(&host(1), NOW).unwrap().cert_der()));
    }

    #[test]
    fn five_thousand_identities_stay_within_the_bound() {
        const MAX: usize = 1 << 20;
        let cache = cache(MAX);
        for number in 0..5_000 {
            cache.leaf(&host(number), NOW).unwrap();
            assert!(cache.counters().bytes <= MAX);
        }
        let counters = cache.counters();
        assert_eq!(counters.misses, 5_000);
        assert_eq!(counters.entries as u64 + counters.evictions, 5_000);
        assert!(counters.bytes > MAX - 4_096 && counters.entries > 500, "{counters:?}");
        let entries = cache.lock();
        assert_eq!(entries.bytes, entries.leaves.values().map(|entry| entry.cost).sum::<usize>());
        assert_eq!(entries.order.len(), entries.leaves.len());
    }

    #[test]
    fn the_least_recently_used_leaf_goes_first() {
        let cost = cache(LEAF_CACHE_MAX).leaf(&host(1), NOW).unwrap().cost();
        let cache = cache(cost * 4 + cost / 2);
        let before: Vec<_> = (1..=4).map(|number| cache.leaf(&host(number), NOW).unwrap()).collect();
        cache.leaf(&host(1), NOW).unwrap();
        cache.leaf(&host(5), NOW).unwrap();
        assert!(Arc::ptr_eq(&before[0], &cache.leaf(&host(1), NOW).unwrap()));
        assert!(!Arc::ptr_eq(&before[1], &cache.leaf(&host(2), NOW).unwrap()));
    }

    #[test]
    fn a_leaf_too_large_for_the_cache_is_minted_all_the_same() {
        let cache = cache(100);
        let first = cache.leaf(&host(1), NOW).unwrap();
        assert!(!Arc::ptr_eq(&first, &cache.leaf(&host(1), NOW).unwrap()));
        assert_eq!((cache.counters().entries, cache.counters().bytes), (0, 0));
    }

    #[test]
    fn leaves_are_minted_again_before_they_expire_and_when_the_clock_was_set_back() {
        const HOUR: i64 = 3_600;
        let now = NOW as i64;
        for (upstream, later, same) in [
            (None, 197 * DAY, true),
            (None, 198 * DAY + 1, false),
            (None, -2 * DAY, true),
            (None, -2 * DAY - 1, false),
            (Some(now + 10 * HOUR), 9 * HOUR, true),
            (Some(now + 10 * HOUR), 9 * HOUR + 1, false),
            (Some(now + 1), 1, true),
            (Some(now + 1), 2, false),
        ] {
            let cache = cache(LEAF_CACHE_MAX);
            let identity = LeafIdentity { not_after: upstream, ..host(1) };
            let first = cache.leaf(&identity, NOW).unwrap();
            let second = cache.leaf(&identity, NOW + later as f64).unwrap();
            assert_eq!(Arc::ptr_eq(&first, &second), same, "{upstream:?} {later}");
            let counters = cache.counters();
            assert_eq!((counters.entries, counters.evictions, counters.bytes), (1, 0, second.cost()));
        }
    }

    #[test]
    fn workers_that_mint_at_once_hand_out_one_certificate() {
        let cache = cache(LEAF_CACHE_MAX);
        let barrier = std::sync::Barrier::new(8);
        for round in 0..50 {
            let certificates: HashSet<Vec<u8>> = std::thread::scope(|scope| {
                let mint = || {
                    barrier.wait();
                    cache.leaf(&host(round), NOW).unwrap().cert_der().to_vec()
                };
                let workers: Vec<_> = (0..8).map(|_| scope.spawn(mint)).collect();
                workers.into_iter().map(|worker| worker.join().unwrap()).collect()
            });
            assert_eq!(certificates.len(), 1);
        }
        let counters = cache.counters();
        assert_eq!((counters.hits + counters.misses, counters.entries), (400, 50));
    }
}
