//! From a passphrase to a secret: Argon2id, version 0x13.
//!
//! Parameters come from a key slot, which anyone who can write to the store may have written; they are checked
//! before any memory is taken. All of that memory is wiped afterwards.

use std::time::Duration;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroize;

use crate::error::CryptoError;
use crate::secret::Secret;

/// Bounds of section 16: memory in KiB, passes, lanes.
const MEMORY_KIB: (u32, u32) = (65_536, 4_194_304);
const PASSES: (u32, u32) = (3, 16);
const LANES: (u32, u32) = (1, 16);

/// The cost of turning a passphrase into a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argon2Params {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes, computed one after the other here.
    pub lanes: u32,
}

impl Argon2Params {
    /// The least a new slot is made with: the second recommendation of RFC 9106, section 4.
    pub const FLOOR: Self = Self { memory_kib: 65_536, passes: 3, lanes: 4 };
    /// The most that [`Self::calibrated`] gives. A backup needs more memory than this anyway, and a machine on which the floor takes ten
    /// seconds opens such a slot within a minute.
    pub const CALIBRATED_MAX: Self = Self { memory_kib: 131_072, passes: 8, lanes: 4 };
    /// The most memory that a slot may ask for, in KiB.
    pub const MEMORY_KIB_MAX: u32 = MEMORY_KIB.1;

    /// What takes about as long as `target`, by the times that `measure` finds; it gives nothing for what cannot be done here. First the memory
    /// grows, then the number of passes, from [`Self::FLOOR`] up to [`Self::CALIBRATED_MAX`].
    #[must_use]
    pub fn calibrated(target: Duration, measure: &mut dyn FnMut(Self) -> Option<Duration>) -> Self {
        let Some(floor_took) = measure(Self::FLOOR) else { return Self::FLOOR };
        let more_memory = Self { memory_kib: Self::CALIBRATED_MAX.memory_kib, ..Self::FLOOR };
        // Twice the memory takes twice the time, or more where it is short.
        let may_fit = floor_took.saturating_mul(2) <= target;
        let more_took = may_fit.then(|| measure(more_memory)).flatten().filter(|took| *took <= target);
        let (base, took) = more_took.map_or((Self::FLOOR, floor_took), |took| (more_memory, took));
        let passes = target.as_nanos() * u128::from(base.passes) / took.as_nanos().max(1);
        let most = Self::CALIBRATED_MAX.passes;
        let passes = u32::try_from(passes).unwrap_or(most).clamp(Self::FLOOR.passes, most);
        Self { passes, ..base }
    }

    /// Checks the parameters against section 16 of the format.
    ///
    /// # Errors
    /// [`CryptoError::Argon2Param`] for the first that is out of bounds.
    pub fn check(&self) -> Result<(), CryptoError> {
        check_param("memory in KiB", self.memory_kib, MEMORY_KIB)?;
        check_param("passes", self.passes, PASSES)?;
        check_param("lanes", self.lanes, LANES)
    }
}

fn check_param(name: &'static str, value: u32, (min, max): (u32, u32)) -> Result<(), CryptoError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(CryptoError::Argon2Param { name, value, min, max })
}

/// The 32-byte secret that `passphrase` and `salt` give. Takes `params.memory_kib` of memory while it runs.
///
/// # Errors
/// [`CryptoError::Argon2Param`] outside the limits, [`CryptoError::Memory`] when the memory cannot be had,
/// [`CryptoError::PassphraseLen`] from 4 GiB.
///
/// # Source
/// `docs/format.md` section 7, kind 1; RFC 9106.
pub fn derive(passphrase: &[u8], salt: &[u8; 16], params: Argon2Params) -> Result<Secret<32>, CryptoError> {
    params.check()?;
    let too_long = |_| CryptoError::PassphraseLen { len: passphrase.len() as u64 };
    let Argon2Params { memory_kib, passes, lanes } = params;
    let parsed =
        Params::new(memory_kib, passes, lanes, Some(32)).expect("the limits lie within those of Argon2");
    let mut memory = Memory::allocate(parsed.block_count(), memory_kib)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parsed);
    Secret::fill_with(|out| argon2.hash_password_into_with_memory(passphrase, salt, out, &mut memory.0))
        .map_err(too_long)
}

/// Working memory, wiped on drop.
struct Memory(Vec<Block>);

impl Memory {
    fn allocate(block_count: usize, memory_kib: u32) -> Result<Self, CryptoError> {
        let mut blocks = Vec::new();
        blocks.try_reserve_exact(block_count).map_err(|_| CryptoError::Memory { memory_kib })?;
        blocks.resize(block_count, Block::new());
        Ok(Self(blocks))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for block in &mut self.0 {
            block.zeroize();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(memory_kib: u32, passes: u32, lanes: u32) -> bool {
        Argon2Params { memory_kib, passes, lanes }.check().is_ok()
    }

    #[test]
    fn limits_are_those_of_the_format() {
        assert!(Argon2Params::FLOOR.check().is_ok());
        assert!(check(65_536, 3, 1) && check(4_194_304, 16, 16));
        assert!(!check(65_535, 3, 4) && !check(4_194_305, 3, 4));
        assert!(!check(65_536, 2, 4) && !check(65_536, 17, 4));
        assert!(!check(65_536, 3, 0) && !check(65_536, 3, 17));
        assert!(!check(u32::MAX, u32::MAX, u32::MAX) && !check(0, 0, 0));
    }

    /// What calibration gives where a KiB and a pass take `ns`, and of memory there is `memory_kib`.
    fn calibrated_where(ns: u64, memory_kib: u32) -> Argon2Params {
        Argon2Params::calibrated(Duration::from_millis(750), &mut |params| {
            let work = u64::from(params.memory_kib) * u64::from(params.passes);
            (params.memory_kib <= memory_kib).then(|| Duration::from_nanos(work * ns))
        })
    }

    #[test]
    fn calibration_raises_memory_and_then_passes_within_its_bounds() {
        let floor = Argon2Params::FLOOR;
        // The floor takes a fifth of the target: the double memory fits, and passes fill the rest.
        assert_eq!(
            calibrated_where(763, u32::MAX),
            Argon2Params { memory_kib: 131_072, passes: 7, lanes: 4 }
        );
        // More than half of it: passes alone.
        assert_eq!(calibrated_where(2500, u32::MAX), Argon2Params { passes: 4, ..floor });
        // No machine is too slow for the floor, and none too fast for the most.
        assert_eq!(calibrated_where(1_000_000, u32::MAX), floor);
        assert_eq!(calibrated_where(0, u32::MAX), Argon2Params::CALIBRATED_MAX);
        assert_eq!(calibrated_where(1, 0), floor);
        assert_eq!(calibrated_where(1, 65_536), Argon2Params { passes: 8, ..floor });
        assert!(Argon2Params::CALIBRATED_MAX.check().is_ok());
    }

    #[test]
    fn memory_that_is_slow_is_not_taken() {
        let swaps = |params: Argon2Params| {
            Some(Duration::from_millis(if params.memory_kib > 65_536 { 5_000 } else { 150 }))
        };
        let found = Argon2Params::calibrated(Duration::from_millis(750), &mut { swaps });
        assert_eq!(found, Argon2Params { passes: 8, ..Argon2Params::FLOOR });
    }

    #[test]
    fn parameters_are_checked_before_the_work() {
        let params = Argon2Params { memory_kib: u32::MAX, ..Argon2Params::FLOOR };
        assert!(matches!(derive(b"x", &[0; 16], params), Err(CryptoError::Argon2Param { .. })));
    }

    /// RFC 9106, section 5.3: the inputs are outside our limits, so this holds the library to the RFC.
    #[test]
    fn rfc_9106_argon2id() {
        let params = argon2::ParamsBuilder::new()
            .m_cost(32)
            .t_cost(3)
            .p_cost(4)
            .output_len(32)
            .data(argon2::AssociatedData::new(&[4; 12]).unwrap())
            .build()
            .unwrap();
        let argon2 =
            Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params.clone()).unwrap();
        let mut memory = Memory::allocate(params.block_count(), 32).unwrap();
        let mut out = [0; 32];
        argon2.hash_password_into_with_memory(&[1; 32], &[2; 16], &mut out, &mut memory.0).unwrap();
        assert_eq!(
            out,
            [
                0x0d, 0x64, 0x0d, 0xf5, 0x8d, 0x78, 0x76, 0x6c, 0x08, 0xc0, 0x37, 0xa3, 0x4a, 0x8b, 0x53,
                0xc9, 0xd0, 0x1e, 0xf0, 0x45, 0x2d, 0x75, 0xb6, 0x5e, 0xb5, 0x25, 0x20, 0xe9, 0x6b, 0x01,
                0xe6, 0x59
            ]
        );
    }
}
