//! Mailboxes in memory: one region, which every attached process may write.
//!
//! ```text
//! 0      header, 64 bytes
//! 256    SeatsUsed, 64 bytes
//! 320    EventCount, 64 bytes: notified by each mailbox
//! 4096   Seat x seats, 8 bytes each
//! B      boxes, each: OwnerWord, 64 bytes; MailboxHeader, 128 bytes; SeatState x seats, 64 bytes each
//! P      buffers, two for each box, `stride` bytes each
//!
//! B      = 4096 + 8 * seats, rounded up to 64
//! P      = B + boxes * (192 + 64 * seats), rounded up to 4096
//! stride = the capacity, rounded up to 64
//!
//! measures in the header: capacity, boxes, seats, 0
//! ```

use super::{ALIGN, Header, LayoutError, MAX_SEATS, PAGE, Region, TABLE_AT, Words, copy};
use crate::error::{JoinError, MailReadError, MailWriteError, WaitError};
use crate::event_count::EventCount;
use crate::host::{Host, WaitResult};
use crate::mailbox::{self, Mailbox, MailboxHeader, Message, Payload};
use crate::rwlock::{self, OwnerWord, SeatState, SeatsUsed};
use crate::seat::{Generation, Seat, State};
use crate::sync::AtomicU32;
use core::mem::{align_of, size_of};
use static_assertions::const_assert;

const MAILBOXES: u32 = 3;
const MAX_BOXES: u32 = 1 << 20;

const SEATS_USED_AT: usize = 256;
const CHANGED_AT: usize = 320;
const LINE: u64 = 64;

const_assert!(
    size_of::<SeatsUsed>() == 64 && SEATS_USED_AT >= size_of::<Words>() && SEATS_USED_AT + 64 <= CHANGED_AT
);
const_assert!(size_of::<EventCount>() == 64 && align_of::<EventCount>() == 64 && CHANGED_AT + 64 <= TABLE_AT);
const_assert!(size_of::<Seat>() == 8);
const_assert!(size_of::<SeatState>() == 64 && align_of::<SeatState>() == 64);
const_assert!(size_of::<OwnerWord>() == 64 && align_of::<OwnerWord>() == 64);
const_assert!(size_of::<MailboxHeader>() == 128 && align_of::<MailboxHeader>() == 64);
const_assert!(ALIGN.is_multiple_of(LINE as usize) && PAGE.is_multiple_of(LINE));

/// The measures of a segment of mailboxes, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MailGeometry {
    boxes: u32,
    capacity: u32,
    seats: u32,
}

impl MailGeometry {
    /// Returns the measures of `boxes` mailboxes, for messages of up to `capacity` bytes and up to `seats` attached
    /// processes.
    ///
    /// # Errors
    /// Which of the measures is impossible.
    pub const fn new(boxes: u32, capacity: u32, seats: u32) -> Result<Self, LayoutError> {
        if boxes == 0 || boxes > MAX_BOXES {
            return Err(LayoutError::Boxes);
        }
        if capacity == 0 || capacity > 1 << 31 {
            return Err(LayoutError::Capacity);
        }
        if seats == 0 || seats > MAX_SEATS {
            return Err(LayoutError::Seats);
        }
        let geometry = Self { boxes, capacity, seats };
        if geometry.length() > isize::MAX as u64 {
            return Err(LayoutError::TooLarge);
        }
        Ok(geometry)
    }

    /// Returns the number of mailboxes.
    pub const fn boxes(&self) -> u32 {
        self.boxes
    }

    /// Returns the most bytes that a message can have.
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Returns the number of seats.
    pub const fn seats(&self) -> u32 {
        self.seats
    }

    /// Returns how many bytes the region needs: at most about 2^20 x (2 x 2^31 + 2^17), so the sum does not overflow.
    pub const fn length(&self) -> u64 {
        self.buffers_at() + 2 * self.boxes as u64 * self.stride()
    }

    const fn boxes_at(&self) -> u64 {
        (TABLE_AT as u64 + self.seats as u64 * size_of::<Seat>() as u64).next_multiple_of(LINE)
    }

    const fn box_length(&self) -> u64 {
        (size_of::<OwnerWord>() + size_of::<MailboxHeader>()) as u64
            + self.seats as u64 * size_of::<SeatState>() as u64
    }

    const fn buffers_at(&self) -> u64 {
        (self.boxes_at() + self.boxes as u64 * self.box_length()).next_multiple_of(PAGE)
    }

    const fn stride(&self) -> u64 {
        (self.capacity as u64).next_multiple_of(LINE)
    }

    fn header(&self, nonce: u64) -> Header {
        let measures = [self.capacity, self.boxes, self.seats, 0];
        Header { region: MAILBOXES, measures, length: self.length(), nonce }
    }

    /// Checks a header that was copied out of a region. Returns its geometry and its nonce.
    fn check(words: &Words) -> Result<(Self, u64), LayoutError> {
        let header = Header::check(words, MAILBOXES)?;
        let [capacity, boxes, seats, _] = header.measures;
        let geometry = Self::new(boxes, capacity, seats)?;
        if header != geometry.header(header.nonce) {
            return Err(LayoutError::Damaged);
        }
        Ok((geometry, header.nonce))
    }
}

/// A segment of mailboxes, as each attached process sees it.
///
/// Invariant I1, which both constructors establish: `region` is aligned, and at least as long as `geometry` says.
#[derive(Clone, Debug)]
pub struct Mailboxes<'m, H> {
    region: Region<'m>,
    geometry: MailGeometry,
    nonce: u64,
    host: H,
}

impl<'m, H: Host + Clone> Mailboxes<'m, H> {
    /// Makes mailboxes in fresh memory, each with an empty message of version 0. `nonce` distinguishes this segment
    /// from others.
    ///
    /// # Safety
    /// - the region is writable, and no other code uses it before this returns;
    /// - later users of the same memory come through [`attach`](Self::attach) or clones of the result.
    ///
    /// # Errors
    /// [`LayoutError::TooShort`] or [`LayoutError::Misaligned`].
    pub unsafe fn create(
        region: Region<'m>,
        geometry: MailGeometry,
        nonce: u64,
        host: H,
    ) -> Result<Self, LayoutError> {
        region.fits(geometry.length())?;
        // SAFETY: long enough (`fits`), writable and unused by the caller's contract.
        unsafe { region.format(geometry.buffers_at() as usize, &geometry.header(nonce).to_words()) };
        Ok(Self { region, geometry, nonce, host }) // I1: `fits`
    }

    /// Opens mailboxes that another process or thread made.
    ///
    /// # Safety
    /// - the region is writable;
    /// - it was made by [`create`](Self::create), or holds bytes of a peer, which may be garbage: this call checks
    ///   them.
    ///
    /// # Errors
    /// Why the region holds no mailboxes that this program can use.
    pub unsafe fn attach(region: Region<'m>, host: H) -> Result<Self, LayoutError> {
        let (geometry, nonce) = MailGeometry::check(&region.read_header()?)?;
        region.fits(geometry.length())?;
        Ok(Self { region, geometry, nonce, host }) // I1: `fits`
    }

    /// Returns the measures of the segment.
    pub fn geometry(&self) -> MailGeometry {
        self.geometry
    }

    /// Returns the nonce, which distinguishes this segment from others.
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    /// Occupies a seat, and first clears what its last occupant left in any mailbox.
    ///
    /// On a host where participants can die, the caller already holds that seat's byte lock. No participant reclaims
    /// the seat's last occupant meanwhile ([`Host::try_reclaim`]).
    ///
    /// # Errors
    /// [`JoinError::Taken`] if the seat is not free or does not exist.
    pub fn occupy(&self, seat: u32, pid: u32) -> Result<User<'m, H>, JoinError> {
        let place = self.seats().get(seat as usize).ok_or(JoinError::Taken)?;
        // Before the seat is taken, so that each participant that sees it taken scans far enough.
        self.seats_used().raise(seat);
        let generation = place.occupy(State::Active, pid).ok_or(JoinError::Taken)?;
        // The seat is taken now, so it is this participant's alone. If the participant dies before all is cleared, a
        // reclaimer clears the rest.
        let user = User { mailboxes: self.clone(), seat, generation };
        for index in 0..self.geometry.boxes {
            if self.parts(index).is_some_and(|parts| rwlock::has_traces(&parts, seat)) {
                self.clear(index, seat);
            }
        }
        Ok(user)
    }

    /// Returns whether a seat is free at this moment. Returns false for a seat that does not exist.
    pub fn is_free(&self, seat: u32) -> bool {
        self.seats().get(seat as usize).is_some_and(|place| !place.occupancy().is_taken())
    }

    /// Occupies the first free seat, for hosts on which no participant dies.
    ///
    /// # Errors
    /// [`JoinError::Taken`] if no seat is free.
    pub fn occupy_any(&self, pid: u32) -> Result<User<'m, H>, JoinError> {
        (0..self.geometry.seats).find_map(|seat| self.occupy(seat, pid).ok()).ok_or(JoinError::Taken)
    }

    /// Clears what the dead occupant of `seat` left in every mailbox, then the seat, and wakes each waiter that may
    /// have waited for it. Returns false if the seat was free.
    ///
    /// Call it only while no participant can take the seat ([`Host::try_reclaim`]). A reclaimer may repeat it, and
    /// several may call it at the same time.
    pub fn reclaim(&self, seat: u32) -> bool {
        let Some(place) = self.seats().get(seat as usize) else { return false };
        if !place.occupancy().is_taken() {
            return false;
        }
        for index in 0..self.geometry.boxes {
            self.clear(index, seat);
        }
        self.changed().notify_all(&self.host);
        // Last: if the reclaimer dies before this, the next reclaimer repeats the rest.
        place.reclaim()
    }

    /// Clears what the dead occupant of `seat` left in one mailbox.
    fn clear(&self, index: u32, seat: u32) {
        let Some(parts) = self.parts(index) else { return };
        // SAFETY: by the contracts of the two callers. If they are broken, messages may come out torn, but only atomics
        // are touched.
        unsafe { rwlock::reclaim(&parts, seat) };
        // The dead writer may have committed and not notified.
        mailbox::Parts::header(&parts).notify_all(&self.host);
    }

    /// Reclaims every occupant that the host knows to be dead. Returns how many.
    pub fn reclaim_dead(&self) -> u32 {
        let mut reclaimed = 0;
        for (seat, _) in self.users() {
            self.host.try_reclaim(seat, || reclaimed += u32::from(self.reclaim(seat)));
        }
        reclaimed
    }

    /// Returns the taken seats and their occupants' process ids, one after another. It is not a snapshot of one moment.
    pub fn users(&self) -> impl Iterator<Item = (u32, u32)> {
        let taken = self.seats().iter().zip(0..).take(self.seats_used().count() as usize);
        taken.filter(|(place, _)| place.occupancy().is_taken()).map(|(place, seat)| (seat, place.pid()))
    }

    /// Returns the version of the latest message of a mailbox at one moment, or `None` if there is no such mailbox.
    /// Needs no seat.
    pub fn version(&self, index: u32) -> Option<u64> {
        Some(mailbox::Parts::header(&self.parts(index)?).version())
    }

    /// Waits until a mailbox has a message later than version `than`, and returns its version. Needs no seat.
    ///
    /// # Blocking
    /// Waits for a writer, until `deadline`.
    ///
    /// # Errors
    /// Why no newer message came.
    pub fn wait_newer(&self, index: u32, than: u64, deadline: Option<H::Deadline>) -> Result<u64, WaitError> {
        let parts = self.parts(index).ok_or(WaitError::NoSuchBox)?;
        mailbox::Parts::header(&parts).wait_newer(&self.host, than, deadline)
    }

    /// Sleeps until some mailbox may have a new message, for a caller that watches many mailboxes. Sleeps at most one poll
    /// interval. Needs no seat.
    ///
    /// Calls `look` after the announcement, and does not sleep if `look` returns true.
    ///
    /// # Blocking
    /// Waits for a writer, until `deadline` or the end of a poll interval.
    pub fn sleep_unless(&self, look: impl FnOnce() -> bool, deadline: Option<H::Deadline>) -> WaitResult {
        let ticket = self.changed().prepare_wait();
        if look() { WaitResult::Woken } else { self.changed().wait(&self.host, ticket, deadline) }
    }

    fn changed(&self) -> &'m EventCount {
        // SAFETY: inside the first page (I1), aligned; atomics.
        let changed = unsafe { self.region.table::<EventCount>(CHANGED_AT, 1) };
        &changed[0]
    }

    fn seats_used(&self) -> &'m SeatsUsed {
        // SAFETY: inside the first page (I1), aligned; atomics.
        let taken = unsafe { self.region.table::<SeatsUsed>(SEATS_USED_AT, 1) };
        &taken[0]
    }

    fn seats(&self) -> &'m [Seat] {
        // SAFETY: as long as the geometry says (I1), aligned; atomics.
        unsafe { self.region.table(TABLE_AT, self.geometry.seats as usize) }
    }

    /// Returns the parts of one mailbox, or `None` if there is no such mailbox.
    fn parts(&self, index: u32) -> Option<BoxParts<'m, H>> {
        if index >= self.geometry.boxes {
            return None;
        }
        let geometry = &self.geometry;
        let at = (geometry.boxes_at() + u64::from(index) * geometry.box_length()) as usize;
        let header_at = at + size_of::<OwnerWord>();
        // SAFETY: `index` is below the number of boxes, so its tables lie inside the region (I1), at multiples of 64
        // bytes; atomics. This holds for the next two as well.
        let owner_word = unsafe { self.region.table::<OwnerWord>(at, 1) };
        // SAFETY: see above.
        let header = unsafe { self.region.table::<MailboxHeader>(header_at, 1) };
        // SAFETY: see above.
        let cells =
            unsafe { self.region.table(header_at + size_of::<MailboxHeader>(), geometry.seats as usize) };
        let buffer = |which: u64| {
            let at = geometry.buffers_at() + (2 * u64::from(index) + which) * geometry.stride();
            // SAFETY: as above; the `stride` bytes at that offset are words of the region, aligned to 64.
            unsafe { self.region.table(at as usize, geometry.stride() as usize / size_of::<AtomicU32>()) }
        };
        let buffers = Buffers { words: [buffer(0), buffer(1)], capacity: geometry.capacity as usize };
        let (owner_word, header, seats_used, any_changed) =
            (&owner_word[0], &header[0], self.seats_used(), self.changed());
        Some(BoxParts {
            owner_word,
            header,
            cells,
            seats_used,
            any_changed,
            buffers,
            host: self.host.clone(),
        })
    }
}

/// The parts of one mailbox in memory.
#[derive(Debug)]
pub struct BoxParts<'m, H> {
    owner_word: &'m OwnerWord,
    header: &'m MailboxHeader,
    cells: &'m [SeatState],
    seats_used: &'m SeatsUsed,
    any_changed: &'m EventCount,
    buffers: Buffers<'m>,
    host: H,
}

// SAFETY: the parts of one mailbox, cast together from its region, with at most `MAX_SEATS` cells. The lock guards only
// atomics here, so a wrong reclamation breaks no memory.
unsafe impl<H: Host> rwlock::Parts for BoxParts<'_, H> {
    type Host = H;

    fn host(&self) -> &H {
        &self.host
    }
    fn owner_word(&self) -> &OwnerWord {
        self.owner_word
    }
    fn cells(&self) -> &[SeatState] {
        self.cells
    }
    fn seats_used(&self) -> &SeatsUsed {
        self.seats_used
    }
}

// SAFETY: as above.
unsafe impl<'m, H: Host> mailbox::Parts for BoxParts<'m, H> {
    type Payload = Buffers<'m>;

    fn header(&self) -> &MailboxHeader {
        self.header
    }
    fn payload(&self) -> &Buffers<'m> {
        &self.buffers
    }
    fn any_changed(&self) -> Option<&EventCount> {
        Some(self.any_changed)
    }
}

/// A mailbox's buffers in memory. They are words, because a peer may write there at any time, whatever the lock says.
#[derive(Debug)]
pub struct Buffers<'m> {
    words: [&'m [AtomicU32]; 2],
    capacity: usize,
}

// SAFETY: the capacity comes from a checked geometry, and is at most 2^31.
unsafe impl Payload for Buffers<'_> {
    fn capacity(&self) -> usize {
        self.capacity
    }

    unsafe fn fill(&self, index: usize, message: &[u8]) {
        copy::store(self.words[index], message);
    }

    unsafe fn copy(&self, index: usize, into: &mut [u8]) {
        copy::load(self.words[index], into);
    }
}

/// The occupant of a seat, which may read and write every mailbox. Dropping it leaves the seat.
#[derive(Debug)]
pub struct User<'m, H: Host + Clone> {
    mailboxes: Mailboxes<'m, H>,
    seat: u32,
    generation: Generation,
}

impl<'m, H: Host + Clone> User<'m, H> {
    /// Returns the seat.
    pub fn seat(&self) -> u32 {
        self.seat
    }

    /// Returns the mailboxes.
    pub fn mailboxes(&self) -> &Mailboxes<'m, H> {
        &self.mailboxes
    }

    /// Copies the latest message of a mailbox to the beginning of `buffer`; see [`Mailbox::read`].
    ///
    /// # Blocking
    /// Waits for at most one writer, until `deadline`.
    ///
    /// # Errors
    /// Why no message was read.
    pub fn read(
        &mut self,
        index: u32,
        buffer: &mut [u8],
        deadline: Option<H::Deadline>,
    ) -> Result<Message, MailReadError> {
        self.mailbox(index).ok_or(MailReadError::NoSuchBox)?.read(buffer, deadline)
    }

    /// Reads like [`read`](Self::read), unless a writer owns the lock.
    ///
    /// # Errors
    /// As [`read`](Self::read), and [`LockError::Busy`](crate::error::LockError::Busy).
    pub fn try_read(&mut self, index: u32, buffer: &mut [u8]) -> Result<Message, MailReadError> {
        self.mailbox(index).ok_or(MailReadError::NoSuchBox)?.try_read(buffer)
    }

    /// Replaces the latest message of a mailbox, and returns the version of the new one; see [`Mailbox::write`].
    ///
    /// # Blocking
    /// Waits for the writers that come first and for the readers that are in, until `deadline`.
    ///
    /// # Errors
    /// Why no message was written.
    pub fn write(
        &mut self,
        index: u32,
        message: &[u8],
        deadline: Option<H::Deadline>,
    ) -> Result<u64, MailWriteError> {
        self.mailbox(index).ok_or(MailWriteError::NoSuchBox)?.write(message, deadline)
    }

    /// Writes like [`write`](Self::write), unless another participant is in the lock or comes first.
    ///
    /// # Errors
    /// As [`write`](Self::write), and [`LockError::Busy`](crate::error::LockError::Busy).
    pub fn try_write(&mut self, index: u32, message: &[u8]) -> Result<u64, MailWriteError> {
        self.mailbox(index).ok_or(MailWriteError::NoSuchBox)?.try_write(message)
    }

    /// Waits for a message later than version `than`; see [`Mailboxes::wait_newer`].
    ///
    /// # Blocking
    /// Waits for a writer, until `deadline`.
    ///
    /// # Errors
    /// Why no newer message came.
    pub fn wait_newer(&self, index: u32, than: u64, deadline: Option<H::Deadline>) -> Result<u64, WaitError> {
        self.mailboxes.wait_newer(index, than, deadline)
    }

    /// Returns one mailbox, to be used several times. It borrows the seat, because a seat does one thing at a time.
    pub fn mailbox(&mut self, index: u32) -> Option<Mailbox<BoxParts<'_, H>>> {
        let parts = self.mailboxes.parts(index)?;
        // SAFETY: the seat is this user's alone while it is occupied (*occupy*), and the result borrows the user. The
        // caller of `Mailboxes::occupy` holds the host's byte lock.
        Some(unsafe { Mailbox::new(parts, self.seat) })
    }
}

impl<H: Host + Clone> Drop for User<'_, H> {
    fn drop(&mut self) {
        // Every mailbox has been left. If this user was reclaimed, this call fails and changes no successor's seat.
        self.mailboxes.seats()[self.seat as usize].leave(self.generation);
    }
}
