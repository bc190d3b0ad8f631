//! The ring with four to eight threads: no item lost or torn, and no thread asleep forever. Sequences start just
//! before they wrap.

use shuttle::thread;
use shuttle_tests::error::{End, ReadError};
use shuttle_tests::memory::Ring;
use shuttle_tests::ring::{ClaimSize, Membership, PendingReceiver, Receiver, Sender};
use shuttle_tests::run::check;

const ITEMS: u32 = 6;
const END: End = End { total: ITEMS as u64, checksum: None };

fn ask(ring: &Ring, seat: u32, from_first: bool) -> PendingReceiver<Ring> {
    PendingReceiver::request_seat(ring.clone(), seat, from_first, 0)
        .unwrap_or_else(|why| panic!("seat {seat}: {why}"))
}

fn enter(pending: PendingReceiver<Ring>) -> Receiver<Ring> {
    pending.admitted(None).unwrap_or_else(|why| panic!("{why}"))
}

/// Returns the sender and the membership of a fresh ring. Each run calls this once for each ring.
fn own(ring: &Ring) -> (Sender<Ring>, Membership<Ring>) {
    // SAFETY: the only sender and membership of this ring.
    let membership = unsafe { Membership::new(ring.clone()) };
    // SAFETY: as above.
    (unsafe { Sender::new(ring.clone()) }, membership)
}

/// Reads to the end. Every item must be one more than the item before. Returns the first item, and how many there were.
fn read_all(mut receiver: Receiver<Ring>, most: u32) -> (Option<u32>, u32) {
    let (mut first, mut count) = (None, 0);
    loop {
        match receiver.read(None) {
            Ok(mut batch) => {
                for _ in 0..most {
                    let Some(frame) = batch.next_frame().unwrap() else { break };
                    let value = frame.payload().get();
                    assert_eq!(value, *first.get_or_insert(value) + count, "a message is missing");
                    count += 1;
                }
                batch.release();
            }
            Err(ReadError::Ended(end)) => {
                assert_eq!(end, END);
                return (first, count);
            }
            Err(why) => panic!("{why}"),
        }
    }
}

fn send_all(sender: &mut Sender<Ring>, most: u32) {
    for item in 0..ITEMS {
        let mut claim = sender.claim(ClaimSize::exactly(0), None).unwrap();
        claim.writer().set(item);
        claim.stage(0);
        if item % most == most - 1 {
            sender.publish();
        }
    }
    sender.publish();
}

#[test]
fn seven_receivers_get_every_item_through_two_slots() {
    check("ring: 8 threads", || {
        let ring = Ring::new(2, 7, u32::MAX - 2);
        let (mut sender, membership) = own(&ring);
        let pending_receivers: Vec<_> = (0..7).map(|seat| ask(&ring, seat, true)).collect();
        assert_eq!(membership.admit_all(), 7);
        let readers: Vec<_> = pending_receivers
            .into_iter()
            .map(|pending| thread::spawn(move || read_all(enter(pending), 1)))
            .collect();
        send_all(&mut sender, 2);
        sender.close(END);
        sender.drain(None).unwrap();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), (Some(0), ITEMS));
        }
    });
}

/// A control thread admits while the sender publishes. A late receiver misses a beginning, and nothing after it.
#[test]
fn late_receivers_miss_nothing_after_their_first_item() {
    check("ring: late receivers", || {
        let ring = Ring::new(2, 4, u32::MAX);
        let (mut sender, membership) = own(&ring);
        let readers: Vec<_> = (0..4)
            .map(|seat| {
                let ring = ring.clone();
                thread::spawn(move || read_all(enter(ask(&ring, seat, false)), 2))
            })
            .collect();
        let control = thread::spawn(move || {
            let mut admitted = 0;
            while admitted < 4 {
                admitted += membership.admit_all();
                thread::yield_now();
            }
        });
        send_all(&mut sender, 1);
        sender.close(END);
        control.join().unwrap();
        sender.drain(None).unwrap();
        for reader in readers {
            let (first, count) = reader.join().unwrap();
            assert_eq!(first.map_or(0, |first| ITEMS - first), count);
        }
    });
}

/// The sender of a full ring sleeps. A receiver that leaves without reading must wake it.
#[test]
fn receivers_that_leave_do_not_hold_up_the_sender() {
    check("ring: leaving", || {
        let ring = Ring::new(2, 5, u32::MAX - 1);
        let (mut sender, membership) = own(&ring);
        let pending_receivers: Vec<_> = (0..5).map(|seat| ask(&ring, seat, true)).collect();
        assert_eq!(membership.admit_all(), 5);
        let readers: Vec<_> = pending_receivers
            .into_iter()
            .zip(0..)
            .map(|(pending, stays)| {
                thread::spawn(move || {
                    let mut receiver = enter(pending);
                    for _ in 0..stays {
                        let Ok(mut batch) = receiver.read(None) else { return };
                        assert!(batch.next_frame().unwrap().is_some());
                        batch.release();
                    }
                })
            })
            .collect();
        send_all(&mut sender, 1);
        sender.drain(None).unwrap();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}
