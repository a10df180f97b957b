//! Cases for trees, manifests, packs and index segments.

use super::{Cases, Fields, array, boolean, bytes, domain, id, int, map, text, uint, with};

const ABSENT: &str = "a key is absent";
const LEFT: &str = "bytes left over at the end";
const OVER: &str = "over the limit";
const EMPTY: &str = "an empty value is written by leaving it out";
const PATHS: &str = "paths are not ascending";
const BYTES_LONG: &str = "a byte string is over its limit";
const BOUNDS: &str = "a chunk's length is out of bounds";
const ROWS: &str = "it has no rows, part of a row, or too many";

pub(crate) fn path() -> Cases {
    let mut c = Cases::default();
    for path in [b"".as_slice(), b"a", b"a/b/c", b"...", b"a/.b/..c", b"\xff\x01/\n"] {
        c.ok(&format!("path {:?}", String::from_utf8_lossy(path)), path.to_vec());
    }
    c.ok("component at the limit", vec![b'x'; 4096]);
    c.ok(
        "path at the limit",
        [[vec![b'x'; 4095], vec![b'/']].concat().repeat(15), vec![b'x'; 4095]].concat(),
    );
    for path in [b"/".as_slice(), b"/a", b"a/", b"a//b"] {
        c.bad(&format!("path {:?}", String::from_utf8_lossy(path)), path.to_vec(), "a component is empty");
    }
    for path in [b".".as_slice(), b"..", b"a/./b", b"a/..", b"../a"] {
        c.bad(&format!("path {:?}", String::from_utf8_lossy(path)), path.to_vec(), "a component is . or ..");
    }
    c.bad("path with NUL", b"a\0b".to_vec(), "it contains a NUL byte");
    c.bad("component over the limit", vec![b'x'; 4097], "a component is over the limit");
    c.bad(
        "path over the limit",
        [vec![b'x'; 4095], vec![b'/']].concat().repeat(16)[..65_536].to_vec(),
        "it is over the limit",
    );
    c
}

pub(crate) fn row(label: &str, len: u32) -> Vec<u8> {
    [id(label).as_slice(), &len.to_le_bytes()].concat()
}

pub(crate) fn content_rows() -> Cases {
    let mut c = Cases::default();
    c.given(&[("row_count_max", 64)]);
    c.ok("one row", row("a", 1));
    c.ok("two rows", [row("a", 16_777_216), row("b", 7)].concat());
    c.ok("64 rows", row("a", 5).repeat(64));
    c.bad("no rows", Vec::new(), ROWS);
    c.bad("65 rows", row("a", 5).repeat(65), ROWS);
    c.bad("a row and a byte", [row("a", 5), vec![0]].concat(), ROWS);
    c.bad("a row less a byte", row("a", 5)[..35].to_vec(), ROWS);
    c.bad("row of length 0", row("a", 0), BOUNDS);
    c.bad("row over the limit", row("a", 16_777_217), BOUNDS);
    c.given(&[("row_count_max", 8192)]);
    c.ok("65 rows in a chunk of rows", row("a", 5).repeat(65));
    c
}

pub(crate) fn hole(offset: u64, len: u64) -> Vec<u8> {
    [offset.to_le_bytes(), len.to_le_bytes()].concat()
}

pub(crate) fn holes() -> Cases {
    let wrong = "they are empty, not ascending, or reach beyond the file";
    let mut c = Cases::default();
    c.given(&[("size", 1000)]);
    c.ok("hole over the whole file", hole(0, 1000));
    c.ok("two holes", [hole(0, 10), hole(11, 989)].concat());
    c.bad("no holes", Vec::new(), "they are not whole rows");
    c.bad("part of a hole", hole(0, 10)[..15].to_vec(), "they are not whole rows");
    c.bad("empty hole", hole(5, 0), wrong);
    c.bad("holes that touch", [hole(0, 10), hole(10, 5)].concat(), wrong);
    c.bad("holes that overlap", [hole(0, 10), hole(9, 5)].concat(), wrong);
    c.bad("holes out of order", [hole(20, 10), hole(0, 5)].concat(), wrong);
    c.bad("hole beyond the file", hole(1, 1000), wrong);
    c.bad("hole whose end is above 64 bits", hole(u64::MAX, 2), wrong);
    c
}

pub(crate) fn xattrs() -> Cases {
    let pair = |name: &[u8], value: &[u8]| array(&[bytes(name), bytes(value)]);
    let wrong = "names of attributes are not ascending, empty, or contain NUL";
    let mut c = Cases::default();
    c.ok("two attributes", array(&[pair(b"user.a", b"1"), pair(b"user.b", b"")]));
    c.bad("no attributes", array(&[]), EMPTY);
    c.bad("attributes out of order", array(&[pair(b"b", b""), pair(b"a", b"")]), wrong);
    c.bad("attribute twice", array(&[pair(b"a", b"1"), pair(b"a", b"2")]), wrong);
    c.bad("attribute without a value", array(&[array(&[bytes(b"a")])]), "an attribute has name and value");
    c.bad(
        "attribute with a text name",
        array(&[array(&[text("a"), bytes(b"")])]),
        "a byte string is expected",
    );
    c.bad("attributes and a byte", [array(&[pair(b"a", b"")]), vec![0]].concat(), LEFT);
    c
}

/// A file of 3 bytes.
pub(crate) fn entry_fields(path: &str) -> Fields {
    vec![
        (1, bytes(path.as_bytes())),
        (2, uint(1)),
        (3, uint(0o644)),
        (4, uint(1000)),
        (5, uint(100)),
        (8, int(1_700_000_000_000_000_000)),
        (9, uint(3)),
        (10, bytes(b"abc")),
    ]
}

fn bare_entry(path: &str, kind: u64) -> Fields {
    let fields = with(&with(&entry_fields(path), 9, None), 10, None);
    with(&fields, 2, Some(uint(kind)))
}

pub(crate) fn chunk_list(level: u64, rows: &[u8]) -> Vec<u8> {
    array(&[uint(level), bytes(rows)])
}

pub(crate) fn leaf() -> Cases {
    let base = entry_fields("a");
    let leaf = |entries: &[Fields]| array(&entries.iter().map(|fields| map(fields)).collect::<Vec<_>>());
    let set = |key, value: Vec<u8>| leaf(&[with(&base, key, Some(value))]);
    let bare = |kind, key, value: Vec<u8>| leaf(&[with(&bare_entry("a", kind), key, Some(value))]);
    let listed = |kind, size, list: Vec<u8>| {
        leaf(&[with(&with(&bare_entry("a", kind), 9, Some(uint(size))), 11, Some(list))])
    };
    let list = chunk_list(0, &row("data", 3));
    let link = |kind, first: &str| leaf(&[with(&bare_entry("b", kind), 13, Some(bytes(first.as_bytes())))]);
    let mut c = Cases::default();
    c.ok("empty leaf", leaf(&[]));
    c.ok(
        "leaf of all kinds",
        leaf(&[
            bare_entry("", 2),
            with(
                &with(&with(&bare_entry("a", 1), 9, Some(uint(3))), 11, Some(list.clone())),
                6,
                Some(bytes(b"root")),
            ),
            with(&with(&bare_entry("b", 1), 9, Some(uint(3))), 13, Some(bytes(b"a"))),
            with(&bare_entry("c", 3), 12, Some(bytes(b"../a"))),
            bare_entry("d", 4),
            bare_entry("e", 5),
            with(&bare_entry("f", 6), 16, Some(array(&[uint(1), uint(3)]))),
            with(&bare_entry("g", 7), 16, Some(array(&[uint(8), uint(0)]))),
            with(&bare_entry("s/k/i", 8), 18, Some(map(&[(1, text("x"))]))),
        ]),
    );
    c.ok(
        "attributes and holes",
        leaf(&[with(
            &with(
                &with(&bare_entry("a", 1), 9, Some(uint(10))),
                14,
                Some(bytes(&array(&[array(&[bytes(b"user.a"), bytes(b"1")])]))),
            ),
            15,
            Some(bytes(&hole(0, 10))),
        )]),
    );
    c.ok("attributes in a chunk", set(14, array(&[bytes(&id("blob")), uint(5000)])));
    c.ok("a file that changed", set(17, uint(1)));
    c.ok("keys to keep", leaf(&[with(&with(&base, 0, Some(uint(1))), 19, Some(array(&[text("later")])))]));
    c.ok(
        "order of components",
        leaf(&[bare_entry("a", 2), bare_entry("a/z", 1), bare_entry("a\u{1}b", 1), bare_entry("a-b", 1)]),
    );
    for key in [1, 2, 3, 4, 5, 8] {
        c.bad(&format!("entry without key {key}"), leaf(&[with(&base, key, None)]), ABSENT);
    }
    c.bad("paths out of order", leaf(&[bare_entry("b", 1), bare_entry("a", 1)]), PATHS);
    c.bad("path twice", leaf(&[bare_entry("a", 1), bare_entry("a", 2)]), PATHS);
    c.bad("order of bytes, not of components", leaf(&[bare_entry("a-b", 1), bare_entry("a/z", 1)]), PATHS);
    c.bad("entry with a path not allowed", set(1, bytes(b"a/../b")), "a component is . or ..");
    c.bad("file with the empty path", set(1, bytes(b"")), "only a directory has the empty path");
    c.bad("kind 0", set(2, uint(0)), "the kind is not known");
    c.bad("kind 9", set(2, uint(9)), "the kind is not known");
    c.bad("mode of 13 bits", set(3, uint(0o10000)), "the mode has more than 12 bits");
    for key in [6, 7, 10, 14, 15] {
        c.bad(
            &format!("empty value of key {key}"),
            set(key, bytes(b"")),
            if key == 10 { "empty content is written by leaving it out" } else { EMPTY },
        );
    }
    c.bad("empty metadata", bare(8, 18, map(&[])), EMPTY);
    c.bad("size 0", bare(1, 9, uint(0)), EMPTY);
    c.bad("marks 0", set(17, uint(0)), EMPTY);
    c.bad("content inline and in a list", set(11, list.clone()), "content stands both inline and in a list");
    c.bad(
        "inline content over the limit",
        leaf(&[with(&with(&base, 9, Some(uint(129))), 10, Some(bytes(&[0; 129])))]),
        BYTES_LONG,
    );
    c.bad("size and inline content disagree", set(9, uint(4)), "the size is not that of the content");
    c.bad(
        "inline content without a size",
        leaf(&[with(&base, 9, None)]),
        "the size is not that of the content",
    );
    c.bad("size without content", bare(1, 9, uint(4)), "there is a size but no content");
    c.bad(
        "content without a size",
        leaf(&[with(&bare_entry("a", 1), 11, Some(list.clone()))]),
        "there is content but no size",
    );
    c.bad("inline content of a resource", set(2, uint(8)), "the content of a resource is never inline");
    c.bad("directory with content", listed(2, 3, list.clone()), "this kind of entry has no content");
    c.bad("directory with a size", bare(2, 9, uint(3)), "this kind of entry has no size");
    c.bad("directory with holes", bare(2, 15, bytes(&hole(0, 1))), "this kind of entry has no holes");
    c.bad(
        "hard link with content",
        leaf(&[with(&entry_fields("b"), 13, Some(bytes(b"a")))]),
        "this kind of entry has no content",
    );
    c.bad("hard link to a later path", link(1, "c"), "a hard link names an earlier path");
    c.bad("hard link to itself", link(1, "b"), "a hard link names an earlier path");
    c.bad("hard link that is a directory", link(2, "a"), "a hard link names an earlier path");
    c.bad("hard link to the root", link(1, ""), "a hard link names an earlier path");
    c.bad(
        "symbolic link without target",
        leaf(&[bare_entry("a", 3)]),
        "a link target belongs to symbolic links alone",
    );
    c.bad("file with a target", set(12, bytes(b"x")), "a link target belongs to symbolic links alone");
    c.bad(
        "symbolic link with an empty target",
        bare(3, 12, bytes(b"")),
        "a link target is empty or contains NUL",
    );
    c.bad("device without numbers", leaf(&[bare_entry("a", 6)]), "device numbers belong to devices alone");
    c.bad(
        "file with device numbers",
        set(16, array(&[uint(1), uint(1)])),
        "device numbers belong to devices alone",
    );
    c.bad("device with three numbers", bare(6, 16, array(&vec![uint(1); 3])), "an array is over its limit");
    c.bad("device with one number", bare(6, 16, array(&[uint(1)])), "a device has two numbers");
    c.bad("blob over the limit", set(14, bytes(&[0; 4097])), BYTES_LONG);
    c.bad("blob chunk of length 0", set(14, array(&[bytes(&id("b")), uint(0)])), BOUNDS);
    c.bad("blob chunk over the limit", set(14, array(&[bytes(&id("b")), uint(16_777_217)])), BOUNDS);
    c.bad(
        "content list of level 5",
        listed(1, 3, chunk_list(5, &row("a", 3))),
        "the level of a content list is over the limit",
    );
    c.bad("content list without rows", listed(1, 3, chunk_list(0, b"")), ROWS);
    c.bad("content list of 65 rows", listed(1, 3, chunk_list(0, &row("a", 3).repeat(65))), BYTES_LONG);
    c.bad("content list of one part", listed(1, 3, array(&[uint(0)])), "a content list has level and rows");
    c.bad(
        "directory with typed metadata",
        bare(2, 18, map(&[(1, uint(1))])),
        "typed metadata belongs to resources alone",
    );
    c.bad("metadata in an array", bare(8, 18, array(&[])), "a map is expected");
    c.bad("leaf and a byte", [leaf(std::slice::from_ref(&base)), vec![0]].concat(), LEFT);
    c.bad(
        "entry nested too deeply",
        set(19, [vec![0x81; 14], vec![0x80]].concat()),
        "it is nested too deeply",
    );
    c.bad("leaf that is a map", map(&[]), "an array is expected");
    c
}

fn child(path: &str, len: u64) -> Vec<u8> {
    array(&[bytes(path.as_bytes()), bytes(&id(path)), uint(len), uint(4), uint(1 << 40)])
}

pub(crate) fn node() -> Cases {
    let mut c = Cases::default();
    c.ok("node of one child", array(&[child("", 100)]));
    c.ok("node of three children", array(&[child("a", 100), child("a/b", 1_048_576), child("a.b", 1)]));
    c.bad("empty node", array(&[]), "it has no children");
    c.bad("children out of order", array(&[child("b", 1), child("a", 1)]), PATHS);
    c.bad("child twice", array(&[child("a", 1), child("a", 1)]), PATHS);
    c.bad("child of length 0", array(&[child("a", 0)]), BOUNDS);
    c.bad("child over the limit", array(&[child("a", 16_777_217)]), BOUNDS);
    c.bad(
        "child of four parts",
        array(&[array(&[bytes(b"a"), bytes(&id("a")), uint(1), uint(1)])]),
        "a child has five parts",
    );
    c.bad("child with a path not allowed", array(&[child("a/", 1)]), "a component is empty");
    c.bad("node and a byte", [array(&[child("a", 1)]), vec![0]].concat(), LEFT);
    c.bad("node that ends early", array(&[child("a", 1)])[..20].to_vec(), "it ends too early");
    c
}

pub(crate) fn manifest_fields() -> Fields {
    vec![
        (1, text("files")),
        (2, text("host")),
        (3, array(&[text("daily"), text("weekly")])),
        (4, array(&[bytes(b"/home"), bytes(b"/etc")])),
        (5, int(1_700_000_000_000_000_000)),
        (6, int(1_700_000_001_000_000_000)),
        (7, array(&[bytes(&id("root")), uint(4096), uint(2)])),
        (8, map(&[(1, uint(10)), (2, uint(7)), (3, uint(3)), (4, uint(1 << 40)), (9, uint(5))])),
        (9, bytes(&id("parent"))),
        (
            10,
            map(&[(1, boolean(false)), (2, array(&[array(&[bytes(b"a/b"), text("denied")])])), (3, uint(2))]),
        ),
        (11, text("coffer 0.1.0")),
        (12, text("root")),
        (13, map(&[(1, uint(1))])),
    ]
}

pub(crate) fn manifest() -> Cases {
    let base = manifest_fields();
    let set = |key, value: Vec<u8>| map(&with(&base, key, Some(value)));
    let complete = map(&[(1, boolean(true)), (2, array(&[])), (3, uint(0))]);
    let root = |len, height| set(7, array(&[bytes(&id("root")), uint(len), uint(height)]));
    let error = array(&[bytes(b"a"), text("m")]);
    let mut c = Cases::default();
    c.ok("manifest", map(&base));
    let least = [3, 9, 12, 13].iter().fold(base.clone(), |fields, key| with(&fields, *key, None));
    let least = with(&with(&with(&least, 10, Some(complete)), 8, Some(map(&[]))), 4, Some(array(&[])));
    c.ok("least manifest", map(&least));
    let kept = with(&with(&base, 0, Some(uint(0))), 14, Some(uint(1)));
    let kept = with(&kept, 8, Some(map(&[(0, text("x")), (2, uint(1)), (10, boolean(true))])));
    let done = map(&[(0, uint(1)), (1, boolean(true)), (2, array(&[])), (3, uint(0)), (4, uint(1))]);
    c.ok("manifest with keys to keep", map(&with(&kept, 10, Some(done))));
    for key in [1, 2, 4, 5, 6, 7, 8, 10, 11] {
        c.bad(&format!("manifest without key {key}"), map(&with(&base, key, None)), ABSENT);
    }
    c.bad("empty list of tags", set(3, array(&[])), "an empty list is written by leaving it out");
    c.bad("tags out of order", set(3, array(&[text("b"), text("a")])), "tags are not ascending");
    c.bad("tag twice", set(3, array(&[text("a"), text("a")])), "tags are not ascending");
    c.bad("empty user", set(12, text("")), EMPTY);
    c.bad("empty facts", set(13, map(&[])), EMPTY);
    c.bad("statistic of 0", set(8, map(&[(1, uint(0))])), EMPTY);
    c.bad("statistic below 0", set(8, map(&[(1, int(-1))])), "an unsigned integer is expected");
    c.bad("root of length 0", root(0, 0), BOUNDS);
    c.bad("root over the limit", root(16_777_217, 0), BOUNDS);
    c.bad("root of height 17", root(1, 17), "the height is over the limit");
    c.bad(
        "root of two parts",
        set(7, array(&[bytes(&id("root")), uint(1)])),
        "a root has id, length and height",
    );
    let disagree = "completeness and its number of errors disagree";
    let done = |complete, errors: &[Vec<u8>], count| {
        set(10, map(&[(1, boolean(complete)), (2, array(errors)), (3, uint(count))]))
    };
    c.bad("complete with errors", done(true, &[], 1), disagree);
    c.bad("incomplete without errors", done(false, &[], 0), disagree);
    c.bad("more errors than their number", done(false, &[error.clone(), error.clone()], 1), disagree);
    c.bad("1001 errors listed", done(false, &vec![error.clone(); 1001], 1001), "an array is over its limit");
    c.bad(
        "error without a message",
        done(false, &[array(&[bytes(b"a")])], 1),
        "an error has path and message",
    );
    c.bad("completeness without a list", set(10, map(&[(1, boolean(true)), (3, uint(0))])), ABSENT);
    c.bad("completeness without a number", set(10, map(&[(1, boolean(true)), (2, array(&[]))])), ABSENT);
    c.bad("text over the limit", set(2, text(&"x".repeat(65_537))), "a text string is over its limit");
    c.bad("manifest and a byte", [map(&base), vec![0]].concat(), LEFT);
    c
}

/// A row of frames: offset, sealed length, plain length, chunk count.
fn frame_row(numbers: [u32; 4]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

pub(crate) fn directory() -> Cases {
    let head =
        |frames: u32, chunks: u32| [&frames.to_le_bytes()[..], &chunks.to_le_bytes(), &domain("d")].concat();
    let two = |rows: [[u32; 4]; 2], chunks: &[Vec<u8>]| {
        let count = u32::try_from(chunks.len()).unwrap();
        [head(2, count), frame_row(rows[0]), frame_row(rows[1]), chunks.concat()].concat()
    };
    let rows = [[1184, 1000, 3000, 2], [2184, 500, 70, 1]];
    let chunks = [row("a", 1000), row("b", 2000), row("c", 70)];
    let good = two(rows, &chunks);
    let (short, fill) = ("its length is not what its counts say", "its frames and chunks do not fill it");
    let chunk_fill = "the chunks of a frame do not fill it";
    let mut c = Cases::default();
    c.given(&[("directory_offset", 1184)]);
    c.ok("directory of no frames", head(0, 0));
    c.given(&[("directory_offset", 2684)]);
    c.ok("directory", good.clone());
    c.bad("directory and a byte", [good.clone(), vec![0]].concat(), short);
    c.bad("directory less a byte", good[..good.len() - 1].to_vec(), short);
    c.bad("directory of 23 bytes", good[..23].to_vec(), short);
    c.bad("chunk count too high", [head(2, 4), good[24..].to_vec()].concat(), short);
    c.bad("frame count over the limit", [head(65_537, 3), good[24..].to_vec()].concat(), OVER);
    c.bad("chunk count over the limit", [head(2, 4_194_305), good[24..].to_vec()].concat(), OVER);
    c.bad(
        "gap before a frame",
        two([rows[0], [2185, 499, 70, 1]], &chunks),
        "its frames do not lie one after the other",
    );
    c.bad(
        "frames that overlap",
        two([rows[0], [2183, 501, 70, 1]], &chunks),
        "its frames do not lie one after the other",
    );
    c.bad(
        "first frame too late",
        two([[1185, 999, 3000, 2], rows[1]], &chunks),
        "its frames do not lie one after the other",
    );
    let place = "its place is not within its pack";
    c.bad("first frame in the head", two([[1183, 1001, 3000, 2], rows[1]], &chunks), place);
    c.bad("frame beyond the directory", two([rows[0], [2184, 501, 70, 1]], &chunks), place);
    c.bad("frame of 24 sealed bytes", two([[1184, 24, 3000, 2], rows[1]], &chunks), place);
    c.bad("frame of no plain bytes", two([[1184, 1000, 0, 2], rows[1]], &chunks), place);
    c.bad("frame whose end is above 32 bits", two([rows[0], [2184, u32::MAX, 70, 1]], &chunks), place);
    c.bad("frame over the limit", two([[1184, 1000, 16_777_217, 2], rows[1]], &chunks), OVER);
    c.bad("gap before the directory", two([rows[0], [2184, 499, 70, 1]], &chunks), fill);
    c.bad("chunks of no frame", two([[1184, 1000, 1000, 1], [2184, 500, 2000, 1]], &chunks), fill);
    c.bad("chunks that are missing", two([rows[0], [2184, 500, 70, 2]], &chunks), short);
    c.bad("chunk count of a frame near 32 bits", two([rows[0], [2184, 500, 70, u32::MAX]], &chunks), short);
    c.bad("chunks shorter than their frame", two([[1184, 1000, 3001, 2], rows[1]], &chunks), chunk_fill);
    c.bad("chunks longer than their frame", two([[1184, 1000, 2999, 2], rows[1]], &chunks), chunk_fill);
    c.bad("frame without chunks", two([[1184, 1000, 3070, 3], [2184, 500, 70, 0]], &chunks), chunk_fill);
    c.bad("chunk of length 0", two(rows, &[row("a", 0), row("b", 3000), row("c", 70)]), BOUNDS);
    c.bad("chunk over the limit", two(rows, &[row("a", 16_777_217), row("b", 2000), row("c", 70)]), BOUNDS);
    c
}

pub(crate) fn footer() -> Cases {
    let footer = |numbers: [u64; 3], frames: u32, zero: u32| {
        let longs: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        [&longs[..], &frames.to_le_bytes(), &zero.to_le_bytes()].concat()
    };
    let rule = "it does not fit the pack";
    let mut c = Cases::default();
    c.given(&[("pack_len", 65_536)]);
    let good = footer([2684, 65_536 - 48 - 2684, 164], 2, 0);
    c.ok("footer", good.clone());
    c.ok("footer of a full directory", footer([2684, 65_536 - 48 - 2684, 65_536 - 48 - 2684 - 16], 2, 0));
    c.bad("footer with a last word", footer([2684, 65_536 - 48 - 2684, 164], 2, 1), rule);
    c.bad("directory that ends too early", footer([2684, 65_536 - 48 - 2685, 164], 2, 0), rule);
    c.bad("directory that ends too late", footer([2684, 65_536 - 48 - 2683, 164], 2, 0), rule);
    c.bad("directory in the head", footer([1183, 65_536 - 48 - 1183, 164], 2, 0), rule);
    c.bad(
        "directory longer than its seal",
        footer([2684, 65_536 - 48 - 2684, 65_536 - 48 - 2684 - 15], 2, 0),
        rule,
    );
    c.bad("directory offset near 64 bits", footer([u64::MAX, 65_536 - 48, 164], 2, 0), rule);
    c.bad("directory length near 64 bits", footer([2684, 65_536 - 48 - 2684, u64::MAX], 2, 0), rule);
    c.bad("footer of 31 bytes", good[..31].to_vec(), rule);
    c.bad("footer of 33 bytes", [good.clone(), vec![0]].concat(), rule);
    c.given(&[("pack_len", 65_537)]);
    c.bad("footer of another pack length", good, rule);
    c.given(&[("pack_len", 134_217_729)]);
    c.bad("footer of a pack over the limit", footer([2684, 134_217_729 - 48 - 2684, 164], 2, 0), rule);
    c.given(&[("pack_len", 40)]);
    c.bad("footer of a pack shorter than a footer", footer([u64::MAX, 100, 20], 0, 0), rule);
    c
}

pub(crate) fn frame_head() -> Cases {
    let frame = |codec, kind, len: u32, payload: &[u8]| {
        [&[codec, kind, 0, 0], &len.to_le_bytes()[..], payload].concat()
    };
    let (head, fill) = ("its head is not one", "its plain length is not that of its payload");
    let mut c = Cases::default();
    c.ok("stored data", frame(0, 1, 3, b"abc"));
    c.ok("compressed meta", frame(1, 2, 16_777_216, b"zstd"));
    c.bad("frame of 7 bytes", frame(0, 1, 0, b"")[..7].to_vec(), head);
    for at in [2, 3] {
        let mut other = frame(0, 1, 3, b"abc");
        other[at] = 1;
        c.bad(&format!("frame head with byte {at} set"), other, head);
    }
    c.bad("codec 2", frame(2, 1, 3, b"abc"), "its codec is not known");
    c.bad("chunk kind 0", frame(0, 0, 3, b"abc"), "its kind is not known");
    c.bad("chunk kind 3", frame(0, 3, 3, b"abc"), "its kind is not known");
    c.bad("stored payload too short", frame(0, 1, 4, b"abc"), fill);
    c.bad("stored payload too long", frame(0, 1, 2, b"abc"), fill);
    c.bad("no plain bytes", frame(0, 1, 0, b""), fill);
    c.bad("plain length over the limit", frame(1, 1, 16_777_217, b"zstd"), OVER);
    c
}

pub(crate) fn segment_head() -> Cases {
    let head = |packs: u32, frames: u32, chunks: u64| {
        [
            b"coffidx1".as_slice(),
            &domain("d"),
            &id("salt"),
            &id("commitment"),
            &packs.to_le_bytes(),
            &frames.to_le_bytes(),
            &chunks.to_le_bytes(),
        ]
        .concat()
    };
    let counts = "its length is not what its counts say";
    let begin = "it does not begin as an index segment does";
    let mut c = Cases::default();
    c.given(&[("object_len", 104)]);
    c.ok("empty segment", head(0, 0, 0));
    // Two packs, 80; 8 + 3 × 12 = 44 bytes of frames and a tag; 513 chunks of 32 bytes in two pages and two tags.
    c.given(&[("object_len", 104 + 80 + 44 + 16 + 513 * 32 + 32)]);
    let good = head(2, 3, 513);
    c.ok("segment of two pages of chunks", good.clone());
    c.bad("another pack count", head(1, 3, 513), counts);
    c.bad("another frame count", head(2, 4, 513), counts);
    c.bad("another chunk count", head(2, 3, 512), counts);
    c.bad("head of 103 bytes", good[..103].to_vec(), begin);
    let mut other = good.clone();
    other[7] = b'2';
    c.bad("head with another magic", other, begin);
    c.bad("pack count over the limit", head(65_537, 3, 513), OVER);
    c.bad("frame count over the limit", head(2, 4_194_305, 513), OVER);
    c.bad("chunk count over the limit", head(2, 3, 4_194_305), OVER);
    c.bad("chunk count near 64 bits", head(2, 3, u64::MAX), OVER);
    c.given(&[("object_len", 268_435_457)]);
    c.bad("segment over the limit", good.clone(), OVER);
    c.given(&[("object_len", 104 + 80 + 44 + 16 + 513 * 32 + 31)]);
    c.bad("segment less a byte", good, counts);
    c
}

pub(crate) fn pack_table() -> Cases {
    let row = |label: &str, len: u64| [&id(label)[..], &len.to_le_bytes()].concat();
    let (bounds, count) = ("a pack's length is out of bounds", "it has another length than its count says");
    let mut c = Cases::default();
    c.given(&[("pack_count", 0)]);
    c.ok("no packs", Vec::new());
    c.given(&[("pack_count", 2)]);
    c.ok("two packs", [row("b", 65_536), row("a", 134_217_728)].concat());
    c.bad("one pack of two", row("b", 65_536), count);
    c.bad("part of a pack", [row("b", 65_536), row("a", 65_536)[..39].to_vec()].concat(), count);
    c.bad("three packs of two", [row("b", 65_536), row("a", 65_536), row("c", 65_536)].concat(), count);
    c.bad("pack twice", [row("a", 65_536), row("a", 65_536)].concat(), "a pack stands twice");
    c.bad("pack below the least length", [row("a", 65_535), row("b", 65_536)].concat(), bounds);
    c.bad("pack over the limit", [row("a", 65_536), row("b", 134_217_729)].concat(), bounds);
    c
}

/// Lengths of packs before padding; these cases have no bytes.
pub(crate) fn padded_len() -> Cases {
    let mut c = Cases::default();
    for len in [
        0,
        1,
        65_536,
        65_537,
        67_584,
        67_585,
        100_000,
        131_073,
        8_388_609,
        16_777_217,
        134_217_727,
        134_217_728,
    ] {
        c.given(&[("len", len)]);
        c.ok(&format!("pack of {len} bytes"), Vec::new());
    }
    c
}
