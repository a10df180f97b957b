//! AES-KWP as RFC 5649 has it, over one block of AES: a second opinion on what tokens wrap.

use aes::Aes256;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

type Half = [u8; 8];
type Block = [u8; 16];

/// What RFC 5649 puts before a key of this length.
pub(crate) fn head(len: usize) -> Half {
    let len = u32::try_from(len).expect("keys are short").to_be_bytes();
    [0xa6, 0x59, 0x59, 0xa6, len[0], len[1], len[2], len[3]]
}

/// `plain`, of more than 8 bytes, wrapped behind `head`, and filled up with zeros.
pub(crate) fn wrap(key: &[u8; 32], head: Half, plain: &[u8]) -> Vec<u8> {
    let cipher = Aes256::new(&(*key).into());
    wrap_by(head, plain, |block| {
        let mut block = block.into();
        cipher.encrypt_block(&mut block);
        block.into()
    })
}

/// What stands before the key, and the key with what it was filled up with.
pub(crate) fn unwrap(key: &[u8; 32], wrapped: &[u8]) -> (Half, Vec<u8>) {
    let cipher = Aes256::new(&(*key).into());
    unwrap_by(wrapped, |block| {
        let mut block = block.into();
        cipher.decrypt_block(&mut block);
        block.into()
    })
}

/// `W` of RFC 3394, section 2.2.1.
fn wrap_by(mut head: Half, plain: &[u8], encrypt: impl Fn(Block) -> Block) -> Vec<u8> {
    let mut filled = plain.to_vec();
    filled.resize(plain.len().next_multiple_of(8), 0);
    let parts = filled.as_chunks_mut::<8>().0;
    assert!(parts.len() > 1, "one part alone is encrypted as it is");
    let mut step = 0_u64;
    for _ in 0..6 {
        for part in &mut *parts {
            step += 1;
            let block = encrypt(joined(head, *part));
            head = xor(block, step);
            part.copy_from_slice(&block[8..]);
        }
    }
    [head.as_slice(), &filled].concat()
}

/// The inverse of it, section 2.2.2.
fn unwrap_by(wrapped: &[u8], decrypt: impl Fn(Block) -> Block) -> (Half, Vec<u8>) {
    let (head, rest) = wrapped.split_first_chunk::<8>().expect("it is wrapped");
    let (mut head, mut filled) = (*head, rest.to_vec());
    let parts = filled.as_chunks_mut::<8>().0;
    let mut step = 6 * parts.len() as u64;
    for _ in 0..6 {
        for part in parts.iter_mut().rev() {
            let block = decrypt(joined(xor(joined(head, [0; 8]), step), *part));
            (head, step) = (block[..8].try_into().expect("8 bytes"), step - 1);
            part.copy_from_slice(&block[8..]);
        }
    }
    (head, filled)
}

fn joined(head: Half, part: Half) -> Block {
    let (mut block, halves) = ([0; 16], [head, part]);
    block.copy_from_slice(halves.as_flattened());
    block
}

/// The first half of a block, with the number of the step mixed in.
fn xor(block: Block, step: u64) -> Half {
    let head = u64::from_be_bytes(block[..8].try_into().expect("8 bytes"));
    (head ^ step).to_be_bytes()
}

/// The example of RFC 5649, section 6, both ways.
#[test]
fn the_example_of_the_standard() {
    let bytes = |digits: &str| -> Vec<u8> {
        let pairs = digits.as_bytes().chunks_exact(2);
        pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    };
    let key = bytes("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8");
    let plain = bytes("c37b7e6492584340bed12207808941155068f738");
    let wrapped = bytes("138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a");
    let cipher = aes::Aes192::new_from_slice(&key).unwrap();
    let made = wrap_by(head(20), &plain, |block| {
        let mut block = block.into();
        cipher.encrypt_block(&mut block);
        block.into()
    });
    assert_eq!(made, wrapped);
    let (found, filled) = unwrap_by(&wrapped, |block| {
        let mut block = block.into();
        cipher.decrypt_block(&mut block);
        block.into()
    });
    assert_eq!((found, filled), (head(20), [plain.as_slice(), &[0; 4]].concat()));
}
