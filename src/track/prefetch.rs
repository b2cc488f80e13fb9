//! Stage 3 of 5, track: asks the processor for memory before it is needed.
//!
//! A table of millions lies outside every cache: an insertion waits some hundred nanoseconds for memory, and for the page tables of
//! that memory, one access after the other. Asked for a batch ahead, the accesses wait side by side. Changes nothing but time.

/// Requests the cache line of an address, which need not be valid: this is no access, and faults on nothing.
#[inline(always)]
pub(super) fn line<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    #[allow(
        unsafe_code,
        reason = "the one instruction that the standard library offers no safe function for"
    )]
    // SAFETY: PREFETCHT0 is a hint; it reads and writes nothing and raises no exception for any address (AMD64 Architecture
    // Programmer's Manual volume 3, PREFETCHlevel). It belongs to SSE, which every x86-64 processor has.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
