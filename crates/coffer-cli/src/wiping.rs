//! What is freed is wiped: the allocator of the program, and the proof that it does so.

use coffer_crypto::wiping::Wiping;

#[global_allocator]
static WIPING: Wiping = Wiping;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::{self, File};
    use std::hint::black_box;
    use std::io::{Read, Seek, SeekFrom};

    /// Bytes that stand nowhere else. Each is made when it is needed, so that what is looked for is in no memory while it is looked for.
    const fn canary_byte(seed: u64, at: u64) -> u8 {
        let mut x = (seed ^ at).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x ^= x >> 29;
        x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x.to_be_bytes()[0]
    }

    const LEN: u64 = 4096;
    /// What an allocator without wiping leaves of a freed piece: all but some words of its own at the beginning.
    const LEFT: u64 = 256;

    /// A piece that grew to its length step by step.
    fn canary(seed: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for at in 0..LEN {
            bytes.push(canary_byte(seed, at));
        }
        black_box(bytes)
    }

    /// How often the end of a canary stands in memory that this process can write to.
    fn count_in_memory(seed: u64) -> usize {
        let maps = fs::read_to_string("/proc/self/maps").expect("maps can be read");
        let mut memory = File::open("/proc/self/mem").expect("memory can be opened");
        let (first, mut count) = (canary_byte(seed, LEFT), 0);
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let (Some(range), Some("rw-p")) = (words.next(), words.next()) else { continue };
            let (start, end) = range.split_once('-').expect("a range");
            let parse = |text| u64::from_str_radix(text, 16).expect("an address");
            let (mut at, end) = (parse(start), parse(end));
            let mut page = [0; 8192];
            while at < end {
                // A page and the beginning of the next, so that nothing is missed between the two. Others may give memory back meanwhile.
                let len = usize::try_from((end - at).min(8192)).expect("at most 8192");
                memory.seek(SeekFrom::Start(at)).expect("memory has addresses");
                if memory.read_exact(&mut page[..len]).is_err() {
                    at += 4096;
                    continue;
                }
                for found in (0..len.min(4096)).filter(|at| page[*at] == first) {
                    let here = page[found..len].iter().take(64);
                    let same = here.zip(LEFT..).filter(|(byte, at)| **byte == canary_byte(seed, *at));
                    count += usize::from(same.count() == 64);
                }
                at += 4096;
            }
        }
        count
    }

    #[test]
    fn what_is_freed_is_wiped_and_so_is_what_was_before_it_grew() {
        // The search finds what is there, once: not where it lay before it grew.
        let held = canary(1);
        assert!(count_in_memory(1) >= 1);
        drop(held);
        drop(canary(2));
        assert_eq!(count_in_memory(2), 0);
        let text: Box<dyn Fn() -> usize> = {
            let bytes = canary(3);
            Box::new(move || bytes.len())
        };
        assert_eq!(text(), 4096);
        drop(text);
        assert_eq!(count_in_memory(3), 0);
    }
}
