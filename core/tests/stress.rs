//! One sender and four receivers in threads. Every word of every message is checked.

mod common;

use common::{create, regions};
use std::thread;
use whorl_core::error::{End, ReadError};
use whorl_core::host::SpinHost;
use whorl_core::layout::Geometry;
use whorl_core::ring::{ClaimSize, Kind, PendingReceiver};
use whorl_core::sequence::Sequence;

const RECEIVERS: u32 = 4;
const ITEMS: u32 = 60_000;
const WORDS: usize = 8;

/// Returns a host that yields while it waits.
fn yielding() -> SpinHost {
    SpinHost::with_clock(|_| {
        thread::yield_now();
        true
    })
}

fn message(item: u32) -> [u8; WORDS * 4] {
    let mut bytes = [0; WORDS * 4];
    for (i, word) in bytes.chunks_exact_mut(4).enumerate() {
        word.copy_from_slice(&item.wrapping_mul(0x9E37_79B9).wrapping_add(i as u32).to_le_bytes());
    }
    bytes
}

#[test]
fn four_receivers_get_every_word() {
    let geometry = Geometry::new(256, RECEIVERS).unwrap();
    let memory = regions(geometry);
    let mut owned = create(&memory, geometry, yielding());
    owned.start_at(Sequence::from_word(0u32.wrapping_sub(ITEMS / 2)));
    let ring = owned.ring();
    let (mut sender, membership) = owned.into_sender();
    let pending_receivers: Vec<_> = (0..RECEIVERS)
        .map(|seat| {
            PendingReceiver::request_seat(ring.clone(), seat, true, 0).unwrap_or_else(|why| panic!("{why}"))
        })
        .collect();
    assert_eq!(membership.admit_all(), RECEIVERS);
    thread::scope(|scope| {
        let mut receivers = Vec::new();
        for pending in pending_receivers {
            receivers.push(scope.spawn(move || {
                let mut receiver = pending.admitted(None).unwrap_or_else(|why| panic!("{why}"));
                let mut next = 0;
                let end = loop {
                    let mut batch = match receiver.read(None) {
                        Ok(batch) => batch,
                        Err(why) => break why,
                    };
                    while let Some(frame) = batch.next_frame().unwrap() {
                        let mut bytes = [0; WORDS * 4];
                        assert_eq!((frame.kind(), frame.number()), (Kind::Message, next));
                        assert_eq!(frame.payload().copy_to(&mut bytes), Ok(WORDS * 4));
                        assert_eq!(bytes, message(next), "item {next}");
                        next += 1;
                    }
                    batch.release();
                };
                assert_eq!(end, ReadError::Ended(End { total: u64::from(ITEMS), checksum: None }));
                assert_eq!(next, ITEMS);
            }));
        }
        for item in 0..ITEMS {
            let mut claim = sender.claim(ClaimSize::exactly((WORDS * 4) as u32), None).unwrap();
            claim.writer().write(&message(item));
            if item % 3 == 0 { claim.publish((WORDS * 4) as u32) } else { claim.stage((WORDS * 4) as u32) }
        }
        sender.close(End { total: u64::from(ITEMS), checksum: None });
        sender.drain(None).unwrap();
        // Each thread is joined by itself: ThreadSanitizer sees a join, but not how a scope waits.
        receivers.into_iter().for_each(|receiver| receiver.join().unwrap());
    });
}
