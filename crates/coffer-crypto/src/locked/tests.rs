use super::*;
use crate::{Secret, SecretBytes};

/// For tests that need a place, and for those that take them all.
static PLACES_IN_USE: Mutex<()> = Mutex::new(());

#[test]
fn places_are_wiped_and_used_again() {
    for take in [Locked::for_key, || Locked::for_bytes(10)] {
        for _ in 0..KEY_COUNT * 3 {
            let Some(mut place) = take() else { return };
            assert!(place.bytes().iter().all(|byte| *byte == 0));
            place.bytes_mut().fill(7);
        }
    }
}

#[test]
fn pages_are_whole_and_given_back() {
    let page = region::page::size();
    for len in [PLACE_LEN + 1, page, page + 1, PAGES_LEN_MAX] {
        for _ in 0..100 {
            let Some(mut pages) = Locked::for_bytes(len) else { return };
            let bytes = pages.bytes_mut();
            assert!(bytes.len() >= len && bytes.len().is_multiple_of(page), "{len}");
            assert!(bytes.as_ptr().addr().is_multiple_of(page), "{len}");
            assert!(bytes.iter().all(|byte| *byte == 0));
            bytes.fill(7);
        }
    }
    assert!(Locked::for_bytes(PAGES_LEN_MAX + 1).is_none());
}

/// Whether the system says that a byte is in memory that is never written to swap.
#[cfg(target_os = "linux")]
fn is_locked(byte: &u8) -> bool {
    let address = std::ptr::from_ref(byte).addr();
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut is_here = false;
    for line in maps.lines() {
        let bounds = line.split_once(' ').and_then(|(bounds, _)| bounds.split_once('-'));
        let number = |text| usize::from_str_radix(text, 16).ok();
        if let Some((Some(start), Some(end))) = bounds.map(|(start, end)| (number(start), number(end))) {
            is_here = (start..end).contains(&address);
        } else if is_here && let Some(flags) = line.strip_prefix("VmFlags:") {
            return flags.split_whitespace().any(|flag| flag == "lo");
        }
    }
    false
}

#[cfg(target_os = "linux")]
#[test]
fn secrets_are_in_locked_memory() {
    let _alone = PLACES_IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    let tells = std::fs::read_to_string("/proc/self/smaps").is_ok_and(|maps| maps.contains("VmFlags:"));
    if !tells || Locked::for_key().is_none() || Locked::for_bytes(1).is_none() {
        println!("SKIPPED: this system locks no memory for us, or does not tell");
        return;
    }
    let key = Secret::new([1; 32]);
    assert!(key.expose().iter().all(is_locked));
    for len in [1, 12, PLACE_LEN, PLACE_LEN + 1, 9000] {
        let secret = SecretBytes::new(vec![2; len]);
        assert!([0, len / 2, len - 1].iter().all(|at| is_locked(&secret.expose()[*at])), "{len}");
    }
    // What is too long is not, which also shows that the question can be answered with no.
    assert!(!is_locked(&SecretBytes::new(vec![3; PAGES_LEN_MAX * 3]).expose()[PAGES_LEN_MAX]));
}

/// More secrets than there are places, and longer ones than are locked, are as good.
#[test]
fn without_a_place_secrets_are_as_they_should_be() {
    let _alone = PLACES_IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    let secrets: Vec<_> = (0..PLACE_COUNT + 8).map(|at| SecretBytes::new(vec![1; at])).collect();
    for (at, secret) in secrets.iter().enumerate() {
        assert_eq!((secret.len(), secret.is_empty()), (at, at == 0));
        assert!(*secret == SecretBytes::new(vec![1; at]) && *secret != SecretBytes::new(vec![2; at + 1]));
    }
    let long = SecretBytes::new(vec![4; PAGES_LEN_MAX * 3]);
    assert_eq!(long.expose(), vec![4; PAGES_LEN_MAX * 3]);
    assert_eq!(format!("{long:?}"), "SecretBytes");
}
