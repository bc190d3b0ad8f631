//! The functions that compiled code calls even if there is no C library that has them.
//!
//! Their accesses are volatile. Otherwise the compiler would recognise a copy in them and make them call themselves.

/// # Safety
/// As in C: `count` bytes at both places, which do not overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    for i in 0..count {
        // SAFETY: inside both places.
        let byte = unsafe { from.add(i).read_volatile() };
        // SAFETY: as above.
        unsafe { to.add(i).write_volatile(byte) };
    }
    to
}

/// # Safety
/// As in C: `count` bytes at both places, which may overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if to.cast_const() <= from {
        // SAFETY: copying upwards reads each byte before it is overwritten.
        return unsafe { memcpy(to, from, count) };
    }
    for i in (0..count).rev() {
        // SAFETY: inside both places.
        let byte = unsafe { from.add(i).read_volatile() };
        // SAFETY: as above.
        unsafe { to.add(i).write_volatile(byte) };
    }
    to
}

/// # Safety
/// As in C: `count` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    for i in 0..count {
        // SAFETY: inside the place.
        unsafe { to.add(i).write_volatile(byte as u8) };
    }
    to
}

/// # Safety
/// As in C: `count` bytes at both places.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    for i in 0..count {
        // SAFETY: inside both places.
        let (left, right) = unsafe { (left.add(i).read_volatile(), right.add(i).read_volatile()) };
        if left != right {
            return i32::from(left) - i32::from(right);
        }
    }
    0
}

/// # Safety
/// As in C: `count` bytes at both places.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { memcmp(left, right, count) }
}
