//! A worker's clients that wait for a message: one list for each mailbox, in the order of their requests.
//!
//! A change of a mailbox reaches all clients that wait for it then. The worker notifies them one after the other, a bounded number
//! in each turn. So thousands of clients that wait for one mailbox delay no other client for long. A client that waits again
//! comes behind those that were not notified yet. A client that is notified late gets the newest message.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::wait_list::WaitList;
use super::worker_queue::Key;

/// Identifies an entry in a list. A later entry has a larger one.
pub(crate) type Entry = u64;

/// The lists of one worker.
#[derive(Debug)]
pub(crate) struct Waiters {
    worker: usize,
    lists: HashMap<u32, List>,
    next: Entry,
    /// Mailboxes that have changed. A mailbox without a list may still be among them.
    fresh: VecDeque<u32>,
}

/// The clients that wait for one mailbox. Never empty.
#[derive(Debug, Default)]
struct List {
    clients: BTreeMap<Entry, Key>,
    /// The worker must notify the entries before this one.
    until: Entry,
    /// The mailbox is among those that have changed.
    is_fresh: bool,
}

impl Waiters {
    /// Returns the lists of worker number `worker`, all empty.
    pub(crate) fn new(worker: usize) -> Self {
        Self { worker, lists: HashMap::new(), next: 0, fresh: VecDeque::new() }
    }

    /// Adds a client that waits for another version than `since`. The caller then checks the version.
    pub(crate) fn add(&mut self, mailbox: u32, since: u64, key: Key, wait_list: &WaitList) -> Entry {
        let list = self.lists.entry(mailbox).or_insert_with(|| {
            wait_list.watch(mailbox, self.worker, since);
            List::default()
        });
        let entry = self.next;
        self.next += 1;
        list.clients.insert(entry, key);
        WaitList::fence_before_check();
        entry
    }

    /// Removes a client that no longer waits.
    pub(crate) fn remove(&mut self, mailbox: u32, entry: Entry, wait_list: &WaitList) {
        if let Some(list) = self.lists.get_mut(&mailbox) {
            list.clients.remove(&entry);
            self.tidy(mailbox, wait_list);
        }
    }

    /// Marks a mailbox as changed, so that all clients that wait for it now are notified.
    pub(crate) fn mark_changed(&mut self, mailbox: u32) {
        let Some(list) = self.lists.get_mut(&mailbox) else { return };
        list.until = self.next;
        if !list.is_fresh {
            list.is_fresh = true;
            self.fresh.push_back(mailbox);
        }
    }

    /// Returns whether a client may have to be notified.
    pub(crate) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Removes and returns the next client to notify, of each changed mailbox in turn.
    pub(crate) fn pop(&mut self, wait_list: &WaitList) -> Option<Key> {
        loop {
            let mailbox = self.fresh.pop_front()?;
            let Some(list) = self.lists.get_mut(&mailbox).filter(|list| list.is_fresh) else { continue };
            let until = list.until;
            let Some(first) = list.clients.first_entry().filter(|first| *first.key() < until) else {
                list.is_fresh = false;
                continue;
            };
            let key = first.remove();
            self.fresh.push_back(mailbox);
            self.tidy(mailbox, wait_list);
            return Some(key);
        }
    }

    fn tidy(&mut self, mailbox: u32, wait_list: &WaitList) {
        if self.lists.get(&mailbox).is_some_and(|list| list.clients.is_empty()) {
            self.lists.remove(&mailbox);
            wait_list.forget(mailbox, self.worker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_waits_again_is_notified_after_those_not_notified_yet() {
        let wait_list = WaitList::new(Vec::new());
        let mut waiters = Waiters::new(0);
        for key in 0..3 {
            waiters.add(5, 0, key, &wait_list);
        }
        let gone = waiters.add(5, 0, 3, &wait_list);
        waiters.add(6, 0, 10, &wait_list);
        waiters.mark_changed(6);
        waiters.mark_changed(5);
        waiters.mark_changed(5);
        waiters.mark_changed(7);
        assert_eq!(waiters.pop(&wait_list), Some(10));
        assert_eq!(waiters.pop(&wait_list), Some(0));
        waiters.add(5, 1, 0, &wait_list);
        waiters.remove(5, gone, &wait_list);
        assert_eq!([(); 3].map(|()| waiters.pop(&wait_list)), [Some(1), Some(2), None]);
        assert!(!waiters.has_fresh());
        // The client that waits again is notified of later changes only.
        waiters.mark_changed(5);
        assert_eq!([(); 2].map(|()| waiters.pop(&wait_list)), [Some(0), None]);
        assert!(waiters.lists.is_empty());
    }
}
