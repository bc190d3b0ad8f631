//! The bytes of a segment: damaged, foreign and truncated headers are refused, without a panic.

mod common;

use common::{Alone, Memory, Random, create, regions};
use whorl_core::layout::{ALIGN, Geometry, LayoutError, MAX_SEATS, Region, Ring};

const WORDS: usize = 16;

fn attach(memory: &[Memory; 2]) -> Result<Geometry, LayoutError> {
    let [data, control] = memory;
    // SAFETY: writable; the bytes may be anything.
    unsafe { Ring::attach(data.validate(), control.validate(), Alone::default()) }.map(|ring| ring.geometry())
}

fn fresh(geometry: Geometry) -> [Memory; 2] {
    let memory = regions(geometry);
    drop(create(&memory, geometry, Alone::default()));
    memory
}

fn small() -> Geometry {
    Geometry::new(128, 3).unwrap()
}

/// CRC-32 as the layout defines it, computed independently of the crate.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 })
    })
}

#[test]
fn the_checksum_is_a_crc_32() {
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    let mut memory = fresh(small());
    for region in &mut memory {
        let bytes = region.bytes();
        let words = bytes[..60]
            .chunks_exact(4)
            .flat_map(|word| u32::from_ne_bytes(word.try_into().unwrap()).to_le_bytes());
        assert_eq!(crc32(&words.collect::<Vec<_>>()), u32::from_ne_bytes(bytes[60..64].try_into().unwrap()));
    }
}

#[test]
fn every_value_of_every_header_byte_is_refused_or_exact() {
    let mut memory = fresh(small());
    for region in 0..2 {
        for at in 0..WORDS * 4 {
            let right = memory[region].bytes()[at];
            for value in 0..=255 {
                memory[region].bytes()[at] = value;
                match attach(&memory) {
                    Ok(geometry) => {
                        assert!(value == right && geometry == small(), "region {region} byte {at}: {value}")
                    }
                    Err(_) => assert_ne!(value, right),
                }
            }
            memory[region].bytes()[at] = right;
        }
    }
    assert_eq!(attach(&memory), Ok(small()));
}

#[test]
fn every_truncation_is_refused() {
    let [data, control] = fresh(small());
    let lengths = [small().data_length() as usize, small().control_length() as usize];
    let attach = |lengths: [usize; 2]| {
        // SAFETY: writable, and shorter than the memory.
        unsafe { Ring::attach(data.region(lengths[0]), control.region(lengths[1]), Alone::default()) }
            .map(|_| ())
    };
    assert_eq!(attach(lengths), Ok(()));
    for short in 0..lengths[0] {
        assert_eq!(attach([short, lengths[1]]), Err(LayoutError::TooShort));
    }
    for short in 0..lengths[1] {
        assert_eq!(attach([lengths[0], short]), Err(LayoutError::TooShort));
    }
}

/// A hostile header has a correct checksum, too.
#[test]
fn random_measures_with_a_right_checksum_are_refused_or_fit() {
    let geometry = small();
    let mut memory = fresh(geometry);
    let originals = [0, 1].map(|region: usize| memory[region].bytes()[..64].to_vec());
    let mut random = Random::new(1);
    for _ in 0..200_000 {
        let changes: Vec<_> = (0..=random.below(2))
            .map(|_| {
                let edges = [0, 1, 2, 3, 4, 8, 16, 32, 1 << 30, 1 << 31, u32::MAX, random.word() as u32];
                (random.below(12) as usize * 4, edges[random.below(edges.len() as u32) as usize])
            })
            .collect();
        let both = random.below(2) == 0;
        for region in 0..2 {
            let bytes = &mut memory[region].bytes()[..64];
            bytes.copy_from_slice(&originals[region]);
            if region == 0 || both {
                for (at, value) in &changes {
                    bytes[*at..at + 4].copy_from_slice(&value.to_ne_bytes());
                }
            }
            let words: Vec<u8> = bytes[..60]
                .chunks_exact(4)
                .flat_map(|word| u32::from_ne_bytes(word.try_into().unwrap()).to_le_bytes())
                .collect();
            bytes[60..].copy_from_slice(&crc32(&words).to_ne_bytes());
        }
        if let Ok(found) = attach(&memory) {
            assert!(found.data_length() <= geometry.data_length(), "{found:?} does not fit");
            assert!(found.control_length() <= geometry.control_length(), "{found:?} does not fit");
        }
    }
}

#[test]
fn regions_that_do_not_belong_together_are_refused() {
    let (mut one, other) = (fresh(small()), fresh(Geometry::new(128, 2).unwrap()));
    let attach = |data: Region<'_>, control: Region<'_>| {
        // SAFETY: writable; checked.
        unsafe { Ring::attach(data, control, Alone::default()) }.map(|_| ())
    };
    assert_eq!(attach(one[0].validate(), other[1].validate()), Err(LayoutError::Damaged));
    assert_eq!(attach(one[0].validate(), one[0].validate()), Err(LayoutError::Damaged));
    let swapped = one[0].bytes()[..4].iter().rev().copied().collect::<Vec<_>>();
    one[0].bytes()[..4].copy_from_slice(&swapped);
    assert_eq!(attach(one[0].validate(), one[1].validate()), Err(LayoutError::ByteOrder));
    one[0].bytes()[..4].fill(0);
    assert_eq!(attach(one[0].validate(), one[1].validate()), Err(LayoutError::Foreign));
}

#[test]
fn memory_that_is_not_aligned_or_too_short_is_refused() {
    let geometry = small();
    let (data, control) = (geometry.data_length() as usize, geometry.control_length() as usize);
    let memory = Memory::new(data + control + ALIGN);
    let create = |data, control| {
        // SAFETY: fresh memory, apart.
        unsafe { Ring::create(data, control, geometry, 0, Alone::default()) }.map(|_| ())
    };
    for shift in [1, 4, 64] {
        let (_, shifted) = memory.validate().split_at(shift).unwrap();
        assert_eq!(create(shifted, memory.validate()), Err(LayoutError::Misaligned));
    }
    let (first, second) = memory.validate().split_at(data.next_multiple_of(ALIGN)).unwrap();
    assert_eq!(create(first, second), Ok(()));
    let (short, _) = memory.validate().split_at(data - 1).unwrap();
    assert_eq!(create(short, second), Err(LayoutError::TooShort));
    assert_eq!(create(first, second.split_at(control - 1).unwrap().0), Err(LayoutError::TooShort));
    assert!(matches!(memory.validate().split_at(data + control + ALIGN + 1), Err(LayoutError::TooShort)));
}

#[test]
fn geometry_keeps_its_limits() {
    for (measures, verdict) in [
        ((0, 1), Err(LayoutError::RingCapacity)),
        ((32, 1), Err(LayoutError::RingCapacity)),
        ((96, 1), Err(LayoutError::RingCapacity)),
        ((u64::MAX, 1), Err(LayoutError::RingCapacity)),
        ((Geometry::MAX_CAPACITY * 2, 1), Err(LayoutError::RingCapacity)),
        ((64, 0), Err(LayoutError::Seats)),
        ((64, MAX_SEATS + 1), Err(LayoutError::Seats)),
        ((64, 1), Ok(24)),
        ((4096, MAX_SEATS), Ok(2040)),
        ((1 << 20, 1), Ok((1 << 19) - 8)),
        ((1 << 30, 1), Ok((1 << 29) - 8)),
    ] {
        let (capacity, seats) = measures;
        assert_eq!(Geometry::new(capacity, seats).map(|found| found.max_message()), verdict, "{measures:?}");
    }
    // The largest of all: refused on machines with narrow addresses.
    match Geometry::new(Geometry::MAX_CAPACITY, 1) {
        Ok(geometry) => assert_eq!(geometry.max_message(), (1 << 29) - 1),
        Err(why) => assert_eq!(why, LayoutError::TooLarge),
    }
}

#[test]
fn memory_stays_within_its_budget() {
    for (capacity, seats) in [(1 << 20, 64), (4096, 16), (64, 4), (8 << 20, 1024)] {
        let geometry = Geometry::new(capacity, seats).unwrap();
        let budget = capacity + 4 * 4096 + 256 * u64::from(seats);
        assert!(geometry.data_length() + geometry.control_length() <= budget);
    }
}
