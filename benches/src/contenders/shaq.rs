//! shaq's broadcast queue, the most similar contender: lossless, in shared memory, publishing in batches.
//!
//! Receivers either sleep on its futex (after its own spinning) or poll and yield. Its sender has no way to sleep: it
//! polls and yields. shaq 5 needs a newer Rust than this workspace, so it has a feature; see the README.

#[cfg(feature = "shaq")]
pub use here::Shaq;
#[cfg(not(feature = "shaq"))]
pub use not_here::Shaq;

#[cfg(not(feature = "shaq"))]
mod not_here {
    use crate::contender::{Contender, Latency, LatencyCase, Stream, StreamCase, Unavailable};

    pub struct Shaq {
        pub sleeping: bool,
    }

    fn not_built() -> Unavailable {
        Unavailable::NotMeasured("needs `--features shaq`, which needs Rust 1.97".into())
    }

    impl Contender for Shaq {
        fn name(&self) -> &'static str {
            if self.sleeping { "shaq, sleeping" } else { "shaq, polling" }
        }

        fn stream(&self, _case: &StreamCase) -> Result<Stream, Unavailable> {
            Err(not_built())
        }

        fn latency(&self, _case: &LatencyCase) -> Result<Latency, Unavailable> {
            Err(not_built())
        }
    }
}

#[cfg(feature = "shaq")]
mod here {
    use crate::contender::{
        Contender, Cores, Latency, LatencyCase, LatencyParties, Stream, StreamCase, StreamParties,
        Unavailable, Wait,
    };
    use crate::latency::{self, Echo, Link, Meter};
    use crate::load;
    use crate::role::{Pacer, Tally};
    use crate::waiting::Backoff;
    use shaq::broadcast::{Broadcast, BroadcastConfig, Consumer, Producer};
    use std::fs::File;
    use std::num::NonZeroUsize;
    use std::os::fd::FromRawFd;
    use std::time::Duration;

    pub struct Shaq {
        /// Whether receivers sleep if there is no message. If not, they poll.
        pub sleeping: bool,
    }

    const LONG: Duration = Duration::from_secs(3600);

    impl Contender for Shaq {
        fn name(&self) -> &'static str {
            if self.sleeping { "shaq, sleeping" } else { "shaq, polling" }
        }

        fn stream(&self, case: &StreamCase) -> Result<Stream, Unavailable> {
            match case.words() {
                8 => open::<8>(case, self.sleeping),
                512 => open::<512>(case, self.sleeping),
                10240 => open::<10240>(case, self.sleeping),
                other => Err(Unavailable::cannot(format!(
                    "its messages are a type; none of {other} words is here"
                ))),
            }
        }

        fn latency(&self, case: &LatencyCase) -> Result<Latency, Unavailable> {
            match (case.wait, case.cores, self.sleeping) {
                (Wait::Spin, Cores::Two, false) | (Wait::Sleep, _, true) => {
                    let ways = [file()?, file()?];
                    for file in &ways {
                        // SAFETY: a fresh file, initialised once, here.
                        drop(
                            unsafe { Broadcast::<Message<8>>::create(file, config(2, 1)) }
                                .map_err(refused)?,
                        );
                    }
                    Ok(Latency::Processes(Box::new(Pair { ways, sleeping: self.sleeping })))
                }
                (Wait::Spin, ..) => Err(Unavailable::cannot("see the polling variant, on two cores")),
                (Wait::Sleep, ..) => Err(Unavailable::cannot("polling does not sleep")),
            }
        }
    }

    type Message<const N: usize> = [u64; N];

    fn config(slots: usize, receivers: usize) -> BroadcastConfig {
        BroadcastConfig { capacity: slots, producer_slots: 1, consumer_slots: receivers }
    }

    fn refused(error: impl std::fmt::Debug) -> Unavailable {
        Unavailable::cannot(format!("{error:?}"))
    }

    fn file() -> Result<File, Unavailable> {
        // SAFETY: a plain call with a constant name.
        let fd = unsafe { libc::memfd_create(c"shaq".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        // SAFETY: fresh, and owned by no other code.
        Ok(unsafe { File::from_raw_fd(fd) })
    }

    fn open<const N: usize>(case: &StreamCase, sleeping: bool) -> Result<Stream, Unavailable> {
        let file = file()?;
        // SAFETY: a fresh file, initialised once, here.
        drop(
            unsafe { Broadcast::<Message<N>>::create(&file, config(case.slots, case.receivers)) }
                .map_err(refused)?,
        );
        Ok(Stream::Processes(Box::new(Parties::<N> { file, batch: case.batch.min(case.slots), sleeping })))
    }

    struct Parties<const N: usize> {
        file: File,
        batch: usize,
        sleeping: bool,
    }

    impl<const N: usize> StreamParties for Parties<N> {
        fn send(self: Box<Self>, pace: &mut Pacer) {
            // SAFETY: a live queue of this type, never resized.
            let mut producer = unsafe { Producer::<Message<N>>::join(&self.file) }.expect("a producer");
            let count = NonZeroUsize::new(self.batch).expect("not 0");
            pace.ready();
            loop {
                let batch = pace.batch(count.get());
                let mut backoff = Backoff::new();
                loop {
                    // SAFETY: every cell is written before it is published.
                    if let Some(mut cells) = unsafe { producer.try_reserve_write_batch(count) } {
                        for i in 0..count.get() {
                            // SAFETY: below the reserved length.
                            let cell = unsafe { cells.as_mut(i) };
                            // SAFETY: `N` words, reserved for this sender.
                            unsafe { load::fill_at(cell.as_mut_ptr().cast(), N, batch.stamp(i)) };
                        }
                        cells.publish();
                        break;
                    }
                    backoff.pause();
                }
                if batch.last {
                    return;
                }
            }
        }

        fn receive(self: Box<Self>, _index: usize, tally: &mut Tally) {
            // SAFETY: a live queue of this type, never resized.
            let mut consumer = unsafe { Consumer::<Message<N>>::join(&self.file) }.expect("a consumer");
            let most = NonZeroUsize::new(consumer.capacity()).expect("not 0");
            let mut backoff = Backoff::new();
            tally.ready();
            loop {
                let messages = if self.sleeping {
                    consumer.reserve_read_batch_timeout(most, LONG).ok()
                } else {
                    consumer.try_reserve_read_batch(most)
                };
                let Some(messages) = messages else {
                    backoff.pause();
                    continue;
                };
                backoff = Backoff::new();
                let (first, second) = messages.as_slices();
                for message in first.iter().chain(second) {
                    if tally.take(message) {
                        return;
                    }
                }
            }
        }
    }

    struct Pair {
        ways: [File; 2],
        sleeping: bool,
    }

    struct End {
        producer: Producer<Message<8>>,
        consumer: Consumer<Message<8>>,
        sleeping: bool,
    }

    impl Pair {
        fn end(&self, index: usize) -> End {
            // SAFETY: a live queue of this type, never resized.
            let producer = unsafe { Producer::join(&self.ways[index]) }.expect("a producer");
            // SAFETY: as above.
            let consumer = unsafe { Consumer::join(&self.ways[1 - index]) }.expect("a consumer");
            End { producer, consumer, sleeping: self.sleeping }
        }
    }

    impl LatencyParties for Pair {
        fn ping(self: Box<Self>, meter: &mut Meter) {
            meter.run(&mut self.end(0));
        }

        fn pong(self: Box<Self>, echo: &mut Echo) {
            echo.run(&mut self.end(1));
        }
    }

    impl Link for End {
        fn send(&mut self, stamp: u64) {
            // SAFETY: the cell is written before it is published.
            let mut cell = unsafe { self.producer.try_reserve_write() }.expect("a free cell");
            // SAFETY: 8 words, reserved for this party.
            unsafe { load::fill_at(cell.as_mut().as_mut_ptr().cast(), latency::WORDS, stamp) };
            cell.publish();
        }

        fn receive(&mut self) -> u64 {
            if self.sleeping {
                let message = self.consumer.reserve_read_timeout(LONG).expect("a message");
                return latency::verified(message.as_ref());
            }
            loop {
                if let Some(message) = self.consumer.try_reserve_read() {
                    return latency::verified(message.as_ref());
                }
                std::hint::spin_loop();
            }
        }
    }
}
