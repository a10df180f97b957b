use std::time::Duration;

use super::*;

const VAULT: VaultId = VaultId([7; 32]);

fn cache() -> (tempfile::TempDir, Cache) {
    let place = tempfile::tempdir().unwrap();
    let cache = Cache::new(place.path());
    (place, cache)
}

#[test]
fn parts_come_back_as_they_were_or_not_at_all() {
    let (_place, cache) = cache();
    assert_eq!(cache.part(&VAULT, "one"), None);
    cache.keep_part(&VAULT, "one", b"bytes of one");
    cache.keep_part(&VAULT, "two", b"");
    assert_eq!(cache.part(&VAULT, "one").unwrap(), b"bytes of one");
    assert_eq!(cache.part(&VAULT, "two").unwrap(), b"");
    assert_eq!(cache.part(&VaultId([8; 32]), "one"), None, "each vault has its own");

    let path = cache.part_path(&VAULT, "one");
    let whole = fs::read(&path).unwrap();
    for position in 0..whole.len() {
        let mut garbled = whole.clone();
        garbled[position] ^= 1;
        fs::write(&path, garbled).unwrap();
        assert_eq!(cache.part(&VAULT, "one"), None, "at {position}");
        fs::write(&path, &whole[..position]).unwrap();
        assert_eq!(cache.part(&VAULT, "one"), None, "cut at {position}");
    }
    // The file of another part in its place is none of it.
    fs::copy(cache.part_path(&VAULT, "two"), &path).unwrap();
    assert_eq!(cache.part(&VAULT, "one"), None);
}

#[test]
fn the_oldest_parts_go_first() {
    let (_place, cache) = cache();
    let begin = fs::metadata(cache.root()).unwrap().modified().unwrap();
    for number in 0..20_u64 {
        let name = number.to_string();
        cache.keep_part(&VAULT, &name, &[1; 10_000 - 32]);
        let file = fs::File::options().append(true).open(cache.part_path(&VAULT, &name)).unwrap();
        file.set_modified(begin - Duration::from_secs(1000 - number)).unwrap();
    }
    let folder = cache.vault_path(&VAULT, "objects");
    let is_there = |number: &u64| cache.part(&VAULT, &number.to_string()).is_some();
    let left = || (0..20).filter(is_there).collect::<Vec<_>>();
    drop_oldest(&folder, 200_000);
    assert_eq!(left(), (0..20).collect::<Vec<_>>(), "as many as are allowed");
    drop_oldest(&folder, 160_000);
    assert_eq!(left(), (6..20).collect::<Vec<_>>(), "seven eighths of that are left");
}
