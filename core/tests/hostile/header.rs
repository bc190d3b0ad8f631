//! Any bytes as a segment from an untrusted peer: refused, or attached to and used within its bounds.
//!
//! The first byte says how much of the header is corrected, so that the script also gets past magic, checksum and
//! lengths. The measures stay as the bytes give them.

use super::Tally;
use super::memory::Guarded;
use super::peer::{Peer, Script};
use super::ring::geometry as some_ring;
use std::sync::atomic::Ordering::Relaxed;
use whorl_core::layout::{Geometry, LayoutError, MailGeometry, Mailboxes, Ring, VERSION};
use whorl_core::ring::{CELL, PendingReceiver};

/// Operations after attaching.
const OPERATIONS: u32 = 64;
/// The length of the longest region here.
const LONGEST: usize = 32 * 1024;

const HEADER: usize = 16;
const RING_DATA: u32 = 1;
const RING_CONTROL: u32 = 2;
const MAILBOXES: u32 = 3;

/// Runs the script that the bytes describe.
pub fn run(input: &[u8]) -> Tally {
    let mut script = Script::new(input);
    let how = script.byte();
    match how & 1 {
        0 => ring(script, how),
        _ => mailboxes(script, how),
    }
}

fn ring(mut script: Script<'_>, how: u8) -> Tally {
    let honest = some_ring(script.byte());
    let lengths = match how & 2 {
        0 => [honest.data_length() as usize, honest.control_length() as usize],
        _ => [script.short() % LONGEST, script.short() % LONGEST],
    };
    let [data, control] = lengths.map(Guarded::new);
    let (cells, flags) = ((honest.capacity() / CELL as u64) as u32, u32::from(honest.is_evictable()));
    let measures = [cells, CELL as u32, honest.seats(), flags];
    let measures = headed(&mut script, how, measures);
    let written = Geometry::new(u64::from(measures[0]) * CELL as u64, measures[2])
        .map_or([0; 2], |written| [written.data_length(), written.control_length()]);
    for (memory, region, length) in [(&data, RING_DATA, written[0]), (&control, RING_CONTROL, written[1])] {
        write_header(memory, &mut script, how, region, measures, length);
        scatter(memory, &mut script);
    }
    data.protect(); // receivers map it read-only
    let peer = Peer::scripted(script, control.words().iter().collect(), cells);
    // SAFETY: control is writable; the bytes may be anything. This host reclaims no participant.
    let ring = match unsafe { Ring::attach(data.region(), control.region(), &peer) } {
        Ok(ring) => ring,
        Err(why) => return refused(why),
    };
    let geometry = ring.geometry();
    assert!(geometry.data_length() <= lengths[0] as u64 && geometry.control_length() <= lengths[1] as u64);
    let mut tally = Tally::default();
    let mut buffer = vec![0; 64];
    let mut operations = 0;
    while operations < OPERATIONS && !peer.is_over() {
        operations += 1;
        let seat = u32::from(peer.byte()) % (geometry.seats() + 1);
        let pending = match PendingReceiver::request_seat(ring.clone(), seat, peer.byte() & 1 == 0, 1) {
            Ok(pending) => pending,
            Err(_) => {
                tally.refused += 1;
                continue;
            }
        };
        let Ok(mut receiver) = pending.admitted(peer.soon()) else {
            tally.refused += 1;
            continue;
        };
        while operations < OPERATIONS {
            operations += 1;
            let Ok(mut batch) = receiver.read(peer.soon()) else { break };
            while let Ok(Some(frame)) = batch.next_frame() {
                if let Ok(length) = frame.payload().copy_to(&mut buffer) {
                    assert!(length <= buffer.len());
                    tally.received += u32::from(batch.validate());
                }
            }
            batch.release();
            let _ = receiver.arm();
        }
    }
    tally
}

fn mailboxes(mut script: Script<'_>, how: u8) -> Tally {
    let honest = super::boxes::geometry(script.byte());
    let length = match how & 2 {
        0 => honest.length() as usize,
        _ => script.short() % LONGEST,
    };
    let memory = Guarded::new(length);
    let measures = headed(&mut script, how, [honest.capacity(), honest.boxes(), honest.seats(), 0]);
    let written =
        MailGeometry::new(measures[1], measures[0], measures[2]).map_or(0, |written| written.length());
    write_header(&memory, &mut script, how, MAILBOXES, measures, written);
    scatter(&memory, &mut script);
    let peer = Peer::scripted(script, memory.words().iter().collect(), honest.seats());
    // SAFETY: writable; the bytes may be anything. This host reclaims no participant.
    let boxes = match unsafe { Mailboxes::attach(memory.region(), &peer) } {
        Ok(boxes) => boxes,
        Err(why) => return refused(why),
    };
    let geometry = boxes.geometry();
    assert!(geometry.length() <= length as u64);
    let mut tally = Tally::default();
    let mut buffer = vec![0; 256];
    for _ in 0..OPERATIONS {
        if peer.is_over() {
            break;
        }
        let seat = u32::from(peer.byte()) % (geometry.seats() + 1);
        let index = u32::from(peer.byte()) % (geometry.boxes() + 1);
        let _ = boxes.wait_newer(index, 0, peer.soon());
        boxes.reclaim_dead();
        let Ok(mut user) = boxes.occupy(seat, 1) else {
            tally.refused += 1;
            continue;
        };
        tally.sent += u32::from(user.write(index, b"message", peer.soon()).is_ok());
        match user.read(index, &mut buffer, peer.soon()) {
            Ok(message) => {
                assert!(message.length <= buffer.len() && message.length <= geometry.capacity() as usize);
                tally.received += 1;
            }
            Err(_) => tally.refused += 1,
        }
    }
    tally
}

fn refused(_: LayoutError) -> Tally {
    Tally { refused: 1, ..Tally::default() }
}

/// Returns the measures of a header: the honest ones, or the script's.
fn headed(script: &mut Script<'_>, how: u8, honest: [u32; 4]) -> [u32; 4] {
    honest.map(|measure| match how & 4 {
        0 => measure,
        _ => match script.byte() {
            255 => script.word(),
            small => u32::from(small),
        },
    })
}

/// Writes a header with correct checksum and magic, or one of any bytes.
fn write_header(
    memory: &Guarded,
    script: &mut Script<'_>,
    how: u8,
    region: u32,
    measures: [u32; 4],
    length: u64,
) {
    let Some(words) = memory.words().get(..HEADER) else { return };
    let mut header = [0; HEADER];
    if how & 8 == 0 {
        let tail = [length as u32, (length >> 32) as u32, 7, 0];
        header[..4].copy_from_slice(&[u32::from_le_bytes(*b"WHRL"), VERSION, 0x0102_0304, region]);
        header[4..8].copy_from_slice(&measures);
        header[8..12].copy_from_slice(&tail);
        if how & 16 != 0 {
            header[script.short() % HEADER] = script.word();
        }
        header[15] = crc32(&header[..15]);
    } else {
        header = std::array::from_fn(|_| script.word());
    }
    for (word, value) in words.iter().zip(header) {
        word.store(value, Relaxed);
    }
}

/// Writes some of the script's words anywhere behind the header.
fn scatter(memory: &Guarded, script: &mut Script<'_>) {
    let Some(words) = memory.words().get(HEADER..).filter(|words| !words.is_empty()) else { return };
    for _ in 0..script.byte() % 32 {
        words[script.short() % words.len()].store(script.word(), Relaxed);
    }
}

/// CRC-32 as the layout defines it.
fn crc32(words: &[u32]) -> u32 {
    !words.iter().flat_map(|word| word.to_le_bytes()).fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 })
    })
}
