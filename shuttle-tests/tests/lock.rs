//! The lock and the mailbox with four to eight threads: exclusion, no lost write, no torn message, no thread asleep for
//! ever.

use shuttle::thread;
use shuttle_tests::mailbox::Mailbox;
use shuttle_tests::memory::Lock;
use shuttle_tests::run::check;
use shuttle_tests::rwlock::Participant;

fn occupy(lock: &Lock, seat: u32) -> Participant<Lock> {
    // SAFETY: the runs have one participant for each seat.
    unsafe { Participant::new(lock.clone(), seat) }
}

fn mailbox(lock: &Lock, seat: u32) -> Mailbox<Lock> {
    // SAFETY: as above.
    unsafe { Mailbox::new(lock.clone(), seat) }
}

/// Spawns a thread for each seat, and waits for all.
fn all(lock: &Lock, seats: u32, turn: impl Fn(&Lock, u32) + Send + Clone + 'static) {
    let threads: Vec<_> = (0..seats)
        .map(|seat| {
            let (lock, turn) = (lock.clone(), turn.clone());
            thread::spawn(move || turn(&lock, seat))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn eight_threads_exclude_each_other_and_no_write_is_lost() {
    check("lock: 8 threads", || {
        let lock = Lock::new(8, 0);
        all(&lock, 8, |lock, seat| {
            let mut me = occupy(lock, seat);
            for turn in 0..2 {
                if (seat + turn) % 2 == 0 {
                    let _guard = me.write(None).unwrap();
                    let value = lock.value();
                    value.set(value.get() + 1);
                } else {
                    let _guard = me.read(None).unwrap();
                    lock.value().get();
                }
            }
        });
        assert_eq!(lock.value().get(), 8);
        drop(occupy(&lock, 0).try_write().expect("all participants have left"));
    });
}

/// Some participants try, or give up when they would sleep. Their announcements must not hold up the others.
#[test]
fn a_participant_that_gives_up_holds_up_no_other() {
    check("lock: giving up", || {
        let lock = Lock::new(6, 0);
        all(&lock, 6, |lock, seat| {
            let mut me = occupy(lock, seat);
            match seat {
                0 => drop(me.write(Some(()))),
                1 => drop(me.try_write()),
                2 => drop(me.read(Some(()))),
                3 => drop(me.read(None).unwrap()),
                _ => {
                    let _guard = me.write(None).unwrap();
                    let value = lock.value();
                    value.set(value.get() + 1);
                }
            }
        });
        assert_eq!(lock.value().get(), 2);
        drop(occupy(&lock, 0).try_write().expect("all participants have left"));
    });
}

/// Versions cross the 32-bit wrap. Each message says which thread wrote it and when.
#[test]
fn no_message_is_torn_and_versions_only_grow() {
    const START: u64 = (1 << 32) - 3;
    check("mailbox: 6 threads", || {
        let lock = Lock::new(6, START);
        all(&lock, 6, |lock, seat| {
            let mut mailbox = mailbox(lock, seat);
            if seat < 3 {
                for turn in 0..2 {
                    let version = mailbox.write(&(seat * 2 + turn + 1).to_le_bytes(), None).unwrap();
                    assert!((START + 1..=START + 6).contains(&version));
                }
                return;
            }
            let (mut last, mut buffer) = (START, [0; 4]);
            while last < START + 6 {
                let newer = mailbox.wait_newer(last, None).unwrap();
                let message = mailbox.read(&mut buffer, None).unwrap();
                assert!(message.version >= newer && newer > last, "versions went back");
                assert!((1..=6).contains(&u32::from_le_bytes(buffer)));
                last = message.version;
            }
        });
        assert_eq!(mailbox(&lock, 0).version(), START + 6);
    });
}
