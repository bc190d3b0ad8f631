//! Memory for data in flight: bounded for all connections together, and shared among them.
//!
//! A connection holds data only while a request is half received, or a reply half sent. One such connection is cheap,
//! and ten thousand may not be. So each connection has a reserve of its own, and takes anything beyond it from one
//! budget. If the budget is empty, the server refuses the request, so the machine does not run out of memory. A
//! connection gets at most a quarter of the budget, and an address in the network at most half. So one greedy client or
//! machine leaves memory for the others, and none can take another connection's reserve.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::os::thread::unpoisoned;

/// The bytes in each [`BudgetedBuf`] that do not count: half a line, or a few short replies.
const FREE: usize = 1024;

/// A budget of bytes, shared by all connections of a server.
#[derive(Debug)]
pub struct Budget {
    whole: usize,
    /// Below zero while connections keep replies that were promised before the budget was used up.
    left: AtomicIsize,
    addresses: Mutex<HashMap<IpAddr, Weak<Share>>>,
}

/// The bytes of a budget that the connections from one address use.
#[derive(Debug, Default)]
pub struct Share {
    taken: AtomicUsize,
}

/// The bytes of a budget that one connection uses, after its own reserves. One thread at a time uses it.
#[derive(Debug)]
pub struct Account {
    budget: Arc<Budget>,
    share: Option<Arc<Share>>,
    /// The size of the reserve for requests, and of the one for replies. So neither blocks the other.
    reserve: usize,
    requests: AtomicUsize,
    replies: AtomicUsize,
}

/// Which of a connection's two reserves a buffer uses first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// The reserve for requests.
    Requests,
    /// The reserve for replies.
    Replies,
}

// Relaxed everywhere: the numbers guard no other memory.
impl Budget {
    /// Returns a budget of `bytes`.
    pub fn new(bytes: usize) -> Arc<Self> {
        let whole = bytes.min(isize::MAX as usize);
        Arc::new(Self { whole, left: AtomicIsize::new(whole as isize), addresses: Mutex::default() })
    }

    /// Returns the bytes that are free.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed).try_into().unwrap_or(0)
    }

    /// Returns an account for a connection that has `reserve` bytes of its own for requests, and as many for replies.
    pub fn account(self: &Arc<Self>, reserve: usize, share: Option<Arc<Share>>) -> Arc<Account> {
        let (requests, replies) = Default::default();
        Arc::new(Account { budget: self.clone(), share, reserve, requests, replies })
    }

    /// Returns the share of an address, or `None` for an address of this machine. The addresses of one IPv6 subnet have
    /// one share, because a machine can have any number of them.
    pub fn share(&self, address: IpAddr) -> Option<Arc<Share>> {
        let address = match address.to_canonical() {
            own if own.is_loopback() => return None,
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
            address => address,
        };
        let mut addresses = unpoisoned(&self.addresses);
        if addresses.len() == addresses.capacity() {
            addresses.retain(|_, share| share.strong_count() > 0);
        }
        let known = addresses.get(&address).and_then(Weak::upgrade);
        Some(known.unwrap_or_else(|| {
            let share = Arc::default();
            addresses.insert(address, Arc::downgrade(&share));
            share
        }))
    }

    fn take(&self, bytes: usize) -> bool {
        let enough = |left: isize| (left >= bytes as isize).then(|| left - bytes as isize);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough).is_ok()
    }
}

impl Account {
    fn taken(&self, what: Use) -> &AtomicUsize {
        match what {
            Use::Requests => &self.requests,
            Use::Replies => &self.replies,
        }
    }

    /// Returns how many of the bytes taken come from the budget.
    fn beyond(&self) -> usize {
        let beyond = |taken: &AtomicUsize| taken.load(Ordering::Relaxed).saturating_sub(self.reserve);
        beyond(&self.requests) + beyond(&self.replies)
    }

    /// Returns how many more bytes may be taken now.
    fn affordable(&self, what: Use) -> usize {
        let each = (self.budget.whole / 4).saturating_sub(self.beyond());
        let share = self.share.as_ref().map_or(usize::MAX, |share| {
            (self.budget.whole / 2).saturating_sub(share.taken.load(Ordering::Relaxed))
        });
        let reserve = self.reserve.saturating_sub(self.taken(what).load(Ordering::Relaxed));
        reserve + each.min(share).min(self.budget.left())
    }

    /// Takes bytes, with `anyway` even beyond the budget. Returns whether it took them.
    fn take(&self, what: Use, bytes: usize, anyway: bool) -> bool {
        let taken = self.taken(what);
        let before = taken.load(Ordering::Relaxed);
        let after = before + bytes;
        let more = after.saturating_sub(self.reserve) - before.saturating_sub(self.reserve);
        if more > 0 {
            if !anyway && self.beyond() + more > self.budget.whole / 4 {
                return false;
            }
            let share = self.share.as_ref().map_or(0, |share| share.taken.fetch_add(more, Ordering::Relaxed));
            let fits = share.saturating_add(more) <= self.budget.whole / 2 || self.share.is_none();
            if anyway {
                self.budget.left.fetch_sub(more as isize, Ordering::Relaxed);
            } else if !fits || !self.budget.take(more) {
                if let Some(share) = &self.share {
                    share.taken.fetch_sub(more, Ordering::Relaxed);
                }
                return false;
            }
        }
        taken.store(after, Ordering::Relaxed);
        true
    }

    fn give(&self, what: Use, bytes: usize) {
        let taken = self.taken(what);
        let before = taken.load(Ordering::Relaxed);
        let after = before - bytes;
        let less = before.saturating_sub(self.reserve) - after.saturating_sub(self.reserve);
        if let Some(share) = &self.share {
            share.taken.fetch_sub(less, Ordering::Relaxed);
        }
        self.budget.left.fetch_add(less as isize, Ordering::Relaxed);
        taken.store(after, Ordering::Relaxed);
    }
}

/// There is no memory, or the budget allows none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

/// Bytes that count in an [`Account`]. An empty buffer owns no memory.
#[derive(Debug)]
pub struct BudgetedBuf {
    bytes: Vec<u8>,
    /// How many bytes at the front are no longer needed.
    start: usize,
    account: Arc<Account>,
    what: Use,
}

/// Returns what memory of this size counts.
fn price(capacity: usize) -> usize {
    capacity.saturating_sub(FREE)
}

impl BudgetedBuf {
    /// Returns an empty buffer.
    pub fn new(account: &Arc<Account>, what: Use) -> Self {
        Self { bytes: Vec::new(), start: 0, account: account.clone(), what }
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Returns whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many bytes it can hold in all now.
    pub fn most(&self) -> usize {
        FREE + price(self.bytes.capacity()) + self.account.affordable(self.what)
    }

    /// Appends `data`. Memory grows with the data that have arrived, never with an announced length.
    ///
    /// # Errors
    /// There is no memory, or this connection may have no more. Nothing has changed.
    pub fn extend(&mut self, data: &[u8]) -> Result<(), OutOfMemory> {
        self.grow(data.len(), false)?;
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    /// Appends `data` that were promised, even beyond the budget.
    ///
    /// # Errors
    /// The machine has no memory. Nothing has changed.
    pub fn extend_as_promised(&mut self, data: &[u8]) -> Result<(), OutOfMemory> {
        self.grow(data.len(), true)?;
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    /// Makes room for `more` bytes.
    fn grow(&mut self, more: usize, promised: bool) -> Result<(), OutOfMemory> {
        if self.start > self.bytes.len() / 2 || self.bytes.capacity() - self.bytes.len() < more {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        let before = self.bytes.capacity();
        let needed = self.bytes.len().checked_add(more).ok_or(OutOfMemory)?;
        if needed <= before {
            return Ok(());
        }
        // Doubles the memory, so that single bytes do not each need an allocation. If that is too much, takes only what
        // is needed.
        let mut wanted = needed.max(before.saturating_mul(2)).max(FREE);
        let cost = |wanted| price(wanted) - price(before);
        if !self.account.take(self.what, cost(wanted), false) {
            wanted = needed.max(FREE);
            if !self.account.take(self.what, cost(wanted), promised) {
                return Err(OutOfMemory);
            }
        }
        let grown = self.bytes.try_reserve_exact(wanted - self.bytes.len());
        // The allocator may give another capacity than asked for. What counts is the capacity that it will get back.
        let (paid, owed) = (price(wanted), price(self.bytes.capacity()));
        match owed.checked_sub(paid) {
            Some(missing) => _ = self.account.take(self.what, missing, true),
            None => self.account.give(self.what, paid - owed),
        }
        grown.map_err(|_| OutOfMemory)
    }

    /// Drops the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        if count >= self.len() {
            self.clear();
        } else {
            self.start += count;
        }
    }

    /// Returns the bytes, and leaves an empty buffer.
    pub fn take(&mut self) -> Self {
        let nothing = Self::new(&self.account, self.what);
        std::mem::replace(self, nothing)
    }

    /// Drops all bytes and frees the memory.
    pub fn clear(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.start = 0;
        if bytes.capacity() > FREE {
            self.account.give(self.what, price(bytes.capacity()));
        }
    }
}

impl Drop for BudgetedBuf {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BIG: usize = 1 << 20;

    #[test]
    fn what_was_taken_comes_back() {
        let budget = Budget::new(40_000);
        let account = budget.account(0, None);
        let mut held = BudgetedBuf::new(&account, Use::Requests);
        for piece in [1, 10, 1000, 3000] {
            held.extend(&vec![7; piece]).unwrap();
        }
        assert_eq!(held.len(), 4011);
        assert!(budget.left() <= 40_000 - 4011 + FREE);
        held.consume(11);
        assert_eq!(held.len(), 4000);
        let mut other = BudgetedBuf::new(&account, Use::Requests);
        assert_eq!(other.extend(&[0; 9_000]), Err(OutOfMemory));
        assert!(other.is_empty());
        held.clear();
        other.extend(&[0; 9_000]).unwrap();
        drop((held, other));
        assert_eq!(budget.left(), 40_000);
    }

    #[test]
    fn a_connection_has_its_reserve_and_a_quarter_and_the_others_have_theirs() {
        let budget = Budget::new(4 * BIG);
        let accounts = [0; 6].map(|_| budget.account(1000, None));
        let mut buffers = accounts.each_ref().map(|account| BudgetedBuf::new(account, Use::Requests));
        for buffer in &mut buffers[..4] {
            assert_eq!(buffer.most(), BIG + 1000 + FREE);
            assert_eq!(buffer.extend(&vec![0; BIG + 1000 + FREE + 1]), Err(OutOfMemory));
            buffer.extend(&vec![0; BIG + 1000 + FREE]).unwrap();
            assert_eq!(buffer.extend(&[0]), Err(OutOfMemory));
        }
        assert_eq!(budget.left(), 0);
        // All of the budget is in use, but the reserve still exists.
        assert_eq!(buffers[4].most(), 1000 + FREE);
        buffers[4].extend(&[0; 1000 + FREE]).unwrap();
        // The quarter is for requests and replies together.
        assert_eq!(BudgetedBuf::new(&accounts[0], Use::Replies).most(), 1000 + FREE);
        assert_eq!(buffers[4].extend(&[0]), Err(OutOfMemory));
        // Promised data are kept, and their memory is returned.
        buffers[5].extend_as_promised(&vec![0; BIG]).unwrap();
        assert_eq!((budget.left(), buffers[5].len()), (0, BIG));
        drop(buffers);
        assert_eq!(budget.left(), 4 * BIG);
    }

    #[test]
    fn an_address_in_the_network_has_half() {
        let budget = Budget::new(4 * BIG);
        let share = |address: &str| budget.share(address.parse().unwrap());
        assert!(
            share("127.0.0.1").is_none() && share("::1").is_none() && share("::ffff:127.9.9.9").is_none()
        );
        let held = |address| BudgetedBuf::new(&budget.account(0, share(address)), Use::Replies);
        let addresses = ["2001:db8::1", "2001:db8::9:1", "2001:db8::1"];
        let mut same = addresses.map(held);
        for held in &mut same[..2] {
            held.extend(&vec![0; BIG + FREE]).unwrap();
        }
        assert_eq!(same[2].most(), FREE);
        assert_eq!(same[2].extend(&[0; FREE + 1]), Err(OutOfMemory));
        for other in ["2001:db8:0:1::1", "192.0.2.1"] {
            let mut other = held(other);
            other.extend(&vec![0; BIG + FREE]).unwrap();
        }
        assert!(Arc::ptr_eq(&share("192.0.2.1").unwrap(), &share("::ffff:192.0.2.1").unwrap()));
        drop(same);
        assert_eq!(held("2001:db8::1").most(), BIG + FREE);
        assert_eq!(budget.left(), 4 * BIG);
        for number in 0..10_000u32 {
            drop(budget.share(IpAddr::V4(number.into())));
        }
        assert!(unpoisoned(&budget.addresses).len() < 1000, "addresses are forgotten");
    }

    #[test]
    fn a_message_that_fits_what_is_left_is_held_byte_by_byte() {
        let budget = Budget::new(0);
        let account = budget.account(65_536, None);
        let mut held = BudgetedBuf::new(&account, Use::Requests);
        for _ in 0..65_536 + FREE {
            held.extend(&[1]).unwrap();
        }
        assert_eq!(held.extend(&[1]), Err(OutOfMemory));
        let mut replies = BudgetedBuf::new(&account, Use::Replies);
        replies.extend(&[1; 65_536 + FREE]).unwrap();
    }
}
